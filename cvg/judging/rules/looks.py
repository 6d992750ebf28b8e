"""Which colour an entity has, and which it turns."""

from __future__ import annotations

import math
from collections import Counter

import numpy as np

from cvg.judging.geometry import Margins
from cvg.judging.rules.view import Rule, Score, View, ends

COLOURS = ("red", "orange", "yellow", "green", "cyan", "blue", "purple", "pink", "brown", "black", "white", "grey")
"""Colours that a track may have in a frame."""
COLOURED = 0.6
"""Share of the frames in which an entity has the colour that it is said to have."""


def _score(share: float) -> float:
    """1 at the share that is asked for, -1 as far below a half."""
    return (2 * share - 1) / (2 * COLOURED - 1)


def _is(colour: str) -> Score:
    """It has one colour, seen in most frames, whatever it may be in the others."""

    def score(view: View, margins: Margins) -> float:
        seen = [name for name in view.colours(0) if name is not None]
        if len(seen) < max(1, margins.known * len(view.colours(0))):
            return math.nan
        return _score(seen.count(colour) / len(view.colours(0)))

    return score


def _turns(colour: str) -> Score:
    """It has one other colour in the first third of the frames, and this one in the last."""

    def score(view: View, margins: Margins) -> float:
        first, last = (list(part) for part in ends(np.array(view.colours(0), object)))
        if min(len(part) - part.count(None) for part in (first, last)) == 0 or len(view.colours(0)) < 2:
            return math.nan
        others = Counter(name for name in first if name not in (None, colour))
        begins = max(others.values(), default=0) / len(first)
        return min(_score(begins), _score(last.count(colour) / len(last)))

    return score


LOOKS: dict[str, Rule] = {
    **{f"is {colour}": Rule(1, _is(colour)) for colour in COLOURS},
    **{f"turns {colour}": Rule(1, _turns(colour)) for colour in COLOURS},
}
"""Rules of colours by their names."""
