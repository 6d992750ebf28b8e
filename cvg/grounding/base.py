"""The seam between a generator and what is read off its forward pass about the entities of a prompt.

:class:`~cvg.grounding.cross_attention.CrossAttention` is what guidance and recording use. Another signal (attention
among video tokens, hidden states) is one more class of this form, in a file of its own; no family needs to know it.
"""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Protocol

from torch import Tensor, nn


@dataclass(frozen=True)
class Sites:
    """Where in a family's network something can be read during one forward pass, and for which entities.

    Attributes:
        blocks: the block of each tapped layer.
        attention: in each of them, the module whose attention lets video tokens read the prompt.
        columns_BTE: weight of each text key in each entity: 1 on the tokens of its words.
        text_keys: where the text keys lie among the keys of that attention.
        video_queries: where the video tokens lie among its queries.
        heads: by layer, which heads of that attention are read; all of them when None.
        exit_before: module before whose call the pass may end, as all layers are done; None to run to its end.
        calls_before: attention calls of such a module before the one that reads the prompt.
    """

    blocks: Mapping[int, nn.Module]
    attention: Mapping[int, nn.Module]
    columns_BTE: Tensor
    text_keys: slice
    video_queries: slice
    heads: Mapping[int, list[int]] | None = None
    exit_before: nn.Module | None = None
    calls_before: int = 0


class Grounding(Protocol):
    """Reads off one forward pass how much each video token has to do with each entity.

    An implementation must leave the network's output what it is without it, bit for bit; must return maps that are
    differentiable in the network's input wherever gradients are enabled during the pass, also where blocks are
    checkpointed; and should keep no more than the maps where they are not. ``cvg.grounding.hooks`` has the parts that
    implementations share: leaving early, and seeing the attention calls of a module.
    """

    def __init__(self, sites: Sites) -> None:
        """Made anew for each forward pass."""

    def recording(self) -> AbstractContextManager[None]:
        """Within it the network runs, once; it ends before ``sites.exit_before`` is called, silently."""
        ...

    def maps(self, layer: int) -> Tensor:
        """After the pass: non-negative maps of one tapped layer, (P*B, A, N, E).

        A are the heads that ``sites.heads`` names, in that order; N the layer's video tokens; a sample's P attention
        problems lie next to each other.
        """
        ...
