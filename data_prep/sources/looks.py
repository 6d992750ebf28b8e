"""What was seen of the pieces of videos, kept as it is seen, so that a run that was stopped goes on from there."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterable
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any

import numpy as np
from pydantic import Field, StrictBool, StrictFloat, StrictInt

from cvg.common.typed import read, record
from data_prep.journal import Journal
from data_prep.sources.base import Frames, Member, Reason, Reject
from data_prep.sources.copies import BYTES
from data_prep.sources.framing import Wanted
from data_prep.sources.pictures import Looked, look
from data_prep.sources.segments import Piece


@record
class _Seen:
    """What a line says of a piece that can be read, but for its pictures."""

    video: str
    start: StrictFloat | None
    end: StrictFloat | None
    sure: StrictBool
    hash: Annotated[str, Field(pattern=f"^[0-9a-f]{{{2 * BYTES}}}$")]
    size: tuple[StrictInt, StrictInt]
    seconds: StrictFloat


@record
class _Line:
    """One of the file: of which piece it is, and what was seen, or why nothing."""

    key: Annotated[str, Field(pattern="^[0-9a-f]{32}$")]
    seen: _Seen | None = None
    reason: Reason | None = None
    detail: str = ""


class Looks:
    """Looks at pieces, each once.

    A piece is known again by what its annotation says of it and by its file's size and time: of one that has changed
    since, all is seen anew.

    Args:
        path: the file of what was seen.
        settings: what the run was asked for; it goes on with the same alone.
        wanted: what the generator's videos are like.
        folder: for videos that are no files of their own yet.

    Raises:
        DataError: the file is of other settings, damaged, or cannot be written.
    """

    def __init__(self, path: Path, settings: dict[str, Any], wanted: Wanted, folder: Path) -> None:
        self.wanted, self.folder = wanted, folder
        self._journal = Journal(path, settings, lambda line: read(_Line, line), "looks", "look at all videos again")
        self._known = {line.key: line for line in self._journal.done}

    def at(self, piece: Piece) -> Looked | Reject:
        """What a piece looks like; one that was seen in an earlier run has no pictures."""
        line = self._known.get(_key(piece))
        if line is None or (line.seen is not None and not Path(line.seen.video).is_file()):
            return look(piece, self.wanted, self.folder)
        if line.seen is None:
            assert line.reason is not None
            return Reject(line.reason, line.detail, piece.found.where)
        seen = line.seen
        hash_B = np.frombuffer(bytes.fromhex(seen.hash), np.uint8)
        return Looked(
            Path(seen.video), seen.start, seen.end, seen.sure, hash_B, (seen.size[0], seen.size[1]), seen.seconds
        )

    def with_pictures(self, piece: Piece, seen: Looked) -> Looked:
        """The same with its pictures; without where they cannot be read any more."""
        if seen.frames_FHWC is not None:
            return seen
        again = look(piece, self.wanted, self.folder)
        return again if isinstance(again, Looked) else seen

    def keep(self, found: Iterable[tuple[Piece, Looked | Reject]]) -> None:
        """Have some on the disk. Raises DataError where they cannot be written."""
        lines = [_line(piece, seen) for piece, seen in found]
        if new := [line for line in lines if self._known.get(line.key) != line]:
            self._journal.add(map(asdict, new))
            self._known |= {line.key: line for line in new}


def _line(piece: Piece, seen: Looked | Reject) -> _Line:
    if isinstance(seen, Reject):
        return _Line(key=_key(piece), reason=seen.reason, detail=seen.detail)
    told = _Seen(
        video=str(seen.video),
        start=seen.start,
        end=seen.end,
        sure=seen.sure,
        hash=seen.hash_B.tobytes().hex(),
        size=seen.size,
        seconds=seen.seconds,
    )
    return _Line(key=_key(piece), seen=told)


def _key(piece: Piece) -> str:
    """All that a look at a piece depends on, in 32 hexadecimal digits."""
    video = piece.found.video
    files: tuple[Path, ...]
    place: list[Any]
    if isinstance(video, Frames):
        files, place = video.pictures, [video.rate]
    elif isinstance(video, Member):
        files, place = (video.tar,), [video.name, video.offset, video.size]
    else:
        files, place = (video,), []
    found = piece.found
    told: list[Any] = [
        *(place, piece.start, piece.end, piece.sure, piece.relations, found.rate, found.aspect, bool(found.relations)),
        [[str(path), *_size_and_time(path)] for path in files],
        [entity.phrase for entity in found.entities],
    ]
    digest = hashlib.sha256(json.dumps(told).encode())
    for entity in found.entities:
        digest.update(b"-" if entity.boxes_F4 is None else entity.boxes_F4.tobytes())
    return digest.hexdigest()[:32]


def _size_and_time(path: Path) -> tuple[int, int]:
    try:
        found = os.stat(path)  # noqa: PTH116  (many, and Path's is slower)
        return found.st_size, found.st_mtime_ns
    except (OSError, ValueError):
        return -1, -1
