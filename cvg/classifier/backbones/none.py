"""No backbone: the head sees the volume itself. The reference that a VLM has to match."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

from torch import Tensor
from typing_extensions import override

from cvg.classifier.backbones.base import Backbone, only_present
from cvg.common.sizes import Grid


class NoBackbone(Backbone):
    """Flatten the volumes.

    Args:
        slots: entity slots K.
        grid: the volume's (F, H, W).
        text_reader: embeds phrases, for an anchored head: the text tower of a model that is not looked through.
        joint_dim: size of that tower's space.
    """

    def __init__(
        self,
        slots: int,
        grid: Grid,
        text_reader: Callable[[Sequence[str]], Tensor] | None = None,
        joint_dim: int | None = None,
    ) -> None:
        super().__init__()
        self.feature_dim = slots * math.prod(grid)
        self.text_reader, self.joint_dim = text_reader, joint_dim

    @override
    def text_features(self, phrases: Sequence[str]) -> Tensor:
        """By the text tower that was given."""
        return self.text_reader(phrases) if self.text_reader else super().text_features(phrases)

    def features(self, volume_BKFHW: Tensor, present_BK: Tensor) -> Tensor:
        """Features (B, K*F*H*W)."""
        return only_present(volume_BKFHW, present_BK).flatten(1)
