"""From the maps of a prompt's entities to those of its relations."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor


def slot_maps(maps_BLAEFHW: Tensor, prompt_R: Sequence[int], slots_RK: Sequence[Sequence[int | None]]) -> Tensor:
    """Entity maps of relations, slot by slot.

    Args:
        maps_BLAEFHW: maps of all entities of the prompts.
        prompt_R: for each relation, the batch index of its prompt, as `RelationBatch.prompt_R`.
        slots_RK: for each relation, the entity index of each slot, None for an absent one, as `RelationBatch.slots_RK`.

    Returns:
        maps_RLAKFHW; those of an absent slot are zero.
    """
    rows = []
    for prompt, slots in zip(prompt_R, slots_RK, strict=True):
        filled = [
            torch.zeros_like(maps_BLAEFHW[prompt, :, :, 0]) if entity is None else maps_BLAEFHW[prompt, :, :, entity]
            for entity in slots
        ]
        rows.append(torch.stack(filled, dim=2))
    return torch.stack(rows)
