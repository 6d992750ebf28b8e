"""A prompt with other labels, in the same style: what p- is made of."""

from __future__ import annotations

import random
import re
from collections.abc import Sequence

from cvg.common.errors import PromptError
from cvg.composition.composition import Composition, Entity, Relation
from cvg.composition.labels import Label, LabelSet
from cvg.composition.language import inflected, is_verb, lemmas
from cvg.composition.phrases import plain


def contradict(composition: Composition, labels: LabelSet, rng: random.Random) -> Composition:
    """The same prompt with every relation wrong (p-): each wording replaced with one of a wrong label of its group.

    The wrong label is drawn uniformly, but two entities that differ in a label that only a question tells ("a red ball
    and a blue cube") exchange it. The new words have the form of the old ones, so that p+ and p- differ in meaning
    rather than in style.

    Args:
        composition: what is right.
        labels: the label set.
        rng: source of the draws.

    Returns:
        The wrong composition; its relations carry the wrong labels, its spans fit the new prompt.

    Raises:
        PromptError: a relation has no known wording in the prompt (its label was given by hand).
    """
    drawn: dict[tuple[str, int, int], str] = {}
    for relation in composition.relations:
        key = (relation.label, relation.start, relation.end)
        drawn.setdefault(key, labels.wrong(relation.label, rng).name)
    names = [drawn[relation.label, relation.start, relation.end] for relation in composition.relations]
    for group in {labels[relation.label].group for relation in composition.relations}:
        members = [i for i, relation in enumerate(composition.relations) if labels[relation.label].group == group]
        pair = [composition.relations[i] for i in members]
        told = all(labels[relation.label].question and not labels[relation.label].rule for relation in pair)
        if len(pair) == 2 and told and pair[0].label != pair[1].label and pair[0].entities != pair[1].entities:
            names[members[0]], names[members[1]] = pair[1].label, pair[0].label
    return restated(composition, names, labels)


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
            words = _in_its_form(composition.prompt, relation, labels[relation.label], labels[name])
            if article := _article_before(composition.prompt, relation.start, words):
                edits[article[:2]] = article[2]
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


def _in_its_form(prompt: str, relation: Relation, label: Label, other: Label) -> str:
    """What says the other label in the form of a relation's words. Raises PromptError where there are none."""
    wordings = [plain(wording) for wording in label.wordings]
    words = plain(relation.wording)
    if words in wordings:
        return other.wordings[wordings.index(words) % len(other.wordings)]
    if not words or not (label.patterns or words.split()[0] != wordings[0].split()[0]):
        raise PromptError(
            f"prompt {prompt!r}: {relation.wording!r} is not a known wording of label {label.name!r}, so it cannot be "
            f"replaced with a wrong one; use one of: {', '.join(wordings)}"
        )
    first = words.split()[0]
    verbs = sorted(lemma for lemma in lemmas(first, "VERB") if is_verb(lemma))
    said = other.wordings[0].split()
    stem = sorted(lemmas(said[0].lower(), "VERB"))
    if verbs and first not in ("left", "right") and stem and said[0].endswith("ing"):
        new = " ".join([inflected(stem[0], _tag(first, verbs[0])), *said[1:]])
    elif said[0].endswith("ing") and stem:
        new = _direction(words, other)
    else:
        new = other.wordings[0]
    return new[0].upper() + new[1:] if relation.wording[0].isupper() else new


def _tag(form: str, lemma: str) -> str:
    """Which form of its lemma a verb has."""
    if form.endswith("ing") and form != lemma:
        return "VBG"
    if form == lemma:
        return "VBP"
    return "VBZ" if form.endswith("s") else "VBD"


def _direction(words: str, other: Label) -> str:
    """The other label's direction in the style of one: "to the left", "leftwards", "from right to left", "left"."""
    tails = [wording.split(maxsplit=1)[1] for wording in other.wordings if " " in wording] or [other.wordings[0]]
    style = (
        r"to |toward"
        if words.startswith(("to ", "toward"))
        else r".*wards?$"
        if words.endswith(("ward", "wards"))
        else ""
    )
    if words.startswith("from "):
        crossing = [pattern.rpartition(".. ")[2] for pattern in other.patterns if ".. from " in pattern]
        tails = [text for text in crossing if "|" not in text] or tails
    return next((tail for tail in tails if re.match(style, tail)), tails[0])


def _article_before(prompt: str, start: int, words: str) -> tuple[int, int, str] | None:
    """An article right before, that the new words need in its other form: where it stands, and that form."""
    found = re.search(r"\b(an?)\s+$", prompt[:start], re.IGNORECASE)
    if not found:
        return None
    fitting = "an" if words[0].lower() in "aeiou" else "a"
    if fitting == found[1].lower():
        return None
    return found.start(1), found.end(1), fitting.capitalize() if found[1][0].isupper() else fitting
