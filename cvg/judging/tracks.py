"""Tracks: where the entities of a video are in each of its frames, as a tracker saw them and rules read them.

Positions are in frame sides: x to the right and y down, 0 to 1 within the frame. Axes: F frames, H and W pixels, 4 the
box (left, top, right, bottom), 2 a point (x, y). NaN is what nobody knows.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cvg.common.errors import DataError

Floats = NDArray[np.floating[Any]]
Bools = NDArray[np.bool_]


@dataclass(frozen=True, eq=False)
class Track:
    """One entity over the frames of a video.

    Attributes:
        boxes_F4: left, top, right, bottom in frame sides; NaN in frames where it is not known where it is.
        centres_F2: its centres, where the tracker knows better than the middle of the box; None: the middle.
        depth_F: how far it is from the camera, 0 the nearest and 1 the farthest thing of the frame; NaN where unknown.
            (Models of relative depth often give the inverse, which is large for what is near.) None: not measured.
        masks_FHW: its pixels, of any resolution; None: not measured.
        areas_F: share of the frame that it covers, where the tracker knows better than by the box; None: by the box.
        hidden_F: share of it that others cover, of which the box has all; NaN where unknown. None: not measured.
        colours_F: its colour in each frame, by name; None where it has none that is known. None: not measured.
        visible_F: in which frames it was seen. A tracker may know boxes of frames in which it saw nothing, having
            bridged a gap. None: where there is a box.

    Raises:
        DataError: shapes that do not fit one another, or a box whose right is left of its left.
    """

    boxes_F4: Floats
    centres_F2: Floats | None = None
    depth_F: Floats | None = None
    masks_FHW: Bools | None = None
    areas_F: Floats | None = None
    hidden_F: Floats | None = None
    colours_F: Sequence[str | None] | None = None
    visible_F: Bools | None = None

    def __post_init__(self) -> None:
        boxes: Floats = np.asarray(self.boxes_F4, np.float64)
        if boxes.ndim != 2 or boxes.shape[1] != 4 or not len(boxes):
            raise DataError(f"track: boxes of shape {boxes.shape}; expected (frames, 4), of one frame at least")
        known_F = ~np.isnan(boxes).any(axis=1)
        if (boxes[known_F, 2:] < boxes[known_F, :2]).any():
            raise DataError("track: a box whose right or bottom comes before its left or top; expected x0, y0, x1, y1")
        boxes = np.where(known_F.reshape(-1, 1), boxes, np.nan)
        centres = (boxes[:, :2] + boxes[:, 2:]) / 2 if self.centres_F2 is None else np.asarray(self.centres_F2)
        seen_F = known_F if self.visible_F is None else np.asarray(self.visible_F, bool)
        parts: dict[str, Any] = {
            "centres": centres,
            "depth": self.depth_F,
            "masks": self.masks_FHW,
            "visibility": seen_F,
        }
        parts |= {"areas": self.areas_F, "hidden shares": self.hidden_F, "colours": self.colours_F}
        for name, values in parts.items():
            if values is not None and len(values) != len(boxes):
                raise DataError(
                    f"track: {name} of shape {np.shape(values)} beside boxes of {len(boxes)} frames; give as many each"
                )
        for field, array in {"boxes_F4": boxes, "centres_F2": centres, "visible_F": seen_F}.items():
            object.__setattr__(self, field, array)

    @property
    def centres(self) -> Floats:
        """Its centres (F, 2)."""
        assert self.centres_F2 is not None
        return self.centres_F2

    @property
    def visible(self) -> Bools:
        """In which frames it was seen (F)."""
        assert self.visible_F is not None
        return self.visible_F

    @property
    def size_F(self) -> Floats:
        """Side of the square as large as it, or as its box, in frame sides."""
        if self.areas_F is not None:
            return np.asarray(np.sqrt(self.areas_F))
        return np.asarray(np.sqrt((self.boxes_F4[:, 2:] - self.boxes_F4[:, :2]).prod(axis=1)))


@dataclass(frozen=True, eq=False)
class Camera:
    """How a still background moves through a video's frames, since the first of them.

    What is at p in the first frame is at ``0.5 + scale * (p - 0.5) + shift`` in another.

    Attributes:
        shift_F2: in frame sides; a camera that pans to the right moves everything to the left.
        scale_F: above 1 where the camera zooms in, or moves ahead. None: always 1.
    """

    shift_F2: Floats
    scale_F: Floats | None = None

    @property
    def scale(self) -> Floats:
        """The scale of each frame (F)."""
        return np.ones(len(self.shift_F2)) if self.scale_F is None else self.scale_F

    def taken_off(self, points_F2: Floats) -> Floats:
        """Where points would be, had the camera not moved since the first frame: (F, 2)."""
        return np.asarray((points_F2 - 0.5 - self.shift_F2) / self.scale[:, None] + 0.5)


@dataclass(frozen=True, eq=False)
class Tracks:
    """The entities of a video by their phrases, and the camera's motion.

    Attributes:
        entities: phrase -> track; an entity that was not found at all is left out.
        camera: its motion; None where it is not known: as if it stood still.
        aspect: width of a frame by its height, so that sideways and upwards are measured by one rule.

    Raises:
        DataError: tracks, or a camera's motion, of different numbers of frames.
    """

    entities: Mapping[str, Track]
    camera: Camera | None = None
    aspect: float = 1.0

    def __post_init__(self) -> None:
        lengths = {len(track.boxes_F4) for track in self.entities.values()}
        lengths |= {len(self.camera.shift_F2), len(self.camera.scale)} if self.camera else set()
        if len(lengths) > 1:
            raise DataError(f"tracks: of {' and '.join(map(str, sorted(lengths)))} frames; expected as many each")

    def found(self, phrase: str, least: float = 0.5) -> bool:
        """Whether an entity was seen in a share of at least ``least`` of the frames."""
        track = self.entities.get(phrase)
        return track is not None and bool(track.visible.mean() >= least)
