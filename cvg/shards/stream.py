"""One split of the shards as a stream of batches whose order does not depend on how many processes read it."""

from __future__ import annotations

import itertools
import math
import random
from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import torch
import webdataset as wds
from torch import Tensor
from torch.utils.data import IterableDataset, get_worker_info

from cvg.common.errors import DataError
from cvg.shards.mirror import Mirror
from cvg.shards.records import Record, decode, label_of, most_maps
from cvg.shards.shards import SPLITS, ShardInfo
from cvg.shards.tars import read_shard

Batch = dict[str, Tensor]


@dataclass
class Source:
    """The tars of one split in one folder, with their digests; its records in all, and those that are not held out."""

    folder: Path
    tars: dict[Path, str]
    count: int
    used: int
    weight: float = 1.0

    @classmethod
    def find(cls, folder: str | Path, split: str, weight: float = 1.0, hold_out: Collection[str] = ()) -> Source:
        """The tars of a split, none of an empty one. Raises DataError where they and shards.json disagree."""
        info = ShardInfo.load(folder)
        tars = {Path(folder) / name: info.tars[name] for name in sorted(info.tars) if name.startswith(f"{split}-")}
        if odd := sorted(set(tars) ^ set(Path(folder).glob(f"{split}-*.tar"))):
            what = "is missing" if odd[0] in tars else "is not named in shards.json"
            raise DataError(f"shards {folder}: {odd[0].name} {what}; make the shards again")
        count = info.count(split)
        if bool(tars) != bool(count):
            raise DataError(
                f"shards {folder}: {len(tars)} {split} tars, but shards.json counts {count} records; make it again"
            )
        used = count - sum(info.counts.get(split, {}).get(name, 0) for name in hold_out)
        return cls(Path(folder), tars, count, used, weight)


@dataclass
class Stream(IterableDataset[Batch]):
    """Batches of one split, for one rank.

    The order of samples is a function of (seed, epoch) alone. Every rank reads the same stream and keeps its slice of
    each global batch, so the number of ranks changes neither what is learned nor when an epoch ends (uneven shards
    cannot make a rank wait), at the price of each rank reading all tars; only its own samples are decoded.
    """

    sources: list[Source]
    info: ShardInfo  # of what the batches hold: some of the stored steps and layers
    stored: ShardInfo  # of what the tars hold
    batch_size: int  # global
    training: bool
    mirror: Mirror | None = None
    hold_out: frozenset[str] = frozenset()  # labels that training does not see
    seed: int = 0
    buffer: int = 1
    cached: bool = False
    rank: int = 0
    ranks: int = 1
    epoch: int = 0
    start: int = 0  # first batch wanted
    _cache: dict[Path, list[Record]] = field(default_factory=dict, repr=False)

    @property
    def batches(self) -> int:
        """Batches per epoch."""
        if not self.training:
            return math.ceil(sum(source.count for source in self.sources) / self.batch_size)
        return max(1, round(sum(source.used * source.weight for source in self.sources)) // self.batch_size)

    def __iter__(self) -> Iterator[Batch]:
        worker = get_worker_info()
        workers, worker_id = (worker.num_workers, worker.id) if worker else (1, 0)
        share = self.batch_size // self.ranks
        items = self._endless() if self.training else self._once()
        for number in range(self.batches):
            globally = list(itertools.islice(items, self.batch_size))
            # DataLoader takes one batch of each worker in turn, so this keeps their order.
            if number < self.start or (number - self.start) % workers != worker_id:
                continue
            valid = len(globally)
            globally += globally[-1:] * (self.batch_size - valid)  # every rank needs as many, full batches
            mine = range(self.rank * share, (self.rank + 1) * share)
            yield self._collate([(globally[i], number * self.batch_size + i, i < valid) for i in mine])

    def records(self) -> Iterator[Record]:
        """The records themselves, each once, in the order of the tars."""
        for item in self._once():
            yield self._record(item)

    def _once(self) -> Iterator[Any]:
        seen = 0
        for source in self.sources:
            for tar, digest in source.tars.items():
                for item in self._read(tar, digest):
                    seen += 1
                    yield item
        self._check_count(seen, sum(source.count for source in self.sources))

    def _endless(self) -> Iterator[Any]:
        """Passes over the shuffled tars, one after the other."""
        for number in itertools.count():
            rng = random.Random(f"{self.seed}/{self.epoch}/{number}")
            yield from wds.shuffle(self.buffer, initial=self.buffer, rng=rng)(self._pass(rng))

    def _pass(self, rng: random.Random) -> Iterator[Any]:
        # A weight of 2.5 is two whole copies and a third one of which each sample is kept with probability 1/2.
        copies = [
            (tar, digest, min(1.0, source.weight - copy))
            for source in self.sources
            for copy in range(math.ceil(source.weight))
            for tar, digest in source.tars.items()
        ]
        rng.shuffle(copies)
        seen = 0
        for tar, digest, keep in copies:
            for item in self._read(tar, digest):
                seen += 1
                if not self._held_out(item) and (keep == 1 or rng.random() < keep):
                    yield item
        self._check_count(seen, sum(source.count * math.ceil(source.weight) for source in self.sources))

    def _held_out(self, item: Any) -> bool:
        if not self.hold_out:
            return False
        return (item.label if isinstance(item, Record) else label_of(item)) in self.hold_out

    def _check_count(self, seen: int, count: int) -> None:
        if seen != count:
            folders = ", ".join(str(source.folder) for source in self.sources)
            raise DataError(
                f"shards {folders}: the tars hold {seen} records, shards.json counts {count}; make them again"
            )

    def _read(self, tar: Path, digest: str) -> Iterable[Any]:
        """Records of a tar: from memory when cached, else undecoded members."""
        if not self.cached:
            return read_shard(tar, digest, most_maps(self.stored.shape))
        if tar not in self._cache:
            self._cache[tar] = [self._record(item) for item in read_shard(tar, digest, most_maps(self.stored.shape))]
        return self._cache[tar]

    def _record(self, item: Any) -> Record:
        if isinstance(item, Record):
            return item
        record = decode(item)
        if tuple(record.positive_SLAKFHW.shape) != self.stored.shape:
            raise DataError(
                f"record {record.key!r} of {item['__url__']}: maps of shape {tuple(record.positive_SLAKFHW.shape)}, "
                f"shards.json says {self.stored.shape}; make the shards again"
            )
        steps = [self.stored.sigmas.index(sigma) for sigma in self.info.sigmas]
        layers = [self.stored.layers.index(layer) for layer in self.info.layers]
        return replace(
            record,
            positive_SLAKFHW=record.positive_SLAKFHW[steps][:, layers],
            negative_SLAKFHW=record.negative_SLAKFHW[steps][:, layers],
        )

    def _collate(self, chosen: list[tuple[Any, int, bool]]) -> Batch:
        labels = self.info.label_set
        rows: list[tuple[Tensor, Tensor, tuple[bool, ...], int, int, bool]] = []
        for item, position, valid in chosen:
            record = self._record(item)
            # One generator per sample of the epoch, whichever rank, worker or resumed run it falls to.
            rng = random.Random(f"{self.seed}/{self.epoch}/sample {position}")
            positive, negative, label = record.positive_SLAKFHW, record.negative_SLAKFHW, record.label
            if self.training and self.mirror:
                positive, negative, label = self.mirror(record, rng)
            rows.append((positive, negative, record.present, labels.index(label), rng.getrandbits(63), valid))
        positives, negatives, presents, indices, seeds, valids = zip(*rows, strict=True)
        return {
            "positive": torch.stack(positives),
            "negative": torch.stack(negatives),
            "present": torch.tensor(presents),
            "label": torch.tensor(indices),
            "seed": torch.tensor(seeds),
            "valid": torch.tensor(valids),
        }


def read_records(folder: Path, splits: Sequence[str], chosen: ShardInfo | None = None) -> list[Record]:
    """The records of some splits, as they were written.

    Args:
        folder: of the shards.
        splits: whose records are wanted.
        chosen: the steps and layers wanted of their maps; all when None.

    Raises:
        DataError: there are none, or they cannot be read.
    """
    stored = ShardInfo.load(folder)
    sources = [source for source in (Source.find(folder, split) for split in splits) if source.tars]
    if not sources:
        others = ", ".join(name for name in SPLITS if stored.count(name)) or "none"
        raise DataError(f"shards {folder}: no {', '.join(splits)} records; choose a split that has some ({others})")
    return list(Stream(sources, chosen or stored, stored, batch_size=1, training=False).records())
