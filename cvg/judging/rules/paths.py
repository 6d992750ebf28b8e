"""Which ways an entity goes one after the other: first left, then up."""

from __future__ import annotations

import math

import numpy as np

from cvg.judging.geometry import DIRECTIONS, Floats, Margins, directed, displacement
from cvg.judging.rules.view import Rule, Score, View, known

WAYS = ("left", "right", "up", "down")
CORNERS = tuple((one, other) for one in WAYS for other in WAYS if not np.dot(DIRECTIONS[one], DIRECTIONS[other]))
"""Ways that a path may have one after the other: at right angles."""


def _corner(first: str, then: str) -> Score:
    """It goes one way and then the other, for a quarter of the clip each at least: as a corner parts it best."""

    def score(view: View, margins: Margins) -> float:
        if not view.spans(margins):
            return math.nan
        path_F2, found = view.still(0), []
        quarter = max(1, (len(path_F2) - 1) // 4)
        for corner in range(quarter, len(path_F2) - quarter):
            legs = ((first, path_F2[: corner + 1]), (then, path_F2[corner:]))
            if min(len(known(leg_F2)) for _, leg_F2 in legs) > 1:
                found.append(min(float(_goes(way, leg_F2, margins)) for way, leg_F2 in legs))
        return max(found, default=math.nan)

    return score


def _goes(way: str, leg_F2: Floats, margins: Margins) -> Floats:
    return directed(way, displacement(leg_F2), margins.motion, margins.off_axis)


def _between(*ways: str) -> frozenset[str]:
    """The slanting motion that has both ways in it: on the whole, a path with a corner is that too."""
    upright = next(way for way in ways if way in ("up", "down"))
    return frozenset(f"moves {upright} {way}" for way in ways if way != upright)


PATHS: dict[str, Rule] = {
    f"moves {one} then {other}": Rule(1, _corner(one, other), _between(one, other)) for one, other in CORNERS
}
"""Rules of paths by their names."""
