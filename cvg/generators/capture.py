"""Entity maps from a generator's own attention, differentiable, with an early exit.

While a chosen attention module runs, the fused attention call is intercepted: it sees the exact queries and keys
(after norms and rotary embedding) and the mask. The probability that a video token gives to an entity is read with a
second fused call whose values are indicator columns, so the attention matrix is never materialised and the model's
own output stays what it was, bit for bit.

Shapes: B batch, A heads, N video tokens, T keys, D head width, E entities.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode


class EarlyExit(Exception):
    """Raised inside the generator once the last tapped layer is done. Never leaves this package."""


class _Interceptor(TorchFunctionMode):
    """Passes every call through; hands the attention calls of the tapped module that is running to the tap."""

    def __init__(self, tap: AttentionTap) -> None:
        super().__init__()
        self.tap = tap

    def __torch_function__(
        self, func: Callable[..., Any], types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        kwargs = kwargs or {}
        if func is F.scaled_dot_product_attention and self.tap.running is not None:
            self.tap.record(*args, **kwargs)
        return func(*args, **kwargs)


class AttentionTap:
    """Records entity maps of some attention modules during forward passes.

    Args:
        modules: attention module of each tapped layer.
        exit_before: module before whose call the forward pass ends, or None to run to the end.
    """

    def __init__(self, modules: Mapping[int, nn.Module], exit_before: nn.Module | None) -> None:
        self.modules = dict(modules)
        self.exit_before = exit_before
        self.running: int | None = None
        self.maps_BANE: dict[int, Tensor] = {}
        self._columns_BTE = torch.empty(0)
        self._keys = slice(None)
        self._queries = slice(None)

    def record(
        self,
        query: Tensor,
        key: Tensor,
        value: Tensor,
        attn_mask: Tensor | None = None,
        dropout_p: float = 0.0,
        is_causal: bool = False,
        scale: float | None = None,
        enable_gqa: bool = False,
    ) -> None:
        """Entity maps of one attention call: softmax(q k^T) E, with E the entities' indicator columns.

        The parameters are those of ``scaled_dot_product_attention``: query (B, A, N, D), key and value (B, A, T, D).
        """
        assert self.running is not None and not is_causal and dropout_p == 0.0 and not enable_gqa
        heads, keys, width = key.shape[1:]
        columns_BTE = self._columns_BTE.to(query)
        entities = columns_BTE.shape[-1]
        assert entities <= width, f"{entities} entities, but the head width is {width}"
        indicator = query.new_zeros(columns_BTE.shape[0], keys, width)
        # Fused kernels want values as wide as the keys: the columns beyond the entities stay zero.
        indicator[:, self._keys, :entities] = columns_BTE
        indicator = indicator[:, None].expand(query.shape[0], heads, keys, width)
        maps = F.scaled_dot_product_attention(
            query[:, :, self._queries], key, indicator, attn_mask=attn_mask, scale=scale
        )
        self.maps_BANE[self.running] = maps[..., :entities]

    @contextmanager
    def recording(
        self, columns_BTE: Tensor, keys: slice = slice(None), queries: slice = slice(None)
    ) -> Iterator[dict[int, Tensor]]:
        """Record during one forward pass; an early exit ends the ``with`` body silently.

        Args:
            columns_BTE: weight of each text key in each entity (1 on the entity's tokens), batch 1 or B.
            keys: where the text keys lie among the attention's keys.
            queries: where the video queries lie among the attention's queries.

        Yields:
            Maps (B, A, N, E) by layer; filled while the body runs.
        """
        self.maps_BANE = {}
        self._columns_BTE, self._keys, self._queries = columns_BTE, keys, queries
        handles = []
        for layer, module in self.modules.items():
            handles.append(module.register_forward_pre_hook(self._enter(layer)))
            handles.append(module.register_forward_hook(self._leave, always_call=True))
        if self.exit_before is not None:
            handles.append(self.exit_before.register_forward_pre_hook(self._exit))
        try:
            with _Interceptor(self):
                yield self.maps_BANE
        except EarlyExit:
            pass
        finally:
            self.running = None
            for handle in handles:
                handle.remove()
        missing = sorted(set(self.modules) - set(self.maps_BANE))
        assert not missing, (
            f"layers {missing} made no scaled_dot_product_attention call; set the native attention backend"
        )

    def _enter(self, layer: int) -> Callable[..., None]:
        def hook(module: nn.Module, args: Any) -> None:
            self.running = layer

        return hook

    def _leave(self, module: nn.Module, args: Any, output: Any) -> None:
        self.running = None

    def _exit(self, module: nn.Module, args: Any) -> None:
        raise EarlyExit
