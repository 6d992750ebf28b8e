"""Frames as models with eyes are shown them: some of a video's, evenly spaced, in a size of their own."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor

from cvg.judging.base import Frames


def spread(frames_FHWC: Frames, count: int) -> Frames:
    """``count`` frames, evenly spaced from the first to the last; frames come twice where the video has fewer."""
    return frames_FHWC[np.linspace(0, len(frames_FHWC) - 1, count).round().astype(int)]


def squares(videos: Sequence[Frames], count: int, side: int) -> Tensor:
    """Whole frames, squeezed into squares: what is cut off at the sides is what "left of" is about.

    Args:
        videos: (F, H, W, 3) uint8 each.
        count: frames of each.
        side: of the squares, in pixels.

    Returns:
        (B, count, 3, side, side) in [0, 1].
    """
    made = []
    for video in videos:
        pixels = torch.from_numpy(np.ascontiguousarray(spread(video, count))).permute(0, 3, 1, 2).float() / 255
        made.append(F.interpolate(pixels, (side, side), mode="bilinear", antialias=True, align_corners=False))
    return torch.stack(made)


def pictures(frames_FHWC: Frames, count: int) -> list[Image.Image]:
    """Some frames of a video, in order, as pictures."""
    return [Image.fromarray(frame) for frame in spread(frames_FHWC, count)]


def grid(frames_FHWC: Frames, count: int) -> Image.Image:
    """Some frames of a video in one picture, row by row."""
    shown = spread(frames_FHWC, count)
    columns = int(np.ceil(np.sqrt(count)))
    rows = -(-count // columns)
    height, width = shown.shape[1:3]
    sheet = np.zeros((rows * height, columns * width, 3), np.uint8)
    for index, frame in enumerate(shown):
        top, left = index // columns * height, index % columns * width
        sheet[top : top + height, left : left + width] = frame
    return Image.fromarray(sheet)
