"""Outlines of the shapes as convex sets: how far apart two are, and how far apart to put them.

A convex set is known by its support: how far it reaches in each direction. The gap between two is the greatest, over
directions, of their distance along it less both reaches. Lengths are in frame sides.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from cvg.shapes.renderer import SIZE, signed_distance

Floats = NDArray[np.floating[Any]]

_ANGLES = np.arange(48) * (2 * np.pi / 48)
DIRECTIONS_K2 = np.stack([np.cos(_ANGLES), np.sin(_ANGLES)], axis=-1)
"""The directions that are looked at: the normals of all straight edges among them."""
_CORNERS = {
    "square": 0.89 * np.array([(-1, -1), (1, -1), (-1, 1), (1, 1)]),
    "triangle": 0.72 * np.array([(0, -2), (-(3**0.5), 1), (3**0.5, 1)]),
}


def reach(shape: str, directions_K2: Floats = DIRECTIONS_K2) -> Floats:
    """How far a shape of radius 1 reaches from its centre in each direction (K,)."""
    if shape == "circle":
        return np.ones(len(directions_K2))
    return np.asarray((directions_K2 @ _CORNERS[shape].T).max(axis=-1))


def reaches(one: str, one_radius: Floats, other: str, other_radius: Floats) -> Floats:
    """How far two shapes reach towards each other, added up, by the direction from the first to the second.

    Args:
        one: shape of the first.
        one_radius: its radii in pixels, (...).
        other: shape of the second.
        other_radius: its radii.

    Returns:
        In frame sides, (..., K).
    """
    towards = reach(one) * one_radius[..., None] + reach(other, -DIRECTIONS_K2) * other_radius[..., None]
    return np.asarray(towards / SIZE)


def gaps(apart: Floats, reaches_K: Floats) -> Floats:
    """Distances between outlines (...), negative where they overlap.

    Args:
        apart: from the first's centre to the second's, (..., 2).
        reaches_K: of the two, (..., K).
    """
    return np.asarray((apart @ DIRECTIONS_K2.T - reaches_K).max(axis=-1))


def distance_for(gap: Floats, way: Floats, beside: Floats, reaches_K: Floats) -> Floats:
    """How far along a way the second has to be from the first for a gap between them.

    Args:
        gap: wanted, (...).
        way: unit vectors, (..., 2).
        beside: offset that the second has anyhow, (..., 2).
        reaches_K: of the two, (..., K).

    Returns:
        The distance (...): the second at ``distance * way + beside`` is that far off.
    """
    along = way @ DIRECTIONS_K2.T
    with np.errstate(divide="ignore", invalid="ignore"):
        enough = (gap[..., None] + reaches_K - beside @ DIRECTIONS_K2.T) / along
    # Towards a direction the gap grows with the distance: the first direction in which it is wide enough decides.
    return np.asarray(np.where(along > 1e-6, enough, np.inf).min(axis=-1))


def covered(front: str, front_radius: Floats, back: str, back_radius: Floats, apart: Floats) -> Floats:
    """Share of a shape that another covers, (...).

    Args:
        front: shape of the one that covers.
        front_radius: its radii in pixels, (...).
        back: shape of the other.
        back_radius: its radii in pixels.
        apart: from the front's centre to the back's, in frame sides, (..., 2).
    """
    grid = np.stack(np.meshgrid(*[np.linspace(-1.5, 1.5, 31)] * 2), axis=-1).reshape(-1, 2)
    inside_P2 = grid[signed_distance(back, grid[:, 0], grid[:, 1], 1.0) < 0]
    offsets = inside_P2 * back_radius[..., None, None] + apart[..., None, :] * SIZE
    hidden = signed_distance(front, offsets[..., 0], offsets[..., 1], front_radius[..., None]) < 0
    return np.asarray(hidden.mean(axis=-1))
