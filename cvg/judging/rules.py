"""The rules by which tracks show a label: geometry by name, each with a margin, a dead zone and "cannot tell".

A rule's score is signed and in margins: from 1 on its label holds, from -1 down it is clearly not so, between lies the
dead zone; NaN where the tracks cannot tell. Of a group's labels the one whose rule holds is what a video shows. Motion
is that of the entities: the camera's is taken off. Places are those within the frame.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from cvg.judging.geometry import APPROACH, DIRECTIONS, Floats, Margins, approaching, directed, displacement, fitted
from cvg.judging.tracks import Track, Tracks

BORDER = 0.005
"""A box this close to the border, in frame sides, may be cut by it: its size is not the entity's."""
SWEEP = 1.5 * math.pi
"""What a subject sweeps about an object that it goes around; one that goes past it sweeps half a turn at most."""
CONTAINED = 0.8
"""Share of a thing's box that lies within the box of what it is inside of; and the greatest ratio of their areas."""
OVERLAP = 0.05
"""Share of the smaller box from which on two boxes overlap, so that one of them is in front."""


@dataclass(frozen=True)
class View:
    """What a rule looks at: a relation's entities, subject first, and the video they are in.

    Lengths are those of a square frame of the same area, so that sideways and upwards count alike.
    """

    entities: tuple[Track, ...]
    tracks: Tracks

    @property
    def _units_2(self) -> Floats:
        return np.array([self.tracks.aspect**0.5, self.tracks.aspect**-0.5])

    def seen(self, slot: int) -> Floats:
        """Where an entity is within the frame (F, 2)."""
        return np.asarray(self.entities[slot].centres * self._units_2)

    def still(self, slot: int) -> Floats:
        """Where it would be, had the camera stood still (F, 2)."""
        centres, camera = self.entities[slot].centres, self.tracks.camera
        return np.asarray((centres if camera is None else camera.taken_off(centres)) * self._units_2)

    def boxes(self, slot: int) -> Floats:
        """Its boxes (F, 4)."""
        return np.asarray(self.entities[slot].boxes_F4 * np.tile(self._units_2, 2))

    def depth(self, slot: int) -> Floats:
        """Its depth (F), NaN where it was not measured."""
        depth_F = self.entities[slot].depth_F
        return np.full(len(self.entities[slot].boxes_F4), np.nan) if depth_F is None else depth_F

    def spans(self, margins: Margins) -> bool:
        """Whether places are known for long enough that motion can be told: in half of the clip, from end to end."""
        known = np.nonzero(np.logical_and.reduce([~np.isnan(self.seen(i)[:, 0]) for i in range(len(self.entities))]))[0]
        frames = len(self.entities[0].boxes_F4)
        return len(known) >= max(2, margins.known * frames) and known[-1] - known[0] >= (frames - 1) / 2


Score = Callable[[View, Margins], float]


@dataclass(frozen=True)
class Rule:
    """How tracks show a label.

    Attributes:
        entities: how many it looks at.
        score: signed, in margins; NaN where the tracks cannot tell.
        over: rules that may hold at the same time and say less: of these this one is told.
        implies: those of them of which one holds whenever this one does: who is on a table is above it too.
    """

    entities: int
    score: Score
    over: frozenset[str] = frozenset()
    implies: frozenset[str] = frozenset()


def _moves(name: str) -> Score:
    def score(view: View, margins: Margins) -> float:
        if not view.spans(margins):
            return math.nan
        return float(directed(name, displacement(view.still(0)), margins.motion, margins.off_axis))

    return score


def _grows(sign: int) -> Score:
    """Towards the camera (1) or away from it (-1): the box grows or shrinks, beyond what zooming makes of it."""

    def score(view: View, margins: Margins) -> float:
        track, camera = view.entities[0], view.tracks.camera
        cut_F = (track.boxes_F4[:, :2] < BORDER).any(axis=1) | (track.boxes_F4[:, 2:] > 1 - BORDER).any(axis=1)
        with np.errstate(divide="ignore"):
            size_F = np.log(np.where(cut_F | (track.size_F <= 0), np.nan, track.size_F))
        known = np.nonzero(~np.isnan(size_F))[0]
        if len(known) < max(2, margins.known * len(size_F)) or known[-1] - known[0] < (len(size_F) - 1) / 2:
            return math.nan
        size_F = size_F if camera is None else size_F - np.log(camera.scale)
        return float(sign * displacement(size_F[:, None])[0] / margins.growth)

    return score


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
    """In front of (1) or behind (-1): nearer to the camera where the boxes overlap; elsewhere nobody can tell."""

    def score_F(view: View, margins: Margins) -> Floats:
        one, other = view.boxes(0), view.boxes(1)
        common_F = np.clip(_common(one, other), 0, None).prod(axis=1)
        overlap_F = common_F / np.minimum(_sides(one).prod(axis=1), _sides(other).prod(axis=1))
        return np.where(overlap_F >= OVERLAP, sign * (view.depth(1) - view.depth(0)) / margins.depth, np.nan)

    return score_F


def _approaches(name: str) -> Score:
    def score(view: View, margins: Margins) -> float:
        if not view.spans(margins):
            return math.nan
        return float(approaching(name, view.still(0), view.still(1), margins.approach))

    return score


def _passes(view: View, margins: Margins) -> float:
    """The subject moves, and on its way the object is first ahead of it and then behind."""
    if not view.spans(margins):
        return math.nan
    middle, change = fitted(view.still(0) - view.still(1))
    length = np.linalg.norm(change)
    moved = np.linalg.norm(displacement(view.still(0))) / margins.motion
    if length < margins.approach:
        return 0.0  # no way that it could have ahead or behind
    along = float(middle @ change / length)
    return float(min(moved, (length / 2 - along) / margins.approach, (length / 2 + along) / margins.approach))


def _circles(view: View, margins: Margins) -> float:
    """The subject sweeps three quarters of a turn about the object."""
    way_F2 = view.still(0) - view.still(1)
    way_F2 = way_F2[~np.isnan(way_F2).any(axis=1)]
    if not view.spans(margins):
        return math.nan
    angle_F = np.arctan2(way_F2[:, 1], way_F2[:, 0])
    step_F = (np.diff(angle_F) + np.pi) % (2 * np.pi) - np.pi
    # A longer step may as well go the other way round: too few frames are known.
    if np.abs(step_F).max() > 2 * np.pi / 3 or np.linalg.norm(way_F2, axis=1).min() == 0:
        return math.nan
    return float(abs(step_F.sum()) / SWEEP)


def _follows(view: View, margins: Margins) -> float:
    """Both move the same way, the subject behind the object rather than beside it."""
    if not view.spans(margins):
        return math.nan
    mine, theirs = displacement(view.still(0)), displacement(view.still(1))
    length = float(np.linalg.norm(theirs))
    if length < margins.motion / 2:
        return 0.0  # there is no ahead of what stands still
    forward = theirs / length
    sideways = np.array([-forward[1], forward[0]])
    gap = fitted(view.still(1) - view.still(0))[0]
    along, behind = float(mine @ forward), float(gap @ forward)
    return min(
        length / margins.motion,
        along / margins.motion,
        _straight(along, float(mine @ sideways), margins.off_axis),
        behind / margins.approach,
        _straight(behind, float(gap @ sideways), 1.0),
    )


def _straight(along: float, across: float, off_axis: float) -> float:
    return off_axis * along / abs(across) if across else math.copysign(math.inf, along)


def _sides(boxes_F4: Floats) -> Floats:
    """Widths and heights (F, 2)."""
    return np.maximum(boxes_F4[:, 2:] - boxes_F4[:, :2], 1e-9)


def _common(one_F4: Floats, other_F4: Floats) -> Floats:
    """Width and height of what two boxes share (F, 2); negative: of the gap between them."""
    return np.minimum(one_F4[:, 2:], other_F4[:, 2:]) - np.maximum(one_F4[:, :2], other_F4[:, :2])


def _shared(one_F4: Floats, other_F4: Floats) -> Floats:
    """The same by the smaller of the two sides (F, 2): 1 where one covers the other's side."""
    return np.asarray(_common(one_F4, other_F4) / np.minimum(_sides(one_F4), _sides(other_F4)))


_PLACES = ("left of", "right of", "above", "below")
_MOTIONS = tuple(name for name in DIRECTIONS if name not in _PLACES)
_CAMERA = {"towards the camera": 1, "away from the camera": -1}
_SAY_LESS = frozenset(_PLACES)

RULES: dict[str, Rule] = {
    **{f"moves {name}": Rule(1, _moves(name), frozenset(_CAMERA)) for name in _MOTIONS},
    **{name: Rule(1, _grows(sign)) for name, sign in _CAMERA.items()},
    **{name: Rule(2, _beside(name)) for name in _PLACES},
    "on": Rule(2, _of_frames(_on), _SAY_LESS, frozenset({"above"})),
    "inside": Rule(2, _of_frames(_inside), _SAY_LESS),
    "next to": Rule(2, _of_frames(_next_to), _SAY_LESS, frozenset({"left of", "right of"})),
    "in front of": Rule(2, _of_frames(_in_front(1)), _SAY_LESS | {"next to"}),
    "behind": Rule(2, _of_frames(_in_front(-1)), _SAY_LESS | {"next to"}),
    **{name: Rule(2, _approaches(name)) for name in APPROACH},
    "past": Rule(2, _passes, frozenset(APPROACH)),
    "around": Rule(2, _circles, frozenset({*APPROACH, "past"})),
    "following": Rule(2, _follows, frozenset({*APPROACH, "past"})),
}
"""Every rule by its name."""
