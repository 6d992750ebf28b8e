"""The sampler's deterministic path: inversion of a latent to noise, and its replay.

No classifier-free guidance here: both run under one prompt, as the maps that are recorded do. Shapes: z (B, ...).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from cvg.schedule import Schedule

LEVEL_TOLERANCE = 0.03
"""How far a step's noise level may lie from one that a classifier was trained at, or is to be."""

Predict = Callable[[Tensor, int], Tensor]
"""m(z, i): the model's prediction for z at step i of the schedule."""


@torch.no_grad()
def invert(clean: Tensor, schedule: Schedule, predict: Predict, iterations: int) -> Tensor:
    """Noise from which the schedule's steps arrive at ``clean``.

    A step is z[i+1] = a z[i] + b m(z[i], i), so its exact inverse needs the prediction at the unknown, noisier point: a
    fixed point, found from the prediction at the known one by ``iterations`` corrections.

    Args:
        clean: latents after the last step.
        schedule: the steps.
        predict: the model under the prompt.
        iterations: corrections per step; 0 takes the prediction at the cleaner point.

    Returns:
        Latents before the first step.
    """
    z = clean
    for i in reversed(range(len(schedule.timesteps))):
        noisier = z
        for _ in range(iterations + 1):
            noisier = schedule.back(z, predict(noisier, i), i)
        z = noisier
    return z


@torch.no_grad()
def replay(
    noise: Tensor, schedule: Schedule, predict: Predict, wanted: Sequence[int] = ()
) -> tuple[Tensor, dict[int, Tensor]]:
    """The schedule's steps from noise to the clean latents.

    Args:
        noise: latents before the first step.
        schedule: the steps.
        predict: the model under the prompt.
        wanted: steps whose latents z_t, before the step, are kept.

    Returns:
        Latents after the last step, and the kept z_t by step index.
    """
    z, kept = noise, {}
    for i in range(len(schedule.timesteps)):
        if i in wanted:
            kept[i] = z
        z = schedule.step(z, predict(z, i), i)
    return z, kept


def psnr(first: Tensor, second: Tensor) -> Tensor:
    """Peak signal-to-noise ratio (dB) of videos (B, ...) in [-1, 1], per video; infinite when equal."""
    error = (first.float() - second.float()).flatten(1).pow(2).mean(1)
    return 10 * torch.log10(4 / error)


def nearest_steps(levels: Tensor, targets: Sequence[float]) -> list[int | None]:
    """For each target noise level the nearest step, None where none lies within ``LEVEL_TOLERANCE`` of it.

    Args:
        levels: noise level of each step, (N,): ``Schedule.levels`` without the last.
        targets: noise levels wanted.
    """
    distances_TN = (levels.cpu() - torch.tensor(targets, dtype=levels.dtype)[:, None]).abs()
    nearest = [(int(row.argmin()), float(row.min())) for row in distances_TN]
    return [step if distance <= LEVEL_TOLERANCE else None for step, distance in nearest]
