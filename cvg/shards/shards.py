"""Shards: records in WebDataset tars, and ``shards.json`` beside them, which says what all of them share.

Tars are read in :mod:`cvg.shards.tars`.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import field
from pathlib import Path
from types import TracebackType
from typing import Annotated, Any, Literal, get_args

from pydantic import Field, StrictInt, model_validator
from webdataset.writer import TarWriter

from cvg.common.errors import DataError, UserError
from cvg.common.files import atomic, read_json, write_json
from cvg.common.typed import Identity, Indices, LatentGrid, Levels, Licences, Scale, read, record, to_dict
from cvg.composition import LabelSet
from cvg.composition.labels import SLOTS
from cvg.shards.records import SCHEMA, Record, encode, most_maps
from cvg.shards.tars import digest_of

Split = Literal["train", "val", "test"]
SPLITS: tuple[Split, ...] = get_args(Split)
NOT_STATED = "not stated"
"""What stands for the licence of records of which none is known, beside others of which one is."""
_SPLIT = "|".join(SPLITS)
_MOST_MAPS = 1 << 33  # bytes; those of the largest generators' own grids are far below
_Count = Annotated[StrictInt, Field(ge=0, le=1 << 40)]
# Neither when nor by whom a tar was written is in it: equal records give equal bytes.
_REPEATABLE: dict[str, Any] = {"user": "", "group": "", "mode": 0o644, "mtime": 0}


def files_of(folder: str | Path) -> list[Path]:
    """The tars that lie in a folder, whether ``shards.json`` names them or not, as it may not yet."""
    return sorted(path for split in SPLITS for path in Path(folder).glob(f"{split}-*.tar"))


def is_tar(name: str) -> bool:
    """Whether a file is a tar of a split, by its name."""
    return re.fullmatch(rf"({_SPLIT})-\d+\.tar", name) is not None


class ShardWriter:
    """Write records to ``{split}-{index:05d}.tar`` files; a context manager.

    A tar appears under its name only when complete. Equal records in equal order give equal bytes.

    Args:
        folder: where the tars go; created if needed.
        split: ``train``, ``val`` or ``test``.
        samples: records per tar.
        start: index of the first tar.

    Attributes:
        tars: name -> SHA-256 of each tar written so far, for `ShardInfo`.
        records: name -> number of records of each, for the same.
    """

    def __init__(self, folder: str | Path, split: str, samples: int = 500, start: int = 0) -> None:
        if split not in SPLITS:
            raise DataError(f"split {split!r}: expected one of {', '.join(SPLITS)}")
        assert samples > 0
        self.folder, self.split, self.samples, self.index = Path(folder), split, samples, start
        self.tars: dict[str, str] = {}
        self.records: dict[str, int] = {}
        self._pending: list[tuple[str, dict[str, bytes]]] = []

    def write(self, record: Record) -> None:
        """Add a record. Raises UserError when it is malformed."""
        self._pending.append((record.key, encode(record)))
        if len(self._pending) == self.samples:
            self._flush()

    def _flush(self) -> None:
        target = self.folder / f"{self.split}-{self.index:05d}.tar"
        with atomic(target) as path:
            with path.open("wb") as file, TarWriter(file, encoder=False, **_REPEATABLE) as tar:
                for key, members in self._pending:
                    for extension, data in members.items():  # one at a time, or TarWriter would sort them
                        tar.write({"__key__": key, extension: data})
            self.tars[target.name] = digest_of(path)
            self.records[target.name] = len(self._pending)
        self.index += 1
        self._pending = []

    def __enter__(self) -> ShardWriter:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if kind is None and self._pending:
            self._flush()


def _consistent(info: ShardInfo) -> ShardInfo:
    try:
        labels = info.label_set
        for name in {name for labels in info.counts.values() for name in labels}:
            labels.index(name)
    except UserError as error:
        raise ValueError(str(error)) from error
    if most_maps(info.shape) > _MOST_MAPS:
        raise ValueError(f"maps of shape {info.shape} are larger than {_MOST_MAPS} bytes, the most that is read")
    if any(stored > tokens for stored, tokens in zip(info.grid, info.token_grid, strict=True)):
        raise ValueError(f"grid {info.grid} is finer than token_grid {info.token_grid}, of which it holds averages")
    if info.tars and info.records is not None:
        if set(info.records) != set(info.tars):
            raise ValueError("`records` and `tars` name other files")
        for split in SPLITS:
            held = sum(count for name, count in info.records.items() if name.startswith(f"{split}-"))
            if held != info.count(split):
                raise ValueError(f"{split} tars hold {held} records by `records`, {info.count(split)} by `counts`")
    if info.levels is not None and len(info.levels) != info.steps:
        raise ValueError(f"{len(info.levels)} levels of {info.steps} steps")
    if info.steps < len(info.sigmas):
        raise ValueError(f"{len(info.sigmas)} sigmas of {info.steps} steps")
    return info


@record
class ShardInfo:
    """What all records of a folder share (``shards.json``).

    Attributes:
        generator: name, class and fingerprint of the video generator whose maps these are.
        layers: indices of the L tapped layers.
        heads: indices of the A attention heads.
        sigmas: noise levels of the S guided steps, noisiest first.
        steps: number of steps of the inversion.
        grid: [F, H, W] of the stored maps.
        slots: entity slots K.
        labels: the label set, as `LabelSet.to_dict` gives it.
        source: where the videos came from.
        counts: records by split and label.
        tars: the files that hold the records, each with its SHA-256.
        rejected: videos left out, by reason.
        schema: version of this format.
        token_grid: the generator's latent tokens [F, H, W], of which ``grid`` holds averages.
        licences: records by the licence that their videos are under, and by data set; None where no licence is stated.
        records: how many records each tar holds; where it is None, who has to know counts them.
        levels: noise levels of all steps of the inversion, noisiest first; None where that is not known.
        guidance_scale: of classifier-free guidance that videos are to be sampled with; None where that was not said.

    Raises:
        SettingsError: a field that does not fit.
    """

    generator: Identity
    layers: Indices
    heads: Indices
    sigmas: Levels
    steps: Annotated[StrictInt, Field(ge=1, le=100_000)]
    grid: LatentGrid
    slots: Annotated[StrictInt, Field(ge=1, le=SLOTS)]
    labels: dict[str, Any]
    source: str
    counts: Annotated[
        dict[Annotated[str, Field(pattern=f"^({_SPLIT})$")], dict[str, _Count]],
        Field(description=f"numbers of records by split ({', '.join(SPLITS)}) and label"),
    ]
    tars: Annotated[
        dict[
            Annotated[str, Field(pattern=rf"^({_SPLIT})-\d{{5,9}}\.tar$")],
            Annotated[str, Field(pattern="^[0-9a-f]{64}$")],
        ],
        Field(description="tars (such as train-00000.tar) with the 64 hexadecimal digits of their SHA-256"),
    ] = field(default_factory=dict)
    rejected: dict[str, _Count] = field(default_factory=dict)
    schema: Annotated[Literal[2], Field(description=f"{SCHEMA}, the version that is read here")] = SCHEMA
    token_grid: LatentGrid
    licences: Licences | None = None
    records: dict[str, _Count] | None = None
    levels: Levels | None = None
    guidance_scale: Scale | None = None

    _labels = model_validator(mode="after")(_consistent)

    @property
    def shape(self) -> tuple[int, ...]:
        """Shape of a record's maps: (S, L, A, K, F, H, W)."""
        return (len(self.sigmas), len(self.layers), len(self.heads), self.slots, *self.grid)

    @property
    def label_set(self) -> LabelSet:
        """The label set."""
        return LabelSet.stored(self.labels)

    def terms(self) -> dict[str, dict[str, int]]:
        """Records by licence and data set, those of which nothing is stated among them."""
        return self.licences or {NOT_STATED: {self.source: sum(map(self.count, self.counts))}}

    def count(self, split: str) -> int:
        """Number of records of a split."""
        return sum(self.counts.get(split, {}).values())

    def save(self, folder: str | Path) -> None:
        """Write ``shards.json`` into the folder."""
        write_json(Path(folder) / "shards.json", to_dict(self))

    @classmethod
    def load(cls, folder: str | Path) -> ShardInfo:
        """Read ``shards.json`` of a folder. Raises DataError when it is missing, incomplete or inconsistent."""
        path = Path(folder) / "shards.json"
        if not path.is_file():
            raise DataError(f"shards {folder}: no shards.json there; make the shards first (`make invert`)")
        return cls.of(read_json(path), str(path))

    @classmethod
    def of(cls, data: Any, name: str) -> ShardInfo:
        """The info of a ``shards.json`` that was read, called by a name. Raises DataError when it is no good."""
        return read(cls, data, name, "write the shards again")


def merge_licences(parts: Iterable[Mapping[str, Mapping[str, int]] | None]) -> dict[str, dict[str, int]] | None:
    """Records by licence and data set of several parts together; None where none of them states a licence."""
    total: dict[str, Counter[str]] = {}
    for part in parts:
        for licence, sets in (part or {}).items():
            total.setdefault(licence, Counter()).update(sets)
    return None if set(total) <= {NOT_STATED} else {name: dict(total[name]) for name in sorted(total)}
