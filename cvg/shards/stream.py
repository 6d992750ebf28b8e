"""One split of the shards as a stream of batches whose order does not depend on how many processes read it."""

from __future__ import annotations

import itertools
import math
import random
import sys
from abc import abstractmethod
from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import torch
import webdataset as wds
from torch import Tensor
from torch.utils.data import IterableDataset, get_worker_info

from cvg.common.errors import DataError
from cvg.shards.folders import Folder, LocalFolder
from cvg.shards.mirror import Mirror
from cvg.shards.records import Record, decode, label_of, most_maps
from cvg.shards.shards import SPLITS, ShardInfo
from cvg.shards.tars import read_whole

Batch = dict[str, Tensor]


@dataclass
class Source:
    """The tars of one split in one folder, with their digests; its records in all, and those that are not held out."""

    folder: Folder
    tars: dict[str, str]
    count: int
    used: int
    weight: float = 1.0

    @classmethod
    def find(cls, folder: Folder, split: str, weight: float = 1.0, hold_out: Collection[str] = ()) -> Source:
        """The tars of a split, none of an empty one. Raises DataError where they and shards.json disagree."""
        info = folder.info
        tars = {name: info.tars[name] for name in folder.tars(split)}
        count = info.count(split)
        if bool(tars) != bool(count):
            raise DataError(
                f"shards {folder.place}: {len(tars)} {split} tars, but shards.json counts {count} records; make it "
                "again"
            )
        used = count - sum(info.counts.get(split, {}).get(name, 0) for name in hold_out)
        return cls(folder, tars, count, used, weight)


@dataclass
class Stream(IterableDataset[Batch]):
    """Batches of one split, for one rank; how they are read is a subclass's."""

    sources: list[Source]
    info: ShardInfo  # of what the batches hold: some of the stored steps and layers
    stored: ShardInfo  # of what the tars hold
    batch_size: int  # global
    training: bool
    mirror: Mirror | None = None
    hold_out: frozenset[str] = frozenset()  # labels that training does not see
    seed: int = 0
    rank: int = 0
    ranks: int = 1
    epoch: int = 0
    start: int = 0  # first batch wanted

    @property
    def count(self) -> int:
        """Records in all."""
        return sum(source.count for source in self.sources)

    @property
    def batches(self) -> int:
        """Batches per epoch, on every rank."""
        if not self.training:
            return math.ceil(self.count / self.batch_size)
        return max(1, round(sum(source.used * source.weight for source in self.sources)) // self.batch_size)

    @property
    def record_bytes(self) -> int:
        """Bytes that the maps of a stored record have at most."""
        return most_maps(self.stored.shape)

    @abstractmethod
    def __iter__(self) -> Iterator[Batch]:
        """The batches of an epoch, from ``start`` on, of this rank."""

    def _held_out(self, item: Any) -> bool:
        if not self.hold_out:
            return False
        return (item.label if isinstance(item, Record) else label_of(item)) in self.hold_out

    def _check_count(self, seen: int, count: int) -> None:
        if seen != count:
            folders = ", ".join(source.folder.place for source in self.sources)
            raise DataError(
                f"shards {folders}: the tars hold {seen} records, shards.json counts {count}; make them again"
            )

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

    def _collate(self, chosen: list[tuple[Any, int, bool]], size: int = 0) -> Batch:
        """A batch of records, the place of each in the epoch, and whether it counts; at least of a size, of blanks."""
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
        blank = torch.zeros(self.info.shape, dtype=torch.float16) if len(rows) < size else torch.empty(0)
        rows += [(blank, blank, (True,) * self.info.slots, 0, 0, False)] * (size - len(rows))
        positives, negatives, presents, indices, seeds, valids = zip(*rows, strict=True)
        return {
            "positive": torch.stack(positives),
            "negative": torch.stack(negatives),
            "present": torch.tensor(presents),
            "label": torch.tensor(indices),
            "seed": torch.tensor(seeds),
            "valid": torch.tensor(valids),
        }


@dataclass
class Shared(Stream):
    """Every rank reads all tars, and keeps its slice of each global batch: for sets that fit into memory.

    The order of samples is a function of (seed, epoch) alone, so that the number of ranks changes neither what is
    learned nor when an epoch ends. Only a rank's own samples are decoded, unless they are kept for the next epoch.
    """

    cached: bool = True
    _cache: dict[tuple[int, str], list[Record]] = field(default_factory=dict, repr=False)

    def __iter__(self) -> Iterator[Batch]:
        """The batches of an epoch, from ``start`` on, of this rank."""
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
        for number, source in enumerate(self.sources):
            for tar in source.tars:
                for item in self._read(number, tar):
                    seen += 1
                    yield item
        self._check_count(seen, self.count)

    def _endless(self) -> Iterator[Any]:
        """Passes over all records in random order, one after the other."""
        for number in itertools.count():
            rng = random.Random(f"{self.seed}/{self.epoch}/{number}")
            yield from wds.shuffle(sys.maxsize, initial=sys.maxsize, rng=rng)(self._pass(rng))

    def _pass(self, rng: random.Random) -> Iterator[Any]:
        # A weight of 2.5 is two whole copies and a third one of which each sample is kept with probability 1/2.
        copies = [
            (number, tar, min(1.0, source.weight - copy))
            for number, source in enumerate(self.sources)
            for copy in range(math.ceil(source.weight))
            for tar in source.tars
        ]
        rng.shuffle(copies)
        seen = 0
        for number, tar, keep in copies:
            for item in self._read(number, tar):
                seen += 1
                if not self._held_out(item) and (keep == 1 or rng.random() < keep):
                    yield item
        self._check_count(seen, sum(source.count * math.ceil(source.weight) for source in self.sources))

    def _read(self, number: int, tar: str) -> Iterable[Any]:
        """Records of a tar of a source: from memory when cached, else undecoded members."""
        source = self.sources[number]
        if not self.cached:
            return self._members(source, tar)
        if (number, tar) not in self._cache:
            self._cache[number, tar] = [self._record(item) for item in self._members(source, tar)]
        return self._cache[number, tar]

    def _members(self, source: Source, tar: str) -> Iterator[dict[str, Any]]:
        folder = source.folder
        return read_whole(folder.open(tar), folder.name(tar), source.tars[tar], self.record_bytes)


def read_records(folder: Path, splits: Sequence[str], chosen: ShardInfo | None = None) -> list[Record]:
    """The records of some splits, as they were written.

    Args:
        folder: of the shards.
        splits: whose records are wanted.
        chosen: the steps and layers wanted of their maps; all when None.

    Raises:
        DataError: there are none, or they cannot be read.
    """
    place = LocalFolder(str(folder))
    stored = place.info
    sources = [source for source in (Source.find(place, split) for split in splits) if source.tars]
    if not sources:
        others = ", ".join(name for name in SPLITS if stored.count(name)) or "none"
        raise DataError(f"shards {folder}: no {', '.join(splits)} records; choose a split that has some ({others})")
    return list(Shared(sources, chosen or stored, stored, batch_size=1, training=False, cached=False).records())
