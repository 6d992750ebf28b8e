"""What two entities do with each other, and which covers the other: labels of ``interaction`` and of ``depth``."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from cvg.shapes.outlines import Floats, covered, distance_for, gaps, reaches
from cvg.shapes.placing import AXES, CANDIDATES, PIXEL, TIME_F, Candidates, drifting, straight

HIDDEN = (0.2, 0.36)
"""Share of what is behind that is covered, least and most: of the rest, its shape can be told."""
FROM_THE_MIDDLE_F = np.abs(2 * TIME_F - 1)
"""1 at the ends of a clip, 0 in its middle frame."""

GAP = (4.0, 8.0)
"""Pixels between the rims of entities that interact without touching, least and most; circling, which takes more of the
frame, has a range of its own. The nearer they come, the more often generators let the two run into one another."""

Pair = tuple[str, str]


def interact(label: str, shapes: Sequence[str], rng: np.random.Generator) -> Candidates:
    """A subject and an object that do what a label of the group ``interaction`` says.

    Args:
        label: name of the label.
        shapes: of the subject and the object.
        rng: source of randomness.
    """
    subject, other = shapes
    return _INTERACTIONS[label]((subject, other), rng)


def _circling(shapes: Pair, rng: np.random.Generator) -> Candidates:
    mine, theirs = _radii(6.0, 7.0, rng)
    centre = drifting(0.015, rng)
    way = _turning(rng.uniform(232, 252, CANDIDATES), rng)
    far = _clear_of(way, reaches(shapes[1], theirs, shapes[0], mine), _uniform(3.5, 6.5, rng) * PIXEL)
    return _together((mine, theirs), (centre + far[:, None, None] * way, centre))


def _swapping(shapes: Pair, rng: np.random.Generator) -> Candidates:
    mine, theirs = _radii(7.0, 9.0, rng)
    way = _turning(rng.uniform(174, 186, CANDIDATES), rng)
    far = _clear_of(way, reaches(shapes[1], theirs, shapes[0], mine), _uniform(*GAP, rng) * PIXEL)
    half = far[:, None, None] / 2 * way
    return _together((mine, theirs), (half, -half))


def _following(shapes: Pair, rng: np.random.Generator) -> Candidates:
    mine, theirs = _radii(6.5, 8.5, rng)
    ahead, beside = _axes(0.03, rng)
    between = reaches(shapes[0], mine, shapes[1], theirs)
    far = distance_for(_uniform(*GAP, rng) * PIXEL, ahead, beside, between)
    length = _uniform(0.24, 0.36, rng)
    first = straight(ahead * (length * _uniform(0.94, 1.06, rng))[:, None])
    second = straight(ahead * length[:, None]) + (ahead * far[:, None] + beside)[:, None]
    return _together((mine, theirs), (first, second))


def _bumping(shapes: Pair, rng: np.random.Generator) -> Candidates:
    mine, theirs = _radii(7.0, 9.0, rng)
    centre = drifting(0.01, rng)
    out, beside = _axes(0.03, rng)
    near = distance_for(_uniform(0.0, 0.3, rng) * PIXEL, out, beside, reaches(shapes[1], theirs, shapes[0], mine))
    before = TIME_F < 0.5
    off = np.where(before, _uniform(0.22, 0.36, rng)[:, None], _uniform(0.22, 0.36, rng)[:, None]) * FROM_THE_MIDDLE_F
    way = (near[:, None] + off)[..., None] * out[:, None]
    return _together((mine, theirs), (centre + beside[:, None] + way, centre))


def _passing(shapes: Pair, rng: np.random.Generator) -> Candidates:
    mine, theirs = _radii(7.0, 9.0, rng)
    centre = drifting(0.01, rng)
    along, side = _axes(1.0, rng)
    side /= np.linalg.norm(side, axis=-1, keepdims=True)
    before, after = _uniform(0.235, 0.32, rng)[:, None], _uniform(0.235, 0.32, rng)[:, None]
    way = (-before + (before + after) * TIME_F)[..., None] * along[:, None]
    between = reaches(shapes[1], theirs, shapes[0], mine)
    gap = np.broadcast_to((_uniform(*GAP, rng) * PIXEL)[:, None], way.shape[:2])
    far = distance_for(gap, side[:, None], way, between[:, None]).max(axis=-1)
    return _together((mine, theirs), (centre + way + (far[:, None] * side)[:, None], centre))


def _meeting(shapes: Pair, rng: np.random.Generator) -> Candidates:
    mine, theirs = _radii(6.5, 8.5, rng)
    ahead, beside = _axes(0.03, rng)
    near = distance_for(_uniform(0.0, 0.8, rng) * PIXEL, ahead, beside, reaches(shapes[0], mine, shapes[1], theirs))
    # They arrive in one of the last four frames, and rest from then on.
    left_F = np.clip(1 - TIME_F * 12 / rng.integers(9, 13, (CANDIDATES, 1)), 0, None)[..., None]
    first = -ahead[:, None] * _uniform(0.13, 0.21, rng)[:, None, None] * left_F
    second = ahead[:, None] * _uniform(0.13, 0.21, rng)[:, None, None] * left_F
    return _together((mine, theirs), (first, second + (ahead * near[:, None] + beside)[:, None]))


_INTERACTIONS: dict[str, Callable[[Pair, np.random.Generator], Candidates]] = {
    "circling": _circling,
    "following": _following,
    "swapping with": _swapping,
    "bumping into": _bumping,
    "passing": _passing,
    "meeting": _meeting,
}


def overlapping(label: str, shapes: Sequence[str], rng: np.random.Generator) -> Candidates:
    """Two entities of which the one in front covers a part of the other, all the time.

    Args:
        label: ``in front of`` or ``behind``.
        shapes: of the subject and the object.
        rng: source of randomness.
    """
    radii = _radii(8.0, 10.0, rng)
    front = 0 if label == "in front of" else 1
    way = np.stack([np.cos(angle := rng.uniform(0, 2 * np.pi, CANDIDATES)), np.sin(angle)], axis=-1)
    apart = (way * (rng.uniform(0.4, 1.0, CANDIDATES) * sum(radii) * PIXEL)[:, None])[:, None]
    apart = apart + straight(rng.uniform(-0.008, 0.008, (CANDIDATES, 2)))
    together = straight(rng.uniform(-0.03, 0.03, (CANDIDATES, 2)))
    tracks = (together, together + apart)
    ends = apart[:, [0, -1]] * (1 if front == 0 else -1)
    back = 1 - front
    share = covered(shapes[front], radii[front][:, None], shapes[back], radii[back][:, None], ends)
    valid = np.asarray(((share > HIDDEN[0]) & (share < HIDDEN[1])).all(axis=-1))
    return Candidates(radii, tracks, valid, layers=(1 - front, front))


def apart(shapes: Sequence[str], rng: np.random.Generator) -> Candidates:
    """Two entities that are nearly still, anywhere beside each other.

    Args:
        shapes: of the two.
        rng: source of randomness.
    """
    radii = _radii(8.0, 10.0, rng)
    between = rng.uniform(-0.6, 0.6, (CANDIDATES, 1, 2))
    tracks = [straight(rng.uniform(-0.04, 0.04, (CANDIDATES, 2))) for _ in range(2)]
    tracks[1] = tracks[1] + between
    gap = gaps(tracks[1] - tracks[0], reaches(shapes[0], radii[0], shapes[1], radii[1])[:, None])
    return Candidates(radii, tracks, gap.min(axis=-1) > 2 * PIXEL)


def _uniform(low: float, high: float, rng: np.random.Generator) -> Floats:
    return rng.uniform(low, high, CANDIDATES)


def _radii(low: float, high: float, rng: np.random.Generator) -> tuple[Floats, Floats]:
    return _uniform(low, high, rng), _uniform(low, high, rng)


def _axes(most: float, rng: np.random.Generator) -> tuple[Floats, Floats]:
    """One of the four ways along an axis, and an offset across it of ``most`` at most: (N, 2) each."""
    along = AXES[rng.integers(4, size=CANDIDATES)]
    return along, along[:, ::-1] * _uniform(-most, most, rng)[:, None]


def _turning(degrees: Floats, rng: np.random.Generator) -> Floats:
    """Unit vectors (N, F, 2) that turn by so many degrees, either way round, from anywhere."""
    sense = rng.choice([-1.0, 1.0], CANDIDATES)
    angle = _uniform(0, 2 * np.pi, rng)[:, None] + np.radians(sense * degrees)[:, None] * TIME_F
    return np.stack([np.cos(angle), np.sin(angle)], axis=-1)


def _clear_of(way: Floats, reaches_NK: Floats, gap: Floats) -> Floats:
    """The distance (N,) at which a turning way (N, F, 2) leaves a gap in every frame."""
    gap_NF = np.broadcast_to(gap[:, None], way.shape[:2])
    return np.asarray(distance_for(gap_NF, way, np.zeros_like(way), reaches_NK[:, None]).max(axis=-1))


def _together(radii: Sequence[Floats], tracks: Sequence[Floats]) -> Candidates:
    return Candidates(radii, tracks, np.ones(CANDIDATES, bool))
