"""Who does which rows: processes take them by locks of the file system, which end with the process that has them.

Nothing else joins the processes, so they may be of several machines that share the folder, begin and end when they
will, and die.
"""

from __future__ import annotations

import errno
import fcntl
import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

from cvg.common.errors import DataError

_WAIT_S = 0.1


@contextmanager
def joined(folder: Path, begin: Callable[[bool], None]) -> Iterator[None]:
    """Within it this process is one of those at work in a folder, and no command that wants to be alone there is.

    Args:
        folder: whose files are written; made if needed.
        begin: called first, and by one process at a time, with whether no other process is at work.

    Raises:
        DataError: a process that wants to be alone is at work there, or the folder cannot be made.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise DataError(f"{folder}: cannot be written ({error.strerror}); choose another place") from error
    path = folder / ".lock"
    first = _waited(folder / ".begin.lock")
    try:
        member, only = locked(path), True
        if member is None:
            member, only = locked(path, fcntl.LOCK_SH), False
        if member is None:
            raise DataError(
                f"{folder}: another process is writing there just now; wait for it, or choose another folder"
            )
        try:
            begin(only)
            if only:
                _flock(member, fcntl.LOCK_SH)
        except BaseException:
            _leave(member, path)
            raise
    finally:
        let_go(first, folder / ".begin.lock")
    try:
        yield
    finally:
        _leave(member, path)


def _leave(member: BinaryIO, path: Path) -> None:
    if _flock(member, fcntl.LOCK_EX):  # the last one
        path.unlink(missing_ok=True)
    member.close()


def locked(path: Path, how: int = fcntl.LOCK_EX) -> BinaryIO | None:
    """The file of a path, made if needed, with a lock that ends when it is closed; None where another process has it.

    File systems that know no locks give none: whoever asks has it.

    Raises:
        DataError: the file cannot be made.
    """
    while True:
        try:
            file = path.open("ab")
        except OSError as error:
            raise DataError(f"{path.parent}: cannot be written ({error.strerror}); choose another place") from error
        if not _flock(file, how):
            file.close()
            return None
        if path.exists() and path.stat().st_ino == os.fstat(file.fileno()).st_ino:
            return file
        file.close()  # the one before removed it just then: what was locked has no name any more


def _flock(file: BinaryIO, how: int) -> bool:
    try:
        fcntl.flock(file, how | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError:
        pass
    return True


def _waited(path: Path) -> BinaryIO:
    while (file := locked(path)) is None:
        time.sleep(_WAIT_S)
    return file


def let_go(file: BinaryIO, path: Path) -> None:
    """Give up a lock, and remove its file."""
    path.unlink(missing_ok=True)
    file.close()


class Taking:
    """Rows that are done, and rows that are taken, of all processes: a byte a row, and a lock on it.

    A process takes groups of rows that follow each other, always the same ones together.

    Args:
        path: the file, with a zero byte for each row that is to be done.
        count: number of rows.
        group: rows that are taken together.
        alone: no other process will be there, so that it does without locks where the file system knows none.

    Raises:
        FileNotFoundError: there is no such file.
    """

    def __init__(self, path: Path, count: int, group: int = 1, alone: bool = True) -> None:
        self.path, self.count, self.group, self.alone = path, count, group, alone
        # Opened once: closing any handle of a file lets go of all locks that the process has on it.
        self._file = os.open(path, os.O_RDWR | os.O_CLOEXEC)
        self._mine: set[int] = set()

    def take(self) -> range | None:
        """The next rows that nobody has done or taken, which are this process's from now on; None where there are none.

        Raises:
            DataError: the file system knows no locks, and other processes are there.
        """
        done, start = self._done(), 0
        while (found := done.find(b"\0", start)) >= 0:
            first = found - found % self.group
            rows = range(first, min(first + self.group, self.count))
            start = rows.stop
            if first in self._mine or not self._lock(rows):
                continue
            if os.pread(self._file, len(rows), first).find(b"\0") >= 0:  # nobody did them meanwhile
                self._mine.add(first)
                return rows
            self._unlock(rows)
        return None

    def done(self, rows: range) -> None:
        """Let go of rows whose outcomes are kept."""
        os.pwrite(self._file, b"\1" * len(rows), rows.start)
        self._unlock(rows)

    def again(self, number: int) -> None:
        """A row is to be done again."""
        os.pwrite(self._file, b"\0", number)

    def left(self) -> int:
        """How many rows are not done."""
        return self.count - self._done().count(b"\1")

    def _done(self) -> bytes:
        return os.pread(self._file, self.count, 0).ljust(self.count, b"\0")

    def _lock(self, rows: range) -> bool:
        try:
            fcntl.lockf(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB, len(rows), rows.start)
        except OSError as error:
            if error.errno in (errno.EACCES, errno.EAGAIN):
                return False
            if not self.alone:
                raise DataError(
                    f"{self.path}: its file system knows no locks ({error.strerror}), by which processes share the "
                    "rows; choose a folder on another one, or run one process"
                ) from error
        return True

    def _unlock(self, rows: range) -> None:
        self._mine.discard(rows.start)
        try:
            fcntl.lockf(self._file, fcntl.LOCK_UN, len(rows), rows.start)
        except OSError:
            if not self.alone:
                raise

    def close(self) -> None:
        """Let go of all rows."""
        os.close(self._file)
