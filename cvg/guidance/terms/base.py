"""What a term of the guidance loss is, and what it is given."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import NamedTuple, Protocol

from torch import Tensor

from cvg.guidance.verdict import Verdict


class Taps(NamedTuple):
    """Layers and heads of a generator whose maps are read, each ascending; the heads are the same in all layers."""

    layers: tuple[int, ...]
    heads: tuple[int, ...]

    @classmethod
    def of(cls, layers: Iterable[int], heads: Iterable[int]) -> Taps:
        """Those of some layers and heads."""
        return cls(tuple(layers), tuple(heads))


def union(taps: Iterable[Taps]) -> Taps:
    """The fewest layers and heads that hold all of these."""
    wanted = list(taps)
    return Taps(
        tuple(sorted({layer for tap in wanted for layer in tap.layers})),
        tuple(sorted({head for tap in wanted for head in tap.heads})),
    )


@dataclass(frozen=True)
class EntityMaps:
    """Entity maps A[t,l,h,k] of some samples at one guided step, differentiable in their latents.

    Attributes:
        maps_BLAEFHW: attention probabilities.
        taps: the layers and heads they are of.
    """

    maps_BLAEFHW: Tensor
    taps: Taps

    def of(self, taps: Taps) -> Tensor:
        """Those of some of the layers and heads: (B, L, A, E, F, H, W)."""
        if taps == self.taps:
            return self.maps_BLAEFHW
        layers, heads = ([ours.index(one) for one in theirs] for ours, theirs in zip(self.taps, taps, strict=True))
        return self.maps_BLAEFHW[:, layers][:, :, heads]


class Term(Protocol):
    """A term of the loss that guided steps follow.

    Attributes:
        taps: the layers and heads whose maps it reads.
        first_guided_step: the guided step from which on it counts; 0 is the noisiest.
    """

    taps: Taps
    first_guided_step: int

    def __call__(self, maps: EntityMaps, verdict: Verdict) -> Tensor:
        """Its value, summed over the samples that are looked at: a scalar, differentiable in their latents.

        Each sample's part must depend on that sample alone, or it would depend on what it is batched with.

        Args:
            maps: entity maps of the samples, of these taps at least.
            verdict: what the classifier makes of them.
        """
        ...
