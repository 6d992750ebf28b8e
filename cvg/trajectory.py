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

FIRST_MOVE = 0.7
"""Share of the way to what a step's inverse gives that the search for the fixed point first goes."""

Predict = Callable[[Tensor, int], Tensor]
"""m(z, i): the model's prediction for z at step i of the schedule."""


@torch.no_grad()
def invert(clean: Tensor, schedule: Schedule, predict: Predict, iterations: int) -> Tensor:
    """Noise from which the schedule's steps arrive at ``clean``.

    A step is z[i+1] = a z[i] + b m(z[i], i), so its exact inverse needs the prediction at the unknown, noisier point: a
    fixed point. It is looked for from where the prediction of the step before leads. Repeating the step's inverse does
    not find it where the prediction answers a change by about its opposite, as it does at low noise: from there on two
    points take turns. So the first move goes only ``FIRST_MOVE`` of the way, and corrections follow the secant through
    the last two points (Anderson acceleration of depth one), each sample its own.

    Args:
        clean: latents after the last step.
        schedule: the steps.
        predict: the model under the prompt.
        iterations: corrections per step, each of which takes one prediction more.

    Returns:
        Latents before the first step.
    """
    z, prediction = clean, None
    for i in reversed(range(len(schedule.timesteps))):
        point = z if prediction is None else schedule.back(z, prediction, i)
        before: tuple[Tensor, Tensor] | None = None
        for _ in range(iterations + 1):
            prediction = predict(point, i)
            error = schedule.back(z, prediction, i) - point
            move = FIRST_MOVE * error if before is None else _secant_move(point, error, *before)
            before = point, error
            point = point + move
        z = point
    return z


def _secant_move(point: Tensor, error: Tensor, point_before: Tensor, error_before: Tensor) -> Tensor:
    """To where the line through the last two points has its least error, and half of that error on."""
    moved, changed = point - point_before, error - error_before
    axes = tuple(range(1, point.ndim))
    square = changed.square().sum(axes, keepdim=True)
    back = (error * changed).sum(axes, keepdim=True) / square.clamp_min(torch.finfo(square.dtype).tiny)
    back = back.clamp(-1, 1)  # no further than the two points are apart
    return (error - back * changed) / 2 - back * moved


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
