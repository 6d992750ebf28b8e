"""Gradients that compute parts of a network again instead of keeping their activations; compiled code left aside."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Any

import torch
from torch import nn
from torch.utils.checkpoint import checkpoint

from cvg.generators.obstacles import as_the_model


def eager(compiled: bool) -> AbstractContextManager[Any]:
    """Within it compiled blocks run as if they were not."""
    return torch.compiler.set_stance("force_eager") if compiled else nullcontext()


def is_compiled(network: nn.Module) -> bool:
    """Whether a network or a part of it was compiled, by whomever."""
    return any(
        isinstance(module, torch._dynamo.OptimizedModule) or module._compiled_call_impl is not None
        for module in network.modules()
    )


@contextmanager
def blocks_recomputed(network: Any, compiled: bool) -> Iterator[None]:
    """Within it a network of diffusers checkpoints its blocks."""
    network.enable_gradient_checkpointing(functools.partial(_recompute_later, network, compiled))
    try:
        yield
    finally:
        network.disable_gradient_checkpointing()


@contextmanager
def parts_recomputed(parts: Sequence[nn.Module], compiled: bool) -> Iterator[None]:
    """Within it these modules are checkpointed, each by itself."""
    before = [vars(part).get("forward") for part in parts]
    for part in parts:
        part.forward = functools.partial(_recompute_later, part, compiled, part.forward)
    try:
        yield
    finally:
        for part, forward in zip(parts, before, strict=True):
            del part.forward
            if forward is not None:  # that of an offloaded model
                part.forward = forward


def _recompute_later(owner: nn.Module, compiled: bool, function: Callable[..., Any], *args: Any, **options: Any) -> Any:
    """Call ``function``; the backward pass calls it again, instead of keeping what it computed.

    What it raises, such as the early exit of a guided pass, is raised once ``checkpoint`` has returned: an exception
    that passes through torch's (before 2.13) leaves its hooks in place, and they take in what is computed next.
    """
    module = function if isinstance(function, nn.Module) else owner
    raised: list[BaseException] = []
    called = False

    def call(*args: Any, **options: Any) -> Any:
        nonlocal called
        first, called = not called, True
        with eager(compiled), as_the_model(module):  # the backward pass too: both must compute the same tensors
            try:
                return function(*args, **options)
            except BaseException as error:
                if not first:
                    raise
                raised.append(error)
                return None

    # To the end, where layers that are offloaded give their weights back.
    result = checkpoint(call, *args, use_reentrant=False, early_stop=False, **options)
    if raised:
        raise raised.pop()
    return result
