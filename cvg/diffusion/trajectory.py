"""The sampler's deterministic path: inversion of a latent to noise, and its replay.

No classifier-free guidance here: both run under one prompt, as the maps that are recorded do. Shapes: z (B, ...).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from cvg.diffusion.schedule import Schedule

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
        trail: list[tuple[Tensor, Tensor]] = []
        for _ in range(iterations + 1):
            prediction = predict(point, i)
            trail.append((point, schedule.back(z, prediction, i) - point))
            point = point + _move(trail[-3:])
        z = point
    return z


def _move(trail: Sequence[tuple[Tensor, Tensor]]) -> Tensor:
    """The next move, by the last points tried (up to three) and their errors.

    To where the line through the last two has its least error, and a share of that error on: half of it, or more where
    the move before has left little of its own.
    """
    if len(trail) == 1:
        return FIRST_MOVE * trail[0][1]
    (point_before, error_before), (point, error) = trail[-2:]
    moved, changed = point - point_before, error - error_before
    back = (_dot(error, changed) / _dot(changed, changed)).nan_to_num().clamp(-1, 1)  # no further than they are apart
    left = (_dot(error, error) / _dot(error_before, error_before)).sqrt().nan_to_num().clamp(max=1)
    share = 0.5 if len(trail) == 2 else 1 - left / 2
    return share * (error - back * changed) - back * moved


def _dot(a: Tensor, b: Tensor) -> Tensor:
    """Of each sample, (B, 1, ...)."""
    return (a * b).sum(tuple(range(1, a.ndim)), keepdim=True)


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
