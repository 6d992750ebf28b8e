"""What a multistep scheduler remembers, kept apart for samples whose latents were edited and for those beside them."""

from __future__ import annotations

import copy
import functools
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from cvg.generators.steps import replaced

_LEAST_AXES = 3
"""Axes of what is remembered of samples, at least; noise levels and factors have one."""


@dataclass
class _Group:
    """Samples with one history, in order, and the scheduler that has it."""

    scheduler: Any
    samples: list[int]


@dataclass(frozen=True)
class State:
    """What is known of a batch's samples at some step.

    Attributes:
        known: by the scheduler, by the name it has there.
        handed_out: by the pipeline: what the last step gave beside the latents.
    """

    known: dict[str, Any]
    handed_out: list[Tensor]


class Histories:
    """The histories of a batch's samples, while a pipeline samples it.

    A multistep scheduler extrapolates from earlier steps. Where a sample is edited it has to begin anew, but it knows
    of whole batches alone. So once some samples of a batch were edited, copies of it step for them and for the others.

    Args:
        scheduler: the pipeline's.
    """

    def __init__(self, scheduler: Any) -> None:
        self.scheduler, self.count = scheduler, 0
        self.groups = [_Group(scheduler, [])]
        self._handed_out: list[Tensor] = []
        """What the last step gave beside the latents, which a pipeline may hand to the next one."""
        self._exchanged: list[tuple[Tensor, Tensor]] = []
        """Of these, each with what takes its place."""

    def begin(self, samples: int) -> None:
        """Before the first step: the batch has so many videos, with one history."""
        self.count, self.groups = samples, [_Group(self.scheduler, list(range(samples)))]

    def state(self) -> State:
        """What is known of the samples now; later steps do not change it."""
        found = {
            name: list(value) if isinstance(value, list) else value for name, value in vars(self.scheduler).items()
        }
        return State({name: value for name, value in found.items() if _is_known(value)}, list(self._handed_out))

    def adopt(self, states: Mapping[int, State]) -> None:
        """Let some samples go on with what was known, in another run of this many, of those in their places.

        Args:
            states: of those runs, at the same step, by sample.
        """
        for name in self.state().known:
            mine = getattr(self.scheduler, name)
            theirs = {sample: state.known[name] for sample, state in states.items()}
            setattr(self.scheduler, name, _mixed(mine, theirs, self.count))
        for place, mine in enumerate(self._handed_out):
            theirs = {sample: state.handed_out[place] for sample, state in states.items()}
            self._exchanged.append((mine, _mixed(mine, theirs, self.count)))

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
        args = tuple(next((new for old, new in self._exchanged if old is value), value) for value in args)
        self._exchanged = []
        if len(self.groups) == 1:
            result = whole(output, *args, **options)
            self._handed_out = (
                [value for value in tuple(result)[1:] if _is_known(value)] if isinstance(result, tuple) else []
            )
            return result
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
def histories_of(scheduler: Any) -> Iterator[Histories]:
    """Within it the scheduler's steps go by the histories of a batch's samples, which are one until some forget.

    Args:
        scheduler: of the pipeline that samples.
    """
    found, plain = Histories(scheduler), scheduler.step
    with replaced(scheduler, "step", functools.wraps(plain)(functools.partial(found.step, plain))):
        yield found


def _is_known(value: Any) -> bool:
    """Whether this is of samples: tensors of them, or a list that has some."""
    if isinstance(value, list):
        return any(_is_known(one) for one in value)
    return isinstance(value, Tensor) and value.ndim >= _LEAST_AXES


def _mixed(mine: Any, theirs: Mapping[int, Any], count: int) -> Any:
    """Of ``count`` samples what is ours, but of some what is theirs."""
    if isinstance(mine, list):
        parts = enumerate(mine)
        return [_mixed(one, {sample: other[i] for sample, other in theirs.items()}, count) for i, one in parts]
    if not _is_known(mine):
        return mine
    mixed = mine.clone().unflatten(0, (count, -1))
    for sample, other in theirs.items():
        mixed[sample] = other.unflatten(0, (count, -1))[sample]
    return mixed.flatten(0, 1)


def _part(group: _Group, samples: list[int]) -> _Group:
    """Some samples of a group, with a scheduler that knows of them what its knows."""
    count, places = len(group.samples), [group.samples.index(sample) for sample in samples]

    def known(value: Any) -> Any:
        if isinstance(value, list):
            return [known(one) for one in value]
        if not _is_known(value):
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
