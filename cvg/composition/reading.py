"""Reading a prompt: which labels it states, of which of its words. Spans only, no compositions."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from itertools import combinations

from cvg.common.errors import PromptError
from cvg.composition.accounting import shared, unstated, unused
from cvg.composition.attachment import Attachment
from cvg.composition.doubts import doubt, passing
from cvg.composition.given import Stated, assigned, by_hand, located, nothing_known, of_given, understood
from cvg.composition.labels import LabelSet
from cvg.composition.language import Word
from cvg.composition.lexicon import CHANGE
from cvg.composition.match import Match
from cvg.composition.misread import misread
from cvg.composition.negations import denial
from cvg.composition.phrases import FRAME, MEDIA, Phrase, span_of
from cvg.composition.refusals import (
    denied,
    doubtful,
    half_known,
    refuse_contradictions,
    refuse_senses,
    short_lived,
    unsure,
    without_weights,
)
from cvg.composition.requests import without_asides, without_requests
from cvg.composition.statements import all_matches
from cvg.composition.tagging import words_of
from cvg.composition.unseen import agent_place, is_scenery, is_unreal
from cvg.composition.values import stated_values

Unread = list[tuple[Match, PromptError]]
"""Words that may state a label, each with why it cannot be known."""


def stated(
    prompt: str, labels: LabelSet, entities: list[str] | None, given: list[str] | None
) -> tuple[list[Stated], list[str], list[str]]:
    """Find the relations of a prompt and the spans of their entities; see :func:`cvg.composition.parser.parse`.

    Returns:
        Per relation, in order of appearance (or as ``given``), the match and its (subject,) or (subject, object); why
        others were left out, one line each; and the parts of the prompt that none of them uses.
    """
    if not prompt.strip():
        raise PromptError(f"the prompt is empty; describe a relation, such as 'a dog {labels.labels[0].wordings[0]}'")
    if given is not None and entities is not None:
        return by_hand(prompt, labels, entities, given), [], []
    text, marked = without_weights(prompt) if entities is None else (prompt, [])
    text, asides = without_asides(without_requests(text)) if entities is None else (text, [])
    words = words_of(text, labels.lexicon.verbs)
    every = all_matches(prompt, labels, words) if given is None else of_given(prompt, labels, given, words)
    wanted = every if given is None else assigned(prompt, [labels[name] for name in given], every)
    attachment = Attachment(words, every)
    unread = _unreadable(prompt, wanted, labels) if given is None else []
    wanted = [match for match in wanted if not any(match is other for other, _ in unread)]
    if entities is not None:
        if unread:
            raise unread[0][1]
        if not wanted:
            raise nothing_known(prompt, labels, attachment)
        found = list(zip(wanted, located(prompt, wanted, attachment, entities), strict=True))
        refuse_contradictions(prompt, found)
        return found, [], []
    found = _attached(prompt, wanted, attachment, unread)
    if given is not None and unread:
        raise unread[0][1]
    if given is None:
        found += [
            (match, spans)
            for match, spans in stated_values(prompt, labels, words, attachment)
            if denial(match, (), (), words) is None
        ]
        found.sort(key=lambda each: (each[0].start, each[0].end))
    found = _once(found)
    if given is None:
        found = _without_contrary(prompt, found, unread)
    if not found:
        raise unread[0][1] if unread else nothing_known(prompt, labels, attachment)
    refuse_contradictions(prompt, found)
    reasons = [str(error).removeprefix(f"prompt {prompt!r}: ") for _, error in unread]
    reasons += [f"{mark!r} marks a weight, which the text encoder reads as words" for mark in marked]
    reasons += [f"{aside!r} is an aside, which tells what somebody wears or holds" for aside in asides]
    if given is not None:
        return found, reasons, []
    used = _used(words, found, [*every, *(match for match, _ in unread)])
    reasons += shared(words, {match.start for match, _ in found}, labels.lexicon)
    told = {words[place].sentence for match, _ in unread for place in match.places}
    rest = [word for word in words if word.sentence not in told]
    reasons += [f"{said!r} states no label here" for said in dict.fromkeys(unstated(rest, used, labels.lexicon))]
    return found, reasons, unused(prompt, words, used)


def _used(words: Sequence[Word], found: Sequence[Stated], matches: Sequence[Match]) -> set[int]:
    """The places of the words of entities, and of what states labels or might."""
    spans = [(start, end) for _, entities in found for _, start, end in entities]
    spans += [(match.start, match.end) for match, _ in found]
    used = {word.index for word in words if any(start < word.end and word.start < end for start, end in spans)}
    verbs = {match.verb for match in matches if match.verb is not None}
    return used | verbs | {place for match in matches for place in match.places}


def _without_contrary(prompt: str, found: Sequence[Stated], unread: Unread) -> list[Stated]:
    """The relations less pairs, stated by patterns, that contradict each other: "its belly rising and falling"."""
    lost = set()
    for i, j in combinations(range(len(found)), 2):
        if not found[i][0].literal and not found[j][0].literal:
            try:
                refuse_contradictions(prompt, [found[i], found[j]])
            except PromptError as error:
                unread.append((found[i][0], error))
                lost |= {i, j}
    return [each for i, each in enumerate(found) if i not in lost]


def _unreadable(prompt: str, matches: Sequence[Match], labels: LabelSet) -> Unread:
    """Directions that are half known."""
    return list(half_known(prompt, [match for match in matches if match.label.rule or match.literal], labels))


def _attached(prompt: str, matches: Sequence[Match], attachment: Attachment, unread: Unread) -> list[Stated]:
    """Matches with their entities; those that are sure to state something of none that is clear become ``unread``."""
    found: list[Stated] = []
    unclear: Unread = []
    for match in matches:
        if match.start == match.end:
            raise PromptError(
                f"prompt {prompt!r}: has no known wording of label {match.label.name!r}, which would tell its entities."
                f" {understood(prompt, attachment)}. Give the entities"
            )
        if not match.sure and is_unreal(match, attachment.words):
            continue
        slots = _slots(match, attachment)
        if is_scenery(match, slots[0], attachment.words):
            continue
        said = prompt[match.start : match.end]
        if word := doubt(match, slots[0], attachment.words):
            unread.append((match, doubtful(prompt, said, word)))
            continue
        if word := passing(match, slots[0], slots[1] if len(slots) > 1 else (), attachment.words):
            unread.append((match, short_lived(prompt, said, word)))
            continue
        whole = [(phrase, misread(phrase, attachment.words)) for phrases in slots for phrase in phrases]
        if odd := next(((phrase, word) for phrase, word in whole if word is not None), None):
            unread.append((match, unsure(prompt, said, span_of(prompt, odd[0], attachment.words)[0], odd[1])))
            continue
        if denier := denial(match, slots[0], slots[1] if len(slots) > 1 else (), attachment.words):
            unread.append((match, denied(prompt, denier)))
            continue
        spans = [span_of(prompt, phrases[0], attachment.words) if phrases else None for phrases in slots]
        try:
            refuse_senses(prompt, match, spans)
        except PromptError as error:
            if match.literal:
                unread.append((match, error))
            continue
        missing = [
            what for what, phrases in zip(("subject before", "object after"), slots, strict=False) if not phrases
        ]
        if missing:
            why = PromptError(
                f"prompt {prompt!r}: found no clear {missing[0]} {prompt[match.start : match.end]!r} (label "
                f"{match.label.name!r}). {understood(prompt, attachment)}. Give the entities of every relation "
                "(and its label), or reword the prompt"
            )
            (unread if match.sure else unclear).append((match, why))
        elif not any(_is_shot(match, phrase, attachment.words) for phrase in slots[0]):
            for subject in slots[0]:
                for others in slots[1] if len(slots) > 1 else [None]:
                    pair = [subject, *([others] if others else [])]
                    found.append((match, [span_of(prompt, phrase, attachment.words) for phrase in pair]))
    if not found and any(match.literal for match in matches):
        unread += unclear
    return found


def _is_shot(match: Match, phrase: Phrase, words: Sequence[Word]) -> bool:
    """Whether a statement is of the picture or of the camera: "a tracking shot moving left", "the camera hovers"."""
    noun = words[phrase.head].text
    if match.label.category == CHANGE and noun == "screen":
        return False  # "a screen lights up"
    if any(words[place].text == "camera" for place in range(phrase.first + 1, phrase.last + 1)):
        return True  # "a slight tilt of the camera"
    if words[phrase.first].text == "camera" and (phrase.bare or words[phrase.first - 1].text == "the"):
        return True
    return noun in FRAME | MEDIA and (not match.sure or not match.label.has_object)


def _slots(match: Match, attachment: Attachment) -> list[list[Phrase]]:
    """The phrases in each slot of a match; in the passive ("pulled by a donkey") the slots are exchanged."""
    slots = [attachment.subjects(match)]
    by = agent_place(match, attachment.words)
    if by is not None and match.label.category == CHANGE:
        return [[]]  # "boiled by a cook": no other change could be said so
    if by is not None and (match.label.has_object or match.label.rule is None):
        agents = attachment.objects(replace(match, places=(*match.places, by)))
        return [agents, slots[0]] if match.label.has_object else [agents]
    if not match.label.has_object:
        return slots
    return [slots[0], [phrase for phrase in attachment.objects(match) if phrase not in slots[0]]]


def _once(found: Sequence[Stated]) -> list[Stated]:
    """Each label of the same entities once."""
    kept: dict[tuple[object, ...], Stated] = {}
    for match, spans in found:
        kept.setdefault((match.label.name, *spans), (match, spans))
    return list(kept.values())
