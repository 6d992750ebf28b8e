"""Files behind URLs, through fsspec: read again where a read fails, and kept in a folder of limited size."""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import itertools
import json
import logging
import os
import random
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from io import BufferedReader
from pathlib import Path
from typing import IO, Any, TypeVar

from cvg.common.errors import DataError, SettingsError, UserError
from cvg.common.files import MOST_JSON, atomic, full
from cvg.shards.tars import opened

T = TypeVar("T")

ATTEMPTS = 6
"""So many reads in a row may fail before it is told; with the waits between them, within a minute."""
FIRST_WAIT = 0.5
"""Seconds before the second attempt; each further wait is twice as long."""
_SILENT = 60
"""Seconds for which an http server may send nothing."""
_BLOCK = 8 << 20
"""Bytes of one read."""
_HOPELESS = (FileNotFoundError, PermissionError, IsADirectoryError, NotADirectoryError)

_LOG = logging.getLogger(__name__)


def check_url(url: str) -> None:
    """Raise SettingsError unless a URL is of one kind of file system that fsspec knows, and is installed for."""
    import fsspec  # here, as sets of records in local folders do without

    protocol, _, rest = url.partition("://")
    if "::" in url or protocol not in fsspec.available_protocols() or not rest:
        raise SettingsError(f"shards {url}: no address of files; give a folder, or a URL such as s3://bucket/folder")
    try:
        fsspec.get_filesystem_class(protocol)
    except ImportError as error:
        more = "pip install 'cvg[remote]'" if protocol in ("s3", "s3a") else str(error)
        raise SettingsError(f"shards {url}: needs a package that is not installed; {more}") from error


def fetch_json(url: str) -> Any:
    """Read a JSON file behind a URL.

    Raises:
        DataError: it is missing, cannot be read, is too large, or is not JSON; the message names it.
    """
    data = _read(url, lambda file: file.read(MOST_JSON + 1))
    if len(data) > MOST_JSON:
        raise DataError(f"{url}: has more than the {MOST_JSON} bytes of JSON that are read; write it again")
    try:
        return json.loads(data.decode("utf-8"))
    except (ValueError, RecursionError) as error:
        raise DataError(f"{url}: not valid JSON ({error}); write it again") from error


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
            size = _read(url, lambda file: file.size if isinstance(file.size, int) else None)
            self._make_room(url, size or 0, file)
            found = _download(url, file, self.most)
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


def _open(url: str, block: int = _BLOCK) -> Any:
    """The file behind a URL. The file system is made anew in each process: none survives a fork."""
    import fsspec

    options: dict[str, Any] = {}
    if url.startswith(("http://", "https://")):
        import aiohttp

        options["client_kwargs"] = {"timeout": aiohttp.ClientTimeout(total=None, sock_connect=30, sock_read=_SILENT)}
    files, path = fsspec.url_to_fs(url, **options)
    files.invalidate_cache()
    return files.open(path, "rb", block_size=block, cache_type="none")


def _read(url: str, take: Callable[[Any], T]) -> T:
    """What is taken of the file behind a URL; tried again where that fails. Raises DataError like `_wait_or_raise`."""
    for failures in itertools.count(1):
        try:
            with _open(url) as file:
                return take(file)
        except Exception as error:
            _wait_or_raise(url, error, failures)
    raise AssertionError("it is tried until it is told")


def _download(url: str, file: IO[bytes], most: int) -> str:
    """Write what is behind a URL into a file; its SHA-256. A read that failed goes on where it ended, if it can."""
    sha, done, failures, block = hashlib.sha256(), 0, 0, _BLOCK
    while True:
        before = done
        try:
            with _open(url, block) as source:
                if done:
                    source.seek(done)
                while data := source.read(_BLOCK):
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
            _wait_or_raise(url, error, failures)
        except Exception as error:
            failures = failures + 1 if done == before else 1
            _wait_or_raise(url, error, failures)


def _wait_or_raise(url: str, error: Exception, failures: int) -> None:
    """Wait before a read is tried again; DataError where there is no sense in it, or it was tried often."""
    if full(error):  # our own disk: `atomic` tells
        raise error
    reason = (str(error) or type(error).__name__).splitlines()[0]
    if _hopeless(error):
        raise DataError(f"{url}: cannot be read ({reason}); check the address, and who may read it") from error
    if failures >= ATTEMPTS:
        raise DataError(
            f"{url}: cannot be read ({reason}), also not when it was tried {failures} times; check the network, and go "
            "on with the same command"
        ) from error
    _LOG.info("%s: a read failed (%s); trying again", url, reason)
    time.sleep(FIRST_WAIT * 2 ** (failures - 1) * random.uniform(0.8, 1.2))


def _hopeless(error: BaseException | None) -> bool:
    """Whether a server answered that there is no such file, or not for us, and will again."""
    status = getattr(error, "status", None)  # of http
    if isinstance(status, int):
        return 400 <= status < 500 and status not in (408, 429)
    if isinstance(error, FileNotFoundError) and type(error.__cause__).__module__.startswith("aiohttp"):
        return _hopeless(error.__cause__)  # fsspec says so of servers too that do not answer
    return isinstance(error, _HOPELESS)
