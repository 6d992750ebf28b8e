"""The relations of a batch of prompts, row by row: whose they are, what fills their entity slots, what they aim at."""

from __future__ import annotations

import math
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass

from cvg.composition.composition import Composition, Relation
from cvg.composition.labels import SLOTS, LabelSet


@dataclass(frozen=True)
class RelationBatch:
    """The R relations of several prompts, prompt after prompt, each prompt's in the order of its composition.

    Attributes:
        relation_R: the relations themselves.
        prompt_R: index of the prompt that states each of them.
        slots_RK: for each entity slot, the index of its entity among ``Composition.entities``; None where it is absent.
        target_R: class index of the relation's label.
        group_R: class indices of the labels that exclude one another with it, its own among them.
    """

    relation_R: tuple[Relation, ...]
    prompt_R: tuple[int, ...]
    slots_RK: tuple[tuple[int | None, ...], ...]
    target_R: tuple[int, ...]
    group_R: tuple[tuple[int, ...], ...]

    @classmethod
    def of(cls, compositions: Iterable[Composition], labels: LabelSet) -> RelationBatch:
        """Those that compositions state.

        Args:
            compositions: one per prompt.
            labels: the label set whose class indices targets and groups are.

        Raises:
            PromptError: a label that is not in the set.
        """
        owned = [(prompt, composition) for prompt, composition in enumerate(compositions)]
        rows = [(prompt, composition, relation) for prompt, composition in owned for relation in composition.relations]
        return cls(
            relation_R=tuple(relation for *_, relation in rows),
            prompt_R=tuple(prompt for prompt, *_ in rows),
            slots_RK=tuple(entity_slots(composition, relation) for _, composition, relation in rows),
            target_R=tuple(labels.index(relation.label) for *_, relation in rows),
            group_R=tuple(tuple(labels.group_indices(relation.label)) for *_, relation in rows),
        )

    def __len__(self) -> int:
        return len(self.relation_R)

    @property
    def present_RK(self) -> list[list[bool]]:
        """Whether each relation has an entity in each slot."""
        return [[entity is not None for entity in slots] for slots in self.slots_RK]

    def rows(self, prompts: Collection[int]) -> list[int]:
        """The rows of some prompts' relations, in order."""
        return [row for row, prompt in enumerate(self.prompt_R) if prompt in prompts]

    def least(self, value_R: Sequence[float]) -> list[float]:
        """For each prompt, the least of its relations' values; NaN where one is NaN."""
        prompts = range(max(self.prompt_R) + 1)
        values = [[value_R[row] for row in self.rows((prompt,))] for prompt in prompts]
        return [math.nan if any(map(math.isnan, each)) else min(each) for each in values]


def entity_slots(composition: Composition, relation: Relation) -> tuple[int | None, ...]:
    """For each of the K entity slots, the index of its entity in the composition; None where it is absent."""
    filled = [composition.entities.index(entity) for entity in relation.entities]
    return (*filled, *[None] * (SLOTS - len(filled)))
