"""Guidance done the plain way, for comparison: attention matrices are materialised and the whole network runs.

Nothing is checkpointed and nothing leaves early. Gradients are those of :mod:`cvg.guidance.guide` (a test holds them
equal).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from typing import Any, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from cvg.generators import Conditioning, Generator


class _Materialised(TorchFunctionMode):
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


class PlainMaps(Generator):
    """Mixed into a family's adapter, it reads entity maps off materialised attention matrices."""

    def entity_maps(
        self,
        latents: Tensor,
        timestep: Tensor,
        conditioning: Conditioning,
        layers: Sequence[int],
        heads: Sequence[int] | None = None,
        full: bool = False,
    ) -> tuple[Tensor, Tensor | None]:
        """As ``Generator.entity_maps``; the network runs to its end whatever ``full`` says."""
        grid = self.token_grid(latents)
        columns_BTE = conditioning.columns_BTE.to(self.dtype)
        text, video = columns_BTE.shape[1], math.prod(grid)
        mode = _Materialised()
        with ExitStack() as hooks:
            for layer in layers:
                module: nn.Module = self.attention(layer)
                hooks.callback(module.register_forward_pre_hook(mode.during(layer)).remove)
                hooks.callback(module.register_forward_hook(mode.during(None)).remove)
            with mode:
                prediction = self.predict(latents, timestep, conditioning.states)
        arranged = []
        for layer in layers:
            probability_BANT = mode.kept[layer]
            if self.text == "first":
                probability_BANT = probability_BANT[..., text:, :text]
            elif self.text == "last":
                probability_BANT = probability_BANT[..., :video, video:]
            columns = columns_BTE[:, None, : probability_BANT.shape[-1]]
            maps_BANE = probability_BANT[..., : columns.shape[-2]] @ columns
            arranged.append(self.arrange(maps_BANE.float(), layer, grid))
        maps_BLAEFHW = torch.stack(arranged, dim=1)
        return maps_BLAEFHW if heads is None else maps_BLAEFHW[:, :, heads], prediction if full else None


def plain(generator: Generator) -> Generator:
    """The same generator, read the plain way."""
    kind = type(generator)
    mixed = type(f"Plain{kind.__name__}", (PlainMaps, kind), {})
    return cast(Generator, mixed(generator.pipeline, generator.name))
