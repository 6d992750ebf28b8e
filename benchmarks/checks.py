"""What the checks of guided sampling cost: the same videos with them and without."""

from __future__ import annotations

import functools
import pkgutil
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from typing import Any
from unittest.mock import patch

import torch
from torch import Tensor

from benchmarks.case import Case
from benchmarks.figures import Figure, spread
from benchmarks.measure import Work, clock, in_turn
from cvg.guidance.sampler import GuidedSampler
from cvg.guidance.verdict import Verdict

GOAL = "<= 1"
NOTHING = (
    "cvg.guidance.sampler.require_finite",
    "cvg.guidance.sampler.GuidedSampler.check_generator",
    "cvg.guidance.guide.check_gradients",
    "cvg.generators.base.check_readable",
    "cvg.generators.base.Generator.check_size",
)
"""Checks that give nothing."""


def _noise(device: torch.device) -> Tensor:
    return torch.zeros(1)


def _gradient(loss: Tensor, z: Tensor, active: Sequence[int], moving: Sequence[int], first: bool) -> Tensor:
    return torch.autograd.grad(loss, z)[0]


def _update(verdict: Verdict, probability_R: Tensor) -> Tensor:
    updated = probability_R.clone()
    updated[verdict.rows] = verdict.log_target_R.detach().exp().cpu()
    return updated


@contextmanager
def unchecked() -> Iterator[None]:
    """Within it guided sampling checks neither its numbers (latents, verdicts, gradients) nor its generator."""
    bare: dict[str, Any] = dict.fromkeys(NOTHING, lambda *_, **__: None)
    bare |= {"cvg.generators.steps._common_noise": _noise, "cvg.guidance.guide.gradient_of": _gradient}
    bare |= {"cvg.guidance.verdict.Verdict.update": _update}
    with ExitStack() as stack:
        for name, function in bare.items():
            stack.enter_context(patch(name, function))
        yield


@contextmanager
def timed(spent: list[float], device: torch.device) -> Iterator[None]:
    """Within it the seconds of each check go into a list."""

    def timing(function: Callable[..., Any]) -> Callable[..., Any]:
        @functools.wraps(function)
        def check(*args: Any, **options: Any) -> Any:
            began = clock(device)
            try:
                return function(*args, **options)
            finally:
                spent.append(clock(device) - began)

        return check

    with ExitStack() as stack:
        for name in (*NOTHING, "cvg.guidance.checks.require_finite", "cvg.generators.steps._common_noise"):
            stack.enter_context(patch(name, timing(pkgutil.resolve_name(name))))
        yield


def checks(case: Case, rounds: int) -> list[Figure]:
    """Time that the checks add to guided videos, in rounds that begin with the one and the other in turn.

    And the time within them, which says it where a machine is too noisy for a difference.
    """
    sampler = GuidedSampler(case.generator, case.classifier)
    prompts, seeds = [composition.prompt for composition in case.compositions], list(range(len(case.compositions)))
    guided = functools.partial(sampler, prompts, seeds, steps=case.steps)

    def bare() -> None:
        with unchecked():
            guided()

    work: list[tuple[str, Work]] = [("checked", guided), ("bare", bare)]
    added = []
    for number in range(rounds):
        seconds = in_turn(dict(work[:: 1 - 2 * (number % 2)]), 1, case.device, warm_up=not number)
        added.append(100 * (seconds["checked"][0] / seconds["bare"][0] - 1))
    shares = []
    for _ in range(max(1, rounds // 4)):
        spent: list[float] = []
        with timed(spent, case.device):
            whole = in_turn({"video": guided}, 1, case.device, warm_up=False)["video"][0]
        shares.append(100 * sum(spent) / (whole - sum(spent)))
    return [
        spread("checks, time added to whole guided videos", added, unit="%", goal=GOAL),
        spread("checks, time within them over that of the rest", shares, unit="%", goal=GOAL),
    ]
