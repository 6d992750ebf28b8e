"""Reading a prompt: relation wordings, and the noun phrases before and after them. Spans only, no compositions."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from cvg.common.errors import PromptError
from cvg.composition.labels import SLOT_NAMES, Label, LabelSet
from cvg.composition.phrases import Clause, PhraseSpan, clauses, joined, locate, word_pattern
from cvg.composition.refusals import (
    refuse_contradictions,
    refuse_directions,
    refuse_senses,
    refuse_unreadable,
    refuse_weights,
)


@dataclass(frozen=True)
class Match:
    """A wording found in the prompt, or a label given by hand that has none there (``start == end``)."""

    label: Label
    start: int
    end: int


def match_relations(
    prompt: str, labels: LabelSet, entities: list[str] | None, given: list[str] | None
) -> list[tuple[Match, list[PhraseSpan]]]:
    """Find the relations of a prompt and the spans of their entities; see :func:`cvg.composition.parser.parse`.

    Returns:
        Per relation, in order of appearance (or as ``given``), the match and its (subject,) or (subject, object).
    """
    if not prompt.strip():
        raise PromptError(f"the prompt is empty; describe a relation, such as 'a dog {labels.labels[0].wordings[0]}'")
    if entities is None:
        refuse_weights(prompt)
    if given is None:
        matches = every = _find_wordings(prompt, labels.labels)
        if matches:
            refuse_unreadable(prompt)
            refuse_directions(prompt, matches, labels)
    else:
        wanted = [labels[name] for name in given]
        found = _find_wordings(prompt, list(dict.fromkeys(wanted)))
        # The wordings of other labels still bound the noun phrases.
        every = _find_wordings(prompt, labels.labels, found)
        matches = _assign_labels(prompt, wanted, found)
    if not matches:
        known = ", ".join(wording for label in labels.labels for wording in label.wordings)
        raise PromptError(
            f"prompt {prompt!r}: no known relation found. {_understood(prompt, every)}. Use a known wording ({known}), "
            "or give the relation's label and entities"
        )
    if entities is not None:
        stated = list(zip(matches, _locate_entities(prompt, matches, every, entities), strict=True))
        refuse_contradictions(prompt, stated)
        return stated
    for match in matches:
        if match.start == match.end:
            raise PromptError(
                f"prompt {prompt!r}: has no known wording of label {match.label.name!r}, which would tell its entities."
                f" {_understood(prompt, every)}. Give the entities"
            )
    slots = _parse_entities(prompt, every)
    for match in matches:
        refuse_senses(prompt, match, slots[match])
        for what, span in zip(("subject before", "object after"), slots[match], strict=False):
            if not span:
                raise PromptError(
                    f"prompt {prompt!r}: found no clear {what} {prompt[match.start : match.end]!r} (label "
                    f"{match.label.name!r}). {_understood(prompt, every)}. Give the entities of every relation "
                    "(and its label), or reword the prompt"
                )
    stated = [(match, [span for span in slots[match] if span]) for match in matches]
    refuse_contradictions(prompt, stated)
    return stated


def _find_wordings(prompt: str, candidates: Iterable[Label], chosen: Sequence[Match] = ()) -> list[Match]:
    """All wordings of ``candidates`` in the prompt, in order; a wording inside a longer one is part of that.

    Matches already ``chosen`` stay and win over all that cross them.
    """
    wordings = [(wording, label) for label in candidates for wording in label.wordings]
    matches = list(chosen)
    for wording, label in sorted(wordings, key=lambda pair: -len(pair[0])):
        for found in word_pattern(wording).finditer(prompt):
            start, end = found.span()
            crossing = [match for match in matches if match.start < end and start < match.end]
            for match in crossing:
                inside = match.start <= start and end <= match.end
                if not inside and match.label != label and not chosen:
                    words = prompt[min(start, match.start) : max(end, match.end)]
                    raise PromptError(
                        f"prompt {prompt!r}: {words!r} can be read as {match.label.name!r} and as {label.name!r}; "
                        "give the label that is meant, or use another wording"
                    )
            if not crossing:
                matches.append(Match(label, start, end))
    return sorted(matches, key=lambda match: match.start)


def _assign_labels(prompt: str, wanted: Sequence[Label], matches: Sequence[Match]) -> list[Match]:
    """One match per wanted label, in that order: the next wording of it, or an empty one at the prompt's end."""
    unused, assigned = list(matches), []
    for label in wanted:
        match = next((match for match in unused if match.label == label), None)
        if match is None:
            match = Match(label, len(prompt), len(prompt))
        else:
            unused.remove(match)
        assigned.append(match)
    return assigned


def _parse_entities(prompt: str, matches: Sequence[Match]) -> dict[Match, list[PhraseSpan | None]]:
    """Subject and object of every match, from the noun phrases around it; None where there is none."""
    slots: dict[Match, list[PhraseSpan | None]] = {}
    before: Match | None = None
    for match in matches:
        region = clauses(prompt, before.end if before else 0, match.start)
        if before and before.label.has_object and len(region) > 1:
            region = region[1:]  # it holds the object of the relation before
        subject, several = _subject(prompt, region, match.start)
        if subject is None and not several and before:
            subject = slots[before][0]
        slots[match] = [subject]
        before = match
    after: Match | None = None
    for match in reversed(matches):
        if match.label.has_object:
            region = clauses(prompt, match.end, after.start if after else len(prompt))
            if region[0] and not region[0][0].governed:
                found: PhraseSpan | None = region[0][0].span
                if after is None and len(region) > 1 and region[1] and joined(prompt, region[0][0], region[1][0]):
                    found = None
            else:
                # "left of and above a car" shares its object.
                shared = after is not None and after.label.has_object and not any(region)
                found = slots[after][1] if after and shared else None
            slots[match].append(found)
        after = match
    return slots


def _subject(prompt: str, region: Sequence[Clause], end: int) -> tuple[PhraseSpan | None, bool]:
    """The noun phrase that heads the last clause that has one, and whether there were several instead.

    Several are two that are joined ("A and B"), and words between commas that may be an entity or a style ("a dog,
    cyberpunk, moving left").
    """
    heads = [next((chunk for chunk in clause if not chunk.governed), None) for clause in region]
    for i in reversed(range(len(heads))):
        head, previous = heads[i], heads[i - 1] if i else None
        if head:
            several = previous is not None and joined(prompt, previous, head)
            enclosed = head.bare and prompt[head.span[2] : end].lstrip().startswith(",")
            several |= enclosed and any(earlier is not None and not earlier.bare for earlier in heads[:i])
            return (None if several else head.span), several
    return None, False


def _understood(prompt: str, matches: Sequence[Match]) -> str:
    """What was found, for messages."""
    edges = [0, *(edge for match in matches for edge in (match.start, match.end)), len(prompt)]
    gaps = [clauses(prompt, *gap) for gap in zip(edges[::2], edges[1::2], strict=True)]
    phrases = [repr(chunk.span[0]) for gap in gaps for clause in gap for chunk in clause]
    relations = [f"{prompt[match.start : match.end]!r} ({match.label.name})" for match in matches]
    return f"Understood: noun phrases {', '.join(phrases) or 'none'}; relations {', '.join(relations) or 'none'}"


def _locate_entities(
    prompt: str, matches: Sequence[Match], every: Sequence[Match], phrases: Sequence[str]
) -> list[list[PhraseSpan]]:
    """Subject and object of every match, as given by hand."""
    expected = sum(match.label.entities for match in matches)
    if len(phrases) != expected:
        needs = ", ".join(
            f"{match.label.name!r} ({' and '.join(SLOT_NAMES[: match.label.entities])})" for match in matches
        )
        raise PromptError(
            f"prompt {prompt!r}: the entities have {len(phrases)} phrase(s), expected {expected}: for each relation in "
            f"turn its entities, here {needs}. {_understood(prompt, every)}"
        )
    spans = [locate(prompt, phrase) for phrase in phrases]
    for phrase, start, end in spans:
        for match in matches:
            if match.start < end and start < match.end:
                raise PromptError(
                    f"entity {phrase!r} overlaps the relation {prompt[match.start : match.end]!r} ({match.label.name});"
                    " name the entity without its relation's words"
                )
    located = iter(spans)
    return [[next(located) for _ in range(match.label.entities)] for match in matches]
