"""The trainable head (W, b): features -> logits over the label set."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn


class LinearHead(nn.Module):
    """logits = W x / sqrt(D) + b.

    The fixed 1/sqrt(D) keeps the effect of one optimiser step the same for a volume of a hundred numbers and for the
    hundred thousand patch features of a VLM, so that one learning rate serves all backbones.

    Args:
        features: input size D.
        labels: number of labels Y.
    """

    def __init__(self, features: int, labels: int) -> None:
        super().__init__()
        self.weight_YD = nn.Parameter(0.1 * torch.randn(labels, features))
        self.bias_Y = nn.Parameter(torch.zeros(labels))
        self.scale = 1 / math.sqrt(features)

    def forward(self, features_BD: Tensor) -> Tensor:
        """Logits (B, Y)."""
        return features_BD @ self.weight_YD.T * self.scale + self.bias_Y
