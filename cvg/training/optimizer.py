"""AdamW with a linear warm-up and a cosine to zero."""

from __future__ import annotations

from collections.abc import Iterable

from torch import nn
from torch.optim import AdamW
from torch.optim.lr_scheduler import CosineAnnealingLR, LinearLR, LRScheduler, SequentialLR


def adamw(parameters: Iterable[nn.Parameter], lr: float, weight_decay: float) -> AdamW:
    """AdamW on what is trainable; weights decay in matrices only, not in biases, gains and the like."""
    trainable = [parameter for parameter in parameters if parameter.requires_grad]
    groups = [
        {"params": [p for p in trainable if p.ndim > 1], "weight_decay": weight_decay},
        {"params": [p for p in trainable if p.ndim <= 1], "weight_decay": 0.0},
    ]
    return AdamW(groups, lr=lr)


def warmup_cosine(optimizer: AdamW, warmup: float, total: int) -> LRScheduler:
    """The learning rate rises linearly to its peak, then falls to zero as a cosine does; counted in optimizer steps.

    Args:
        optimizer: whose rates are the peaks.
        warmup: share of the steps in which it rises.
        total: steps of the training.
    """
    rise = max(1, round(warmup * total))
    rising = LinearLR(optimizer, start_factor=1 / rise, total_iters=rise - 1)
    falling = CosineAnnealingLR(optimizer, T_max=max(1, total - rise))
    return SequentialLR(optimizer, [rising, falling], milestones=[rise])
