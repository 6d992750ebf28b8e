"""Which words of a prompt state which label."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from cvg.common.errors import PromptError
from cvg.composition.labels import Label, LabelSet
from cvg.composition.language import Word
from cvg.composition.lexicon import ATTRIBUTE, NUMBER
from cvg.composition.match import Match
from cvg.composition.patterns import Pattern
from cvg.composition.phrases import word_pattern
from cvg.composition.senses import BODY, is_place, says

_SINGLE = 2
_OWNERS = frozenset("its his her their".split())
_AT = frozenset("to on at".split())
_MOVING = ("relative_motion",)


def places_of(words: Sequence[Word], start: int, end: int) -> tuple[int, ...]:
    """The words of ``prompt[start:end]``."""
    return tuple(word.index for word in words if word.start < end and start < word.end)


def literal_matches(
    prompt: str, candidates: Iterable[Label], words: Sequence[Word], chosen: Sequence[Match] = ()
) -> list[Match]:
    """All wordings of ``candidates`` in the prompt, in order; a wording inside a longer one is part of that.

    Matches already ``chosen`` stay and win over all that cross them.

    Raises:
        PromptError: two wordings of different labels cross.
    """
    wordings = [(wording, label) for label in candidates for wording in label.wordings if not is_value(label)]
    matches = list(chosen)
    text = prompt.lower()
    wordings = [(wording, label) for wording, label in wordings if wording.split()[0].lower() in text]
    for wording, label in sorted(wordings, key=lambda pair: -len(pair[0])):
        for found in word_pattern(wording).finditer(prompt):
            start, end = found.span()
            crossing = [match for match in matches if match.start < end and start < match.end]
            for match in crossing:
                inside = match.start <= start and end <= match.end
                if not inside and match.label != label and not chosen:
                    said = prompt[min(start, match.start) : max(end, match.end)]
                    raise PromptError(
                        f"prompt {prompt!r}: {said!r} can be read as {match.label.name!r} and as {label.name!r}; "
                        "give the label that is meant, or use another wording"
                    )
            places = places_of(words, start, end)
            if not crossing and (places or not words):  # words that only ask for a video state nothing
                verb = places[0] if places and _begins_with_verb(wording, words[places[0]]) else None
                sure = len(wording.split()) > 1 or len(label.wordings) < _SINGLE or verb is None
                matches.append(Match(label, start, end, places, verb, True, sure))
    return sorted(matches, key=lambda match: match.start)


def is_value(label: Label) -> bool:
    """Whether words inside of noun phrases state it: a colour, a number."""
    return label.category in (ATTRIBUTE, NUMBER) and not label.has_object


def all_matches(prompt: str, labels: LabelSet, words: Sequence[Word]) -> list[Match]:
    """Wordings, and patterns where no wording is, in order of appearance; values of noun phrases are not among them.

    Raises:
        PromptError: two wordings of different labels cross.
    """
    found = [
        (_own(pattern, places), pattern, label, places) for pattern, label, places in labels.lexicon.matches(words)
    ]
    found.sort(
        key=lambda each: (
            -len(each[1].parts),
            -len(each[0]),
            each[3][-1] - each[3][0],
            each[1].verb and _lacks_object(words, each[2], each[3]),
        )
    )
    longer = [set(own) for own, pattern, *_ in found if len(own) > 1 and not pattern.open]
    literal = [match for match in literal_matches(prompt, labels.labels, words) if says(words, match)]
    literal = [match for match in literal if not _is_part(match, longer)]  # "playing" of "playing guitar"
    apart = [set(own) for own, pattern, label, _ in found if len(own) > 1 and label.rule and label.group in _MOVING]
    literal = [match for match in literal if not any(set(match.places) < own for own in apart)]  # "trails behind"
    matches = [*literal, *_possessive_matches(labels, words)]
    taken = {place for match in matches for place in match.places}
    for label, (*own, acting) in labels.lexicon.fronted(words):
        match = Match(label, words[own[0]].start, words[own[-1]].end, tuple(own), acting, False, False)
        if taken.isdisjoint(own) and is_place(words, match):
            matches.append(match)
            taken |= set(own)
    directed: dict[tuple[str, int | None], Label] = {}  # "floats from left to right down the stream": to the right
    for own, pattern, label, places in found:
        first, last = words[own[0]], words[own[-1]]
        verb = places[0] if pattern.verb else None
        match = Match(label, first.start, last.end, tuple(own), verb, False, False)
        said = verb if pattern.open else None
        if taken.isdisjoint(own) and says(words, match) and directed.get((label.group, said), label) == label:
            matches.append(match)
            if said is not None:
                directed[label.group, said] = label
            taken |= set(own)
    kept = [one for one in matches if not _is_overruled(one, matches)]
    return sorted(kept, key=lambda one: (one.start, one.end))


def _is_overruled(match: Match, matches: Sequence[Match]) -> bool:
    """Whether a verb is said to go another way than it does by itself: "soaring to the right"."""
    alone = match.verb is not None and match.places == (match.verb,)
    return alone and any(
        other.verb == match.verb and other.label.group == match.label.group and match.verb not in other.places
        for other in matches
    )


def _lacks_object(words: Sequence[Word], label: Label, places: Sequence[int]) -> bool:
    """Whether a label relates its subject to an object that does not follow, or does not where one follows a verb."""
    follows = _has_object(words, places[-1])
    return not follows if label.has_object else follows and len(places) == 1


def _has_object(words: Sequence[Word], place: int) -> bool:
    """Whether an object may follow a verb, or, in the passive, whoever does it: "hugs a boy", but not "they hug"."""
    after = words[place + 1] if place + 1 < len(words) else None
    if after is not None and after.tag == "PRP$" and place + 2 < len(words) and words[place + 2].text in BODY:
        return False  # "scratches its ear"
    return (
        after is not None and not after.is_sign and (after.text == "by" or after.kind not in ("ADP", "CCONJ", "SCONJ"))
    )


def _is_part(match: Match, longer: Sequence[set[int]]) -> bool:
    """Whether a wording is one verb, of which a pattern knows more words."""
    return match.verb is not None and len(match.places) == 1 and any(set(match.places) < own for own in longer)


def _possessive_matches(labels: LabelSet, words: Sequence[Word]) -> list[Match]:
    """Wordings whose object is a possessive pronoun: "to its left", "on her left side"."""
    found = []
    for word in words:
        label = labels.lexicon.sides.get(word.text)
        place = word.index
        if label is None or place < 2 or words[place - 1].text not in _OWNERS or words[place - 2].text not in _AT:
            continue
        last = place
        while last + 1 < len(words) and words[last + 1].text in ("side", "hand"):
            last += 1
        if last + 1 == len(words) or not words[last + 1].is_noun:
            places = tuple(range(place - 2, last + 1))
            found.append(Match(label, words[place - 2].start, words[last].end, places, None, False, False))
    return found


def _own(pattern: Pattern, places: list[int]) -> list[int]:
    """The words that state the label: of a pattern with a gap those on its other side than any of many verbs."""
    if not pattern.open:
        return places
    if not pattern.verb:
        return places[: pattern.parts.index(None)]
    gaps = [index for index, part in enumerate(pattern.parts) if part is None]
    return places[gaps[-1] :]


def _begins_with_verb(wording: str, word: Word) -> bool:
    return wording.split()[0].endswith("ing") or word.is_verb
