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
