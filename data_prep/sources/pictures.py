"""Looks at the pieces of videos that are chosen: whether they can be read, what the camera does, what is a copy."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from cvg.common.errors import DataError
from cvg.common.files import atomic, slug
from cvg.judging.base import Frames as Pictures
from cvg.judging.camera import camera_motion
from cvg.judging.showing import rule_of
from cvg.media.length import length
from cvg.media.video import MAX_PIXELS, VideoError, picture_size, read_video, write_video
from data_prep.sources.base import Member, Reject
from data_prep.sources.framing import WATCHED, Wanted, moments, tracks_of
from data_prep.sources.segments import MOVING, Piece, agrees

SIDE = 128
"""Pixels of the shorter side of what is looked at: as many as the camera's motion is told by."""
HASHED = 16
"""Rows and columns of a hash."""


@dataclass(frozen=True, eq=False)
class Looked:
    """A piece that can be read.

    Attributes:
        video: the file.
        start: of the piece in it, in seconds; with ``end`` None: all of it.
        end: in seconds.
        sure: whether no judge needs to confirm what it shows.
        hash_B: see :func:`hashed`.
        size: height and width of the video's own pictures.
        seconds: how long the piece takes.
        frames_FHWC: as many pictures as the generator needs, small; None where they were let go of.
    """

    video: Path
    start: float | None
    end: float | None
    sure: bool
    hash_B: NDArray[np.uint8]
    size: tuple[int, int]
    seconds: float
    frames_FHWC: Pictures | None = None


def look(piece: Piece, wanted: Wanted, folder: Path) -> Looked | Reject:
    """Read a piece as inversion will, at small size, and see that it moves as its boxes say, but for the camera.

    Args:
        piece: that is chosen.
        wanted: what the generator's videos are like.
        folder: where a video that is no file of its own yet is written: pictures, or a member of a tar.
    """
    where = piece.found.where
    try:
        piece, seconds = _cut(_filed(piece, folder), wanted)
        video = piece.found.video
        assert isinstance(video, Path)
        own = _picture_size(video)
        scale = SIDE / min(wanted.size.height, wanted.size.width)
        height, width = (max(2, round(side * scale)) for side in wanted.size[1:])
        frames = read_video(video, wanted.size.frames, height, width, start=piece.start, end=piece.end, fit=wanted.fit)
    except _Short as short:
        return Reject("short", str(short), where)
    except (DataError, OSError) as error:
        return Reject("unreadable", str(error), where)
    if reject := _moved_by_the_camera(piece, frames, wanted):
        return reject
    return Looked(video, piece.start, piece.end, piece.sure, hashed(frames), own, seconds, frames)


class _Short(Exception):
    pass


_picture_size = lru_cache(1 << 16)(picture_size)
"""Many pieces are of one video."""


def _cut(piece: Piece, wanted: Wanted) -> tuple[Piece, float]:
    """A piece and its seconds; of the whole of a video that is much longer than the generator's, its middle."""
    if piece.start is not None and piece.end is not None:
        return piece, piece.end - piece.start
    assert isinstance(piece.found.video, Path)
    frames, rate = length(piece.found.video)
    seconds = frames / rate
    if seconds < wanted.seconds / wanted.stretch:
        raise _Short(f"the video takes {seconds:.2f} s; {wanted.seconds / wanted.stretch:.2f} s are needed at least")
    if seconds <= wanted.seconds * wanted.stretch:
        return piece, seconds
    start = round((seconds - wanted.seconds) / 2, 3)
    # What is said of all of it need not be so in its middle.
    return replace(piece, start=start, end=round(start + wanted.seconds, 3), sure=False), wanted.seconds


def _moved_by_the_camera(piece: Piece, frames_FHWC: Pictures, wanted: Wanted) -> Reject | None:
    """A reject where entities only seemed to move, as the camera did."""
    moving = [(name, indices) for name, indices in piece.relations if rule_of(wanted.labels[name]) in MOVING]
    found = piece.found
    known = all(found.entities[index].boxes_F4 is not None for _, indices in moving for index in indices)
    if not moving or not known or found.rate <= 0:
        return None
    longest = max(len(each.boxes_F4) for each in found.entities if each.boxes_F4 is not None)
    start, end = (0.0, longest / found.rate) if piece.start is None else (piece.start, piece.end or 0.0)
    count = min(len(frames_FHWC), 2 * WATCHED)
    chosen = np.linspace(0, len(frames_FHWC) - 1, count).round().astype(int)
    times = moments(start, end, len(frames_FHWC))[chosen]
    for name, indices in moving:
        tracks = tracks_of(found, indices, times, wanted)
        if isinstance(tracks, Reject):
            return tracks
        camera = camera_motion(frames_FHWC[chosen], [track.boxes_F4 for track in tracks.entities.values()])
        phrases = [str(index) for index in indices]
        right, score = agrees(wanted.labels[name], phrases, replace(tracks, camera=camera), wanted, least=-1.0)
        sure = rule_of(wanted.labels[name]) not in ("towards", "away from") or not found.relations
        if not right or (sure and score < 1):
            return Reject("unclear", f"{name!r}: it is the camera that moves (score {score:.2f})", found.where)
    return None


def hashed(frames_FHWC: Pictures) -> NDArray[np.uint8]:
    """What a clip looks like, in 96 bytes: in its first, middle and last picture, where grey grows to the right.

    The difference hash of images, 16 by 16 a picture. Other encodings and sizes change few of its bits.
    """
    bits = []
    for frame in frames_FHWC[[0, len(frames_FHWC) // 2, -1]]:
        small = Image.fromarray(frame).convert("L").resize((HASHED + 1, HASHED), Image.Resampling.BOX)
        grey = np.asarray(small, np.int16)
        bits.append(grey[:, 1:] > grey[:, :-1])
    return np.packbits(np.stack(bits))


def _filed(piece: Piece, folder: Path) -> Piece:
    """A piece of a video that is a file of its own."""
    video = piece.found.video
    if isinstance(video, Path):
        return piece
    if isinstance(video, Member):
        name = slug(f"{video.tar.stem} {video.name}")
        path = folder / f"{name}{Path(video.name).suffix.lower()}"
        if not path.exists():
            _extract(video, path)
        return replace(piece, found=replace(piece.found, video=path))
    first = 0 if piece.start is None else int(piece.start * video.rate + 1e-6)
    last = len(video.pictures) if piece.end is None else int(np.ceil(piece.end * video.rate - 1e-6))
    chosen = video.pictures[first:last]
    if not chosen:
        raise VideoError(f"pictures {first} to {last} of {piece.found.name}: there are {len(video.pictures)}")
    path = folder / f"{slug(piece.found.name)}-{first}-{last}.mp4"
    if not path.exists():
        write_video(path, _pictures(chosen), video.rate)
    # Its tracks begin where it does.
    moved = tuple(
        each
        if each.boxes_F4 is None
        else replace(each, boxes_F4=each.boxes_F4[int(first / video.rate * rate + 1e-6) :])
        for each in piece.found.entities
        for rate in [piece.found.rate]
    )
    found = replace(piece.found, video=path, entities=moved)
    return replace(piece, found=found, start=0.0, end=len(chosen) / video.rate)


def _extract(member: Member, path: Path) -> None:
    with atomic(path) as temporary, member.tar.open("rb") as tar, temporary.open("wb") as file:
        tar.seek(member.offset)
        left = member.size
        while left:
            data = tar.read(min(left, 1 << 20))
            if not data:
                raise VideoError(f"{member.tar}: ends within {member.name}; download it again")
            file.write(data)
            left -= len(data)


def _pictures(paths: Sequence[Path]) -> Pictures:
    """Pictures of even sides, all of the size of the first."""
    frames: list[NDArray[np.uint8]] = []
    for path in paths:
        try:
            with Image.open(path) as image:
                if image.width * image.height > MAX_PIXELS:
                    raise VideoError(f"{path}: {image.width} x {image.height} pixels are more than are read")
                picture = np.asarray(image.convert("RGB"))
        except (OSError, ValueError, Image.DecompressionBombError) as error:
            raise VideoError(f"{path}: cannot be read ({error}); download it again") from error
        picture = picture[: picture.shape[0] // 2 * 2, : picture.shape[1] // 2 * 2]
        if frames and picture.shape != frames[0].shape:
            raise VideoError(f"{path}: of another size than the pictures before it")
        frames.append(picture)
    return np.stack(frames)
