"""What a training sample is seen through, from its own seed: a random subset of the guided steps, and noise."""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import Tensor

from cvg.classifier.smoothing import smooth_noise


def random_steps(steps: int, generator: torch.Generator) -> Tensor:
    """A random non-empty subset of the guided steps, bool (S,): its size is uniform, then its members."""
    size = int(torch.randint(1, steps + 1, (), generator=generator))
    return torch.zeros(steps, dtype=torch.bool).index_fill_(0, torch.randperm(steps, generator=generator)[:size], True)


def draw(seeds: Iterable[int], prompts: int, shape: tuple[int, ...], deviation: float) -> tuple[Tensor, Tensor | None]:
    """Subsets of steps, and noise, for each sample and each of its prompts (X: p+, p-).

    Args:
        seeds: one for each sample; the same seed draws the same, in whatever batch or process.
        prompts: X, for how many prompts to draw.
        shape: (S, K, F, H, W) of phi, S the guided steps.
        deviation: of the noise, in units of the volume's; 0: none.

    Returns:
        Subsets (X, B, S), bool, and noise (X, B, S, K, F, H, W) or None, on the CPU.
    """
    steps, noises = [], []
    for seed in seeds:
        generator = torch.Generator().manual_seed(seed)
        steps.append(torch.stack([random_steps(shape[0], generator) for _ in range(prompts)]))
        if deviation:
            noises.append(deviation * smooth_noise((prompts, *shape), generator))
    return torch.stack(steps, 1), torch.stack(noises, 1) if noises else None
