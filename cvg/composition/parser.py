"""Prompt -> composition: which entities a prompt names, and how it relates them.

The grammar is small on purpose and needs no language model: relation wordings come from the label set, and an entity is
the noun phrase that stands before (subject) or after (object) one. Every error shows what was understood, and what the
grammar cannot read can be said by hand (``entities``, ``label``). :mod:`cvg.composition.wordings` and
:mod:`cvg.composition.phrases` do the reading.
"""

from __future__ import annotations

from typing import Protocol

from cvg.composition.composition import Composition, Entity, Relation
from cvg.composition.contradictions import refuse_swapped
from cvg.composition.labels import LabelSet
from cvg.composition.wordings import match_relations


class Parser(Protocol):
    """Reads the composition that a prompt states; :func:`parse` is one."""

    def __call__(
        self, prompt: str, labels: LabelSet, entities: list[str] | None = None, label: list[str] | str | None = None
    ) -> Composition:
        """See :func:`parse`."""
        ...


def parse(
    prompt: str, labels: LabelSet, entities: list[str] | None = None, label: list[str] | str | None = None
) -> Composition:
    """Read the composition that a prompt states.

    Wordings are matched longest first, on word boundaries, in any case. The subject of a relation heads the clause
    before it ("a dog in the snow moving left": the dog); where that clause has no noun phrase, the relation shares the
    subject of the one before it ("a dog moving left above a car"). A relation that directly follows a noun phrase
    belongs to it ("a dog above a car moving up": the car moves; "a dog above a car, moving up": the dog). The object
    is the noun phrase after the wording. Two joined entities in one slot ("a dog and a cat moving left") are an error.

    Args:
        prompt: the text prompt.
        labels: the label set Y.
        entities: the entity phrases by hand: for each relation in turn its subject and object. ``"dog#2"`` is the
            second "dog" of the prompt.
        label: the label of each relation by hand. Only their wordings are looked for; other relations are ignored.

    Raises:
        PromptError: an unknown label, no relation, a missing or ambiguous entity, an ambiguous wording, or a phrase
            that is not in the prompt. The message shows what was understood and how to say the rest.
    """
    found = Composition(
        prompt,
        tuple(
            Relation(
                match.label.name,
                prompt[match.start : match.end],
                match.start,
                match.end,
                tuple(Entity(*span) for span in spans),
            )
            for match, spans in match_relations(prompt, labels, entities, [label] if isinstance(label, str) else label)
        ),
    )
    refuse_swapped(found, labels)
    return found
