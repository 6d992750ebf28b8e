"""Straight lines at constant speed: labels of places, of motion and of relative motion, by rejection."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from cvg.judging import geometry
from cvg.shapes.outlines import gaps, reaches
from cvg.shapes.placing import PIXEL, Candidates, Path, straight
from cvg.shapes.renderer import FRAMES, SIZE

RENDER = geometry.Margins(motion=0.2, spatial=0.28, approach=0.22, off_axis=0.4)
"""How clearly relations hold in rendered clips: more so than judges ask for."""
CLOSE = replace(RENDER, off_axis=0.6)
"""Of three relations: two entities that move towards each other have no room to be level as well."""

Relation = tuple[str, tuple[int, ...]]


def sample(count: int, relations: Sequence[Relation], rng: np.random.Generator) -> list[Path]:
    """Paths that satisfy every relation with the renderer's margins: inside the frame, never touching.

    Args:
        count: of entities.
        relations: labels of places and motion, and the entities that they hold of.
        rng: source of randomness.
    """
    time_F = np.linspace(-0.5, 0.5, FRAMES)[:, None]
    n = 256
    moving = {indices[0]: label for label, indices in relations if len(indices) == 1}
    approaching = {indices[0] for label, indices in relations if label in geometry.APPROACH}
    while True:
        radii = [float(rng.uniform(8.0, 10.0)) for _ in range(count)]
        tracks, valid = [], np.ones(n, bool)
        for i in range(count):
            centre = rng.uniform(0.12, 0.88, (n, 1, 2))
            if i in moving:
                # Longer paths leave two entities of this size hardly a way past each other.
                along = np.array(geometry.DIRECTIONS[moving[i]])
                path = along * rng.uniform(0.22, 0.4, (n, 1, 1)) + along[::-1] * rng.uniform(-0.05, 0.05, (n, 1, 1))
            elif i in approaching:
                angle = rng.uniform(0, 2 * np.pi, (n, 1, 1))
                path = rng.uniform(0.24, 0.5, (n, 1, 1)) * np.concatenate([np.cos(angle), np.sin(angle)], axis=-1)
            else:
                path = rng.uniform(-0.04, 0.04, (n, 1, 2))
            track = centre + path * time_F
            reach = (radii[i] * 1.45 + 0.5) / SIZE  # a triangle's tip is 1.44 radii from its centre
            valid &= (track.min(axis=(1, 2)) > reach) & (track.max(axis=(1, 2)) < 1 - reach)
            tracks.append(track)
        if count == 2:
            gap = np.linalg.norm(tracks[0] - tracks[1], axis=-1).min(axis=-1)
            valid &= gap > (sum(radii) * 1.05 + 1) / SIZE
        for label, indices in relations:
            valid &= geometry.holds(label, [tracks[i] for i in indices], RENDER)
        if valid.any():
            first = int(np.argmax(valid))
            return [Path(radius, track[first]) for radius, track in zip(radii, tracks, strict=True)]


def three_relations(relations: Sequence[Relation], shapes: Sequence[str], rng: np.random.Generator) -> Candidates:
    """Two entities, smaller ones, that both move, and their places.

    Args:
        relations: labels of places and motion, and the entities that they hold of.
        shapes: of the entities.
        rng: source of randomness.
    """
    count = 128
    radii = [rng.uniform(6.0, 7.5, count) for _ in shapes]
    moving = {indices[0]: label for label, indices in relations if len(indices) == 1}
    (side,) = (geometry.DIRECTIONS[label] for label, indices in relations if len(indices) == 2)
    tracks = []
    for index in range(len(shapes)):
        along = np.array(geometry.DIRECTIONS[moving[index]])
        path = along * rng.uniform(0.21, 0.36, (count, 1)) + along[::-1] * rng.uniform(-0.05, 0.05, (count, 1))
        tracks.append(straight(path))
    far = rng.uniform(0.28, 0.62, (count, 1))
    away = far * np.array(side) + far * rng.uniform(-0.6, 0.6, (count, 1)) * np.array(side[::-1])
    tracks[0] = tracks[0] + away[:, None]
    valid = np.ones(count, bool)
    for label, indices in relations:
        valid &= geometry.holds(label, [tracks[i] for i in indices], CLOSE)
    between = reaches(shapes[0], radii[0], shapes[1], radii[1])[valid, None]
    valid[valid] = gaps((tracks[1] - tracks[0])[valid], between).min(-1) > 2 * PIXEL
    return Candidates(radii, tracks, valid)
