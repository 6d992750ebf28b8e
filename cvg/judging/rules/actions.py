"""What an entity does by itself: grow, go and come back, stop, blink."""

from __future__ import annotations

import math
from collections.abc import Iterable

import numpy as np

from cvg.judging.geometry import DIRECTIONS, Floats, Margins, displacement
from cvg.judging.rules.motions import log_size
from cvg.judging.rules.view import Rule, Score, View, ends, known

STEADY = 0.7
"""Least correlation of size and time, of what grows or shrinks: not in one jump, nor there and back."""
BACK = 0.5
"""Least share of the way there that is the way back, or the other way round."""
AWAY = 0.15
"""Share of the frames, one after another, in which what blinks is away."""


def _grows(sign: int) -> Score:
    """It grows (1) or shrinks (-1) steadily, beyond what zooming makes of it."""

    def score(view: View, margins: Margins) -> float:
        size_F = log_size(view, 0, margins)
        if size_F is None:
            return math.nan
        change = float(displacement(size_F[:, None])[0])
        at = np.nonzero(~np.isnan(size_F))[0]
        spread = float(at.std() * size_F[at].std())
        steady = float(np.mean((at - at.mean()) * (size_F[at] - size_F[at].mean()))) / spread if spread > 0 else 0.0
        return sign * math.copysign(min(abs(change) / margins.growth, abs(steady) / STEADY), change)

    return score


def _returns(names: Iterable[str]) -> Score:
    """It goes in one of some directions, and comes back."""

    def score(view: View, margins: Margins) -> float:
        if not view.spans(margins):
            return math.nan
        path_K2 = known(view.still(0))
        return max(_there_and_back(path_K2, np.array(DIRECTIONS[name]), margins) for name in names)

    return score


def _there_and_back(path_K2: Floats, way: Floats, margins: Margins) -> float:
    along_K, across_K = path_K2 @ way, path_K2 @ np.array([-way[1], way[0]])
    there, back = float(along_K.max() - along_K[0]), float(along_K.max() - along_K[-1])
    shorter, longer = min(there, back), max(there, back, margins.motion)
    wander = float(np.ptp(across_K)) / longer
    return min(shorter / margins.motion, shorter / longer / BACK, 2 - wander / margins.off_axis)


def _rests(after: bool) -> Score:
    """It goes in the first half and rests in the last third of the clip; or rests first and goes in the second half."""

    def score(view: View, margins: Margins) -> float:
        if not view.spans(margins):
            return math.nan
        path_F2 = view.still(0) if after else view.still(0)[::-1]
        end_K2 = known(ends(path_F2)[1])
        begin_F2 = path_F2[: (len(path_F2) + 1) // 2]
        if len(end_K2) < 2 or len(known(begin_F2)) < 2:
            return math.nan
        way = float(np.linalg.norm(displacement(begin_F2)))
        wander = float(np.linalg.norm(np.ptp(end_K2, axis=0)))
        return min(way / margins.motion, 2 - wander / margins.still)

    return score


def _blinks(view: View, margins: Margins) -> float:
    """It is there in the first and in the last third, in two frames of five, and away for some frames between."""
    if not view.spans(margins):
        return math.nan
    seen_F = view.entities[0].visible
    away = longest = 0
    # Where nobody knows its place it may be anything but away: a tracker's gap.
    for here, lost in zip(seen_F, np.isnan(view.seen(0)[:, 0]), strict=True):
        away = 0 if here or lost else away + 1
        longest = max(longest, away)
    there = min(float(part.mean()) for part in ends(seen_F))
    return min(2 * longest / (AWAY * len(seen_F)) - 1, 5 * there - 1)


ACTIONS: dict[str, Rule] = {
    "grows": Rule(1, _grows(1)),
    "shrinks": Rule(1, _grows(-1)),
    "bounces": Rule(1, _returns(("down",))),
    "goes and returns": Rule(1, _returns(("left", "right"))),
    "stops": Rule(1, _rests(after=True)),
    "sets off": Rule(1, _rests(after=False)),
    "blinks": Rule(1, _blinks),
}
"""Rules of actions by their names."""
