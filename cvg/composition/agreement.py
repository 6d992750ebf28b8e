"""Verbs that the small model takes for nouns, told by what a sentence cannot do without them: number and a verb."""

from __future__ import annotations

from collections.abc import Sequence

from cvg.composition.language import PREPOSITIONS, Word, lemmas
from cvg.composition.predicates import is_object

_SINGLE = frozenset("a an one each every another".split())
_SAME = frozenset("sheep deer fish people children men women geese mice cattle police feet oxen teeth".split())
"""Plurals without an s, which the model takes for singulars."""
_MASS = frozenset(
    "smoke steam water snow rain dust sand light music fog mist hair grass lava foam fire ice oil".split()
)
_SEEING = frozenset("watch watches see sees hear hears let lets make makes help helps".split())
_LINKS = frozenset("and or as while when where , ;".split())
_AGES = frozenset("about around over under above aged".split())
_FINITE = ("VBZ", "VBP", "VBD", "MD")
_RELATIVE = ("WDT", "WP")


def mend_agreement(words: Sequence[Word], colours: frozenset[str]) -> None:
    """Mend, in place, the tags that the number of a noun, or a clause without a verb, shows to be wrong.

    Args:
        words: of a prompt.
        colours: words that mostly describe others.
    """
    for word in words:
        if _is_thing(words, word):
            _set(word, "NOUN", "NN")
        elif _is_plural_before_verb(words, word):
            _set(word, "NOUN", "NNS")
            _set(words[word.index + 1], "VERB", "VBP")
        elif _is_third_person(words, word, colours):
            _set(word, "VERB", "VBZ")
        elif _is_watched(words, word):
            _set(word, "VERB", "VB")
        elif _is_plain_verb(words, word):
            _set(word, "VERB", "VBP")
        elif _is_second_participle(words, word):
            _set(word, "VERB", "VBG")
            word.dep, word.head = "conj", word.index - 2


def _is_thing(words: Sequence[Word], word: Word) -> bool:
    """Whether a noun is taken for an auxiliary or an adverb: "a soda can stands", "a stone well"."""
    if (
        not ((word.tag == "MD" and word.text == "can") or (word.kind == "ADV" and word.text == "well"))
        or not word.index
    ):
        return False
    after = words[word.index + 1] if word.index + 1 < len(words) else None
    place = word.index - 1
    while place > 0 and (words[place].is_noun or words[place].kind == "ADJ" or words[place].tag in ("VBG", "VBN")):
        place -= 1
    determined = words[place].kind == "DET"
    if word.tag == "MD":
        plainly = after is not None and after.text in lemmas(after.text, "VERB") and not after.text.endswith("ed")
        return determined and not plainly and (after is None or after.kind != "ADV")
    return determined and (after is None or after.is_sign or after.kind in ("ADP", "CCONJ") or after.is_verb)


def _is_third_person(words: Sequence[Word], word: Word, colours: frozenset[str]) -> bool:
    """Whether a word in -s that is taken for a noun is the verb of a noun in the singular: "a yellow taxi waits"."""
    plain = lemmas(word.text, "VERB")
    if is_object(words, word):
        return False
    if word.is_verb or not word.text.endswith("s") or not plain or word.text in plain or word.index < 1:
        return False
    before, after = words[word.index - 1], words[word.index + 1] if word.index + 1 < len(words) else None
    if before.text == "her" and after is not None and (after.kind == "DET" or after.tag == "PRP$"):
        return True  # "a child next to her eats a banana"
    described = after is not None and (after.is_noun or after.kind == "ADJ") and after.text not in ("left", "right")
    if described and after is not None and after.tag != "PRP$":
        return before.text == "," and _is_enclosed(words, word.index)
    if _ends_single(words, before.index, colours):
        return True
    open_after = after is None or after.is_sign or after.kind in ("ADP", "ADV", "DET", "SCONJ", "CCONJ")
    if not open_after:
        return False
    if before.text in _MASS and _opens_clause(words, before.index) and not _has_verb(words, word.index):
        return True  # "purple smoke curls around a lamp"
    if before.kind == "NUM" and _text(words, word.index - 2) in _AGES and not lemmas(word.text, "NOUN"):
        return True  # "a boy of about ten kneels"
    if before.text in colours and _text(words, word.index - 2) == "in":
        single = _ends_single(words, word.index - 3, colours)
        return single and not _has_verb(words, word.index)  # "a woman in white dances"
    if before.kind == "ADJ" and before.index and _closes_relative(words, before.index):
        return True  # "a bird that is bright red sings"
    return before.text == "," and _is_enclosed(words, word.index)


def _ends_single(words: Sequence[Word], index: int, colours: frozenset[str]) -> bool:
    """Whether a place ends a phrase of one thing, which no plural noun goes on: "a sleeping fox"."""
    last = words[index]
    named = last.tag in ("NN", "NNP") or (last.kind == "ADJ" and last.text in lemmas(last.text, "NOUN"))
    if not named or last.text in colours:
        return False
    place = index
    while place >= 0 and (words[place].is_noun or words[place].kind == "ADJ" or words[place].tag in ("VBG", "VBN")):
        place -= 1
    return 0 <= place < index and words[place].text in _SINGLE


def _opens_clause(words: Sequence[Word], index: int) -> bool:
    """Whether a place ends a phrase that begins a clause."""
    place = index
    while place > 0 and (words[place - 1].kind in ("ADJ", "DET") or words[place - 1].is_noun):
        place -= 1
    return place == 0 or words[place - 1].text in _LINKS or words[place - 1].text in ".!?"


def _closes_relative(words: Sequence[Word], index: int) -> bool:
    """Whether an adjective ends a relative clause: "that is bright red"."""
    place = index
    while place > 0 and words[place].kind in ("ADJ", "ADV"):
        place -= 1
    return words[place].kind == "AUX" and place > 0 and words[place - 1].tag in _RELATIVE


def _is_enclosed(words: Sequence[Word], index: int) -> bool:
    """Whether commas enclose a participle before a place, in a sentence without a verb: "the chef, sweating, chops"."""
    first = next((place for place in range(index - 2, -1, -1) if words[place].text == ","), None)
    if first is None or words[first].sentence != words[index].sentence or _has_verb(words, index):
        return False
    within = words[first + 1 : index - 1]
    return len(within) < 6 and any(word.text.endswith(("ing", "ed")) and lemmas(word.text, "VERB") for word in within)


def _has_verb(words: Sequence[Word], index: int) -> bool:
    """Whether the clause of a place, up to signs and conjunctions, has a finite verb before it."""
    for place in range(index - 1, -1, -1):
        word = words[place]
        if word.sentence != words[index].sentence or (word.text in _LINKS and word.text != ","):
            return False
        if word.tag in _FINITE and word.is_verb:
            return True
    return False


def _is_plural_before_verb(words: Sequence[Word], word: Word) -> bool:
    """Whether a plural is taken for a verb, and its verb for a noun: "neon signs shimmer in", "as sparks fly"."""
    if word.tag != "VBZ" or word.kind != "VERB" or not lemmas(word.text, "NOUN") or word.index + 1 == len(words):
        return False
    before, after = words[word.index - 1] if word.index else None, words[word.index + 1]
    beyond = words[after.index + 1] if after.index + 1 < len(words) else None
    if after.text not in lemmas(after.text, "VERB") or after.text in PREPOSITIONS or after.kind == "DET":
        return False
    if not (beyond is None or beyond.is_sign or beyond.kind in ("ADP", "ADV")):
        return False
    if before is None or before.text in _LINKS or before.is_sign:
        return after.tag in ("VBP", "VB") and (before is None or before.text != "and")
    opened = before.index == 0 or words[before.index - 1].text in _LINKS or words[before.index - 1].is_sign
    return before.tag in ("NN", "JJ") and opened


def _is_plain_verb(words: Sequence[Word], word: Word) -> bool:
    """Whether a word is the verb of a plural: "seven sheep graze", "the leaves of a young maple shine"."""
    if word.is_verb or word.index < 1 or word.text not in lemmas(word.text, "VERB") or word.text in PREPOSITIONS:
        return False
    before, after = words[word.index - 1], words[word.index + 1] if word.index + 1 < len(words) else None
    if not before.is_noun or not (after is None or after.is_sign or after.kind in ("ADP", "ADV")):
        return False
    place = before.index
    while place > 0 and (words[place].is_noun or words[place].kind in ("ADJ", "NUM")):
        place -= 1
    if before.text in _SAME:
        many = words[place].text not in _SINGLE and words[place].kind != "ADP"
        return many and not _has_verb(words, word.index)
    determined = words[place].kind == "DET"
    place -= determined
    plural = place > 0 and words[place].text == "of" and words[place - 1].tag == "NNS"
    ended = determined or word.tag not in ("NN", "NNP", "NNS")
    return plural and ended and after is not None and not _has_verb(words, word.index)


def _is_watched(words: Sequence[Word], word: Word) -> bool:
    """Whether a word is what somebody is seen to do: "watches a girl dance"."""
    if word.is_verb or word.index < 3 or word.text not in lemmas(word.text, "VERB"):
        return False
    place = word.index - 1
    while place > 0 and (words[place].is_noun or words[place].kind == "ADJ"):
        place -= 1
    last = word.index + 1 == len(words) or words[word.index + 1].is_sign
    seen = 0 < place < word.index - 1 and words[place].kind == "DET" and words[place - 1].text in _SEEING
    return last and seen and words[place].text in _SINGLE


def _is_second_participle(words: Sequence[Word], word: Word) -> bool:
    """Whether a participle joined to another is taken for a noun: "laughing and drinking coffee"."""
    joined = word.index > 1 and words[word.index - 1].text == "and" and words[word.index - 2].tag == "VBG"
    return (
        joined
        and (word.tag == "NN" or word.dep == "compound")
        and word.text.endswith("ing")
        and bool(lemmas(word.text, "VERB"))
    )


def _set(word: Word, kind: str, tag: str) -> None:
    word.kind, word.tag = kind, tag


def _text(words: Sequence[Word], place: int) -> str:
    return words[place].text if 0 <= place < len(words) else ""
