"""The sampler's deterministic path: inversion of a latent to noise, and its replay.

No classifier-free guidance here: both run under one prompt, as the maps that are recorded do. Latents z are (B, ...).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from cvg.diffusion.schedule import Schedule

LEVEL_TOLERANCE = 0.03
"""How far a step's noise level may lie from one that a classifier was trained at, or is to be."""

FEW_STEPS = 8
"""Up to so many denoising steps are few: a model is made for just them, and its latents lie on no other way."""

FIRST_BETA, SECOND_BETA = 0.7, 0.5
"""Damping of the first two corrections of an inverted step; see :func:`_correction`."""

Predict = Callable[[Tensor, int], Tensor]
"""m(z, i): the model's prediction for z at step i of the schedule."""


@torch.no_grad()
def invert(clean: Tensor, schedule: Schedule, predict: Predict, iterations: int) -> Tensor:
    """Noise from which the schedule's steps arrive at ``clean``.

    A step is z_{i+1} = a z_i + b m(z_i, i), so its exact inverse needs the prediction at the unknown, noisier point x:

        x = g(x),   g(x) = (z_{i+1} - b m(x, i)) / a

    This fixed point is searched for by Anderson acceleration of depth one, which in one dimension is the secant method,
    from where the prediction of the step before leads. Repeating x <- g(x) does not find it where the prediction
    answers a change by about its opposite, as it does at low noise: from there on two points take turns.

    Args:
        clean: latents after the last step.
        schedule: the steps.
        predict: the model under the prompt.
        iterations: corrections per step beside the first one, each of which takes one prediction more.

    Returns:
        Latents before the first step.
    """
    z, prediction = clean, None
    for i in reversed(range(len(schedule.timesteps))):
        x = z if prediction is None else schedule.back(z, prediction, i)
        tried: list[tuple[Tensor, Tensor]] = []
        for _ in range(iterations + 1):
            prediction = predict(x, i)
            tried.append((x, schedule.back(z, prediction, i) - x))
            x = x + _correction(tried)
        z = x
    return z


def _correction(tried: Sequence[tuple[Tensor, Tensor]]) -> Tensor:
    """What to add to the last point tried: one step of damped Anderson acceleration of depth one (type II).

        x_{k+1} - x_k = beta_k (f_k - gamma_k df) - gamma_k dx,   dx = x_k - x_{k-1},   df = f_k - f_{k-1}

    f = g(x) - x is the residual. gamma = <f_k, df> / <df, df>, kept within [-1, 1], is where the line through the last
    two points has its least residual. beta is the share of that residual which is gone on with: fixed for the first two
    corrections (the first has no line: gamma = 0), then 1 - |f_k| / (2 |f_{k-1}|), so the more, the better the
    correction before did.

    Args:
        tried: points x of this step and their residuals f, first to last, each (B, ...); every sample has its own
            gamma and beta.
    """
    if len(tried) == 1:
        return FIRST_BETA * tried[0][1]
    (x_before, f_before), (x, f) = tried[-2:]
    dx, df = x - x_before, f - f_before
    gamma = (_dot(f, df) / _dot(df, df)).nan_to_num().clamp(-1, 1)
    beta: float | Tensor = SECOND_BETA
    if len(tried) > 2:
        beta = 1 - (_dot(f, f) / _dot(f_before, f_before)).sqrt().nan_to_num().clamp(max=1) / 2
    return beta * (f - gamma * df) - gamma * dx


def _dot(a: Tensor, b: Tensor) -> Tensor:
    """Inner product <a, b> of each sample, (B, 1, ...)."""
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


def same_way(ours: Sequence[float], theirs: Sequence[float]) -> bool:
    """Whether latents come to their noise levels alike by two schedules.

    Many steps follow one curve, however many they are. Few (:data:`FEW_STEPS`) cut its corners, and models are made for
    just theirs: so they are alike where they are as many, at levels within ``LEVEL_TOLERANCE`` of each other.

    Args:
        ours: the noise level of each step of one, noisiest first.
        theirs: those of the other.
    """
    if min(len(ours), len(theirs)) > FEW_STEPS:
        return True
    return len(ours) == len(theirs) and all(
        abs(mine - other) <= LEVEL_TOLERANCE for mine, other in zip(ours, theirs, strict=True)
    )


def nearest_steps(levels: Tensor, targets: Sequence[float]) -> list[int | None]:
    """For each target noise level the nearest step, None where none lies within ``LEVEL_TOLERANCE`` of it.

    Args:
        levels: noise level of each step, (N,): ``Schedule.levels`` without the last.
        targets: noise levels wanted.
    """
    distances_TN = (levels.cpu() - torch.tensor(targets, dtype=levels.dtype)[:, None]).abs()
    nearest = [(int(row.argmin()), float(row.min())) for row in distances_TN]
    return [step if distance <= LEVEL_TOLERANCE else None for step, distance in nearest]
