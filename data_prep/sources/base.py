"""What a data set's reader gives, whatever the data set's form: one record between annotation and manifest."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, Protocol, TypeVar

import numpy as np
from pydantic import BaseModel, ConfigDict, TypeAdapter, ValidationError

from cvg.composition import LabelSet
from cvg.judging.tracks import Floats
from data_prep.sources.files import Refused, Root

Reason = Literal[
    "malformed", "no video", "outside", "licence", "prompt", "nothing", "label", "ambiguous", "short", "not seen",
    "crop", "unclear", "unreadable", "copy", "negative", "enough",
]  # fmt: skip
"""Why something that a data set has gives no row: the annotation is malformed; its video is missing, or lies outside of
the folder; its licence is none of those asked for; its caption cannot be understood, or states no label; its relation
is none of the label set; its words could mean another entity of the video too; the relation holds for too short a time;
an entity is out of sight for too long, or cut off by the crop; the tracks do not show what is stated; the video cannot
be read, or is too short; it is a copy of another; what it states is not so; there is enough of its label already."""


@dataclass(frozen=True)
class Reject:
    """Something of a data set that gives no row.

    Attributes:
        reason: which is counted.
        detail: the same in words.
        where: file, and place in it.
    """

    reason: Reason
    detail: str
    where: str


@dataclass(frozen=True, eq=False)
class Entity:
    """Something that is seen in a video.

    Attributes:
        phrase: what it is called, without an article: ``red box``.
        boxes_F4: left, top, right, bottom in frame sides, :attr:`Found.rate` a second from the video's start; NaN where
            it is not known where it is. None where no boxes are known at all.
        article: what a sentence has before it: a, an, the, two, or nothing.
    """

    phrase: str
    boxes_F4: Floats | None = None
    article: str = "a"


@dataclass(frozen=True)
class Frames:
    """A video that lies there as pictures.

    Attributes:
        pictures: in order.
        rate: of them a second.
    """

    pictures: tuple[Path, ...]
    rate: float


@dataclass(frozen=True)
class Member:
    """A video in a tar.

    Attributes:
        tar: the file.
        name: of the member.
        offset: byte at which it begins.
        size: in bytes.
    """

    tar: Path
    name: str
    offset: int
    size: int


@dataclass(frozen=True, eq=False)
class Found:
    """What a data set says of a video, or of a piece of it.

    Attributes:
        video: the file; its pictures, where it lies there as these; or its place in a tar.
        where: file of the annotation, and place in it.
        entities: that are known of in the video; those of ``relations`` are among them.
        relations: label and indices of the entities of each relation that is stated, the subject first. Empty: what
            holds is to be read off the tracks.
        begin: where it begins to hold, in seconds; with ``end`` None: over all of the video.
        end: where it no longer holds.
        rate: boxes a second of the entities' tracks.
        aspect: width of a picture by its height; None where it is not known.
        template: of the prompt, with ``{e0}`` and ``{r0}``; a plain one when None.
        wordings: as of a manifest's row.
        caption: what somebody wrote of it; empty where nobody did.
        sure: False where a judge must confirm that the video shows it, over all of a clip.
        negative: the words say that it is *not* so (someone pretends, fails, moves the camera instead).
        split: train or val, where the data set has its own.
        licence: where it is another than the data set's.
        name: unique among what a reader gives, for the row's id; empty: of the file.
    """

    video: Path | Frames | Member
    where: str
    entities: tuple[Entity, ...]
    relations: tuple[tuple[str, tuple[int, ...]], ...] = ()
    begin: float | None = None
    end: float | None = None
    rate: float = 0.0
    aspect: float | None = None
    template: str | None = None
    wordings: tuple[str, ...] | None = None
    caption: str = ""
    sure: bool = True
    negative: bool = False
    split: Literal["train", "val"] | None = None
    licence: str | None = None
    name: str = field(default="")


class Reader(Protocol):
    """Reads a data set of one form."""

    def __call__(self, root: Root, labels: LabelSet) -> Iterable[Found | Reject]:
        """What a folder holds.

        Args:
            root: the folder.
            labels: whose names relations get, where the data set's own words state them.

        Raises:
            DataError: a file that all depends on is missing, damaged or of another form; the message has its place.
        """
        ...


class Form(BaseModel):
    """A part of an annotation file: the keys that are read, each of its type; there may be others."""

    model_config = ConfigDict(extra="ignore", allow_inf_nan=False, frozen=True)


F = TypeVar("F")


def checked(kind: type[F], data: Any) -> F:
    """A part of an annotation by its form.

    Args:
        kind: a :class:`Form`, or any type that pydantic checks.
        data: what JSON has.

    Raises:
        Refused: naming the first place where it is of another form.
    """
    try:
        found: F = TypeAdapter(kind).validate_python(data)
    except (ValidationError, RecursionError) as error:
        raise Refused("malformed", problem(error)) from error
    return found


def problem(error: ValidationError | RecursionError) -> str:
    """The first thing that is wrong with an annotation, and where in it."""
    if isinstance(error, RecursionError):
        return "nested too deeply"
    first = error.errors(include_url=False, include_input=False, include_context=False)[0]
    place = ".".join(str(part)[:40] for part in first["loc"])
    return f"{place or 'it'}: {first['msg'][0].lower()}{first['msg'][1:]}"


E = TypeVar("E")


def each(
    entries: Iterable[E], make: Callable[[E], Iterable[Found | Reject]], where: Callable[[E], str]
) -> Iterator[Found | Reject]:
    """What ``make`` makes of each entry of an annotation; one that it refuses is a reject, and the others go on."""
    for entry in entries:
        try:
            yield from make(entry)
        except Refused as refused:
            yield Reject(refused.reason, str(refused), where(entry))  # type: ignore[arg-type]


MOST_FRAMES = 1 << 18
"""Frames of a video that tracks are kept of: more than two hours at 30 a second."""


def boxes(placed: Iterable[tuple[int, tuple[float, float, float, float]]], width: float, height: float) -> Floats:
    """The boxes (F, 4) of a track in frame sides, up to the last frame of which one is known, NaN where none is.

    Args:
        placed: number of a frame, and left, top, right, bottom in pixels.
        width: of the pictures in pixels.
        height: likewise.

    Raises:
        Refused: a number that is none, a box that is turned inside out, a frame beyond ``MOST_FRAMES``.
    """
    if not (0 < width < math.inf and 0 < height < math.inf):
        raise Refused("malformed", f"pictures of {width} x {height} pixels")
    known: dict[int, tuple[float, float, float, float]] = {}
    for frame, box in placed:
        if not 0 <= frame < MOST_FRAMES:
            raise Refused("malformed", f"frame {frame} of a track; expected 0 to {MOST_FRAMES - 1}")
        left, top, right, bottom = box
        if not (all(map(math.isfinite, box)) and left <= right and top <= bottom):
            raise Refused("malformed", f"box {tuple(box)} of frame {frame} is none")
        known[frame] = box
    found = np.full((max(known, default=0) + 1, 4), np.nan)
    if known:
        found[list(known)] = np.array(list(known.values())) / (width, height, width, height)
    return found
