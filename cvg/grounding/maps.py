"""Entity maps brought to one grid and one scale."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor

from cvg.common.sizes import Grid

TINY = 1e-8
"""Added to a map's mean and deviation, in attention probability: below it float16 records hold nothing but rounding."""
# Deviation, relative to the mean, under which a map fades out instead of having its float16 rounding (5e-4) amplified.
_FLAT = 1e-3


def resample(maps: Tensor, grid: Grid) -> Tensor:
    """Resample the last three axes (F, H, W) to a grid: exact when equal, area average down, (tri)linear up.

    Args:
        maps: (..., F, H, W).
        grid: the wanted one.

    Returns:
        (..., *grid)
    """
    if tuple(maps.shape[-3:]) == grid:
        return maps
    lead = maps.shape[:-3]
    flat = maps.reshape(-1, 1, *maps.shape[-3:])
    frames, height, width = (min(new, old) for new, old in zip(grid, maps.shape[-3:], strict=True))
    flat = F.adaptive_avg_pool3d(flat, (frames, height, width))
    if tuple(flat.shape[-3:]) != grid:
        flat = F.interpolate(flat, size=grid, mode="trilinear", align_corners=False)
    return flat.reshape(*lead, *grid)


def normalise(maps: Tensor) -> Tensor:
    """Divide each map by its mean over (F, H, W), subtract 1, divide by its deviation.

    Written so that zero, constant and one-hot maps have finite values and gradients (constant ones become zero), and
    so that a map's scale does not matter.

    Args:
        maps: (..., F, H, W), non-negative.
    """
    mean = maps.mean(dim=(-3, -2, -1), keepdim=True)
    centred = maps - mean
    variance = centred.square().mean(dim=(-3, -2, -1), keepdim=True)
    return centred / (variance + (_FLAT * mean).square() + TINY**2).sqrt()
