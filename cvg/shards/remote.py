"""Tars from behind URLs, kept in a folder of limited size."""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import logging
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from io import BufferedReader
from pathlib import Path
from typing import IO

from cvg.common.errors import DataError, UserError
from cvg.common.files import atomic
from cvg.shards import urls
from cvg.shards.tars import opened
from cvg.shards.urls import open_url, read_url, wait_or_raise

_LOG = logging.getLogger(__name__)


@dataclass(frozen=True)
class DiskCache:
    """Tars from elsewhere in a folder here, by their SHA-256: processes and machines that share it fetch each once.

    A tar has its name once it is whole and its SHA-256 is right. Where the limit would be passed those that were not
    read for longest go; who reads one just then keeps it to its end.

    Attributes:
        folder: where they are kept.
        most: bytes that they may have together.
    """

    folder: Path
    most: int

    def open(self, url: str, digest: str) -> BufferedReader:
        """A tar at its beginning, fetched if need be.

        Args:
            url: where it lies.
            digest: its SHA-256.

        Raises:
            DataError: it cannot be fetched, is another one, or there is no room for it.
        """
        path = self.folder / f"{digest}.tar"
        with self._lock(digest[:2]):
            if not path.is_file():
                self._fetch(url, path, digest)
            file = opened(path)
            os.utime(path)  # what the oldest one is told by
        return file

    def _fetch(self, url: str, path: Path, digest: str) -> None:
        began = time.monotonic()
        with atomic(path) as temporary, temporary.open("wb") as file:
            with contextlib.suppress(OSError):
                fcntl.flock(file, fcntl.LOCK_EX)  # tells others that this one is at work
            size = read_url(url, lambda file: file.size if isinstance(file.size, int) else None)
            self._make_room(url, size or 0, file)
            found = download(url, file, self.most)
            if found != digest:
                raise DataError(
                    f"shard {url}: not the tar that shards.json names: damaged, or written by another run; make the "
                    "shards again, or copy them again"
                )
        _LOG.debug("%s: %s bytes in %.1f s", url, path.stat().st_size, time.monotonic() - began)

    def _make_room(self, url: str, size: int, file: IO[bytes]) -> None:
        """Have the oldest tars go until one of so many bytes fits, and let its file have that size from now on."""
        if size > self.most:
            raise DataError(
                f"shard {url}: has {size} bytes, more than the {self.most} that are kept of tars from elsewhere; raise "
                "data.disk_gb"
            )
        while True:
            with self._lock("room"):
                held = {path: path.stat() for path in self._files()}
                total = sum(stat.st_size for stat in held.values())
                for path in sorted(held, key=lambda path: held[path].st_mtime):
                    if total + size > self.most and (not path.name.startswith(".") or _abandoned(path)):
                        path.unlink(missing_ok=True)
                        total -= held[path].st_size
                if total + size <= self.most:
                    file.truncate(size)
                    return
            time.sleep(0.2)  # others are being fetched, and can go once they are whole

    def _files(self) -> Iterator[Path]:
        for path in self.folder.glob("*.tar"):  # those that are not whole yet too
            with contextlib.suppress(FileNotFoundError):
                path.stat()
                yield path

    @contextmanager
    def _lock(self, name: str) -> Iterator[None]:
        """Within it no other process is at the same; where the file system knows no locks, it may be."""
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            file = (self.folder / f".{name}.lock").open("ab")
        except OSError as error:
            raise DataError(f"{self.folder}: cannot be written ({error.strerror}); choose another data.disk") from error
        with file:
            with contextlib.suppress(OSError):
                fcntl.flock(file, fcntl.LOCK_EX)
            yield


def _abandoned(path: Path) -> bool:
    """Whether who fetched a tar has ended before it was whole."""
    try:
        with path.open("rb") as file:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return True
    except OSError:
        return False


def download(url: str, file: IO[bytes], most: int) -> str:
    """Write what is behind a URL into a file; its SHA-256. A read that failed goes on where it ended, if it can.

    Raises:
        DataError: it cannot be read, or has more than ``most`` bytes.
    """
    sha, done, failures, block = hashlib.sha256(), 0, 0, urls.BLOCK
    while True:
        before = done
        try:
            with open_url(url, block) as source:
                if done:
                    source.seek(done)
                while data := source.read(urls.BLOCK):
                    file.seek(done)
                    file.write(data)
                    sha.update(data)
                    done += len(data)
                    if done > most:
                        raise DataError(f"shard {url}: has more than {most} bytes; raise data.disk_gb")
                if isinstance(source.size, int) and done < source.size:
                    raise OSError(f"it ended after {done} of {source.size} bytes")
            file.truncate(done)
            return sha.hexdigest()
        except UserError:
            raise
        except ValueError as error:  # the server sends files from their beginning alone
            sha, done, block, failures = hashlib.sha256(), 0, 0, failures + 1
            wait_or_raise(url, error, failures)
        except Exception as error:
            failures = failures + 1 if done == before else 1
            wait_or_raise(url, error, failures)
