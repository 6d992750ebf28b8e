"""Latents changed between a pipeline's denoising steps."""

from __future__ import annotations

import functools
import itertools
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from torch import Tensor

Edit = Callable[[int, Tensor], Tensor]
"""edit(i, z_t) before denoising step i (not 0): the latents to go on with; the same object when nothing changes."""


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

    scheduler.step = step
    try:
        yield
    finally:
        del scheduler.step
