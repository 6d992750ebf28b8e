"""From the maps of a prompt's entities to those of its relations."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor


def slot_maps(maps_BLAEFHW: Tensor, samples: Sequence[int], slots: Sequence[Sequence[int | None]]) -> Tensor:
    """Entity maps of relations, slot by slot.

    Args:
        maps_BLAEFHW: maps of all entities of the prompts.
        samples: for each relation, the batch index of its prompt.
        slots: for each relation, the entity index of each slot, or None for an absent slot (zeros).

    Returns:
        maps_RLAKFHW.
    """
    rows = []
    for sample, entities in zip(samples, slots, strict=True):
        maps = [
            torch.zeros_like(maps_BLAEFHW[sample, :, :, 0]) if e is None else maps_BLAEFHW[sample, :, :, e]
            for e in entities
        ]
        rows.append(torch.stack(maps, dim=2))
    return torch.stack(rows)
