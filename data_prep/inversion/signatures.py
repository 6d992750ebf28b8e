"""What tells the files of a row from others: whether a video is still what it was when its row was done."""

from __future__ import annotations

import hashlib
from pathlib import Path

from data_prep.manifest import Row

_SEEN = 1 << 16
"""Bytes at the beginning and at the end of a file that tell it from another of its size."""


def signature(row: Row) -> str:
    """What tells a row's files from others: of each its size, time, and a digest of its beginning and end."""
    return " | ".join(_signature(path) for path in (row.video, row.trajectory))


def changed(row: Row, before: str) -> bool:
    """Whether a row's files are others than those of a signature. A copy of the same bytes is the same."""
    for path, was in zip((row.video, row.trajectory), before.split(" | "), strict=False):
        size_and_time = _size_and_time(path)
        if was.rpartition(" ")[0] != size_and_time and was.split(" ")[-1] != _signature(path).split(" ")[-1]:
            return True
    return False


def _signature(path: Path | None) -> str:
    """Size, time of change and digest; ``-`` where there is no file."""
    known = _size_and_time(path)
    if not known or path is None:
        return "-"
    try:
        with path.open("rb") as file:
            size = int(known.split(" ")[0])
            head = file.read(_SEEN)
            file.seek(max(size - _SEEN, 0))
            return f"{known} {hashlib.sha256(f'{size} '.encode() + head + file.read(_SEEN)).hexdigest()[:16]}"
    except (OSError, ValueError):
        return "-"


def _size_and_time(path: Path | None) -> str:
    try:
        if path is None or not path.is_file():
            return ""
        found = path.stat()
        return f"{found.st_size} {found.st_mtime_ns}"
    except (OSError, ValueError):
        return ""
