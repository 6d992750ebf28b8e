"""A small convolutional network that learns with the head: what patterns of a step's volume mean, wherever they lie."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from typing_extensions import override

from cvg.classifier.backbones.base import Backbone, only_present
from cvg.common.errors import SettingsError
from cvg.common.sizes import Grid

MOST = 256
"""Channels, rows or columns."""


class ConvolutionBackbone(Backbone):
    """Three convolutions over frames, rows and columns.

    A linear head on the volume weighs each place by itself, so it cannot tell which of two entities covers the other,
    or how they turn about one another: that is a pattern of neighbouring places, which is the same wherever it lies.

    Args:
        slots: entity slots K.
        grid: the volume's (F, H, W).
        width: channels of the first two convolutions; the third has twice as many.
        side: rows and columns to which the maps are averaged before the third.

    Raises:
        SettingsError: a width or side that is none.
    """

    def __init__(self, slots: int, grid: Grid, width: int = 24, side: int = 4) -> None:
        super().__init__()
        for name, value in {"width": width, "side": side}.items():
            if type(value) is not int or not 1 <= value <= MOST:
                raise SettingsError(f"backbone convolution: {name} {value!r}: give a whole number from 1 to {MOST}")
        rows, columns = min(side, grid.rows), min(side, grid.columns)
        self.near = nn.Sequential(
            nn.Conv3d(slots, width, 3, padding=1), nn.GELU(), nn.Conv3d(width, width, 3, padding=1), nn.GELU()
        )
        self.coarser = nn.AdaptiveAvgPool3d((grid.frames, rows, columns))
        self.far = nn.Sequential(nn.Conv3d(width, 2 * width, 3, padding=1), nn.GELU())
        self.feature_dim = 2 * width * (grid.frames * rows * columns + 2)

    @override
    def features(self, volume_BKFHW: Tensor, present_BK: Tensor) -> Tensor:
        """Features (B, D): what the last convolution finds in each place, and its mean and most over all places."""
        near_BCFHW = self.near(only_present(volume_BKFHW, present_BK))
        far_BCP = self.far(self.coarser(near_BCFHW)).flatten(2)
        return torch.cat([far_BCP.flatten(1), far_BCP.mean(-1), far_BCP.amax(-1)], 1)
