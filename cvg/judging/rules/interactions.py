"""What two entities do with one another: swap places, bump, meet."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from cvg.judging.geometry import Floats, Margins
from cvg.judging.rules.view import Rule, View, ends

RETURN = 0.5
"""Greatest share of the way to what it bumps into, from which it ends away from where it began."""
SWAPPED = 1 / 3
"""Greatest share of the distance between two that swap, by which they may miss each other's place."""
UNMOVED = 0.5
"""Greatest share of the subject's way that an object that stays may go."""


def _together(view: View, margins: Margins) -> tuple[Floats, Floats, Floats, NDArray[np.intp]] | None:
    """Places of subject and object (K, 2), the gap of their rims (K), and the frames (K) in which all are known."""
    if not view.spans(margins):
        return None
    one, other, gap = view.still(0), view.still(1), view.gap()
    both = ~(np.isnan(one) | np.isnan(other)).any(axis=1) & ~np.isnan(gap)
    return (one[both], other[both], gap[both], np.flatnonzero(both)) if both.sum() >= 3 else None


def _start_and_end(path_K2: Floats, frame_K: NDArray[np.intp]) -> tuple[Floats, Floats]:
    """Where it begins and where it ends: means of two frames each, where these follow one another; else one frame.

    A mean of places that lie apart in time would be where it neither begins nor ends.
    """
    first, last = (1 + (frame_K[more] - frame_K[less] == 1) for more, less in ((1, 0), (-1, -2)))
    return path_K2[:first].mean(axis=0), path_K2[-last:].mean(axis=0)


def _distance(one_2: Floats, other_2: Floats) -> float:
    return float(np.linalg.norm(one_2 - other_2))


def _swaps(view: View, margins: Margins) -> float:
    """Each ends where the other began."""
    if (found := _together(view, margins)) is None:
        return math.nan
    (one, one_end), (other, other_end) = (_start_and_end(path, found[3]) for path in found[:2])
    apart = min(_distance(one, other), _distance(one_end, other_end))
    missed = max(_distance(one_end, other), _distance(other_end, one))
    return min(apart / margins.spatial, 2 - missed / (SWAPPED * max(apart, margins.spatial)))


def _bumps(view: View, margins: Margins) -> float:
    """The subject comes up to the object, which stays, until they touch, and goes back the way it came."""
    if (found := _together(view, margins)) is None:
        return math.nan
    one, other, gap, frames = found
    distance = np.linalg.norm(one - other.mean(axis=0), axis=1)
    there, back = float(distance[0] - distance.min()), float(distance[-1] - distance.min())
    longer = max(there, back, margins.motion)
    start, end = _start_and_end(one, frames)
    return min(
        min(there, back) / margins.motion,
        2 - _distance(start, end) / (RETURN * longer),
        2 - float(gap.min()) / margins.contact,
        2 - float(np.linalg.norm(np.ptp(other, axis=0))) / (UNMOVED * longer),
    )


def _meets(view: View, margins: Margins) -> float:
    """Both come nearer to where the other began, and in the last third they touch, or nearly."""
    if (found := _together(view, margins)) is None:
        return math.nan
    (one, one_end), (other, other_end) = (_start_and_end(path, found[3]) for path in found[:2])
    left = (_distance(one_end, other), _distance(other_end, one), _distance(one_end, other_end))
    nearer = _distance(one, other) - max(left)
    return min(nearer / margins.approach, 2 - float(ends(found[2])[1].min()) / (1.5 * margins.contact))


INTERACTIONS: dict[str, Rule] = {
    "swaps with": Rule(2, _swaps, frozenset({"towards", "away from", "past", "meets"})),
    "bumps into": Rule(2, _bumps),
    "meets": Rule(2, _meets, frozenset({"towards"})),
}
"""Rules of interactions by their names."""
