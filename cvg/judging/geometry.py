"""What labels of place and of motion mean, as geometry on the tracks of entity centres.

One definition serves all who need it: judges, which measure tracks in pixels, accept a relation that holds with the
margins ``JUDGE``; a renderer asks for wider ones, so that nothing lies between "rendered as true" and "judged true".

Tracks are (..., F, 2) arrays of centres (x to the right, y down) in units of the frame's side, 0 to 1.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

Track = NDArray[np.float64]

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
    """

    motion: float
    spatial: float
    approach: float
    off_axis: float


JUDGE = Margins(motion=0.12, spatial=0.12, approach=0.08, off_axis=0.8)


def margins_for(labels: Iterable[str]) -> Margins:
    """``JUDGE``, for a group of these labels: with diagonals among them, each direction has an eighth of the circle."""
    diagonal = any(all(DIRECTIONS.get(label, (0, 0))) for label in labels)
    return replace(JUDGE, off_axis=math.tan(math.pi / 8)) if diagonal else JUDGE


def displacement(track_F2: Track) -> Track:
    """Displacement over the clip, from a least-squares line through the track: (..., 2)."""
    frames = track_F2.shape[-2]
    time_F = np.arange(frames) - (frames - 1) / 2
    slope = np.einsum("f,...fc->...c", time_F, track_F2) / np.sum(time_F**2)
    return slope * (frames - 1)


def holds(label: str, tracks: Sequence[Track], margins: Margins = JUDGE) -> NDArray[np.bool_]:
    """Whether ``label`` holds for (subject,) or (subject, object) tracks, elementwise over leading dimensions.

    Raises:
        KeyError: a label that has no geometry here.
    """
    if label in APPROACH:
        # To where the object is on the whole: it is the subject that must come or go.
        distance_F = np.linalg.norm(tracks[0] - tracks[1].mean(axis=-2, keepdims=True), axis=-1)
        change = displacement(np.stack([distance_F, np.zeros_like(distance_F)], axis=-1))[..., 0]
        return np.asarray(change * APPROACH[label] >= margins.approach)
    direction = np.array(DIRECTIONS[label])
    if len(tracks) == 1:
        vector, least = displacement(tracks[0]), margins.motion
    else:
        vector, least = (tracks[0] - tracks[1]).mean(axis=-2), margins.spatial
    along = vector @ direction
    off = np.abs(vector @ np.array([-direction[1], direction[0]]))
    return np.asarray((along >= least) & (off <= margins.off_axis * along))


def label_shown(group: Sequence[str], tracks: Sequence[Track]) -> str | None:
    """The one label of a group that holds for (subject,) or (subject, object) tracks, or None.

    Args:
        group: names of labels that exclude one another; each has a geometry here.
        tracks: (F, 2) each.

    Returns:
        The label; None where none holds, or several do.

    Raises:
        KeyError: a label that has no geometry here.
    """
    margins = margins_for(group)
    true = [label for label in group if holds(label, tracks, margins)]
    return true[0] if len(true) == 1 else None
