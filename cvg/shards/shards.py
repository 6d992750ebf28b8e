"""Shards: records in WebDataset tars, and ``shards.json`` beside them, which says what all of them share."""

from __future__ import annotations

import tarfile
from collections.abc import Iterator
from dataclasses import field
from pathlib import Path
from types import TracebackType
from typing import Annotated, Any, Literal, get_args

from pydantic import Field, StrictInt, model_validator
from webdataset.tariterators import group_by_keys, tar_file_expander
from webdataset.writer import TarWriter

from cvg.common.errors import DataError, UserError
from cvg.common.files import atomic, read_json, write_json
from cvg.common.typed import Indices, LatentGrid, Levels, read, record, to_dict
from cvg.composition import LabelSet
from cvg.shards.records import SCHEMA, Record, encode

Split = Literal["train", "val", "test"]
SPLITS: tuple[Split, ...] = get_args(Split)
# Neither when nor by whom a tar was written is in it: equal records give equal bytes.
_REPEATABLE: dict[str, Any] = {"user": "", "group": "", "mode": 0o644, "mtime": 0}


class ShardWriter:
    """Write records to ``{split}-{index:05d}.tar`` files; a context manager.

    A tar appears under its name only when complete. Equal records in equal order give equal bytes.

    Args:
        folder: where the tars go; created if needed.
        split: ``train``, ``val`` or ``test``.
        samples: records per tar.
        start: index of the first tar.
    """

    def __init__(self, folder: str | Path, split: str, samples: int = 500, start: int = 0) -> None:
        if split not in SPLITS:
            raise DataError(f"split {split!r}: expected one of {', '.join(SPLITS)}")
        assert samples > 0
        self.folder, self.split, self.samples, self.index = Path(folder), split, samples, start
        self._pending: list[tuple[str, dict[str, bytes]]] = []

    def write(self, record: Record) -> None:
        """Add a record. Raises UserError when it is malformed."""
        self._pending.append((record.key, encode(record)))
        if len(self._pending) == self.samples:
            self._flush()

    def _flush(self) -> None:
        target = self.folder / f"{self.split}-{self.index:05d}.tar"
        with atomic(target) as path, path.open("wb") as file, TarWriter(file, encoder=False, **_REPEATABLE) as tar:
            for key, members in self._pending:
                for extension, data in members.items():  # one at a time, or TarWriter would sort them
                    tar.write({"__key__": key, extension: data})
        self.index += 1
        self._pending = []

    def __enter__(self) -> ShardWriter:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if kind is None and self._pending:
            self._flush()


def read_shard(path: str | Path) -> Iterator[dict[str, Any]]:
    """The members of each record of one tar, in order, for `decode`; through WebDataset's tar reader.

    The file is opened here and nothing is decoded, so WebDataset's URL schemes (``pipe:`` runs a shell) and its
    unpickling decoders are never reached, with or without ``WDS_SECURE=1``.

    Raises:
        DataError: the tar is missing or damaged.
    """
    try:
        with Path(path).open("rb") as stream:
            yield from group_by_keys(tar_file_expander(iter([{"url": str(path), "stream": stream}])))
    except (OSError, tarfile.TarError, ValueError) as error:
        raise DataError(f"shard {path}: cannot be read ({error.args[0]}); write it again") from error


def _known_labels(info: ShardInfo) -> ShardInfo:
    try:
        for name in {name for labels in info.counts.values() for name in labels}:
            info.label_set.index(name)
    except UserError as error:
        raise ValueError(str(error)) from error
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
        rejected: videos left out, by reason.
        schema: version of this format.
        token_grid: the generator's latent tokens [F, H, W], of which ``grid`` holds averages.

    Raises:
        SettingsError: a field that does not fit.
    """

    generator: dict[str, str]
    layers: Indices
    heads: Indices
    sigmas: Levels
    steps: StrictInt
    grid: LatentGrid
    slots: Annotated[StrictInt, Field(ge=1)]
    labels: dict[str, Any]
    source: str
    counts: Annotated[
        dict[Annotated[str, Field(pattern=f"^({'|'.join(SPLITS)})$")], dict[str, StrictInt]],
        Field(description=f"numbers of records by split ({', '.join(SPLITS)}) and label"),
    ]
    rejected: dict[str, StrictInt] = field(default_factory=dict)
    schema: Annotated[Literal[1], Field(description="1, the version that is read here")] = SCHEMA
    token_grid: LatentGrid

    _labels = model_validator(mode="after")(_known_labels)

    @property
    def shape(self) -> tuple[int, ...]:
        """Shape of a record's maps: (S, L, A, K, F, H, W)."""
        return (len(self.sigmas), len(self.layers), len(self.heads), self.slots, *self.grid)

    @property
    def label_set(self) -> LabelSet:
        """The label set."""
        return LabelSet(self.labels)

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
        return read(cls, read_json(path), str(path), "write the shards again")
