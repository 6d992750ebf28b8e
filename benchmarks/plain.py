"""Guidance done the plain way, for comparison: attention matrices are materialised and the whole network runs.

Nothing is checkpointed and nothing leaves early. Gradients are those of :mod:`cvg.guidance.guide` (a test holds them
equal).
"""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.overrides import TorchFunctionMode

from cvg.generators import Generator
from cvg.grounding.base import Sites


class Materialised:
    """What ``CrossAttention`` reads, off attention matrices that are kept whole; a ``cvg.grounding.base.Grounding``."""

    def __init__(self, sites: Sites) -> None:
        self.sites = sites
        self.attention = _KeptAttention()

    @contextmanager
    def recording(self) -> Iterator[None]:
        """Record one forward pass, which runs to its end."""
        with ExitStack() as hooks:
            for layer, module in self.sites.attention.items():
                hooks.callback(module.register_forward_pre_hook(self.attention.during(layer)).remove)
                hooks.callback(module.register_forward_hook(self.attention.during(None)).remove)
            with self.attention:
                yield

    def maps(self, layer: int) -> Tensor:
        """Maps of one tapped layer: (B, A, N, E)."""
        probability_BANT = self.attention.kept[layer][..., self.sites.video_queries, self.sites.text_keys]
        columns = self.sites.columns_BTE.to(probability_BANT)[:, None, : probability_BANT.shape[-1]]
        maps_BANE = probability_BANT[..., : columns.shape[-2]] @ columns
        return maps_BANE if self.sites.heads is None else maps_BANE[:, self.sites.heads[layer]]


class _KeptAttention(TorchFunctionMode):
    """Attention of the running module as softmax(q k^T) v, with the matrix kept."""

    def __init__(self) -> None:
        super().__init__()
        self.layer: int | None = None
        self.kept: dict[int, Tensor] = {}

    def __torch_function__(
        self, func: Callable[..., Any], types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        if func is F.scaled_dot_product_attention and self.layer is not None:
            return self.attend(*args, **(kwargs or {}))
        return func(*args, **(kwargs or {}))

    def attend(self, query: Tensor, key: Tensor, value: Tensor, attn_mask: Tensor | None = None, **rest: Any) -> Tensor:
        """The attention's output; rest are the options that the tapped attentions leave at their defaults."""
        assert self.layer is not None
        scale = rest.get("scale") or 1 / math.sqrt(query.shape[-1])
        scores = scale * query @ key.transpose(-1, -2)
        if attn_mask is not None:
            scores = scores.masked_fill(~attn_mask, -torch.inf) if attn_mask.dtype == torch.bool else scores + attn_mask
        probability = scores.softmax(-1)
        self.kept[self.layer] = probability
        return probability @ value

    def during(self, layer: int | None) -> Callable[..., None]:
        """A hook that says which tapped layer's attention runs from now on."""

        def hook(*_: Any) -> None:
            self.layer = layer

        return hook


def plain(generator: Generator) -> Generator:
    """The same generator, read the plain way."""
    other = copy.copy(generator)
    other.grounding = Materialised
    other.checkpointing = False
    return other
