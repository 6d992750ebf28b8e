"""A data set's boxes as the generator sees them: at the moments of a piece, in the picture that the crop leaves."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from cvg.common.sizes import Size
from cvg.composition import LabelSet
from cvg.judging.geometry import FREE, Floats, Margins
from cvg.judging.tracks import Camera, Track, Tracks
from cvg.media.video import Fit
from data_prep.sources.base import Entity, Found, Reject

WATCHED = 13
"""Moments of a piece at which boxes are looked up."""
SEEN = 0.9
"""Least share of these moments at which an entity is where a box says, and not cut off."""
KEPT = 0.5
"""Least share of a box that the crop must leave."""
ALL_ALONG = replace(FREE, sided=1.0)
"""The judges' margins for videos of anything, with sides held in every frame."""


@dataclass(frozen=True)
class Wanted:
    """What the generator's videos are like, and which labels are told apart.

    Attributes:
        labels: the label set.
        size: frames, height and width.
        seconds: how long a piece is.
        fit: what becomes of pictures of another shape.
        stretch: how many times shorter than ``seconds`` what holds may last; and a whole video longer.
        margins: how clearly what is read off must hold.
    """

    labels: LabelSet
    size: Size
    seconds: float
    fit: Fit = "crop"
    stretch: float = 2.0
    margins: Margins = ALL_ALONG

    @property
    def aspect(self) -> float:
        """Width of the generator's pictures by their height."""
        return self.size.width / self.size.height


def tracks_of(
    found: Found, indices: Sequence[int], times: Floats, wanted: Wanted, camera: Camera | None = None
) -> Tracks | Reject:
    """Tracks of entities at some moments, in the generator's picture, by ``str(index)``.

    Args:
        found: with boxes of these entities.
        indices: of the entities.
        times: in seconds.
        wanted: with the picture's shape.
        camera: its motion between these moments.

    Returns:
        The tracks; a reject where an entity is not seen for long enough, or is cut off.
    """
    made = {}
    for index in indices:
        entity = found.entities[index]
        boxes_F4 = _framed(boxes_at(entity, found.rate, times), found.aspect or wanted.aspect, wanted)
        if np.mean(~np.isnan(boxes_F4[:, 0])) < SEEN:
            return Reject("not seen", f"the {entity.phrase} is out of sight for too long", found.where)
        inside_F4 = np.clip(boxes_F4, 0, 1)
        with np.errstate(invalid="ignore", divide="ignore"):
            kept_F = area(inside_F4) / area(boxes_F4)
        if np.mean(kept_F[~np.isnan(kept_F)] >= KEPT) < SEEN:
            return Reject("crop", f"the {entity.phrase} is cut off by the {wanted.fit}", found.where)
        made[str(index)] = Track(inside_F4)
    return Tracks(made, camera, wanted.aspect)


def moments(start: float, end: float, count: int = WATCHED) -> Floats:
    """The middles of equal parts of a piece, in seconds, which inversion shows the generator."""
    return np.asarray(start + (np.arange(count) + 0.5) / count * (end - start))


def area(boxes_F4: Floats) -> Floats:
    """Of each box (F,), in squares of a frame's side."""
    return np.asarray(np.maximum(boxes_F4[:, 2:] - boxes_F4[:, :2], 1e-6).prod(axis=1))


def boxes_at(entity: Entity, rate: float, times: Floats) -> Floats:
    """An entity's boxes at some moments (T, 4): those of the frames that are shown then."""
    boxes_F4 = entity.boxes_F4
    assert boxes_F4 is not None
    frames = np.floor(times * rate + 1e-6).astype(int)
    inside = (frames >= 0) & (frames < len(boxes_F4))
    found = np.full((len(times), 4), np.nan)
    found[inside] = boxes_F4[frames[inside]]
    return found


def _framed(boxes_F4: Floats, aspect: float, wanted: Wanted) -> Floats:
    """Boxes of pictures of an aspect, as of the generator's picture; beyond 0 and 1 is what the crop cuts off."""
    ratio = aspect / wanted.aspect
    if wanted.fit == "crop":
        scale = np.array([max(ratio, 1.0), max(1 / ratio, 1.0)] * 2)
    else:
        scale = np.array([min(ratio, 1.0), min(1 / ratio, 1.0)] * 2)
    return np.asarray((boxes_F4 - 0.5) * scale + 0.5)
