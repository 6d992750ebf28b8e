"""Videos as models hold them, and as files do."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor


def to_frames(video_CFHW: Tensor) -> NDArray[np.uint8]:
    """A video in [-1, 1] as uint8 frames (F, H, W, 3)."""
    scaled = (video_CFHW.clamp(-1, 1) + 1) * 127.5
    frames: NDArray[np.uint8] = scaled.round().byte().permute(1, 2, 3, 0).cpu().numpy()
    return frames


def to_video(frames_FHWC: NDArray[np.uint8]) -> Tensor:
    """Uint8 frames (..., F, H, W, 3) as videos (..., 3, F, H, W) in [-1, 1]."""
    return torch.from_numpy(frames_FHWC).movedim(-1, -4).float() / 127.5 - 1
