"""A prompt with other labels, in the same style: what p- is made of."""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence

from cvg.common.errors import PromptError
from cvg.composition.composition import Composition, Entity, Relation
from cvg.composition.forms import Place, agreeing, article_before, phrase_for
from cvg.composition.labels import Label, LabelSet
from cvg.composition.lexicon import NUMBER


def contradict(composition: Composition, labels: LabelSet, rng: random.Random) -> Composition:
    """The same prompt with every relation wrong (p-): each wording replaced with one of a wrong label of its group.

    The wrong label is drawn uniformly among those that can be said in the place of the words, but two entities that
    differ in a label that only a question tells ("a red ball and a blue cube") exchange it. The new words have the form
    of the old ones, so that p+ and p- differ in meaning rather than in style.

    Args:
        composition: what is right.
        labels: the label set.
        rng: source of the draws.

    Returns:
        The wrong composition; its relations carry the wrong labels, its spans fit the new prompt.

    Raises:
        PromptError: a relation has no known wording in the prompt (its label was given by hand), or nothing else can be
            said in its place.
    """
    drawn: dict[tuple[str, int, int], str] = {}
    for relation in composition.relations:
        key = (relation.label, relation.start, relation.end)
        if key not in drawn:
            names = _wrong(composition, relation, labels)
            held = _held(composition, relation, drawn, labels)
            drawn[key] = rng.choice([name for name in names if _value(labels[name]) not in held] or names)
    names = [drawn[relation.label, relation.start, relation.end] for relation in composition.relations]
    for group in {labels[relation.label].group for relation in composition.relations}:
        members = [i for i, relation in enumerate(composition.relations) if labels[relation.label].group == group]
        pair = [composition.relations[i] for i in members]
        told = all(labels[relation.label].question and not labels[relation.label].rule for relation in pair)
        if len(pair) == 2 and told and pair[0].label != pair[1].label and pair[0].entities != pair[1].entities:
            exchanged = [pair[1].label, pair[0].label]
            possible = [_wrong(composition, relation, labels, every=True) for relation in pair]
            if all(name in some for name, some in zip(exchanged, possible, strict=True)):
                names[members[0]], names[members[1]] = exchanged
    return restated(composition, names, labels)


def _value(label: Label) -> str:
    """The last word of a label: what it says something is or becomes."""
    return label.wordings[0].split()[-1].lower()


def _held(
    composition: Composition, relation: Relation, drawn: Mapping[tuple[str, int, int], str], labels: LabelSet
) -> set[str]:
    """The words that say how an entity of a relation is already: nothing red turns red."""
    if len(relation.entities) != 1:
        return set()
    entity = relation.entities[0]
    held = {word.lower() for word in entity.phrase.split()}
    for other in composition.relations:
        name = drawn.get((other.label, other.start, other.end))
        if other is not relation and len(other.entities) == 1 and other.entities[0].end == entity.end:
            held.add(_value(labels[name or other.label]))
    return held


def _wrong(composition: Composition, relation: Relation, labels: LabelSet, every: bool = False) -> list[str]:
    """The other labels of a relation's group that can be said in its place; without ``every`` those to draw from."""
    label = labels[relation.label]
    place = Place(composition.prompt, relation)
    group = [other for other in labels.groups[label.group] if other.name != label.name]
    if not every and label.category == NUMBER:
        group = [other for other in group if other.wordings[0] != "one"] or group
    names = [other.name for other in group if phrase_for(place, label, other) is not None]
    if not names and not every:
        wordings = ", ".join(label.wordings)
        raise PromptError(
            f"prompt {composition.prompt!r}: {relation.wording!r} is not a known wording of label {label.name!r}, or "
            f"nothing of its group can take its place, so it cannot be replaced with a wrong one; use one of: "
            f"{wordings}"
        )
    return names


def restated(composition: Composition, names: Sequence[str], labels: LabelSet) -> Composition:
    """The same prompt with other labels: each wording replaced with one of the label that takes its place.

    A wording of the label set is replaced with the one at the same place among the other label's (modulo their number);
    other words with the other label's first wording in their form ("sits" with "stands", "to the left" with "to the
    right"). A relation that keeps its label keeps its words.

    Args:
        composition: what is said.
        names: per relation, the name of a label of its group.
        labels: the label set.

    Returns:
        The new composition; its spans fit the new prompt.

    Raises:
        PromptError: a relation whose label changes has no known wording in the prompt (it was given by hand).
    """
    edits: dict[tuple[int, int], str] = {}
    for relation, name in zip(composition.relations, names, strict=True):
        span, words = (relation.start, relation.end), relation.wording
        if name != relation.label:
            label, other = labels[relation.label], labels[name]
            found = phrase_for(Place(composition.prompt, relation), label, other)
            if found is None:
                raise PromptError(
                    f"prompt {composition.prompt!r}: {words!r} is not a known wording of label {label.name!r}, so it "
                    f"cannot be replaced with a wrong one; use one of: {', '.join(label.wordings)}"
                )
            words = found
            if article := article_before(composition.prompt, relation.start, words):
                edits[article[:2]] = article[2]
            if label.category == NUMBER:
                edits |= agreeing(composition.prompt, relation, label.wordings[0], other.wordings[0])
        edits[span] = words

    def shift(position: int) -> int:
        return position + sum(len(words) - (end - start) for (start, end), words in edits.items() if end <= position)

    prompt = composition.prompt
    for (start, end), words in sorted(edits.items(), reverse=True):
        prompt = prompt[:start] + words + prompt[end:]

    def moved(entity: Entity) -> Entity:
        start, end = shift(entity.start), shift(entity.end)
        return Entity(prompt[start:end], start, end)

    relations = []
    for relation, name in zip(composition.relations, names, strict=True):
        words, start = edits[relation.start, relation.end], shift(relation.start)
        relations.append(Relation(name, words, start, start + len(words), tuple(map(moved, relation.entities))))
    return Composition(prompt, tuple(relations))
