"""Where an entity's attention lies in the frame, as a distribution over places."""

from __future__ import annotations

import torch
from torch import Tensor

SHARPNESS = 4  # maps are soft, a background's worth of attention outweighs an entity's; the power leaves the peaks


def place(maps_BLAEFHW: Tensor) -> Tensor:
    """The mean map over layers and heads, to the power of :data:`SHARPNESS`, normalised over the frame.

    Args:
        maps_BLAEFHW: attention probabilities, non-negative.

    Returns:
        place_BEFHW, which sums to 1 over H and W; of an absent entity, whose maps are zero, the same everywhere.
    """
    maps_BEFHW = maps_BLAEFHW.float().mean((1, 2))
    smallest = torch.finfo(maps_BEFHW.dtype).tiny
    logits = SHARPNESS * maps_BEFHW.clamp(min=smallest).log()
    return logits.flatten(-2).softmax(-1).unflatten(-1, maps_BEFHW.shape[-2:])
