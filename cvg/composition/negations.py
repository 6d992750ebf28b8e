"""How far words reach that deny or leave a choice: "no", "not", "instead of", "or"."""

from __future__ import annotations

from collections.abc import Sequence

from cvg.composition.language import Word
from cvg.composition.match import Match
from cvg.composition.phrases import Phrase

_OF_THINGS = frozenset("no without neither nor".split())
"""They deny the phrase after them."""
_ALONE = frozenset("nobody nothing none noone".split())
"""They stand for a phrase."""
_OF_VERBS = frozenset("not n't never cannot hardly barely rarely seldom scarcely".split())
_BEFORE_FINITE = frozenset("never hardly barely rarely seldom scarcely".split())
"""Those of them that stand before the verb that they deny: "never sleeps"."""
_CONTRASTS = frozenset("instead except unless".split())
_CHOICES = frozenset("or either whether and/or".split())
_BOUNDS = frozenset("while whereas when where but because so until though although".split())
_FINITE = ("VBZ", "VBP", "VBD")


def denial(match: Match, subjects: Sequence[Phrase], others: Sequence[Phrase], words: Sequence[Word]) -> Word | None:
    """The word that denies a statement, or leaves a choice of it; None where none reaches it.

    Args:
        match: the words that state a label.
        subjects: the phrases that it is said of.
        others: the phrases of its object, where it has one.
        words: of the prompt.
    """
    if not match.places:
        return None
    sentence = words[match.places[0]].sentence
    for word in words:
        if word.sentence != sentence or word.index in match.places:
            continue
        if _reaches(word, match, [*subjects, *others], words):
            return word
    return None


def leaves_choice(word: Word) -> bool:
    """Whether a word that :func:`denial` gives leaves a choice, and denies nothing."""
    return word.text in _CHOICES


def _reaches(word: Word, match: Match, entities: Sequence[Phrase], words: Sequence[Word]) -> bool:
    place, text = word.index, word.text
    if text in _CHOICES:
        return _is_open(words, place, match, entities)
    if text in _OF_THINGS:
        return _denies_thing(words, place, match, entities)
    if text in _ALONE:
        return _follows(words, place, match)
    if text in _CONTRASTS or (text == "rather" and place + 1 < len(words) and words[place + 1].text == "than"):
        return text == "unless" or _follows(words, place, match)
    if text in _OF_VERBS or text.endswith("n't"):
        return _follows(words, place, match) and not _is_beyond(words, place, match)
    return False


def _follows(words: Sequence[Word], place: int, match: Match) -> bool:
    """Whether a statement stands after a place, within its clause."""
    return match.places[-1] > place and not _is_bounded(words, place, match.places[-1])


def _is_bounded(words: Sequence[Word], first: int, last: int) -> bool:
    """Whether a sign or a conjunction between two places ends a clause."""
    for place in range(first + 1, last):
        word = words[place]
        if word.text in _BOUNDS or (word.is_sign and word.text not in ("-", "'", '"', "(", ")")):
            return True
        if word.text in ("and", "as") and _opens(words, place, last):
            return True
    return False


def _opens(words: Sequence[Word], place: int, last: int) -> bool:
    """Whether "and" joins a clause with a subject of its own: "and a dog runs"."""
    after = words[place + 1 : last + 1]
    named = bool(after) and (after[0].kind in ("DET", "NUM", "ADJ") or after[0].is_noun or after[0].tag == "PRP$")
    return named and any(word.is_verb and word.tag in (*_FINITE, "VBG") for word in after)


def _denies_thing(words: Sequence[Word], place: int, match: Match, entities: Sequence[Phrase]) -> bool:
    """Whether "no", "without" or "neither" denies an entity of a statement, or it may be said of what is denied."""
    after = place + 1
    while after < len(words) and words[after].kind == "DET":
        after += 1
    if any(phrase.first <= after <= phrase.last for phrase in entities):
        return True
    if words[place].text in ("neither", "nor"):
        return _follows(words, place, match)
    if not _follows(words, place, match):
        return False
    verb = match.verb if match.verb is not None else match.places[0]
    between = words[place + 1 : max(verb, match.places[0]) + 1]
    acting = any(word.is_verb and word.tag in _FINITE for word in between)
    pronoun = after < len(words) and words[after].text == "one"
    return pronoun or not acting


def _is_beyond(words: Sequence[Word], place: int, match: Match) -> bool:
    """Whether a verb of its own stands between a negation and a statement: "that is not tired runs left"."""
    last = max(match.places[0], match.verb if match.verb is not None else 0)
    finite = [at for at in range(place + 1, last + 1) if words[at].is_verb and words[at].tag in _FINITE]
    if words[place].text in _BEFORE_FINITE and finite:
        adverbs = all(words[at].kind == "ADV" for at in range(place + 1, finite[0]))
        finite = finite[1:] if adverbs else finite
    return bool(finite)


def _is_open(words: Sequence[Word], place: int, match: Match, entities: Sequence[Phrase]) -> bool:
    """Whether a choice is within the clause of a statement, or between its entities."""
    if any(phrase.first <= place <= phrase.last for phrase in entities):
        return True
    first, last = sorted((place, match.places[0] if match.places[0] > place else match.places[-1]))
    listed = place > 0 and words[place - 1].text == ","
    return listed or words[place].text == "either" or not _is_bounded(words, first, last)
