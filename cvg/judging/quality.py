"""Measures of a video's motion that need to know nothing of what it shows."""

from __future__ import annotations

import numpy as np

from cvg.judging.base import Frames, checked_frames


def smoothness(frames_FHWC: Frames) -> float:
    """How well each frame is foretold by its neighbours: 1 - mean |x[t] - (x[t-1] + x[t+1]) / 2| / 255.

    It is in [0, 1]: 1 for a still clip, near 1 for steady motion, lower for flicker, popping and jitter. It rewards
    stillness, so compare clips that show the same motion. Rendered clips of the shapes world have 0.98 to 1.00.

    Args:
        frames_FHWC: (F, H, W, 3) uint8, F >= 3.

    Raises:
        DataError: fewer than three frames, or another type or shape.
    """
    video = checked_frames(frames_FHWC).astype(np.float32)
    return float(1 - np.abs(video[1:-1] - (video[:-2] + video[2:]) / 2).mean() / 255)


LITTLE = 8.0
"""Grey levels between beginning and end up to which little moves at a place."""
SAME = 0.5
"""Grey levels between two frames, on average, below which they show the same."""


def flicker(frames_FHWC: Frames) -> float:
    """How much consecutive frames differ where little moves: mean |x[t+1] - x[t]| / 255.

    Little moves where a clip looks alike at its beginning and at its end (each the median of three frames, so that
    flicker does not hide it): up to :data:`LITTLE` grey levels, but at least half of all places. It is in [0, 1]: 0 for
    a still clip, near 0 for things that move before a steady background.

    Args:
        frames_FHWC: (F, H, W, 3) uint8, F >= 3.

    Raises:
        DataError: fewer than three frames, or another type or shape.
    """
    video = checked_frames(frames_FHWC).astype(np.float32)
    drift_HW = np.abs(np.median(video[-3:], axis=0) - np.median(video[:3], axis=0)).mean(axis=-1)
    calm_HW = drift_HW <= max(LITTLE, float(np.median(drift_HW)))
    return float(np.abs(np.diff(video, axis=0)).mean(axis=-1)[:, calm_HW].mean() / 255)


def static_share(frames_FHWC: Frames) -> float:
    """Share of the pairs of consecutive frames that show the same, to half a grey level on average; 1 for a still clip.

    Args:
        frames_FHWC: (F, H, W, 3) uint8, F >= 3.

    Raises:
        DataError: fewer than three frames, or another type or shape.
    """
    video = checked_frames(frames_FHWC).astype(np.float32)
    return float((np.abs(np.diff(video, axis=0)).mean(axis=(1, 2, 3)) < SAME).mean())
