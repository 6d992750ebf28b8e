"""Latents changed between a pipeline's denoising steps."""

from __future__ import annotations

import functools
import inspect
import itertools
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor

from cvg.common.errors import ModelError

Edit = Callable[[int, Tensor], Tensor]
"""edit(i, z_t) before denoising step i (not 0): the latents to go on with; the same object when nothing changes."""


@contextmanager
def replaced_step(scheduler: Any, step: Callable[..., Any]) -> Iterator[None]:
    """Within it this is the scheduler's step."""
    before = vars(scheduler).get("step")
    scheduler.step = step
    try:
        yield
    finally:
        vars(scheduler).pop("step", None)
        if before is not None:
            scheduler.step = before


@contextmanager
def changed_steps(scheduler: Any, change: Edit) -> Iterator[None]:
    """Within it ``change(call, latents)`` replaces the latents that the scheduler's steps return.

    For pipelines without a callback after each step. Calls count from 1.
    """
    plain, calls = scheduler.step, itertools.count(1)

    @functools.wraps(plain)  # pipelines look at its parameters
    def step(*args: Any, **options: Any) -> Any:
        result = plain(*args, **options)
        latents = change(next(calls), result[0])
        if isinstance(result, tuple):
            return (latents, *result[1:])
        result.prev_sample = latents
        return result

    with replaced_step(scheduler, step):
        yield


@contextmanager
def seeded_steps(scheduler: Any, generators: Sequence[torch.Generator]) -> Iterator[None]:
    """Within it all noise that the scheduler's steps draw comes from these generators, one per video.

    Not all pipelines hand theirs on, and some take the frames of a batch for samples of their own.

    Raises:
        ModelError: a step draws noise from somewhere else.
    """
    plain = scheduler.step
    takes = "generator" in inspect.signature(plain).parameters

    @functools.wraps(plain)  # pipelines look at its parameters
    def step(output: Tensor, *args: Any, **options: Any) -> Any:
        if takes:
            each = max(1, len(output) // len(generators))  # rows of a video lie next to each other
            options["generator"] = [generator for generator in generators for _ in range(each)]
        drawn = _common_noise(output.device)
        result = plain(output, *args, **options)
        if not torch.equal(drawn, _common_noise(output.device)):
            raise ModelError(
                f"scheduler {type(scheduler).__name__}: its steps draw noise that no seed governs, so no two videos "
                "can be compared; use one that draws none, such as Euler, DDIM, UniPC or DPM-Solver++"
            )
        return result

    with replaced_step(scheduler, step):
        yield


def _common_noise(device: torch.device) -> Tensor:
    """The state of the generators that all draw from who name none."""
    state = torch.get_rng_state()
    return torch.cat([state, torch.cuda.get_rng_state(device)]) if device.type == "cuda" else state
