"""No backbone: the head sees the volume itself. The reference that a VLM has to match."""

from __future__ import annotations

import math

from torch import Tensor

from cvg.classifier.backbones.base import Backbone, only_present


class NoBackbone(Backbone):
    """Flatten the volumes."""

    def __init__(self, slots: int, grid: tuple[int, int, int]) -> None:
        super().__init__()
        self.feature_dim = slots * math.prod(grid)

    def features(self, volume_BKFHW: Tensor, present_BK: Tensor) -> Tensor:
        """Features (B, K*F*H*W)."""
        return only_present(volume_BKFHW, present_BK).flatten(1)
