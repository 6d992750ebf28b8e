"""What a multistep scheduler remembers, kept apart for samples whose latents were edited and for those beside them."""

from __future__ import annotations

import copy
import functools
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from cvg.generators.steps import replaced_step

_LEAST_AXES = 3
"""Axes of what is remembered of samples, at least; noise levels and factors have one."""


@dataclass
class _Group:
    """Samples with one history, in order, and the scheduler that has it."""

    scheduler: Any
    samples: list[int]


class Histories:
    """The histories of a batch's samples, while a pipeline samples it.

    A multistep scheduler extrapolates from earlier steps. Where a sample is edited it has to begin anew, but it knows
    of whole batches alone. So once some samples of a batch were edited, copies of it step for them and for the others.

    Args:
        scheduler: the pipeline's.
        samples: videos of the batch.
    """

    def __init__(self, scheduler: Any, samples: int) -> None:
        self.scheduler, self.count = scheduler, samples
        self.groups = [_Group(scheduler, list(range(samples)))]

    def forget(self, samples: Sequence[int], clear: Callable[[Any], None]) -> None:
        """Let the next step of some samples depend on nothing before it.

        Args:
            samples: their indices in the batch.
            clear: makes a scheduler forget what it knows of the samples that it steps.
        """
        groups = []
        for group in self.groups:
            mine = [sample for sample in group.samples if sample in samples]
            others = [sample for sample in group.samples if sample not in samples]
            if mine and others:
                groups.append(_part(group, others))
                group = _part(group, mine)
            if mine:
                clear(group.scheduler)
            groups.append(group)
        self.groups = groups

    def step(self, whole: Callable[..., Any], output: Tensor, *args: Any, **options: Any) -> Any:
        """The scheduler's step of the batch.

        Args:
            whole: the scheduler's own, for all samples at once.
            output: what the network predicts; rows of a video lie next to each other, where it has several.
            args: further arguments of the step.
            options: further ones, by name.
        """
        if len(self.groups) == 1:
            return whole(output, *args, **options)
        each = len(output) // self.count
        rows = [[sample * each + i for sample in group.samples for i in range(each)] for group in self.groups]
        results = [
            group.scheduler.step(
                output[mine],
                *(_taken(value, mine, len(output)) for value in args),
                **{name: _taken(value, mine, len(output)) for name, value in options.items()},
            )
            for group, mine in zip(self.groups, rows, strict=True)
        ]
        if hasattr(self.scheduler, "_step_index"):
            self.scheduler._step_index = self.groups[0].scheduler._step_index
        order = torch.tensor([row for mine in rows for row in mine], device=output.device).argsort()
        return _joined(results, order)


@contextmanager
def histories_of(scheduler: Any, samples: int) -> Iterator[Histories]:
    """Within it the scheduler's steps go by the histories of a batch's samples, which are one until some forget.

    Args:
        scheduler: of the pipeline that samples.
        samples: videos of the batch.
    """
    found, plain = Histories(scheduler, samples), scheduler.step
    with replaced_step(scheduler, functools.wraps(plain)(functools.partial(found.step, plain))):
        yield found


def _part(group: _Group, samples: list[int]) -> _Group:
    """Some samples of a group, with a scheduler that knows of them what its knows."""
    count, places = len(group.samples), [group.samples.index(sample) for sample in samples]

    def known(value: Any) -> Any:
        if isinstance(value, list):
            return [known(one) for one in value]
        if not isinstance(value, Tensor) or value.ndim < _LEAST_AXES:
            return value
        return value.unflatten(0, (count, -1))[places].flatten(0, 1)

    scheduler = copy.copy(group.scheduler)
    vars(scheduler).pop("step", None)  # that of the whole batch
    vars(scheduler).update({name: known(value) for name, value in vars(scheduler).items()})
    return _Group(scheduler, samples)


def _taken(value: Any, rows: list[int], count: int) -> Any:
    """What some rows of a batch have of an argument; what is no batch, all have."""
    if isinstance(value, Tensor) and value.ndim and len(value) == count:
        return value[rows]
    return [value[row] for row in rows] if isinstance(value, list) and len(value) == count else value


def _joined(results: Sequence[Any], order: Tensor) -> Any:
    """The results of a step for parts of a batch as that of the batch."""
    first = results[0]
    if isinstance(first, Tensor):
        return torch.cat(list(results))[order]
    if isinstance(first, tuple):
        return tuple(_joined(values, order) for values in zip(*results, strict=True))
    if isinstance(first, dict):  # diffusers' outputs are
        return type(first)(**{name: _joined([result[name] for result in results], order) for name in first})
    return first
