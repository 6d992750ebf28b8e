"""Finished rows -> tars, in the manifest's order, as soon as all rows of a tar are done.

A tar holds the next records of its split, so its bytes depend neither on the order in which rows were done nor on who
did them. Once it is where it stays its rows' parts are let go: beside it lies what is ahead of the first row that is
not done.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from cvg.common.errors import DataError
from cvg.common.files import read_json, write_json
from cvg.shards.records import MAPS, META
from cvg.shards.shards import NOT_STATED, SPLITS, ShardWriter
from cvg.shards.tars import read_shard
from data_prep.inversion.outcomes import RECORDS, Journal, Outcome, Outcomes
from data_prep.inversion.signatures import changed
from data_prep.inversion.stores import Here
from data_prep.inversion.taking import Taking
from data_prep.manifest import Row

SAMPLES = 500
"""Records of a tar."""
_NOTES = "tars.json"


@dataclass(frozen=True)
class Tar:
    """A tar that is written.

    Attributes:
        name: of its file.
        sha256: of its bytes.
        size: in bytes.
        end: where the next one of its split begins: which of the split's rows, and which of this row's records.
        counts: its records by label.
        licences: its records by licence, and by the data set that they are of.
    """

    name: str
    sha256: str
    size: int
    end: tuple[int, int]
    counts: dict[str, int]
    licences: dict[str, dict[str, int]]


class _Damaged(Exception):
    """A record cannot be read."""


class Packer:
    """Packs what processes have done; one of them at a time.

    Args:
        rows: of the manifest.
        store: where tars stay.
        parts: the folder of what is done.
    """

    def __init__(self, rows: list[Row], store: Here, parts: Path) -> None:
        self.rows, self.out, self.store, self.parts = rows, store.folder, store, parts
        self.order: dict[str, list[int]] = {
            split: [n for n, row in enumerate(rows) if row.split == split] for split in SPLITS
        }
        self.tars: dict[str, list[Tar]] = _noted(parts / _NOTES)
        self.outcomes = Outcomes(rows, parts)
        self._closed: list[str] = []  # files of records to which nothing is added any more
        self._at: dict[str, int] = {}  # per split, the row that is looked at next
        self._gathered: dict[str, list[tuple[int, int]]] = {}  # per split, the records of the next tar
        self._refresh()
        for split in SPLITS:
            self._rewind(split)
            for number in self.order[split][: self._begin(split)[0]]:
                self.outcomes.packed(number)
        self._sweep()

    def _refresh(self) -> None:
        # In this order: a process begins another file of records when all lines that tell of its last one are written.
        files = [path.name.split(".") for path in self.parts.glob(f"*{RECORDS}")]
        last: dict[str, int] = {}
        for name, number, *_ in files:
            last[name] = max(last.get(name, 0), int(number))
        self._closed = [f"{name}.{number}{RECORDS}" for name, number, *_ in files if int(number) < last[name]]
        self.outcomes.refresh()

    def _begin(self, split: str) -> tuple[int, int]:
        return self.tars[split][-1].end if self.tars[split] else (0, 0)

    def _rewind(self, split: str) -> None:
        """Begin to gather a split's next tar from where its last one ended."""
        self._at[split], self._gathered[split] = self._begin(split)[0], []

    def mend(self) -> bytes:
        """See what of the parts and tars is of use, and forget the rest; only where no other process is at work.

        Returns:
            Per row, 1 where it is done.
        """
        known, signatures = self.outcomes.known, self.outcomes.signatures
        gone = {n for n, row in enumerate(self.rows) if known[n] and changed(row, signatures[n])}
        sizes = {path.name: path.stat().st_size for path in self.parts.glob(f"*{RECORDS}")}
        tars = self.store.sizes()
        for number, place in self.outcomes.places.items():
            if place.at + sum(map(sum, place.sizes)) > sizes.get(place.file, 0):
                gone.add(number)
        for split in SPLITS:
            end = 0
            for which, tar in enumerate(self.tars[split]):
                begin, end = end, tar.end[0]
                if tars.get(tar.name) != tar.size or not gone.isdisjoint(self.order[split][begin : end + 1]):
                    with Journal(self.parts) as journal:
                        gone |= self._unpack(split, which, gone, journal)
                    break
        self.outcomes.drop(gone)
        for split in SPLITS:
            self._rewind(split)
        self.store.keep(self.written())
        return bytes(known)

    def _unpack(self, split: str, first: int, gone: Collection[int], journal: Journal) -> set[int]:
        """Take a split's tars from one on apart again. Returns the rows whose records were not all found."""
        begin = self.tars[split][first - 1].end if first else (0, 0)
        rows = self.order[split][begin[0] : self.tars[split][-1].end[0] + 1]
        homes = {key: (number, which) for number in rows for which, key in enumerate(self.rows[number].keys)}
        found: dict[int, dict[int, dict[str, bytes]]] = {}
        for tar in self.tars[split][first:]:
            try:
                path = self.store.get_tar(tar.name, tar.size)
                for members in read_shard(path, tar.sha256, tar.size):
                    if (home := homes.get(members["__key__"])) is not None and home[0] not in gone:
                        found.setdefault(home[0], {})[home[1]] = {end: members[end] for end in (MAPS, META)}
            except DataError:
                continue  # what was read is good: its digest is looked at first
            self._keep(found, journal)
        del self.tars[split][first:]
        self._note()
        known = self.outcomes.known
        return {n for n in rows if known[n] and n not in self.outcomes.rejects and n not in self.outcomes.places}

    def _keep(self, found: dict[int, dict[int, dict[str, bytes]]], journal: Journal) -> None:
        """Put down rows all of whose records were found."""
        whole = [n for n, members in found.items() if len(members) == len(self.rows[n].relations)]
        members = {n: [each for _, each in sorted(found.pop(n).items())] for n in whole}
        signatures = self.outcomes.signatures
        journal.add([Outcome(n, self.rows[n].split, signatures[n], members[n]) for n in whole])
        self.outcomes.refresh()
        for number in whole:
            self.outcomes.take_latest(number)

    def written(self) -> dict[str, str]:
        """Name -> SHA-256 of the tars so far."""
        return {tar.name: tar.sha256 for split in SPLITS for tar in self.tars[split]}

    def advance(self, taking: Taking) -> None:
        """Write the tars all of whose rows are done; rows whose records are damaged are to be done again."""
        self._refresh()
        for split in SPLITS:
            while len(self._gather(split)) >= SAMPLES and self._write(split, taking):
                pass

    def finish(self, taking: Taking) -> bool:
        """Write what is left, where all rows are done. Whether that is so, and all is written."""
        self.advance(taking)
        for split in SPLITS:
            while self._gather(split) or self._at[split] < len(self.order[split]):
                if self._at[split] < len(self.order[split]) or not self._write(split, taking):
                    return False  # a row is not done, or is to be done again
        return True

    def counts(self) -> dict[str, dict[str, int]]:
        """Records by split and label."""
        totals = {split: Counter[str]() for split in SPLITS}
        for split in SPLITS:
            for tar in self.tars[split]:
                totals[split].update(tar.counts)
        return {split: dict(sorted(counter.items())) for split, counter in totals.items()}

    def _gather(self, split: str) -> list[tuple[int, int]]:
        """Records of the next tar, or some more, or not yet all: which of the split's rows, which of its records."""
        order, gathered, begin = self.order[split], self._gathered[split], self._begin(split)
        while len(gathered) < SAMPLES and self._at[split] < len(order) and self.outcomes.known[order[self._at[split]]]:
            number = order[self._at[split]]
            if number not in self.outcomes.rejects:
                skipped = begin[1] if self._at[split] == begin[0] else 0
                gathered.extend((self._at[split], k) for k in range(skipped, len(self.rows[number].relations)))
            self._at[split] += 1
        return gathered

    def _write(self, split: str, taking: Taking) -> bool:
        """Write the next tar. False where a row's records are damaged, which is then to be done again."""
        order, taken = self.order[split], self._gathered[split][:SAMPLES]
        writer = ShardWriter(self.out, split, SAMPLES, start=len(self.tars[split]))
        counts: Counter[str] = Counter()
        licences: dict[str, Counter[str]] = {}
        try:
            with writer:
                for at, which in taken:
                    number = order[at]
                    try:
                        record = self.outcomes.record(number, which)
                    except (DataError, OSError, KeyError) as error:
                        raise _Damaged from error
                    row = self.rows[number]
                    counts[record.label] += 1
                    licences.setdefault(row.licence or NOT_STATED, Counter())[row.dataset or row.source] += 1
                    writer.write(record)
        except _Damaged:
            self.outcomes.forget(number)
            taking.again(number)
            self._rewind(split)
            return False
        ((name, digest),) = writer.tars.items()
        at, which = taken[-1]
        end = (at, which + 1) if which + 1 < len(self.rows[order[at]].relations) else (at + 1, 0)
        begin = self._begin(split)[0]
        size = (self.out / name).stat().st_size
        self.store.put_tar(name)
        told = {licence: dict(sets) for licence, sets in licences.items()}
        self.tars[split].append(Tar(name, digest, size, end, dict(sorted(counts.items())), told))
        self._note()
        for number in order[begin : end[0]]:
            self.outcomes.packed(number)
        self._rewind(split)
        self._sweep()
        return True

    def _note(self) -> None:
        write_json(self.parts / _NOTES, {split: [asdict(tar) for tar in self.tars[split]] for split in SPLITS})

    def _sweep(self) -> None:
        """Remove files of records that are all packed."""
        needed = self.outcomes.files()
        for name in self._closed:
            if name not in needed:
                (self.parts / name).unlink(missing_ok=True)


def _noted(path: Path) -> dict[str, list[Tar]]:
    """The tars that were written before; none where that is not known."""
    empty: dict[str, list[Tar]] = {split: [] for split in SPLITS}
    try:
        found: Any = read_json(path)
        for split in SPLITS:
            empty[split] = [Tar(**tar | {"end": tuple(tar["end"])}) for tar in found[split]]
    except (DataError, TypeError, KeyError, ValueError, AttributeError):
        return {split: [] for split in SPLITS}
    return empty
