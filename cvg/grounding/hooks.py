"""What readers of a forward pass share: leaving it early, and seeing the attention calls of some modules."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch.nn.functional as F
from torch import nn
from torch.overrides import TorchFunctionMode


class _EarlyExit(Exception):
    """Raised inside the network once all that is wanted of it is there. Never leaves this module."""


@contextmanager
def ending_before(module: nn.Module | None) -> Iterator[None]:
    """The ``with`` body ends, silently, before the module would be called; None lets it run to its end."""

    def leave(*_: Any) -> None:
        raise _EarlyExit

    handle = None if module is None else module.register_forward_pre_hook(leave)
    try:
        yield
    except _EarlyExit:
        pass
    finally:
        if handle is not None:
            handle.remove()


@contextmanager
def attention_calls(modules: Mapping[int, nn.Module], record: Callable[..., None]) -> Iterator[None]:
    """Within it ``record(layer, ...)`` is called before each attention call of the module of a layer.

    It is given the arguments of ``scaled_dot_product_attention``, which then runs as it would have: queries and keys
    are those that the network really uses, after norms and rotary embedding.
    """
    interceptor, handles = _Interceptor(record), []
    for layer, module in modules.items():
        handles.append(module.register_forward_pre_hook(interceptor.entering(layer)))
        handles.append(module.register_forward_hook(interceptor.leaving, always_call=True))
    try:
        with interceptor:
            yield
    finally:
        for handle in handles:
            handle.remove()


class _Interceptor(TorchFunctionMode):
    """Lets every call of torch through; tells ``record`` of the attention calls of the module that is running."""

    def __init__(self, record: Callable[..., None]) -> None:
        super().__init__()
        self.record = record
        self.layer: int | None = None

    def __torch_function__(
        self, func: Callable[..., Any], types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        kwargs = kwargs or {}
        if func is F.scaled_dot_product_attention and self.layer is not None:
            self.record(self.layer, *args, **kwargs)
        return func(*args, **kwargs)

    def entering(self, layer: int) -> Callable[..., None]:
        def hook(*_: Any) -> None:
            self.layer = layer

        return hook

    def leaving(self, *_: Any) -> None:
        self.layer = None
