"""What a judge is: it looks at finished videos and says what each shows of what was asked for."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from cvg.common.errors import DataError
from cvg.composition import Composition
from cvg.judging.tracks import Tracks

Frames = NDArray[np.uint8]
"""A finished video, RGB: (F, H, W, 3)."""


@dataclass(frozen=True)
class Reading:
    """What one video shows of what it was asked for. A judge never guesses: what it cannot tell, it leaves open.

    Attributes:
        labels: per relation asked for, the label of its group that the video shows; None where that cannot be told.
        problems: what is wrong with the entities, in words: missing, not asked for, unclear.
        found: per relation, whether all its entities were found; all were, when left out.
        confidence: per relation, how sure the judge is of its label, 0 to 1; when left out 1, and 0 without a label.
        tracks: of judges that follow entities, where each is, by its phrase (``"red circle"``).
    """

    labels: tuple[str | None, ...]
    problems: tuple[str, ...] = ()
    found: tuple[bool, ...] = ()
    confidence: tuple[float, ...] = field(default=(), compare=False)
    tracks: Tracks | None = field(default=None, compare=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "found", self.found or (True,) * len(self.labels))
        sure = tuple(float(label is not None) for label in self.labels)
        object.__setattr__(self, "confidence", self.confidence or sure)
        assert len(self.found) == len(self.confidence) == len(self.labels)

    @property
    def entities_right(self) -> bool:
        """Whether the video shows the entities asked for, each as asked, and no others."""
        return not self.problems


class Judge(Protocol):
    """Looks at videos. One is made with the label set that it tells apart and a device (:func:`load_judge`)."""

    def __call__(self, videos: Sequence[Frames], asked: Sequence[Composition]) -> list[Reading]:
        """Read a batch of videos.

        Args:
            videos: (F, H, W, 3) uint8 RGB each; their sizes may differ.
            asked: what each of them was to show.

        Returns:
            A reading of each.

        Raises:
            UserError: an entity or a label that this judge does not know, or frames that it cannot read.
        """
        ...


def checked_frames(frames_FHWC: Frames, least_side: int = 1) -> Frames:
    """The frames, once they are known to be a video.

    Args:
        frames_FHWC: (F, H, W, 3) uint8 RGB.
        least_side: pixels that height and width must have.

    Raises:
        DataError: another type or shape, fewer than three frames, or frames that are too small.
    """
    frames = np.asarray(frames_FHWC)
    if frames.dtype != np.uint8 or frames.ndim != 4 or frames.shape[-1] != 3:
        raise DataError(f"clip: {frames.dtype} of shape {frames.shape}; expected uint8 (frames, height, width, 3)")
    if frames.shape[0] < 3 or min(frames.shape[1:3]) < least_side:
        raise DataError(
            f"clip: shape {frames.shape}; needs at least 3 frames of at least {least_side} x {least_side} pixels"
        )
    return frames
