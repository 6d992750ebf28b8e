"""What labels of place and of motion mean, as geometry on the tracks of entity centres.

One definition serves all who need it: judges, which measure tracks in pixels, accept a relation that holds with their
margins; a renderer asks for wider ones, so that nothing lies between "rendered as true" and "judged true". A score is
signed and in margins: from 1 on the label holds, from -1 down its opposite does, between lies the dead zone.

Centres are (..., F, 2) arrays (x to the right, y down) in units of the frame's side, 0 to 1. NaN is unknown.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.floating[Any]]

DIAGONAL = 0.5**0.5
DIRECTIONS: dict[str, tuple[float, float]] = {
    "left": (-1, 0),
    "right": (1, 0),
    "up": (0, -1),
    "down": (0, 1),
    "left of": (-1, 0),
    "right of": (1, 0),
    "above": (0, -1),
    "below": (0, 1),
    "up left": (-DIAGONAL, -DIAGONAL),
    "up right": (DIAGONAL, -DIAGONAL),
    "down left": (-DIAGONAL, DIAGONAL),
    "down right": (DIAGONAL, DIAGONAL),
}
"""The shapes world has no diagonals: they are for asking what a classifier makes of labels it never saw."""
APPROACH: dict[str, int] = {"towards": -1, "away from": 1}


@dataclass(frozen=True)
class Margins:
    """How clearly a relation must hold; lengths in frame sides.

    Attributes:
        motion: least displacement over the clip.
        spatial: least distance between the entities' mean positions along the label's axis.
        approach: least change of the subject's distance to the object's mean position.
        off_axis: greatest share of the off-axis component.
        sided: least share of frames in which the subject is on its side of the object.
        share: least share of frames in which boxes are as a label says (on, inside, next to, in front of, behind).
        growth: least change of the logarithm of size, of what comes towards the camera.
        contact: greatest gap between what touches.
        near: greatest gap between what is next to one another.
        depth: least difference of depth, in the depth of the frame.
        hidden: least difference of the shares of two entities that the other covers, where depth is not known.
        sweep: turns that a subject goes around an object at least; who goes past it sweeps half a turn at most.
        still: greatest way of what rests, in any direction.
        known: least share of frames in which the entities' places are known; of motion they span half of the clip.
    """

    motion: float
    spatial: float
    approach: float
    off_axis: float
    sided: float = 0.0
    share: float = 0.6
    growth: float = 0.22
    contact: float = 0.03
    near: float = 0.15
    depth: float = 0.05
    hidden: float = 0.1
    sweep: float = 0.75
    still: float = 0.03
    known: float = 0.3


JUDGE = Margins(motion=0.12, spatial=0.12, approach=0.08, off_axis=0.8, contact=0.04, sweep=0.6, still=0.04)
"""Of the shapes world, where what is asked for is made to be clear."""
FREE = Margins(motion=0.05, spatial=0.05, approach=0.05, off_axis=0.8, sided=0.6)
"""Of videos of anything: twice the two or three hundredths of the frame that jittering boxes make up."""


def margins_for(labels: Iterable[str], margins: Margins = JUDGE) -> Margins:
    """The margins for a group of these labels: with diagonals among them each direction has an eighth of the circle."""
    diagonal = any(all(DIRECTIONS.get(label, (0, 0))) for label in labels)
    return replace(margins, off_axis=math.tan(math.pi / 8)) if diagonal else margins


def displacement(values_FC: Floats) -> Floats:
    """Change over the frames whose values are known, from a least-squares line through them: (..., C)."""
    return fitted(values_FC)[1]


def fitted(values_FC: Floats) -> tuple[Floats, Floats]:
    """A least-squares line through what frames have, from the first to the last frame of which it is known.

    Args:
        values_FC: (..., F, C); a frame with a NaN is not known.

    Returns:
        The line's middle, and its change from end to end: (..., C) each, NaN where fewer than two frames are known.
    """
    frames = values_FC.shape[-2]
    known_F = np.asarray(~np.isnan(values_FC).any(axis=-1))
    if known_F.all() and frames > 1:
        time_F = np.arange(frames) - (frames - 1) / 2
        slope = np.einsum("f,...fc->...c", time_F, values_FC) / np.sum(time_F**2)
        return values_FC.mean(axis=-2), np.asarray(slope * (frames - 1))
    count = known_F.sum(axis=-1, keepdims=True)
    values_FC, weight_F1 = np.where(known_F[..., None], values_FC, 0), known_F[..., None].astype(np.float64)
    with np.errstate(invalid="ignore", divide="ignore"):
        mean = values_FC.sum(axis=-2) / count
        time_F1 = (np.arange(frames) - (known_F @ np.arange(frames))[..., None] / count)[..., None] * weight_F1
        slope = (time_F1 * (values_FC - mean[..., None, :])).sum(axis=-2) / (time_F1**2).sum(axis=-2)
    first = known_F.argmax(axis=-1)
    last = frames - 1 - known_F[..., ::-1].argmax(axis=-1)
    off = (first + last)[..., None] / 2 - (known_F @ np.arange(frames))[..., None] / np.maximum(count, 1)
    return np.asarray(mean + slope * off), np.asarray(slope * (last - first)[..., None])


def directed(label: str, vector_2: Floats, least: float, off_axis: float) -> Floats:
    """How clearly vectors (..., 2) point the way of a label of :data:`DIRECTIONS`: signed, in margins (...).

    Args:
        label: which way.
        vector_2: a displacement, or the subject's place as seen from the object.
        least: length along the label's axis that one margin is.
        off_axis: greatest share of the component across it.
    """
    direction = np.array(DIRECTIONS[label])
    along = np.asarray(vector_2 @ direction)
    off = np.abs(vector_2 @ np.array([-direction[1], direction[0]]))
    with np.errstate(divide="ignore", invalid="ignore"):
        straight = np.where(off > 0, off_axis * np.abs(along) / off, np.inf)
    return np.asarray(np.sign(along) * np.minimum(np.abs(along) / least, straight))


def approaching(label: str, subject_F2: Floats, object_F2: Floats, least: float) -> Floats:
    """How clearly a subject goes the way of a label of :data:`APPROACH`: signed, in margins of ``least`` (...)."""
    # To where the object is on the whole: it is the subject that must come or go.
    known_F1 = ~np.isnan(object_F2).any(axis=-1, keepdims=True)
    if known_F1.all():
        place = object_F2.mean(axis=-2, keepdims=True)
    else:
        total = np.where(known_F1, object_F2, 0).sum(axis=-2, keepdims=True)
        count = known_F1.sum(axis=-2, keepdims=True)
        place = np.where(count > 0, total / np.maximum(count, 1), np.nan)
    distance_F = np.linalg.norm(subject_F2 - place, axis=-1)
    change = displacement(np.stack([distance_F, np.zeros_like(distance_F)], axis=-1))[..., 0]
    return np.asarray(change * APPROACH[label] / least)


def holds(label: str, centres: Sequence[Floats], margins: Margins = JUDGE) -> NDArray[np.bool_]:
    """Whether ``label`` holds for (subject,) or (subject, object) centres, elementwise over leading dimensions.

    Raises:
        KeyError: a label that is neither of :data:`DIRECTIONS` nor of :data:`APPROACH`.
    """
    if label in APPROACH:
        score = approaching(label, centres[0], centres[1], margins.approach)
    elif len(centres) == 1:
        score = directed(label, displacement(centres[0]), margins.motion, margins.off_axis)
    else:
        score = directed(label, (centres[0] - centres[1]).mean(axis=-2), margins.spatial, margins.off_axis)
    return np.asarray(score >= 1)
