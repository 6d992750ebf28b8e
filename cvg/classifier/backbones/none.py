"""No backbone: the head sees the volume itself. The reference that a VLM has to match."""

from __future__ import annotations

import math

from torch import Tensor

from cvg.classifier.backbones.base import Backbone, only_present


class NoBackbone(Backbone):
    """Flatten the volumes."""

    def __init__(self, steps: int, slots: int, grid: tuple[int, int, int]) -> None:
        super().__init__()
        self.feature_dim = steps * slots * math.prod(grid)

    def features(self, volume_BSKFHW: Tensor, present_BK: Tensor) -> Tensor:
        """Features (B, S*K*F*H*W)."""
        return only_present(volume_BSKFHW, present_BK).flatten(1)
