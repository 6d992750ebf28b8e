"""Where the entities of a clip are in its frames: radii and tracks, drawn many at a time and taken as they fit."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from cvg.shapes.outlines import Floats, reach
from cvg.shapes.renderer import FRAMES, SIZE

TIME_F = np.linspace(0.0, 1.0, FRAMES)
PIXEL = 1 / SIZE
"""In frame sides."""
BORDER = 1.5 * PIXEL
"""Least distance of an outline from the border."""
CANDIDATES = 64
AXES = np.array([(-1.0, 0.0), (1.0, 0.0), (0.0, -1.0), (0.0, 1.0)])
_SIDES = np.array([(1.0, 0.0), (0.0, 1.0)])


@dataclass(frozen=True)
class Path:
    """How an entity is drawn over the clip: see :class:`cvg.shapes.renderer.Sprite`."""

    radius: float | NDArray[np.float64]
    track_F2: NDArray[np.float64]
    opacity: float | NDArray[np.float64] = 1.0
    layer: int = 0


@dataclass(frozen=True)
class Candidates:
    """Ways of drawing the entities, of which some are valid.

    Attributes:
        radii: of each entity in pixels, (N,), or (N, F) where it changes.
        tracks: of each entity, (N, F, 2), from anywhere: only how they lie to one another counts.
        valid: which of them are as wanted, (N,).
        opacity: of all entities, (F,).
        layers: of each entity.
    """

    radii: Sequence[Floats]
    tracks: Sequence[Floats]
    valid: NDArray[np.bool_]
    opacity: float | NDArray[np.float64] = 1.0
    layers: Sequence[int] = (0, 0)


def placed(
    draw: Callable[[np.random.Generator], Candidates], shapes: Sequence[str], rng: np.random.Generator
) -> list[Path]:
    """The first valid candidate that fits into the frame, put anywhere in it; drawn anew until there is one.

    Args:
        draw: draws candidates.
        shapes: of the entities.
        rng: source of randomness.
    """
    while True:
        drawn = draw(rng)
        low_N2, high_N2 = bounds(shapes, drawn.radii, drawn.tracks)
        room_N2 = 1 - 2 * BORDER - (high_N2 - low_N2)
        valid = drawn.valid & (room_N2.min(axis=-1) > 0)
        if valid.any():
            first = int(np.argmax(valid))
            shift = BORDER - low_N2[first] + rng.random(2) * room_N2[first]
            return [
                Path(
                    float(radius[first]) if radius.ndim == 1 else np.asarray(radius[first]),
                    np.asarray(track[first] + shift),
                    drawn.opacity,
                    layer,
                )
                for radius, track, layer in zip(drawn.radii, drawn.tracks, drawn.layers, strict=False)
            ]


def bounds(shapes: Sequence[str], radii: Sequence[Floats], tracks: Sequence[Floats]) -> tuple[Floats, Floats]:
    """The left upper and the right lower corner (N, 2) of all that entities cover in all frames."""
    low, high = [], []
    for shape, radius, track in zip(shapes, radii, tracks, strict=True):
        over_time = radius if radius.ndim == 2 else radius[:, None]
        sides = over_time[..., None] * PIXEL
        low.append((track - reach(shape, -_SIDES) * sides).min(axis=1))
        high.append((track + reach(shape, _SIDES) * sides).max(axis=1))
    return np.minimum.reduce(low), np.maximum.reduce(high)


def straight(path_N2: Floats) -> Floats:
    """Tracks (N, F, 2) at constant speed, whose middle is at zero."""
    return np.asarray(path_N2[:, None] * (TIME_F - 0.5)[:, None])


def drifting(most: float, rng: np.random.Generator, count: int = CANDIDATES) -> Floats:
    """Tracks (N, F, 2) of what is nearly still, from zero by at most ``most`` along each axis."""
    return np.asarray(rng.uniform(-most, most, (count, 1, 2)) * TIME_F[:, None])
