"""Reading the tars of shards: regular, uncompressed files whose members are no larger than they can be."""

from __future__ import annotations

import hashlib
import os
import stat
import tarfile
from collections.abc import Iterator
from io import BufferedReader
from pathlib import Path
from typing import Any

from cvg.common.errors import DataError
from cvg.shards.records import MAPS, META, MOST_META


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
    try:
        with _opened(Path(path)) as file:
            if hashlib.file_digest(file, "sha256").hexdigest() != digest:
                raise DataError(
                    f"shard {path}: not the tar that shards.json names: damaged, or written by another run; make the "
                    "shards again"
                )
            yield from _records(file, str(path), {MAPS: most_maps, META: MOST_META})
    except (OSError, tarfile.TarError, ValueError) as error:
        reason = getattr(error, "strerror", None) or error
        raise DataError(f"shard {path}: cannot be read ({reason}); make the shards again") from error


def _opened(path: Path) -> BufferedReader:
    """The file, if it is a regular one of its own folder. A pipe would wait for its writer for ever, hence no block."""
    if path.is_symlink() and path.resolve().parent != path.parent.resolve():
        raise ValueError("it is a link out of its folder")
    descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        raise ValueError("not a regular file")
    return os.fdopen(descriptor, "rb")


def _records(file: BufferedReader, url: str, most: dict[str, int]) -> Iterator[dict[str, Any]]:
    seen: set[str] = set()
    record: dict[str, Any] = {}
    for key, extension, data in _members(file, most):
        if not record:
            if key in seen:
                raise ValueError(f"it holds record {key!r} twice")
            seen.add(key)
            record = {"__key__": key, "__url__": url}
        elif key != record["__key__"] or extension in record:
            raise ValueError(f"record {record['__key__']!r} is not one .{MAPS} and one .{META}")
        record[extension] = data
        if len(record) == 2 + len(most):
            yield record
            record = {}
    if record:
        raise ValueError(f"record {record['__key__']!r} is not whole")


def _members(file: BufferedReader, most: dict[str, int]) -> Iterator[tuple[str, str, bytes]]:
    """Key, extension and bytes of each member.

    Headers are parsed one by one, not through `tarfile.open`: that looks for compression, and for headers of other
    kinds, which may claim any size.
    """
    end, block = os.fstat(file.fileno()).st_size, tarfile.BLOCKSIZE
    file.seek(0)
    while (header := file.read(block)).strip(b"\0"):
        info = tarfile.TarInfo.frombuf(header, "utf-8", "strict")
        key, _, extension = info.name.partition(".")
        if info.type not in (tarfile.REGTYPE, tarfile.AREGTYPE) or extension not in most:
            raise ValueError(f"its member {info.name[:120]!r} is no file .{MAPS} or .{META}")
        limit = min(most[extension], end - file.tell())
        if not 0 < info.size <= limit:
            raise ValueError(f"its member {info.name[:120]!r} has {info.size} bytes; it can have 1 to {limit}")
        data = file.read(info.size)
        file.seek(-info.size % block, os.SEEK_CUR)
        yield key, extension, data
