"""Reading the tars of shards: regular, uncompressed files whose members are no larger than they can be."""

from __future__ import annotations

import hashlib
import os
import stat
import tarfile
from collections.abc import Collection, Container, Iterator
from contextlib import contextmanager
from io import BufferedReader
from pathlib import Path
from typing import Any, BinaryIO

from cvg.common.errors import DataError
from cvg.shards.records import MAPS, META, MOST_META

_BLOCK = 1 << 20  # bytes that are read at once where they are only hashed


def digest_of(path: Path) -> str:
    """SHA-256 of a file, in hexadecimal digits."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def read_shard(path: str | Path, digest: str, most_maps: int) -> Iterator[dict[str, Any]]:
    """The members of each record of one tar, in order, for `decode`.

    Nothing is decoded, decompressed, followed or executed here, and nothing larger than it can be is read into memory.

    Args:
        path: the tar.
        digest: its SHA-256, which shards.json has; checked before anything of it is given out.
        most_maps: bytes that the maps of a record can have.

    Raises:
        DataError: the tar is missing, no regular file, another than shards.json says, or not as `ShardWriter` writes.
    """
    with _readable(path):
        yield from read_whole(opened(path), path, digest, most_maps)


def read_whole(file: BufferedReader, path: str | Path, digest: str, most_maps: int) -> Iterator[dict[str, Any]]:
    """The same of a tar that is open, and is closed afterwards; ``path`` is what it is called in messages."""
    with _readable(path), file:
        if hashlib.file_digest(file, "sha256").hexdigest() != digest:
            raise _another(path)
        file.seek(0)
        for _, record in _records(file, str(path), {MAPS: most_maps, META: MOST_META}):
            yield record


def read_part(
    file: BinaryIO, path: str | Path, wanted: Collection[int], most_maps: int, digest: str | None = None
) -> Iterator[tuple[int, dict[str, Any]]]:
    """Some records of one tar, in order, each byte of which is read at most once: for sets too large to read twice.

    Args:
        file: the tar, at its beginning; closed afterwards.
        path: what it is called in messages.
        wanted: places of the records in the tar, from 0.
        most_maps: bytes that the maps of a record can have.
        digest: the tar's SHA-256, to have all of it read, and checked at its end; when it is None the reader skips what
            it does not want, and each record's own SHA-256 alone tells whether its maps are those that were written.

    Yields:
        The place, and members as :func:`read_shard` gives them.

    Raises:
        DataError: as :func:`read_shard`, also where the tar has fewer records than are wanted.
    """
    last = max(wanted)
    with _readable(path), file:
        source: BinaryIO | _Hashed = file if digest is None else _Hashed(file)
        found = -1
        for found, record in _records(source, str(path), {MAPS: most_maps, META: MOST_META}, wanted):
            if found in wanted:
                yield found, record
            if found == last and digest is None:
                return
        if isinstance(source, _Hashed) and source.rest() != digest:
            raise _another(path)
        if found < last:
            raise ValueError(f"it holds {found + 1} records, fewer than it should")


def count_records(path: Path, most_maps: int) -> int:
    """How many records a tar holds, of which the maps are not read. Raises DataError as :func:`read_part` does."""
    with _readable(path), opened(path) as file:
        return sum(1 for _ in _records(file, str(path), {MAPS: most_maps, META: MOST_META}, ()))


def _another(path: str | Path) -> DataError:
    return DataError(
        f"shard {path}: not the tar that shards.json names: damaged, or written by another run; make the shards again"
    )


@contextmanager
def _readable(path: str | Path) -> Iterator[None]:
    """Within it, what a tar cannot be read for is a DataError that names it."""
    try:
        yield
    except (OSError, tarfile.TarError, ValueError) as error:
        reason = getattr(error, "strerror", None) or error
        raise DataError(f"shard {path}: cannot be read ({reason}); make the shards again") from error


class _Hashed:
    """A file that is read from its beginning to its end, and hashed on the way."""

    def __init__(self, file: BinaryIO) -> None:
        self.file, self.hash = file, hashlib.sha256()

    def read(self, count: int) -> bytes:
        data = self.file.read(count)
        self.hash.update(data)
        return data

    def seek(self, count: int, whence: int) -> int:
        assert whence == os.SEEK_CUR
        while count > 0 and (data := self.read(min(count, _BLOCK))):
            count -= len(data)
        return self.file.tell()

    def tell(self) -> int:
        return self.file.tell()

    def fileno(self) -> int:
        return self.file.fileno()

    def rest(self) -> str:
        """Read what is left; SHA-256 of the whole."""
        while self.read(_BLOCK):
            pass
        return self.hash.hexdigest()


def opened(path: str | Path) -> BufferedReader:
    """The file, if it is a regular one of its own folder. A pipe would wait for its writer for ever, hence no block."""
    path = Path(path)
    if path.is_symlink() and path.resolve().parent != path.parent.resolve():
        raise ValueError("it is a link out of its folder")
    descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        raise ValueError("not a regular file")
    return os.fdopen(descriptor, "rb")


def _records(
    file: BinaryIO | _Hashed, url: str, most: dict[str, int], wanted: Container[int] | None = None
) -> Iterator[tuple[int, dict[str, Any]]]:
    """Place and members of each record; of those that are not wanted, names alone."""
    seen: set[str] = set()
    record: dict[str, Any] = {}
    for key, extension, data in _members(file, most, wanted):
        if not record:
            if key in seen:
                raise ValueError(f"it holds record {key!r} twice")
            seen.add(key)
            record = {"__key__": key, "__url__": url}
        elif key != record["__key__"] or extension in record:
            raise ValueError(f"record {record['__key__']!r} is not one .{MAPS} and one .{META}")
        record[extension] = data
        if len(record) == 2 + len(most):
            yield len(seen) - 1, record
            record = {}
    if record:
        raise ValueError(f"record {record['__key__']!r} is not whole")


def _members(
    file: BinaryIO | _Hashed, most: dict[str, int], wanted: Container[int] | None
) -> Iterator[tuple[str, str, bytes]]:
    """Key, extension and bytes of each member; no bytes of those in records whose places are not wanted.

    Headers are parsed one by one, not through `tarfile.open`: that looks for compression, and for headers of other
    kinds, which may claim any size.
    """
    end, block = os.fstat(file.fileno()).st_size, tarfile.BLOCKSIZE
    count = 0
    while (header := file.read(block)).strip(b"\0"):
        info = tarfile.TarInfo.frombuf(header, "utf-8", "strict")
        key, _, extension = info.name.partition(".")
        if info.type not in (tarfile.REGTYPE, tarfile.AREGTYPE) or extension not in most:
            raise ValueError(f"its member {info.name[:120]!r} is no file .{MAPS} or .{META}")
        limit = min(most[extension], end - file.tell())
        if not 0 < info.size <= limit:
            raise ValueError(f"its member {info.name[:120]!r} has {info.size} bytes; it can have 1 to {limit}")
        skipped = wanted is not None and count // len(most) not in wanted
        data = b"" if skipped else file.read(info.size)
        file.seek((info.size if skipped else 0) + -info.size % block, os.SEEK_CUR)
        count += 1
        yield key, extension, data
