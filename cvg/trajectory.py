"""The sampler's ODE dz/dsigma = v(z, sigma): inversion of a latent to noise, and its replay.

No classifier-free guidance here: both run under one prompt, as the maps that are recorded do. Shapes: z (B, ...),
sigmas (N + 1,) noisiest first, as the scheduler gives them.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

SIGMA_TOLERANCE = 0.03
"""How far a step's noise level may lie from one that a classifier was trained at, or is to be."""

Velocity = Callable[[Tensor, int], Tensor]
"""v(z, i): the model's prediction for z at step i of the schedule."""


@torch.no_grad()
def invert(clean: Tensor, sigmas: Tensor, velocity: Velocity, iterations: int) -> Tensor:
    """Noise from which Euler's method arrives at ``clean``.

    An Euler step goes z[i+1] = z[i] + (sigma[i+1] - sigma[i]) v(z[i], i), so its exact inverse needs the velocity at
    the unknown, noisier point: a fixed point, found from the velocity at the known one by ``iterations`` corrections.

    Args:
        clean: latents at the last sigma.
        sigmas: the schedule.
        velocity: the model under the prompt.
        iterations: corrections per step; 0 is plain inverse Euler.

    Returns:
        Latents at ``sigmas[0]``.
    """
    z = clean
    for i in reversed(range(len(sigmas) - 1)):
        step = sigmas[i + 1] - sigmas[i]
        noisier = z
        for _ in range(iterations + 1):
            noisier = z - step * velocity(noisier, i)
        z = noisier
    return z


@torch.no_grad()
def replay(
    noise: Tensor, sigmas: Tensor, velocity: Velocity, wanted: Sequence[int] = ()
) -> tuple[Tensor, dict[int, Tensor]]:
    """Euler's method from noise to the clean latents.

    Args:
        noise: latents at ``sigmas[0]``.
        sigmas: the schedule.
        velocity: the model under the prompt.
        wanted: steps whose latents z_t, before the step, are kept.

    Returns:
        Latents at the last sigma, and the kept z_t by step index.
    """
    z, kept = noise, {}
    for i in range(len(sigmas) - 1):
        if i in wanted:
            kept[i] = z
        z = z + (sigmas[i + 1] - sigmas[i]) * velocity(z, i)
    return z, kept


def psnr(first: Tensor, second: Tensor) -> Tensor:
    """Peak signal-to-noise ratio (dB) of videos (B, ...) in [-1, 1], per video; infinite when equal."""
    error = (first.float() - second.float()).flatten(1).pow(2).mean(1)
    return 10 * torch.log10(4 / error)


def nearest_steps(sigmas: Tensor, targets: Sequence[float]) -> list[int | None]:
    """For each target noise level the nearest step, None where none lies within ``SIGMA_TOLERANCE`` of it.

    Args:
        sigmas: noise level of each step, (N,): a schedule without its final sigma.
        targets: noise levels wanted.
    """
    distances_TN = (sigmas.cpu() - torch.tensor(targets, dtype=sigmas.dtype)[:, None]).abs()
    nearest = [(int(row.argmin()), float(row.min())) for row in distances_TN]
    return [step if distance <= SIGMA_TOLERANCE else None for step, distance in nearest]
