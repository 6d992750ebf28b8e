"""What became of rows: each process appends it to files of its own, and the one that packs reads all of them.

A process has one file of lines and, for each split, files of records' bytes, of which it begins another when one is
large. Nothing is ever written to by two, and a line is written after the bytes it tells of: what a killed process
leaves is whole but for an end that no reader takes.
"""

from __future__ import annotations

import contextlib
import errno
import json
import os
import secrets
import time
from collections import Counter
from collections.abc import Collection, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple

from cvg.common.errors import DataError
from cvg.common.files import atomic
from cvg.shards.records import MAPS, META, Record, decode
from data_prep.manifest import Row

LINES, RECORDS = ".outcomes.jsonl", ".records"
MOST_BYTES = 1 << 28
"""Of a file of records, roughly: so much more than the tars have lies on the disk for each process."""
_SYNC_S = 10.0
"""Seconds between two times that a process has the system write to the disk: so much a power cut may undo."""


@dataclass(frozen=True)
class Outcome:
    """What became of a row.

    Attributes:
        number: its place in the manifest.
        split: its split.
        signature: of its files, see `data_prep.inversion.signatures`.
        members: of the tar, of each of its records; none where it was rejected.
        rejected: what ``rejects.jsonl`` tells of it; None where it was not.
    """

    number: int
    split: str
    signature: str
    members: Sequence[dict[str, bytes]] = ()
    rejected: dict[str, Any] | None = None

    @property
    def reason(self) -> str:
        """Why it was left out; empty where it was not."""
        return self.rejected["rejected"] if self.rejected else ""

    @property
    def detail(self) -> str:
        """What is told of that."""
        return self.rejected["detail"] if self.rejected else ""


class Place(NamedTuple):
    """Where the records of a row lie: the file's name, from which byte on, and the sizes of each one's two members."""

    file: str
    at: int
    sizes: tuple[tuple[int, int], ...]


class Journal:
    """Where one process keeps what it has done; a context manager.

    Args:
        folder: of the parts.
    """

    def __init__(self, folder: Path) -> None:
        self.folder, self.name = folder, secrets.token_hex(6)
        self._lines: BinaryIO | None = None
        self._records: dict[str, BinaryIO] = {}  # by split, since each is packed at a pace of its own
        self._numbers: Counter[str] = Counter()
        self._synced = time.monotonic()

    def add(self, outcomes: Sequence[Outcome]) -> None:
        """Append outcomes, all of them or (if the process is killed meanwhile) the first ones.

        Raises:
            DataError: the disk takes no more.
        """
        told = []
        self._turn()
        with _written(self.folder / f"{self.name}{LINES}"):
            if self._lines is None:
                self.folder.mkdir(parents=True, exist_ok=True)
                self._lines = (self.folder / f"{self.name}{LINES}").open("ab")
            for outcome in outcomes:
                line: dict[str, Any] = {"row": outcome.number, "seen": outcome.signature}
                if outcome.rejected is not None:
                    line["rejected"] = outcome.rejected
                else:
                    line |= self._append(outcome)._asdict()
                told.append(json.dumps(line).encode() + b"\n")
            for records in self._records.values():
                records.flush()
            self._lines.write(b"".join(told))
            self._lines.flush()
            if time.monotonic() - self._synced > _SYNC_S:
                self._sync()

    def _turn(self) -> None:
        """Let go of files of records that are large; all lines that tell of them are written."""
        for split in [split for split, file in self._records.items() if file.tell() > MOST_BYTES]:
            self._sync()
            self._records.pop(split).close()
            self._numbers[split] += 1

    def _append(self, outcome: Outcome) -> Place:
        name = f"{self.name}-{outcome.split}.{self._numbers[outcome.split]}{RECORDS}"
        if outcome.split not in self._records:
            self._records[outcome.split] = (self.folder / name).open("ab")
        file = self._records[outcome.split]
        at = file.tell()
        for record in outcome.members:
            file.write(record[MAPS])
            file.write(record[META])
        return Place(name, at, tuple((len(record[MAPS]), len(record[META])) for record in outcome.members))

    def _files(self) -> list[BinaryIO]:
        return [*self._records.values(), *([self._lines] if self._lines is not None else [])]

    def _sync(self) -> None:
        for file in self._files():
            file.flush()
            try:
                os.fsync(file.fileno())
            except OSError as error:
                if error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EIO):  # others: this cannot be synced
                    raise
        self._synced = time.monotonic()

    def __enter__(self) -> Journal:
        return self

    def __exit__(self, *error: object) -> None:
        for file in self._files():
            with contextlib.suppress(OSError):  # what a full disk did not take
                file.close()
            with contextlib.suppress(OSError):
                if not Path(file.name).stat().st_size:
                    Path(file.name).unlink()


class Outcomes:
    """What all processes have told so far of the rows of a manifest.

    Args:
        rows: of the manifest.
        folder: of the parts.

    Attributes:
        known: per row, 1 where its outcome is known.
        places: number -> where the records of a row lie, of those that are still to be packed.
        rejects: number -> what is told of a row that was left out.
        signatures: per row, that of its files when it was done; empty where it was not.
    """

    def __init__(self, rows: Sequence[Row], folder: Path) -> None:
        self.rows, self.folder = rows, folder
        self.known = bytearray(len(rows))
        self.places: dict[int, Place] = {}
        self.rejects: dict[int, dict[str, Any]] = {}
        self.signatures = [""] * len(rows)
        self._others: dict[int, list[Place]] = {}  # of rows that were done twice
        self._read: dict[Path, int] = {}

    def refresh(self) -> None:
        """Read what was appended since the last time."""
        for path in sorted(self.folder.glob(f"*{LINES}")):
            before = self._read.get(path, 0)
            if path.stat().st_size == before:
                continue
            with path.open("rb") as file:
                file.seek(before)
                for line in file:
                    if not line.endswith(b"\n"):  # it is being written, or never will be
                        break
                    before += len(line)
                    if (told := _parsed(line, self.rows)) is not None:
                        self._take(told)
            self._read[path] = before

    def _take(self, told: dict[str, Any]) -> None:
        number = told["row"]
        place = None if "rejected" in told else Place(told["file"], told["at"], told["sizes"])
        if self.known[number]:
            if place is not None:
                self._others.setdefault(number, []).append(place)
            return
        self.known[number] = 1
        self.signatures[number] = told["seen"]
        if place is None:
            self.rejects[number] = told["rejected"]
        else:
            self.places[number] = place

    def record(self, number: int, which: int) -> Record:
        """One of the records of a row; of one that was done twice, that which can be read.

        Raises:
            DataError, OSError, KeyError: it is damaged or gone.
        """
        while True:
            try:
                return self._record(number, which)
            except (DataError, OSError, KeyError):
                if not self.take_latest(number):
                    raise

    def _record(self, number: int, which: int) -> Record:
        place = self.places[number]
        with (self.folder / place.file).open("rb") as file:
            file.seek(place.at + sum(map(sum, place.sizes[:which])))
            maps, meta = (file.read(size) for size in place.sizes[which])
        return decode({"__key__": self.rows[number].keys[which], MAPS: maps, META: meta})

    def take_latest(self, number: int) -> bool:
        """Take the records of a row where they were put when it was done for another time, if it was."""
        if found := self._others.get(number):
            self.places[number] = found.pop()
            return True
        return False

    def packed(self, number: int) -> None:
        """The records of a row are needed no more."""
        self.places.pop(number, None)
        self._others.pop(number, None)

    def files(self) -> set[str]:
        """Names of the files of records that are needed."""
        others = (place for places in self._others.values() for place in places)
        return {place.file for place in (*self.places.values(), *others)}

    def forget(self, number: int) -> None:
        """Let go of a row that is to be done again."""
        self.packed(number)
        self.rejects.pop(number, None)
        self.known[number] = 0

    def drop(self, numbers: Collection[int]) -> None:
        """Forget rows for good: no line tells of them any more. Only where no other process is at work."""
        gone = frozenset(numbers)
        for path in self._read if gone else ():
            with path.open("rb") as file:
                told = [(line, _parsed(line, self.rows)) for line in file]
            kept = [line for line, found in told if found is not None and found["row"] not in gone]
            if len(kept) < len(told):
                with atomic(path) as temporary:
                    temporary.write_bytes(b"".join(kept))
                self._read[path] = sum(map(len, kept))
        for number in gone:
            self.forget(number)


def _parsed(line: bytes, rows: Sequence[Row]) -> dict[str, Any] | None:
    """What a line tells; None where it is damaged."""
    try:
        told = json.loads(line)
        number = told["row"]
        if not 0 <= number < len(rows) or not isinstance(told["seen"], str):
            return None
        if "rejected" in told:
            return told if isinstance(told["rejected"]["rejected"], str) else None
        told["sizes"] = tuple((int(maps), int(meta)) for maps, meta in told["sizes"])
        fits = len(told["sizes"]) == len(rows[number].relations) and told["file"].endswith(RECORDS)
        return told if fits and Path(told["file"]).name == told["file"] and told["at"] >= 0 else None
    except (ValueError, TypeError, KeyError, IndexError, AttributeError, RecursionError):
        return None


@contextmanager
def _written(path: Path) -> Iterator[None]:
    """Within it a disk that takes no more is a DataError that names the file."""
    try:
        yield
    except OSError as error:
        raise DataError(f"{path}: cannot be written ({error.strerror}); choose another place") from error
