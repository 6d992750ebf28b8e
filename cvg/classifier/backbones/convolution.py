"""A small convolutional network that learns with the head: what patterns of a step's volume mean, wherever they lie."""

from __future__ import annotations

from typing import Annotated, Any

import torch
from pydantic import Field, StrictInt
from torch import Tensor, nn
from typing_extensions import override

from cvg.classifier.backbones.base import Backbone, only_present
from cvg.common.sizes import Grid
from cvg.common.typed import record

Number = Annotated[StrictInt, Field(ge=1, le=256, description="a whole number from 1 to 256")]


@record(called="backbone convolution")
class ConvolutionOptions:
    """What a configuration may choose.

    Attributes:
        width: channels of the first two convolutions; the third has twice as many.
        side: rows and columns to which the maps are averaged before the third.
    """

    width: Number = 24
    side: Number = 4


class ConvolutionBackbone(Backbone):
    """Three convolutions over frames, rows and columns.

    A linear head on the volume weighs each place by itself, so it cannot tell which of two entities covers the other,
    or how they turn about one another: that is a pattern of neighbouring places, which is the same wherever it lies.

    Args:
        slots: entity slots K.
        grid: the volume's (F, H, W).
        options: of :class:`ConvolutionOptions`.

    Raises:
        SettingsError: an unknown option, or a width or side that is none.
    """

    def __init__(self, slots: int, grid: Grid, **options: Any) -> None:
        super().__init__()
        chosen = ConvolutionOptions(**options)
        width, rows, columns = chosen.width, min(chosen.side, grid.rows), min(chosen.side, grid.columns)
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
