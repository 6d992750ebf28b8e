"""Where one entity is, as seen from another: beside it, on it, in it, in front of it."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np

from cvg.judging.geometry import DIRECTIONS, Floats, Margins, directed
from cvg.judging.rules.view import Rule, Score, View

CONTAINED = 0.8
"""Share of a thing's box that lies within the box of what it is inside of; and the greatest ratio of their areas."""
OVERLAP = 0.05
"""Share of the smaller box from which on two boxes overlap, so that one of them is in front."""


def _beside(name: str) -> Score:
    """Left of, right of, above, below: where the subject is on the whole, and in how many of the frames."""

    def score(view: View, margins: Margins) -> float:
        offset_F2 = view.seen(0) - view.seen(1)
        offset_F2 = offset_F2[~np.isnan(offset_F2).any(axis=1)]
        if len(offset_F2) < max(1, margins.known * len(view.seen(0))):
            return math.nan
        clear = float(directed(name, offset_F2.mean(axis=0), margins.spatial, margins.off_axis))
        if not margins.sided:
            return clear
        sided = float((np.sign(offset_F2 @ np.array(DIRECTIONS[name])) == np.sign(clear)).mean())
        return clear if sided >= margins.sided else math.copysign(min(abs(clear), sided / margins.sided), clear)

    return score


def _of_frames(frame_scores: Callable[[View, Margins], Floats]) -> Score:
    """The score that the asked share of frames reaches, of those in which both entities are known."""

    def score(view: View, margins: Margins) -> float:
        score_F = frame_scores(view, margins)
        known = np.sort(score_F[~np.isnan(score_F)])
        if len(known) < max(1, margins.known * len(score_F)):
            return math.nan
        return float(known[len(known) - max(1, math.ceil(margins.share * len(known)))])

    return score


def _on(view: View, margins: Margins) -> Floats:
    """The subject ends at the object's top, or, seen from above, in its upper half, over it sideways and no nearer."""
    one, other = view.boxes(0), view.boxes(1)
    sunk_F = one[:, 3] - other[:, 1]
    touches_F = 2 + sunk_F / margins.contact
    high_F = 2 * (1 - sunk_F / _sides(other)[:, 1])
    upper_F = 1 + (view.seen(1) - view.seen(0))[:, 1] / margins.contact
    return np.minimum.reduce(
        [touches_F, high_F, upper_F, 2 * _shared(one, other)[:, 0], _level_in_depth(view, margins)]
    )


def _inside(view: View, margins: Margins) -> Floats:
    """The subject's box lies within the object's larger one, at its depth as far as depth is known."""
    one, other = view.boxes(0), view.boxes(1)
    within_F = np.clip(_common(one, other), 0, None).prod(axis=1) / _sides(one).prod(axis=1)
    smaller_F = (1 - _sides(one).prod(axis=1) / _sides(other).prod(axis=1)) / (1 - CONTAINED)
    inside_F = (2 * within_F - 1) / (2 * CONTAINED - 1)
    return np.minimum.reduce([inside_F, smaller_F, _level_in_depth(view, margins)])


def _level_in_depth(view: View, margins: Margins) -> Floats:
    """From 1 on both are as far away, as far as depth is known."""
    return np.asarray(2 - np.nan_to_num(np.abs(view.depth(0) - view.depth(1))) / margins.depth)


def _next_to(view: View, margins: Margins) -> Floats:
    """The boxes are level, near one another sideways, and hardly overlap."""
    one, other = view.boxes(0), view.boxes(1)
    gap_F = np.clip(-_common(one, other)[:, 0], 0, None)
    shared_F2 = _shared(one, other)
    return np.minimum.reduce([2 - gap_F / margins.near, 2 * shared_F2[:, 1], 2 * (1 - shared_F2[:, 0])])


def _in_front(sign: int) -> Callable[[View, Margins], Floats]:
    """In front of (1) or behind (-1) where the boxes overlap; elsewhere nobody can tell.

    It is nearer to the camera; or, where depth is not known, it covers more of the other than the other of it.
    """

    def score_F(view: View, margins: Margins) -> Floats:
        one, other = view.boxes(0), view.boxes(1)
        common_F = np.clip(_common(one, other), 0, None).prod(axis=1)
        overlap_F = common_F / np.minimum(_sides(one).prod(axis=1), _sides(other).prod(axis=1))
        nearer_F = (view.depth(1) - view.depth(0)) / margins.depth
        covers_F = (view.hidden(1) - view.hidden(0)) / margins.hidden
        return np.where(overlap_F >= OVERLAP, sign * np.where(np.isnan(nearer_F), covers_F, nearer_F), np.nan)

    return score_F


def _sides(boxes_F4: Floats) -> Floats:
    """Widths and heights (F, 2)."""
    return np.maximum(boxes_F4[:, 2:] - boxes_F4[:, :2], 1e-9)


def _common(one_F4: Floats, other_F4: Floats) -> Floats:
    """Width and height of what two boxes share (F, 2); negative: of the gap between them."""
    return np.minimum(one_F4[:, 2:], other_F4[:, 2:]) - np.maximum(one_F4[:, :2], other_F4[:, :2])


def _shared(one_F4: Floats, other_F4: Floats) -> Floats:
    """The same by the smaller of the two sides (F, 2): 1 where one covers the other's side."""
    return np.asarray(_common(one_F4, other_F4) / np.minimum(_sides(one_F4), _sides(other_F4)))


SIDES = ("left of", "right of", "above", "below")
_SAY_LESS = frozenset(SIDES)

PLACES: dict[str, Rule] = {
    **{name: Rule(2, _beside(name)) for name in SIDES},
    "on": Rule(2, _of_frames(_on), _SAY_LESS, frozenset({"above"})),
    "inside": Rule(2, _of_frames(_inside), _SAY_LESS),
    "next to": Rule(2, _of_frames(_next_to), _SAY_LESS, frozenset({"left of", "right of"})),
    "in front of": Rule(2, _of_frames(_in_front(1)), _SAY_LESS | {"next to"}),
    "behind": Rule(2, _of_frames(_in_front(-1)), _SAY_LESS | {"next to"}),
}
"""Rules of places by their names."""
