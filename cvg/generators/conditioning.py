"""Prompts as a generator sees them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from torch import Tensor

States = Mapping[str, Tensor]
"""What a family's network takes of prompts besides latents and timestep, by name, each with the batch first."""


@dataclass(frozen=True)
class Conditioning:
    """Prompts as the generator sees them.

    Attributes:
        states: what its network takes.
        columns_BTE: weight of each text key in each entity, in order of ``Composition.entities``; zero columns pad.
    """

    states: States
    columns_BTE: Tensor

    def rows(self, indices: Sequence[int]) -> Conditioning:
        """That of some prompts of the batch."""
        chosen = list(indices)
        return Conditioning({name: state[chosen] for name, state in self.states.items()}, self.columns_BTE[chosen])
