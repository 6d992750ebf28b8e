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
from cvg.common.sizes import Size

Edit = Callable[[int, Tensor], Tensor]
"""edit(i, z_t) before denoising step i: the latents to go on with; the same object when nothing changes."""
Start = Callable[[Tensor, Size, tuple[Any, ...]], Tensor]
"""start(latents, size, more): the pipeline's first latents, in its layout; the videos' size; what it made with them."""


@contextmanager
def replaced(owner: Any, method: str, instead: Callable[..., Any]) -> Iterator[None]:
    """Within it a method of this object is another one."""
    before = vars(owner).get(method)
    setattr(owner, method, instead)
    try:
        yield
    finally:
        vars(owner).pop(method, None)
        if before is not None:
            setattr(owner, method, before)


@contextmanager
def changed_start(pipeline: Any, change: Start) -> Iterator[None]:
    """Within it ``change`` replaces the latents that the pipeline's call begins with, be they drawn or given to it."""
    plain = pipeline.prepare_latents
    parameters = inspect.signature(plain)

    @functools.wraps(plain)
    def prepare(*args: Any, **options: Any) -> Any:
        given = parameters.bind(*args, **options).arguments
        size = Size(given["num_frames"], given["height"], given["width"])
        made = plain(*args, **options)
        latents, *more = made if isinstance(made, tuple) else (made,)
        changed = change(latents, size, tuple(more))
        return (changed, *more) if isinstance(made, tuple) else changed

    with replaced(pipeline, "prepare_latents", prepare):
        yield


def after_callback(callback: Callable[..., Any] | None, inputs: Sequence[str], ours: Callable[..., Any]) -> Any:
    """A step callback that calls another one first, with the tensors that it asks for, and ours on what it leaves.

    Args:
        callback: of the pipeline's user, if any.
        inputs: the tensors that it is to be given, by name.
        ours: takes the latents among its tensors.
    """

    def both(pipeline: Any, step: int, timestep: Any, tensors: dict[str, Any]) -> Any:
        left = {} if callback is None else callback(pipeline, step, timestep, {name: tensors[name] for name in inputs})
        return left | ours(pipeline, step, timestep, {"latents": left.get("latents", tensors["latents"])})

    return both


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

    with replaced(scheduler, "step", step):
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

    with replaced(scheduler, "step", step):
        yield


def _common_noise(device: torch.device) -> Tensor:
    """The state of the generators that all draw from who name none."""
    state = torch.get_rng_state()
    return torch.cat([state, torch.cuda.get_rng_state(device)]) if device.type == "cuda" else state
