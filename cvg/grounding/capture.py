"""Entity maps from a generator's own attention, differentiable, with an early exit.

While a chosen attention module runs, the fused attention call is intercepted: it sees the exact queries and keys
(after norms and rotary embedding) and the mask. The probability that a video token gives to an entity is read with a
second fused call whose values are indicator columns, so the attention matrix is never materialised and the model's
own output stays what it was, bit for bit.

Where a gradient is wanted, queries and keys are kept and the maps are computed after the forward pass, outside of any
block that is checkpointed: its recomputation in the backward pass, without the tap, then repeats what it did.

Shapes: B batch, A heads, N video tokens, T text keys, D head width, E entities; P attention problems of a sample (its
frames, in families whose frames read the prompt one by one; else 1).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from cvg.common.errors import ModelError, PromptError


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


@dataclass(frozen=True)
class _Call:
    """One attention call: what is needed to read maps off it."""

    query: Tensor
    key: Tensor
    mask: Tensor | None
    scale: float | None
    columns: Tensor
    heads: list[int] | None


class AttentionTap:
    """Records entity maps of some attention modules during one forward pass.

    Args:
        modules: attention module of each tapped layer.
        columns_BTE: weight of each text key in each entity (1 on the entity's tokens).
        keys: where the text keys lie among the attention's keys.
        queries: where the video queries lie among the attention's queries.
        heads: which of an attention's heads are read, by layer; all of them when None.
        exit_before: module before whose call the forward pass ends, or None to run to the end.
    """

    def __init__(
        self,
        modules: Mapping[int, nn.Module],
        columns_BTE: Tensor,
        keys: slice = slice(None),
        queries: slice = slice(None),
        heads: Mapping[int, list[int]] | None = None,
        exit_before: nn.Module | None = None,
    ) -> None:
        self.modules = dict(modules)
        self.columns_BTE, self.keys, self.queries = columns_BTE, keys, queries
        self.heads = heads or {}
        self.exit_before = exit_before
        self.running: int | None = None
        self._maps: dict[int, list[Tensor | _Call]] = {}

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
        """Note one attention call of the running module.

        The parameters are those of ``scaled_dot_product_attention``: query (P*B, A, N, D), key, value (P*B, A, T, D).
        """
        assert self.running is not None and not is_causal and dropout_p == 0.0 and not enable_gqa
        noted = self._maps.setdefault(self.running, [])
        columns = self.columns_BTE.to(query)
        if len(query) < len(columns):  # a family that attends sample by sample
            columns = columns[len(noted) : len(noted) + 1]
        columns = columns.repeat_interleave(len(query) // len(columns), 0)  # frames of a sample lie next to each other
        call = _Call(query, key, attn_mask, scale, columns, self.heads.get(self.running))
        needs_gradient = torch.is_grad_enabled() and (query.requires_grad or key.requires_grad)
        noted.append(call if needs_gradient else self._read(call))

    def _read(self, call: _Call) -> Tensor:
        """softmax(q k^T) E, with E the entities' indicator columns: (P*B, A, N, E)."""
        query, key, mask = call.query[:, :, self.queries], call.key, call.mask
        if mask is not None and mask.shape[-2] > 1:
            mask = mask[..., self.queries, :]
        if call.heads not in (None, list(range(query.shape[1]))):  # all of them need no copies
            query, key = query[:, call.heads], key[:, call.heads]
            if mask is not None and mask.ndim == 4 and mask.shape[1] > 1:
                mask = mask[:, call.heads]
        batch, heads, keys, width = key.shape
        entities = call.columns.shape[-1]
        if entities > width:
            raise PromptError(
                f"{entities} entities: the attention heads are {width} wide, and as many are read at once; give fewer"
            )
        indicator = call.query.new_zeros(batch, keys, width)
        # Fused kernels want values as wide as the keys: the columns beyond the entities stay zero.
        text = indicator[:, self.keys]
        length = min(text.shape[1], call.columns.shape[1])
        text[:, :length, :entities] = call.columns[:, :length]
        indicator = indicator[:, None].expand(batch, heads, keys, width)
        maps = F.scaled_dot_product_attention(query, key, indicator, attn_mask=mask, scale=call.scale)
        return maps[..., :entities].contiguous()  # a view would keep all the columns of every layer

    def maps(self, layer: int) -> Tensor:
        """Entity maps of a tapped layer: (P*B, A, N, E)."""
        read = [self._read(noted) if isinstance(noted, _Call) else noted for noted in self._maps[layer]]
        return torch.cat(read)

    @contextmanager
    def recording(self) -> Iterator[None]:
        """Record during one forward pass; an early exit ends the ``with`` body silently."""
        self._maps = {}
        handles = []
        for layer, module in self.modules.items():
            handles.append(module.register_forward_pre_hook(self._enter(layer)))
            handles.append(module.register_forward_hook(self._leave, always_call=True))
        if self.exit_before is not None:
            handles.append(self.exit_before.register_forward_pre_hook(self._exit))
        try:
            with _Interceptor(self):
                yield
        except EarlyExit:
            pass
        finally:
            self.running = None
            for handle in handles:
                handle.remove()
        missing = sorted(set(self.modules) - set(self._maps))
        if missing:
            raise ModelError(
                f"generator: its layers {missing} made no scaled_dot_product_attention call, which maps are read off; "
                "set the native attention backend"
            )

    def _enter(self, layer: int) -> Callable[..., None]:
        def hook(module: nn.Module, args: Any) -> None:
            self.running = layer

        return hook

    def _leave(self, module: nn.Module, args: Any, output: Any) -> None:
        self.running = None

    def _exit(self, module: nn.Module, args: Any) -> None:
        raise EarlyExit
