"""From what a detector finds in single frames to things that last, and which of them a prompt's entities are.

Things first, names afterwards: what a box is called flickers from frame to frame, but is clear on the whole.

Axes: F frames, P boxes of a frame, N phrases, O things, 4 the box (left, top, right, bottom) in frame sides.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import linear_sum_assignment

from cvg.judging.detection import Detections
from cvg.judging.tracks import Bools, Floats, Track

SAME = 0.5
"""Overlap (intersection over union) from which on two boxes of a frame are of one thing."""
PART = 0.85
"""Share of a box that lies within a surer one of the same name, from which on it is a part of it."""
REACH = 0.15
"""Frame sides that a thing may go, beyond where it was heading, from one frame that is looked at to the next."""
MOST_GAP = 0.25
"""Share of the frames that a thing may be out of sight for; what comes back later may be another."""
FOUND = 0.5
"""Share of the frames in which a thing must be seen, and called by a name, to be what is meant."""
RIVAL = 0.7
"""How sure of a name, by the surest of that name, a thing is that may be meant as well."""
MOST_RIVALS = 4
"""Things that may be meant by one name, at most: those of a crowd cannot be told apart anyway."""


@dataclass
class Thing:
    """Boxes of one thing, in frames in which it was seen.

    Attributes:
        frames: their indices, rising.
        boxes: left, top, right, bottom in frame sides.
        scores: of each box, how surely it is what each phrase names (N).
    """

    frames: list[int] = field(default_factory=list)
    boxes: list[NDArray[np.float32]] = field(default_factory=list)
    scores: list[NDArray[np.float32]] = field(default_factory=list)

    @property
    def score_N(self) -> NDArray[np.float32]:
        """How surely it is what each phrase names, on the whole."""
        mean: NDArray[np.float32] = np.mean(self.scores, axis=0)
        return mean

    def expected(self, frame: int) -> Floats:
        """Where its centre should be, had it gone on as in the last frames (2)."""
        at = np.array([(box[:2] + box[2:]) / 2 for box in self.boxes[-3:]])
        if len(at) < 2:
            return at[-1]
        speed = (at[-1] - at[0]) / (self.frames[-1] - self.frames[-len(at)])
        return np.asarray(at[-1] + speed * min(frame - self.frames[-1], 3))


def follow(frames: Sequence[Detections], threshold: float) -> list[Thing]:
    """Join the boxes of successive frames into things, each box to one at most, by the Hungarian algorithm.

    Args:
        frames: what was found in each of them.
        threshold: best score from which on a box may begin a thing; less sure ones may go on with one.
    """
    things: list[Thing] = []
    longest = 1 + max(1.0, MOST_GAP * len(frames))
    for index, found in enumerate(frames):
        boxes_P4, scores_PN = single(found)
        taken: set[int] = set()
        near = [thing for thing in things if index - thing.frames[-1] <= longest]
        if near and len(boxes_P4):
            cost_OP = np.array([_costs(thing, index, boxes_P4, scores_PN) for thing in near])
            for thing, box in zip(*linear_sum_assignment(cost_OP), strict=True):
                if cost_OP[thing, box] < _NEVER:
                    _add(near[thing], index, boxes_P4[box], scores_PN[box])
                    taken.add(int(box))
        for box in range(len(boxes_P4)):
            if box not in taken and scores_PN[box].max() >= threshold:
                things.append(Thing())
                _add(things[-1], index, boxes_P4[box], scores_PN[box])
    return things


def single(found: Detections) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """The boxes and scores of a frame without those of a thing that a surer box has, or of its parts."""
    boxes_P4, scores_PN = found.boxes_P4, found.scores_PN
    order = np.argsort(-scores_PN.max(1), kind="stable") if len(boxes_P4) else np.empty(0, int)
    kept: list[int] = []
    for box in order:
        common_K, area, areas_K = _common(boxes_P4[box], boxes_P4[kept])
        same = common_K / np.maximum(area + areas_K - common_K, 1e-12) >= SAME
        named = scores_PN[kept].argmax(1) == scores_PN[box].argmax() if kept else np.empty(0, bool)
        if not (same | (named & (common_K / max(area, 1e-12) >= PART))).any():
            kept.append(int(box))
    return boxes_P4[kept], scores_PN[kept]


_NEVER = 1e6


def _costs(thing: Thing, frame: int, boxes_P4: Floats, scores_PN: Floats) -> Floats:
    """How badly each box (P) of a frame goes on with a thing: by place, size and name."""
    gap = frame - thing.frames[-1]
    away_P = np.linalg.norm((boxes_P4[:, :2] + boxes_P4[:, 2:]) / 2 - thing.expected(frame), axis=1)
    reach = REACH * min(gap, 3)
    sides_P = np.log(np.sqrt(_areas(boxes_P4) / max(float(_areas(thing.boxes[-1])), 1e-12)))
    mine = thing.score_N
    alike_P = scores_PN @ mine / np.maximum(np.linalg.norm(scores_PN, axis=1) * np.linalg.norm(mine), 1e-12)
    cost_P = away_P / reach + np.abs(sides_P) + 2 * (1 - alike_P)
    return np.asarray(np.where((away_P > reach) | (np.abs(sides_P) > 1.5), _NEVER, cost_P))


def _add(thing: Thing, frame: int, box: NDArray[np.float32], scores: NDArray[np.float32]) -> None:
    thing.frames.append(frame)
    thing.boxes.append(box)
    thing.scores.append(scores)


def _areas(boxes: Floats) -> Floats:
    return np.asarray((boxes[..., 2:] - boxes[..., :2]).clip(0).prod(-1))


def _common(box: Floats, others: Floats) -> tuple[Floats, float, Floats]:
    """The area that a box has in common with others, its own, and theirs."""
    low, high = np.maximum(box[:2], others[:, :2]), np.minimum(box[2:], others[:, 2:])
    return np.asarray((high - low).clip(0).prod(-1)), float(_areas(box)), _areas(others)


@dataclass(frozen=True)
class Meant:
    """Which things entities may be.

    Attributes:
        things: of each entity, those that may be meant, the likeliest first; none where it was not found.
        several: phrases that name more things than entities.
    """

    things: tuple[tuple[int, ...], ...]
    several: tuple[str, ...]


def meant(things: Sequence[Thing], phrases: Sequence[str], entities: Sequence[str], frames: int, least: float) -> Meant:
    """Which things are a prompt's entities: each another one, so that they are named as surely as can be.

    Entities of one phrase cannot be told apart: each may be each of its things.

    Args:
        things: what a video shows.
        phrases: what their scores are of.
        entities: the phrase of each entity, among ``phrases``.
        frames: how many were looked at.
        least: score from which on a thing is what a phrase names.
    """
    # A thing that becomes another one on its way is neither: a name holds for as long as the thing must be seen.
    lasting = [index for index, thing in enumerate(things) if len(thing.frames) >= FOUND * frames]
    if not lasting:
        return Meant(((),) * len(entities), ())
    scores_ON = np.stack([things[index].score_N for index in lasting])
    columns = [list(phrases).index(phrase) for phrase in entities]
    called_ON = np.stack([(np.array(things[index].scores) >= least / 2).sum(0) / frames for index in lasting])
    scores_ON = np.where((scores_ON >= least) & (called_ON >= FOUND), scores_ON, 0)
    value_OE = scores_ON[:, columns]
    chosen = {
        int(entity): int(thing)
        for thing, entity in zip(*linear_sum_assignment(value_OE, maximize=True), strict=True)
        if value_OE[thing, entity] > 0
    }
    several: list[str] = []
    may_be: dict[str, list[int]] = {}
    for phrase, count in Counter(entities).items():
        column = list(phrases).index(phrase)
        mine = [thing for entity, thing in chosen.items() if entities[entity] == phrase]
        if len(mine) < count:
            may_be[phrase] = []  # of two, one is missing, and nobody knows which
            continue
        surest = scores_ON[mine, column].max()
        rivals = [
            thing
            for thing in range(len(lasting))
            if thing not in chosen.values()
            and scores_ON[thing, column] >= RIVAL * surest
            and scores_ON[thing].argmax() == column
        ]
        several += [phrase] if rivals else []
        every = sorted({*mine, *rivals}, key=lambda thing: (thing not in mine, -scores_ON[thing, column]))
        may_be[phrase] = [lasting[thing] for thing in every[:MOST_RIVALS]]
    own = [
        (lasting[chosen[entity]], *(t for t in may_be[phrase] if t != lasting[chosen[entity]]))
        if may_be[phrase]
        else ()
        for entity, phrase in enumerate(entities)
    ]
    return Meant(tuple(own), tuple(several))


def track_of(thing: Thing, looked_at: Sequence[int], frames: int) -> Track:
    """The track of a thing over all frames of a video, of which some were looked at.

    Args:
        thing: its frames count those that were looked at.
        looked_at: the indices of these among the video's, rising.
        frames: of the video.

    Returns:
        Boxes between two frames in which it was seen lie on a straight line between these. It counts as seen in frames
        nearest to one in which it was.
    """
    at = np.asarray(looked_at)
    seen = at[thing.frames]
    every = np.arange(frames)
    boxes_F4 = np.stack([np.interp(every, seen, np.array(thing.boxes)[:, side]) for side in range(4)], axis=1)
    nearest_F = np.abs(every[:, None] - at[None]).argmin(1)
    visible_F: Bools = np.isin(nearest_F, thing.frames)
    boxes_F4[~(visible_F | ((every >= seen[0]) & (every <= seen[-1])))] = np.nan
    return Track(boxes_F4, visible_F=visible_F)
