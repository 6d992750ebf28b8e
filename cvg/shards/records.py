"""What one training sample is, and its bytes in a WebDataset tar. The only file that knows the shard format.

A record holds the entity maps of one (video, relation) pair under its two prompts, p+ and p-. In a tar it is two
members, ``{key}.maps.safetensors`` and ``{key}.json``; beside the tars lies ``shards.json`` (`ShardInfo`). Nothing
here can execute code on reading: safetensors and JSON only.
"""

from __future__ import annotations

import io
import itertools
import json
import re
import tarfile
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from types import TracebackType
from typing import Any

import safetensors.torch
import torch
from torch import Tensor
from webdataset.tariterators import group_by_keys, tar_file_expander

from cvg.common.errors import UserError
from cvg.common.files import atomic, read_json, write_json
from cvg.composition import LabelSet

SCHEMA = 1
SPLITS = ("train", "val", "test")
MAPS, META = "maps.safetensors", "json"
_AXES = "SLAKFHW"
# What the rest of CVG reads from `meta`; writers may add more.
_REQUIRED_META = ("group", "prompt_positive", "prompt_negative", "negative_label")


@dataclass(eq=False)
class Record:
    """Entity maps of one video and one relation under p+ and p-.

    Attributes:
        key: unique name, of letters, digits, ``_`` and ``-`` (WebDataset splits a member's name at the first dot).
        positive_SLAKFHW: float16 attention probabilities under p+.
        negative_SLAKFHW: the same under p-.
        present: for each of the K entity slots, whether the relation has such an entity; an absent slot is all zeros.
        label: the true composition label, the same for both prompts.
        meta: JSON-able provenance: group, prompts, the wrong label of p-, entity spans, steps, sigmas, PSNR, source...
    """

    key: str
    positive_SLAKFHW: Tensor
    negative_SLAKFHW: Tensor
    present: tuple[bool, ...]
    label: str
    meta: dict[str, Any] = field(default_factory=dict)

    def check(self) -> None:
        """Raise UserError unless the record is well formed."""

        def bad(reason: str) -> UserError:
            return UserError(f"record {self.key!r}: {reason}; write the shards again")

        if not re.fullmatch(r"[A-Za-z0-9_-]{1,80}", self.key):
            raise bad("the key must be 1 to 80 letters, digits, _ or -")
        for name, maps in (("positive", self.positive_SLAKFHW), ("negative", self.negative_SLAKFHW)):
            if maps.dtype != torch.float16 or maps.ndim != len(_AXES):
                raise bad(
                    f"{name} maps are {maps.dtype} of {maps.ndim} axes, expected float16 of {len(_AXES)} ({_AXES})"
                )
            if maps.shape != self.positive_SLAKFHW.shape:
                raise bad("positive and negative maps differ in shape")
            if not torch.isfinite(maps).all():
                raise bad(f"{name} maps hold values that are not finite")
        if len(self.present) != self.positive_SLAKFHW.shape[3]:
            raise bad(f"{len(self.present)} flags in `present` for {self.positive_SLAKFHW.shape[3]} entity slots")
        if not any(self.present):
            raise bad("no entity is present")
        absent = [slot for slot, here in enumerate(self.present) if not here]
        if absent and (self.positive_SLAKFHW[:, :, :, absent].any() or self.negative_SLAKFHW[:, :, :, absent].any()):
            raise bad("the maps of an absent entity slot are not zero")
        missing = [name for name in _REQUIRED_META if name not in self.meta]
        if missing:
            raise bad(f"meta lacks {', '.join(missing)}")


def encode(record: Record) -> dict[str, bytes]:
    """The tar members of a record, by extension. Equal records give equal bytes.

    Raises:
        UserError: the record is malformed, or its meta is not JSON-able.
    """
    record.check()
    maps = {"positive": record.positive_SLAKFHW.contiguous(), "negative": record.negative_SLAKFHW.contiguous()}
    header = {"schema": SCHEMA, "key": record.key, "label": record.label, "present": list(record.present)}
    try:
        text = json.dumps(header | {"meta": record.meta}, sort_keys=True, allow_nan=False)
    except (TypeError, ValueError) as error:
        raise UserError(f"record {record.key!r}: meta is not JSON ({error}); store plain values only") from error
    return {MAPS: safetensors.torch.save(maps), META: text.encode()}


def decode(members: dict[str, Any]) -> Record:
    """The record of tar members as `encode` gives them (WebDataset's ``__key__`` and ``__url__`` may be there too).

    Raises:
        UserError: a member is missing or unreadable, the schema is another one, or the record is malformed.
    """
    name = f"record {members.get('__key__', '?')!r} of {members.get('__url__', 'memory')}"
    if MAPS not in members or META not in members:
        raise UserError(f"{name}: expected the members .{MAPS} and .{META}; this is not a CVG shard")
    try:
        header = json.loads(members[META])
        maps = safetensors.torch.load(members[MAPS])
        if header["schema"] != SCHEMA:
            raise UserError(f"{name}: schema {header['schema']}, this version reads {SCHEMA}; write the shards again")
        record = Record(
            key=header["key"],
            positive_SLAKFHW=maps["positive"],
            negative_SLAKFHW=maps["negative"],
            present=tuple(bool(flag) for flag in header["present"]),
            label=header["label"],
            meta=header["meta"],
        )
    except (ValueError, KeyError, TypeError, safetensors.SafetensorError) as error:
        raise UserError(f"{name}: damaged ({type(error).__name__}: {error}); write the shards again") from error
    if members.get("__key__", record.key) != record.key:
        raise UserError(f"{name}: its JSON says the key is {record.key!r}; write the shards again")
    record.check()
    return record


def label_of(members: dict[str, Any]) -> str:
    """The label of undecoded tar members, without their maps. Raises UserError as `decode` does."""
    try:
        return str(json.loads(members[META])["label"])
    except (ValueError, KeyError, TypeError):
        return decode(members).label  # says what is wrong


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
            raise UserError(f"split {split!r}: expected one of {', '.join(SPLITS)}")
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
        with atomic(target) as path, tarfile.open(path, "w", format=tarfile.USTAR_FORMAT) as tar:
            for key, members in self._pending:
                for extension, data in members.items():
                    info = tarfile.TarInfo(f"{key}.{extension}")  # mtime, uid and gid are 0: bytes are repeatable
                    info.size = len(data)
                    tar.addfile(info, io.BytesIO(data))
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
        UserError: the tar is missing or damaged.
    """
    try:
        with Path(path).open("rb") as stream:
            yield from group_by_keys(tar_file_expander(iter([{"url": str(path), "stream": stream}])))
    except (OSError, tarfile.TarError, ValueError) as error:
        raise UserError(f"shard {path}: cannot be read ({error.args[0]}); write it again") from error


@dataclass
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
        token_grid: the generator's latent tokens [F, H, W], of which ``grid`` holds averages; the same as ``grid`` when
            left out.
    """

    generator: dict[str, Any]
    layers: list[int]
    heads: list[int]
    sigmas: list[float]
    steps: int
    grid: list[int]
    slots: int
    labels: dict[str, Any]
    source: str
    counts: dict[str, dict[str, int]]
    rejected: dict[str, int] = field(default_factory=dict)
    schema: int = SCHEMA
    token_grid: list[int] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.token_grid = self.token_grid or self.grid

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
        self._check(Path(folder) / "shards.json")
        write_json(Path(folder) / "shards.json", asdict(self))

    @classmethod
    def load(cls, folder: str | Path) -> ShardInfo:
        """Read ``shards.json`` of a folder. Raises UserError when it is missing, incomplete or inconsistent."""
        path = Path(folder) / "shards.json"
        if not path.is_file():
            raise UserError(f"shards {folder}: no shards.json there; make the shards first (`make invert`)")
        data = read_json(path)
        names = {f.name for f in fields(cls)}
        if not isinstance(data, dict) or set(data) | {"token_grid"} != names:  # older shards do not have that one
            wrong = sorted(names ^ set(data)) if isinstance(data, dict) else ["everything"]
            raise UserError(f"{path}: missing or unknown fields ({', '.join(wrong)}); write the shards again")
        info = cls(**data)
        info._check(path)
        return info

    def _check(self, path: Path) -> None:
        def numbers(value: Any, kind: type) -> bool:
            return isinstance(value, list) and bool(value) and all(type(x) in (kind, int) for x in value)

        problems = {
            f"schema {self.schema}, this version reads {SCHEMA}": self.schema == SCHEMA,
            "generator must be a mapping": isinstance(self.generator, dict),
            "layers and heads must be lists of integers": numbers(self.layers, int) and numbers(self.heads, int),
            "sigmas must be falling numbers": numbers(self.sigmas, float)
            and all(a > b for a, b in itertools.pairwise(self.sigmas)),
            "grid and token_grid must be three positive integers": all(
                numbers(grid, int) and len(grid) == 3 and min(grid) > 0 for grid in (self.grid, self.token_grid)
            ),
            "slots must be at least 1": isinstance(self.slots, int) and self.slots >= 1,
            "labels must be a mapping": isinstance(self.labels, dict),
            "counts must be by split and label": isinstance(self.counts, dict)
            and all(isinstance(labels, dict) for labels in self.counts.values()),
        }
        for problem, fine in problems.items():
            if not fine:
                raise UserError(f"{path}: {problem}; write the shards again")
        known = self.label_set
        for split, labels in self.counts.items():
            if split not in SPLITS:
                raise UserError(f"{path}: unknown split {split!r} in counts; expected {', '.join(SPLITS)}")
            for label in labels:
                known.index(label)
