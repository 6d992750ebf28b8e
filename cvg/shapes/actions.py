"""What one entity does: the labels of the groups ``action``, ``path`` and ``change``, and one that does nothing."""

from __future__ import annotations

import numpy as np

from cvg.judging.geometry import DIRECTIONS
from cvg.shapes.outlines import Floats
from cvg.shapes.placing import AXES, TIME_F, Candidates, drifting, straight
from cvg.shapes.renderer import FRAMES

MIDDLE = FRAMES // 2
AWAY = slice(5, 9)
"""Frames in which what blinks is not there: those of one latent frame."""
TURNING = np.clip((np.arange(FRAMES) - 4) / 4, 0, 1)
"""Share of the new colour in each frame, of what turns another colour."""


def still(rng: np.random.Generator) -> Candidates:
    """Nearly still: what turns another colour."""
    return _alone(rng.uniform(8.0, 10.0), straight(rng.uniform(-0.04, 0.04, (1, 2)))[0])


def act(label: str, rng: np.random.Generator) -> Candidates:
    """An entity that does what a label of the group ``action`` says."""
    radius, drift = rng.uniform(7.5, 9.5), drifting(0.02, rng, 1)[0]
    if label in ("growing", "shrinking"):
        size = rng.uniform(5.5, 7.0) * (1 + rng.uniform(0.75, 1.1) * TIME_F)
        return _alone(size[:: 1 if label == "growing" else -1], drift)
    if label == "blinking":
        there = np.ones(FRAMES)
        there[AWAY] = 0
        return Candidates([np.array([radius])], [drift[None]], np.ones(1, bool), there)
    if label in ("bouncing", "back and forth"):
        # From a constant speed to one that slows down at the turning point, as a ball's at the top.
        way = 1 - np.abs(2 * TIME_F - 1) ** rng.uniform(1.0, 1.6)
        axis = AXES[3] if label == "bouncing" else AXES[rng.integers(2)]
        return _alone(radius, drift + rng.uniform(0.2, 0.28) * way[:, None] * axis)
    if label not in ("stopping", "setting off"):
        raise ValueError(f"label {label!r}: no action")
    track = (AXES[rng.integers(4)] * rng.uniform(0.2, 0.28) + drift[-1]) * np.clip(2 * TIME_F, 0, 1)[:, None]
    return _alone(radius, track if label == "stopping" else track[::-1])


def corner(label: str, rng: np.random.Generator) -> Candidates:
    """An entity that goes the ways of a label of the group ``path``, half of the clip each."""
    first, then = (np.array(DIRECTIONS[way]) * rng.uniform(0.2, 0.28) for way in label.split(" then "))
    there_F = np.clip(2 * TIME_F, 0, 1)[:, None]
    return _alone(rng.uniform(7.5, 9.5), there_F * first + (np.clip(2 * TIME_F, 1, 2)[:, None] - 1) * then)


def _alone(radius: float | Floats, track_F2: Floats) -> Candidates:
    return Candidates([np.asarray(radius)[None]], [track_F2[None]], np.ones(1, bool))
