"""Entity maps from the attention of video tokens to the prompt's, differentiable, at the cost of one more fused call.

The probability that a video token gives to an entity is read with a second fused attention call whose values are
indicator columns, so the attention matrix is never materialised.

Where a gradient is wanted, queries and keys are kept and the maps are computed after the forward pass, outside of any
block that is checkpointed: its recomputation in the backward pass, where nothing is recorded, then repeats what it did.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from cvg.common.errors import ModelError, PromptError
from cvg.grounding.base import Sites
from cvg.grounding.hooks import attention_calls, ending_before


@dataclass(frozen=True)
class _Call:
    """One attention call: what is needed to read maps off it."""

    query: Tensor
    key: Tensor
    mask: Tensor | None
    scale: float | None
    columns: Tensor
    heads: list[int] | None


class CrossAttention:
    """The share of a video token's attention that goes to each entity's text keys: A[t, l, h, k] of the paper.

    The attention may be one to the text alone, or a joint one over text and video, of which the text's part is read.
    See :class:`~cvg.grounding.base.Grounding` for the methods.
    """

    def __init__(self, sites: Sites) -> None:
        self.sites = sites
        self._calls: dict[int, list[Tensor | _Call]] = {}
        self._before: dict[int, int] = {}

    @contextmanager
    def recording(self) -> Iterator[None]:
        """Record one forward pass, which ends before ``sites.exit_before`` is called."""
        self._calls, self._before = {}, dict.fromkeys(self.sites.attention, self.sites.calls_before)
        with ending_before(self.sites.exit_before), attention_calls(self.sites.attention, self.record):
            yield
        missing = sorted(set(self.sites.attention) - set(self._calls))
        if missing:
            raise ModelError(
                f"generator: its layers {missing} made no scaled_dot_product_attention call, which maps are read off; "
                "set the native attention backend"
            )

    def record(
        self,
        layer: int,
        query: Tensor,
        key: Tensor,
        value: Tensor,
        attn_mask: Tensor | None = None,
        dropout_p: float = 0.0,
        is_causal: bool = False,
        scale: float | None = None,
        enable_gqa: bool = False,
    ) -> None:
        """Take in one attention call of a layer.

        The parameters are those of ``scaled_dot_product_attention``: query (P*B, A, N, D), key, value (P*B, A, T, D).

        Raises:
            ModelError: the layer makes one more than the model does: some other program's processor is in it.
        """
        assert not is_causal and dropout_p == 0.0 and not enable_gqa
        if self._before[layer]:
            self._before[layer] -= 1
            return
        calls = self._calls.setdefault(layer, [])
        columns = self.sites.columns_BTE.to(query)
        if calls and len(query) >= len(columns):
            raise ModelError(
                f"generator: its layer {layer} calls attention more than once where it reads the prompt, so that it is "
                "not known off which call maps are to be read; set the model's own attention processors (a patch for "
                "negative prompts, such as NAG's, puts in others)"
            )
        if len(query) < len(columns):  # a family that attends sample by sample
            columns = columns[len(calls) : len(calls) + 1]
        columns = columns.repeat_interleave(len(query) // len(columns), 0)  # frames of a sample lie next to each other
        heads = None if self.sites.heads is None else self.sites.heads[layer]
        call = _Call(query, key, attn_mask, scale, columns, heads)
        needs_gradient = torch.is_grad_enabled() and (query.requires_grad or key.requires_grad)
        calls.append(call if needs_gradient else self._read(call))

    def _read(self, call: _Call) -> Tensor:
        """softmax(q k^T) E, with E the entities' indicator columns: (P*B, A, N, E)."""
        queries = self.sites.video_queries
        query, key, mask = call.query[:, :, queries], call.key, call.mask
        if mask is not None and mask.shape[-2] > 1:
            mask = mask[..., queries, :]
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
        text = indicator[:, self.sites.text_keys]
        length = min(text.shape[1], call.columns.shape[1])
        text[:, :length, :entities] = call.columns[:, :length]
        indicator = indicator[:, None].expand(batch, heads, keys, width)
        maps = F.scaled_dot_product_attention(query, key, indicator, attn_mask=mask, scale=call.scale)
        return maps[..., :entities].contiguous()  # a view would keep all the columns of every layer

    def maps(self, layer: int) -> Tensor:
        """Entity maps of a tapped layer: (P*B, A, N, E)."""
        return torch.cat([self._read(call) if isinstance(call, _Call) else call for call in self._calls[layer]])
