"""What a prompt is understood to ask for, as its parts in the text and as fields by which it is corrected."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from itertools import starmap

from cvg.common.errors import PromptError
from cvg.composition import Composition, Entity, LabelSet, Relation, parse
from cvg.composition.language import tokens_of
from cvg.composition.phrases import noun_phrases, word_pattern
from cvg.guidance.stated import stated_part, unstated

ROLES = ("subject", "object")
"""Of an entity in a relation, by its slot."""


@dataclass(frozen=True)
class Said:
    """A relation as it stands in the fields.

    Attributes:
        label: name of the label; empty for a relation that is not there.
        subject: the phrase, ``dog#2`` for the second "dog" of the prompt.
        object: likewise; empty for a label of one entity.
    """

    label: str = ""
    subject: str = ""
    object: str = ""


@dataclass(frozen=True)
class Part:
    """A piece of the prompt.

    Attributes:
        text: the piece; all of them in order are the prompt.
        kind: ``subject``, ``object``, the label's name of words that state a relation, or None.
        relation: which relation it belongs to; None for text between.
    """

    text: str
    kind: str | None = None
    relation: int | None = None


@dataclass(frozen=True)
class Understanding:
    """What a prompt asks for, or why that is not known.

    Attributes:
        prompt: the text.
        composition: what is to be guided; None where there is nothing.
        problem: why it is None; empty otherwise, and of an empty prompt.
        notes: what of the prompt is left out, one reason each.
    """

    prompt: str
    composition: Composition | None
    problem: str = ""
    notes: tuple[str, ...] = ()

    @property
    def parts(self) -> list[Part]:
        """The prompt in pieces: entities, words that state relations, and what lies between."""
        relations = () if self.composition is None else self.composition.relations
        found: dict[tuple[int, int], Part] = {}
        for number, relation in enumerate(relations):
            for entity, role in zip(relation.entities, ROLES, strict=False):
                found.setdefault((entity.start, entity.end), Part(entity.phrase, role, number))
        for number, relation in enumerate(relations):
            found.setdefault((relation.start, relation.end), Part(relation.wording, relation.label, number))
        parts, at = [], 0
        for (start, end), part in sorted(found.items(), key=lambda item: item[0]):
            if start >= at and end > start:  # what two relations share is the first one's
                parts += [Part(self.prompt[at:start])] if start > at else []
                parts.append(part)
                at = end
        return [*parts, Part(self.prompt[at:])] if at < len(self.prompt) else parts

    @property
    def said(self) -> list[Said]:
        """The relations as the fields show them."""
        relations = () if self.composition is None else self.composition.relations
        return [_said(self.prompt, relation) for relation in relations]


def understand(prompt: str, labels: LabelSet, ruled: bool, said: Sequence[Said] | None = None) -> Understanding:
    """Read a prompt.

    Args:
        prompt: the text.
        labels: the label set.
        ruled: rules are to guide: of what is asked, they take what they know.
        said: what it asks for by hand, in place of what is read; relations without a label are not there.
    """
    if not prompt.strip():
        return Understanding(prompt, None)
    try:
        composition = parse(prompt, labels) if said is None else _by_hand(prompt, labels, said)
    except PromptError as error:
        return Understanding(prompt, None, str(error))
    notes = composition.left_out
    if ruled:
        mine, unknown = stated_part(composition, labels)
        if mine is None:
            return Understanding(prompt, None, str(unstated(labels, unknown[0])))
        composition, notes = mine, (*notes, *(f"{name!r}: no rule on attention maps states it" for name in unknown))
    return Understanding(prompt, composition, notes=notes)


def _by_hand(prompt: str, labels: LabelSet, said: Sequence[Said]) -> Composition:
    entities: list[str] = []
    for one in said:
        if one.label:
            pair = [one.subject, one.object][: labels[one.label].entities]
            for phrase, role in zip(pair, ROLES, strict=False):
                if not phrase.strip():
                    raise PromptError(f"label {one.label!r}: has no {role} yet; choose one, or write it as it stands")
            entities += pair
    if not entities:
        raise PromptError(f"prompt {prompt!r}: no relation is chosen; choose a label and its entities")
    found = parse(prompt, labels, entities, [one.label for one in said if one.label])
    with suppress(PromptError):  # it may be said by hand because it cannot be read
        read = [relation for relation, one in zip(parse(prompt, labels).relations, said, strict=False) if one.label]
        return replace(
            found,
            relations=tuple(
                starmap(_with_words, zip(found.relations, [*read, *[None] * len(found.relations)], strict=False))
            ),
        )
    return found


def _with_words(relation: Relation, read: Relation | None) -> Relation:
    """A relation said by hand, of which the prompt has no literal wording, with the words that were read in its place.

    They are shown, and can be clicked on again; what is guided does not depend on them.
    """
    if relation.wording or read is None:
        return relation
    return replace(relation, wording=read.wording, start=read.start, end=read.end)


def phrases(prompt: str, said: Sequence[Said] = ()) -> list[str]:
    """Phrases of a prompt that may be entities, for choosing: its noun phrases, and those that are chosen."""
    words = tokens_of(prompt)
    spans = [(words[found.first].start, words[found.last].end) for found in noun_phrases(words, ())]
    named = [_named(prompt, Entity(prompt[start:end], start, end)) for start, end in spans]
    chosen = [phrase for one in said for phrase in (one.subject, one.object) if phrase]
    return list(dict.fromkeys([*named, *chosen]))


def clicked(said: Sequence[Said], part: Part, labels: LabelSet) -> list[Said]:
    """The relations after a click on a part: words take the next label of their group, entities change places."""
    changed = list(said)
    if part.relation is None or part.relation >= len(changed):
        return changed
    one = changed[part.relation]
    if part.kind not in ROLES:
        group = labels.group_indices(one.label)
        following = group[(group.index(labels.index(one.label)) + 1) % len(group)]
        changed[part.relation] = replace(one, label=labels.names[following])
    elif one.object:
        changed[part.relation] = replace(one, subject=one.object, object=one.subject)
    return changed


def _said(prompt: str, relation: Relation) -> Said:
    names = [_named(prompt, entity) for entity in relation.entities]
    return Said(relation.label, *names)


def _named(prompt: str, entity: Entity) -> str:
    """An entity as it is said by hand: with its number where the prompt has the phrase more than once."""
    starts = [found.start() for found in word_pattern(entity.phrase).finditer(prompt)]
    if len(starts) < 2 or entity.start not in starts:
        return entity.phrase
    return f"{entity.phrase}#{starts.index(entity.start) + 1}"
