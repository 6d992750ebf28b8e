"""Phrases that cannot be one thing: a word in them or after them is no part of a noun phrase, whatever the model says.

A wrong reading mostly stays the same whichever model reads the prompt, and however it is reworded; but it often leaves
a phrase where English has none: before another phrase, around a comparison, or with the only verb of its clause in it.
"""

from __future__ import annotations

from collections.abc import Sequence

from cvg.composition.language import Word, lemmas
from cvg.composition.phrases import GIVING, Phrase
from cvg.composition.predicates import LIKELY, has_verb, is_after_aside, is_joined

_ARTICLES = frozenset("a an the his her its their".split())
_POSSIBLE = 0.0005
"""How likely the model must hold the last word of a phrase for a verb, where its clause has no other."""


def misread(phrase: Phrase, words: Sequence[Word]) -> str | None:
    """The word that makes it doubtful that a phrase is one thing; None where none does.

    Args:
        phrase: what is taken for an entity.
        words: of the prompt.
    """
    last = words[phrase.last]
    after = words[phrase.last + 1].text if phrase.last + 1 < len(words) else ""
    describes = last.tag in ("JJR", "JJS") or (after == "," and bool(lemmas(last.text, "ADJ")))
    if describes and not lemmas(last.text, "NOUN"):
        return last.text  # "a bicycle taller than a man", "a tall, very thin man"
    if _meets_another(phrase, words) or _holds_verb(phrase, words) or _is_many_of_one(phrase, words):
        return last.text
    return words[phrase.head].text if is_broken(phrase, words) else None


def is_broken(phrase: Phrase, words: Sequence[Word]) -> bool:
    """Whether a phrase must hold a verb that nothing tells apart: a plural after "a" ("a steamboat chugs")."""
    single = phrase.first > 0 and words[phrase.first - 1].text in ("a", "an")
    last = words[phrase.last]
    if any(words[place].tag == "POS" for place in range(phrase.first, phrase.last)):
        return False  # "a butterfly's wings"
    if phrase.bare and phrase.first == phrase.last and is_after_aside(words, phrase.first, strictly=False):
        return last.text.endswith("s") and bool(lemmas(last.text, "VERB")) and not has_verb(words, phrase.first)
    plain = lemmas(last.text, "VERB")
    counted = words[phrase.first].kind == "NUM" and last.tag == "NNS"  # "two bus stops"
    if not counted and phrase.last > phrase.first and last.is_noun and last.verbal >= LIKELY and plain:
        before = words[phrase.last - 1]
        agrees = before.tag == "NNS" or is_joined(words, before.index) if last.text in plain else before.tag == "NN"
        return agrees and before.is_noun and not has_verb(words, phrase.last)  # "a pot and a kettle simmer"
    return single and words[phrase.head].tag == "NNS" and phrase.head > phrase.first


def _meets_another(phrase: Phrase, words: Sequence[Word]) -> bool:
    """Whether another phrase begins right after one that nothing governs: "that is red hugs a dog"."""
    after = words[phrase.last + 1] if phrase.last + 1 < len(words) else None
    if after is None or phrase.governed or after.text not in _ARTICLES or not lemmas(words[phrase.last].text, "VERB"):
        return False
    place = phrase.first - 1
    while place >= 0 and words[place].kind in ("DET", "NUM"):
        place -= 1
    opened = place >= 0 and (words[place].kind == "ADP" or not words[place].forms.isdisjoint(GIVING))
    return after.sentence == words[phrase.last].sentence and not opened  # "gives a cook the pan"


def _is_many_of_one(phrase: Phrase, words: Sequence[Word]) -> bool:
    """Whether a bare plural follows "is": "a girl whose scarf is blue waves"."""
    before = words[phrase.first - 1] if phrase.first else None
    single = before is not None and before.text in ("is", "was")
    return single and phrase.bare and words[phrase.last].tag == "NNS" and bool(lemmas(words[phrase.last].text, "VERB"))


def _holds_verb(phrase: Phrase, words: Sequence[Word]) -> bool:
    """Whether the last word may be the only verb of its clause: "the drone glides past a tower"."""
    last = words[phrase.last]
    if phrase.last == phrase.first or not last.text.endswith("s") or last.verbal < _POSSIBLE:
        return False
    before = words[phrase.last - 1]
    counted = words[phrase.first].kind == "NUM" or words[phrase.first - 1].kind == "NUM"
    single = before.tag in ("NN", "NNP") and last.text not in lemmas(last.text, "VERB")
    return single and not counted and bool(lemmas(last.text, "VERB")) and not has_verb(words, phrase.last)
