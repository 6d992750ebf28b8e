"""Relations that are said by hand: labels, entities, or both, whatever the prompt's words are."""

from __future__ import annotations

from collections.abc import Sequence

from cvg.common.errors import NothingToGuide, PromptError
from cvg.composition.attachment import Attachment
from cvg.composition.labels import SLOT_NAMES, LabelSet
from cvg.composition.language import Word
from cvg.composition.match import Match
from cvg.composition.phrases import PhraseSpan, locate, span_of
from cvg.composition.refusals import refuse_contradictions
from cvg.composition.statements import all_matches, literal_matches

Stated = tuple[Match, list[PhraseSpan]]
_SHOWN = 12
"""Most known wordings that a message lists."""


def by_hand(prompt: str, labels: LabelSet, entities: Sequence[str], given: Sequence[str]) -> list[Stated]:
    """Labels and entities that are both given, in any language: no word of the prompt need be known."""
    wanted = [labels[name] for name in given]
    matches = assigned(prompt, wanted, literal_matches(prompt, list(dict.fromkeys(wanted)), []))
    found = list(zip(matches, located(prompt, matches, None, entities), strict=True))
    refuse_contradictions(prompt, found)
    return found


def of_given(prompt: str, labels: LabelSet, given: Sequence[str], words: Sequence[Word]) -> list[Match]:
    """The matches of labels that are given, before those of others, which still bound the noun phrases."""
    wanted = list(dict.fromkeys(labels[name] for name in given))
    chosen = literal_matches(prompt, wanted, words)
    if len(chosen) < len(wanted):
        try:
            others = all_matches(prompt, labels, words)
        except PromptError:
            others = []
        spans = [(match.start, match.end) for match in chosen]
        chosen += [
            match
            for match in others
            if match.label in wanted and all(match.end <= start or end <= match.start for start, end in spans)
        ]
    return literal_matches(prompt, labels.labels, words, sorted(chosen, key=lambda match: match.start))


def assigned(prompt: str, wanted: Sequence[object], matches: Sequence[Match]) -> list[Match]:
    """One match per wanted label, in that order: the next wording of it, or an empty one at the prompt's end."""
    unused, found = list(matches), []
    for label in wanted:
        match = next((match for match in unused if match.label == label), None)
        if match is None:
            match = Match(label, len(prompt), len(prompt))  # type: ignore[arg-type]
        else:
            unused.remove(match)
        found.append(match)
    return found


def located(
    prompt: str, matches: Sequence[Match], attachment: Attachment | None, phrases: Sequence[str]
) -> list[list[PhraseSpan]]:
    """Subject and object of every match, as given by hand."""
    expected = sum(match.label.entities for match in matches)
    if len(phrases) != expected:
        needs = ", ".join(
            f"{match.label.name!r} ({' and '.join(SLOT_NAMES[: match.label.entities])})" for match in matches
        )
        known = f". {understood(prompt, attachment)}" if attachment else ""
        raise PromptError(
            f"prompt {prompt!r}: the entities have {len(phrases)} phrase(s), expected {expected}: for each relation in "
            f"turn its entities, here {needs}{known}"
        )
    spans = [locate(prompt, phrase) for phrase in phrases]
    for phrase, start, end in spans:
        for match in matches:
            if match.start < end and start < match.end:
                raise PromptError(
                    f"entity {phrase!r} overlaps the relation {prompt[match.start : match.end]!r} ({match.label.name});"
                    " name the entity without its relation's words"
                )
    each = iter(spans)
    return [[next(each) for _ in range(match.label.entities)] for match in matches]


# Messages


def understood(prompt: str, attachment: Attachment) -> str:
    """What was found, for messages."""
    words = attachment.words
    phrases = [repr(span_of(prompt, phrase, words)[0]) for phrase in attachment.phrases if not phrase.pronoun]
    relations = [f"{prompt[match.start : match.end]!r} ({match.label.name})" for match in attachment.matches]
    return f"Understood: noun phrases {', '.join(phrases) or 'none'}; relations {', '.join(relations) or 'none'}"


def nothing_known(prompt: str, labels: LabelSet, attachment: Attachment) -> NothingToGuide:
    """The error of a prompt that states nothing that the label set knows."""
    wordings = [wording for label in labels.labels for wording in label.wordings]
    known = ", ".join(wordings[:_SHOWN]) + (", ..." if len(wordings) > _SHOWN else "")
    return NothingToGuide(
        f"prompt {prompt!r}: no known relation found. {understood(prompt, attachment)}. Use a known wording "
        f"({known}), or give the relation's label and entities"
    )
