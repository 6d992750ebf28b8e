"""What rules look at, and what a rule is."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from cvg.judging.geometry import Floats, Margins
from cvg.judging.tracks import Track, Tracks


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

    def hidden(self, slot: int) -> Floats:
        """The share of it that others cover (F), NaN where it was not measured."""
        hidden_F = self.entities[slot].hidden_F
        return np.full(len(self.entities[slot].boxes_F4), np.nan) if hidden_F is None else hidden_F

    def colours(self, slot: int) -> Sequence[str | None]:
        """Its colour in each frame, None where it was not measured or is none of those that have names."""
        entity = self.entities[slot]
        return [None] * len(entity.boxes_F4) if entity.colours_F is None else entity.colours_F

    def gap(self) -> Floats:
        """How far the rims of the two entities are apart (F), had the camera not zoomed: by masks or else by boxes."""
        gap_F = self._gap_of_boxes()
        one, other = (entity.masks_FHW for entity in self.entities)
        if one is not None and other is not None:
            side = (one.shape[1] * one.shape[2]) ** 0.5
            for frame in np.nonzero(one.any(axis=(1, 2)) & other.any(axis=(1, 2)))[0]:
                gap_F[frame] = max(0.0, ndimage.distance_transform_edt(~other[frame])[one[frame]].min() - 1) / side
        camera = self.tracks.camera
        return gap_F if camera is None else gap_F / camera.scale

    def _gap_of_boxes(self) -> Floats:
        one, other = self.boxes(0), self.boxes(1)
        between_F2 = np.maximum(one[:, :2], other[:, :2]) - np.minimum(one[:, 2:], other[:, 2:])
        return np.asarray(np.linalg.norm(np.maximum(between_F2, 0), axis=1))

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


def ends(values_F: NDArray[Any]) -> tuple[NDArray[Any], NDArray[Any]]:
    """What the first third of the frames has and what the last one has; of few frames, a little more."""
    third = math.ceil(len(values_F) / 3)
    return values_F[:third], values_F[len(values_F) - third :]


def known(points_F2: Floats) -> Floats:
    """The points that are known (K, 2)."""
    return points_F2[~np.isnan(points_F2).any(axis=1)]
