"""Compositions whose relations cannot hold together, however they were read or written down."""

from __future__ import annotations

import re

from cvg.common.errors import PromptError
from cvg.composition.composition import Composition, Entity, Relation
from cvg.composition.labels import LabelSet
from cvg.composition.phrases import plain

_COMPARED = "higher lower larger bigger smaller taller shorter longer wider faster slower heavier lighter".split()
ORDERS = frozenset(
    ["above", "over", "on top of", "below", "under", "underneath", "beneath", "left of", "right of", "in front of"]
    + ["to the left of", "to the right of", "behind", "inside", "inside of", "within"]
    + [f"{word} than" for word in _COMPARED]
)
"""What cannot hold both ways round: labels with one of these as their name or among their wordings."""

_ANOTHER = re.compile(r"\b(a|an|another|other|one|some|second|third)\s+$", re.IGNORECASE)


def refuse_swapped(composition: Composition, labels: LabelSet) -> None:
    """Refuse "A above B, B above A": an order of two entities, and the same order of them the other way round.

    Args:
        composition: what is asked; its relations may come from a parser, a manifest or by hand.
        labels: the label set that its labels are of.

    Raises:
        PromptError: two of its relations contradict each other in this way.
    """
    for i, relation in enumerate(composition.relations):
        for other in composition.relations[:i]:
            if _swapped(composition.prompt, other, relation) and _is_order(relation.label, labels):
                first, second = (entity.phrase for entity in other.entities)
                raise PromptError(
                    f"prompt {composition.prompt!r}: asks for {first!r} {relation.label} {second!r} and for the other "
                    "way round, and only one can hold; ask for one of them"
                )


def _is_order(name: str, labels: LabelSet) -> bool:
    return not ORDERS.isdisjoint([name, *map(plain, labels[name].wordings)])


def _swapped(prompt: str, first: Relation, second: Relation) -> bool:
    return (
        first.label == second.label
        and len(first.entities) == 2
        and all(_same(prompt, a, b) for a, b in zip(first.entities, reversed(second.entities), strict=True))
    )


def _same(prompt: str, first: Entity, second: Entity) -> bool:
    """Whether two mentions are one entity; "a dog ... a dog" are two."""
    if first == second:
        return True
    later = max(first, second, key=lambda entity: entity.start)
    return plain(first.phrase) == plain(second.phrase) and not _ANOTHER.search(prompt[: later.start])
