"""Prompt -> composition: which entities a prompt names, and how it relates them.

Sentences are parsed by a small language model (:mod:`cvg.composition.language`); the label set says which words state
which label, as wordings and as patterns over lemmas. Entities are the noun phrases that the parse, or their place,
makes subject and object of these words. Every error shows what was understood, and what cannot be read can be
said by hand (``entities``, ``label``), in any language.
"""

from __future__ import annotations

from typing import Protocol

from cvg.composition.composition import Composition, Entity, Relation
from cvg.composition.contradictions import refuse_swapped
from cvg.composition.labels import LabelSet
from cvg.composition.reading import stated


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

    Wordings are matched longest first, on word boundaries, in any case, and before patterns. The subject of a verb is
    the one the parse gives it; of other words, it heads the clause before them ("a dog in the snow moving left": the
    dog), and where that has no noun phrase, it is shared with the relation before ("a dog moving left above a car"). A
    relation that directly follows a noun phrase belongs to it ("a dog above a car moving up": the car moves; "a dog
    above a car, moving up": the dog). At the head of a sentence ("under the tree stands a dog") the subject follows.
    The object is the noun phrase after the words. Joined entities ("a dog and a cat move left") make a relation each.

    Args:
        prompt: the text prompt.
        labels: the label set Y.
        entities: the entity phrases by hand: for each relation in turn its subject and object. ``"dog#2"`` is the
            second "dog" of the prompt.
        label: the label of each relation by hand. Only their wordings are looked for; other relations are ignored.

    What cannot be known is left out where the prompt states more: a relation without a clear subject or object, and
    what is negated or left to choice; ``Composition.left_out`` says so, and ``Composition.unused`` what else of the
    prompt no relation uses.

    Raises:
        NothingToGuide: the prompt states nothing that the label set knows.
        PromptError: an unknown label, relations that contradict each other, an ambiguous wording, or a phrase that is
            not in the prompt; words that negate or leave a choice, or a missing entity, where nothing else is stated or
            labels are given. The message shows what was understood and how to say the rest.
    """
    relations, left_out, rest = stated(prompt, labels, entities, [label] if isinstance(label, str) else label)
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
            for match, spans in relations
        ),
        tuple(left_out),
        tuple(rest),
    )
    refuse_swapped(found, labels)
    return found
