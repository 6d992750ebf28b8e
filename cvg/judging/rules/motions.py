"""Which way an entity goes: in the frame, towards the camera, and as seen from another entity."""

from __future__ import annotations

import math

import numpy as np

from cvg.judging.geometry import APPROACH, DIRECTIONS, Floats, Margins, approaching, directed, displacement, fitted
from cvg.judging.rules.places import SIDES
from cvg.judging.rules.view import Rule, Score, View

BORDER = 0.005
"""A box this close to the border, in frame sides, may be cut by it: its size is not the entity's."""


def _moves(name: str) -> Score:
    def score(view: View, margins: Margins) -> float:
        if not view.spans(margins):
            return math.nan
        return float(directed(name, displacement(view.still(0)), margins.motion, margins.off_axis))

    return score


def log_size(view: View, slot: int, margins: Margins) -> Floats | None:
    """Logarithm of an entity's size (F), had the camera not zoomed, NaN where the border cuts it or nobody knows.

    Returns:
        None where it is not known for long enough.
    """
    track, camera = view.entities[slot], view.tracks.camera
    cut_F = (track.boxes_F4[:, :2] < BORDER).any(axis=1) | (track.boxes_F4[:, 2:] > 1 - BORDER).any(axis=1)
    with np.errstate(divide="ignore"):
        size_F = np.log(np.where(cut_F | (track.size_F <= 0), np.nan, track.size_F))
    known = np.nonzero(~np.isnan(size_F))[0]
    if len(known) < max(2, margins.known * len(size_F)) or known[-1] - known[0] < (len(size_F) - 1) / 2:
        return None
    return np.asarray(size_F if camera is None else size_F - np.log(camera.scale))


def _nears(sign: int) -> Score:
    """Towards the camera (1) or away from it (-1): the box grows or shrinks, beyond what zooming makes of it."""

    def score(view: View, margins: Margins) -> float:
        size_F = log_size(view, 0, margins)
        return math.nan if size_F is None else float(sign * displacement(size_F[:, None])[0] / margins.growth)

    return score


def _approaches(name: str) -> Score:
    def score(view: View, margins: Margins) -> float:
        if not view.spans(margins):
            return math.nan
        return float(approaching(name, view.still(0), view.still(1), margins.approach))

    return score


def _passes(view: View, margins: Margins) -> float:
    """The subject moves, and on its way the object is first ahead of it and then behind."""
    if not view.spans(margins):
        return math.nan
    middle, change = fitted(view.still(0) - view.still(1))
    length = np.linalg.norm(change)
    moved = np.linalg.norm(displacement(view.still(0))) / margins.motion
    if length < margins.approach:
        return 0.0  # no way that it could have ahead or behind
    along = float(middle @ change / length)
    return float(min(moved, (length / 2 - along) / margins.approach, (length / 2 + along) / margins.approach))


def _circles(view: View, margins: Margins) -> float:
    """The subject sweeps most of a turn about the object."""
    way_F2 = view.still(0) - view.still(1)
    way_F2 = way_F2[~np.isnan(way_F2).any(axis=1)]
    if not view.spans(margins):
        return math.nan
    angle_F = np.arctan2(way_F2[:, 1], way_F2[:, 0])
    step_F = (np.diff(angle_F) + np.pi) % (2 * np.pi) - np.pi
    # A longer step may as well go the other way round: too few frames are known.
    if np.abs(step_F).max() > 2 * np.pi / 3 or np.linalg.norm(way_F2, axis=1).min() == 0:
        return math.nan
    return float(abs(step_F.sum()) / (2 * math.pi * margins.sweep))


def _follows(view: View, margins: Margins) -> float:
    """Both move the same way, the subject behind the object rather than beside it."""
    if not view.spans(margins):
        return math.nan
    mine, theirs = displacement(view.still(0)), displacement(view.still(1))
    length = float(np.linalg.norm(theirs))
    if length < margins.motion / 2:
        return 0.0  # there is no ahead of what stands still
    forward = theirs / length
    sideways = np.array([-forward[1], forward[0]])
    gap = fitted(view.still(1) - view.still(0))[0]
    along, behind = float(mine @ forward), float(gap @ forward)
    return min(
        length / margins.motion,
        along / margins.motion,
        _straight(along, float(mine @ sideways), margins.off_axis),
        behind / margins.approach,
        _straight(behind, float(gap @ sideways), 1.0),
    )


def _straight(along: float, across: float, off_axis: float) -> float:
    return off_axis * along / abs(across) if across else math.copysign(math.inf, along)


_WAYS = tuple(name for name in DIRECTIONS if name not in SIDES)
_CAMERA = {"towards the camera": 1, "away from the camera": -1}

MOTIONS: dict[str, Rule] = {
    **{f"moves {name}": Rule(1, _moves(name), frozenset(_CAMERA)) for name in _WAYS},
    **{name: Rule(1, _nears(sign)) for name, sign in _CAMERA.items()},
    **{name: Rule(2, _approaches(name)) for name in APPROACH},
    "past": Rule(2, _passes, frozenset(APPROACH)),
    "around": Rule(2, _circles, frozenset({*APPROACH, "past"})),
    "following": Rule(2, _follows, frozenset({*APPROACH, "past"})),
}
"""Rules of motion by their names."""
