"""The verb of a clause where the small model sees none: told by what stands around a word that may be one.

English puts few things before and after a plural noun that it puts before and after a verb: no plural stands right
after another ("hedgehogs shelters"), after a material ("made of wood dances"), or after a relative clause ("that is red
floats"); and no noun phrase follows another without a sign ("to the left darts a swallow").
"""

from __future__ import annotations

import re
from collections.abc import Sequence

from cvg.composition.language import PREPOSITIONS, Word, lemmas

_FINITE = ("VBZ", "VBP", "VBD", "MD")
_CLOSING = frozenset("and or while whereas when where as but because so until".split())
_BOUNDS = _CLOSING - {"and", "as"}
_RELATIVE = ("WDT", "WP")
_MADE = frozenset("made built carved woven sculpted cast formed full".split())
_COLLECTIONS = frozenset("sports arms clothes glasses goods savings news series species customs brass".split())
"""Nouns in -s that stand before another noun: "sports cars"."""
_WHOLE = ("a", "an", "the", "one", "two", "three", "four", "five", "six", "its", "his", "her", "their", "several")
_SINGLE = frozenset("a an one each every another".split())
_DEFINITE = _SINGLE | {"the", "his", "her", "its", "their", "two", "three", "four"}
_THINGS = frozenset(
    "building painting ceiling clothing carving crossing railing awning wedding drawing morning evening ring king "
    "string spring thing sling wing clearing lightning icing stocking dumpling earring pudding lighting".split()
)
_PAST = frozenset("spread set cut shut hung bent drawn torn".split())
_HELD = frozenset("up down open closed in hand high low wide aloft askew back raised".split())
"""What ends a phrase between commas that tells how a subject is: "collar up", "hat in hand"."""


def mend_clauses(words: Sequence[Word], verbs: frozenset[str]) -> None:
    """Mend, in place, what must be the verb of a clause that has none.

    Args:
        words: of a prompt.
        verbs: plain forms of verbs to expect, some of which the dictionary may lack.
    """
    absolute = {word.index for word in words if word.index and _is_absolute(words, word)}
    for word in words:
        if _opens_as_participle(words, word):
            word.kind, word.tag = "VERB", "VBN"
        elif word.index in absolute:
            word.kind, word.tag = "ADJ", "JJ"
        elif word.index and _is_participle(words, word):
            word.kind, word.tag = "VERB", "VBG"
    for word in words:
        open_ = word.index and word.index not in absolute and not _is_predicate(word)
        if open_ and (tag := _verbal(words, word, verbs)) is not None:
            word.kind, word.tag = "VERB", tag
            before = words[word.index - 1]
            if before.kind == "ADJ" and before.text in lemmas(before.text, "NOUN") and _begun(words, before.index):
                before.kind, before.tag = "NOUN", "NN"


def _opens_as_participle(words: Sequence[Word], word: Word) -> bool:
    """Whether the first word of a sentence is a participle that is taken for a name: "Positioned left of a sofa"."""
    opens = word.index == 0 or words[word.index - 1].sentence != word.sentence
    return opens and word.is_noun and word.text.endswith("ed") and bool(lemmas(word.text, "VERB"))


def _is_predicate(word: Word) -> bool:
    """Whether a word is taken for a verb already, and not for a participle that may be a plain form ("knit")."""
    return word.is_verb and not (word.tag in ("VBN", "VBD") and word.text in lemmas(word.text, "VERB"))


def _is_absolute(words: Sequence[Word], word: Word) -> bool:
    """Whether a plain form between commas is a participle: "a heron, wings spread, glides down"."""
    if word.tag not in ("VBP", "VBD", "VB", "NN") or not word.is_verb or word.index + 1 >= len(words):
        return False
    before, after = words[word.index - 1], words[word.index + 1]
    past = word.tag == "VBD" or word.text in _PAST | _HELD
    bare = before.is_noun and word.index > 1 and words[word.index - 2].text == ","
    return past and bare and after.text == ","


def _is_participle(words: Sequence[Word], word: Word) -> bool:
    """Whether a word in -ing that is taken for a noun is what a thing does: "a palm trembling on"."""
    if word.is_verb or not word.text.endswith("ing") or not lemmas(word.text, "VERB") or word.text in PREPOSITIONS:
        return False
    if not re.search("[aeiouy]", word.text[:-3]):
        return False
    before, after = words[word.index - 1], words[word.index + 1] if word.index + 1 < len(words) else None
    if before.text == "," and after is not None and after.text == "," and word.index > 1:
        return _begun(words, word.index - 2, _DEFINITE) and not _is_listed(words, word.index + 2)
    if word.text in _THINGS or not (
        after is None or after.is_sign or after.kind in ("ADP", "ADV") or after.text == "and"
    ):
        return False
    return before.is_noun and (after is None or after.text != "of") and _begun(words, before.index)


def _is_listed(words: Sequence[Word], place: int) -> bool:
    """Whether what stands after a comma may go on a list: "a baby, clothing, and toys"."""
    return place >= len(words) or words[place].text in ("and", "or") or words[place].is_sign


def _verbal(words: Sequence[Word], word: Word, verbs: frozenset[str]) -> str | None:
    """The tag of a word that must be a verb here; None where it need not."""
    plain = lemmas(word.text, "VERB") or verbs & {word.text}
    if not plain or word.text in PREPOSITIONS or word.kind in ("DET", "PRON", "NUM", "AUX"):
        return None
    if word.index + 1 < len(words) and words[word.index - 2].text == "," == words[word.index + 1].text:
        return None  # ", ears back,"
    inverted = _is_inverted(words, word)
    if not inverted and not _is_open(words, word):
        return None
    if has_verb(words, word.index):
        return None
    if word.text not in plain and word.text.endswith("s"):
        return "VBZ" if inverted or _is_of_one(words, word) else None
    if word.text in plain and (_is_of_many(words, word) or (inverted and _is_determined(words, word.index + 1))):
        return "VBP"
    return None


def _is_open(words: Sequence[Word], word: Word) -> bool:
    """Whether what follows may follow a verb, and no noun."""
    after = words[word.index + 1] if word.index + 1 < len(words) else None
    if after is None or after.is_sign or after.kind in ("ADP", "ADV", "DET", "SCONJ") or after.text in PREPOSITIONS:
        return after is None or after.text != "of"
    return after.tag == "PRP$" or after.text in ("and", "to")


def _is_of_one(words: Sequence[Word], word: Word) -> bool:
    """Whether what stands before a word in -s can only stand before the verb of one thing."""
    before = words[word.index - 1]
    if before.kind == "ADV" and before.text.endswith("ly"):
        return before.index > 0 and words[before.index - 1].tag in ("NN", "NNP")  # "the tire slowly deflates"
    if before.tag == "NNS" and before.text not in _COLLECTIONS:
        return _head_is_single(words, before.index)
    if before.index > 1 and words[before.index - 1].text == "of" and words[before.index - 2].text in _MADE:
        return True  # "made of wood dances"
    if _closes_relative(words, before.index):
        return True
    if before.text == ",":
        return is_after_aside(words, word.index)
    if before.tag == "NNP" and before.index == 0:
        return True  # "Grandpa dozes"
    if is_object(words, word):
        return False
    return before.tag in ("NN", "NNP", "JJ", "VBG") and _begun(words, before.index)


def is_object(words: Sequence[Word], word: Word) -> bool:
    """Whether the model takes a word for the object of a participle before it: "feeding ducks", "doing yoga poses"."""
    place = word.index - 1
    while place > 0 and words[place].is_noun:
        place -= 1
    return place >= 0 and words[place].tag == "VBG" and word.dep == "dobj" and word.head == place


def _begun(words: Sequence[Word], index: int, articles: frozenset[str] | None = None) -> bool:
    """Whether a place ends a phrase that "a", or another of some words, begins, and whose last word can be a noun."""
    place = index
    while place >= 0 and (words[place].is_noun or words[place].kind == "ADJ" or words[place].tag in ("VBG", "VBN")):
        place -= 1
    if not 0 <= place < index or words[place].text not in (articles or _SINGLE):
        return False
    return words[index].is_noun or (words[index].text in lemmas(words[index].text, "NOUN"))


def _head_is_single(words: Sequence[Word], index: int) -> bool:
    """Whether a plural ends a phrase of one thing: "a family of hedgehogs"."""
    place = index
    while place > 0 and (words[place - 1].is_noun or words[place - 1].kind == "ADJ"):
        place -= 1
    return place > 1 and words[place - 1].text in ("of", "with", "in") and words[place - 2].tag in ("NN", "NNP")


def _closes_relative(words: Sequence[Word], index: int) -> bool:
    """Whether a place ends a relative clause: "that is bright red", "which is glowing"."""
    place = index
    while place > 0 and (words[place].kind in ("ADJ", "ADV", "NOUN", "PROPN") or words[place].tag in ("VBG", "VBN")):
        place -= 1
    return place < index and words[place].kind == "AUX" and place > 0 and words[place - 1].tag in _RELATIVE


def is_after_aside(words: Sequence[Word], index: int, strictly: bool = True) -> bool:
    """Whether commas before a place enclose how the subject is: "a heron, wings spread, glides up".

    Args:
        words: of the prompt.
        index: the place.
        strictly: whether the words between the commas must show it; else a short piece after one thing is enough.
    """
    if index < 3 or words[index - 1].text != ",":
        return False
    opened = next((place for place in range(index - 2, -1, -1) if words[place].text == ","), None)
    if opened is None or words[opened].sentence != words[index].sentence or not 1 <= index - 2 - opened <= 5:
        return False
    within = words[opened + 1 : index - 1]
    last, first = within[-1], within[0]
    participle = any(
        one.tag in ("VBN", "VBG") or (one.text.endswith(("ing", "ed")) and lemmas(one.text, "VERB")) for one in within
    )
    how = participle or last.text in _HELD or (first.text == "half" and len(within) > 1)
    how = how or (last.text not in lemmas(last.text, "NOUN") and bool(lemmas(last.text, "VERB")))
    how = how or (lemmas(last.text, "VERB") != frozenset() and first.tag == "NNS" and len(within) > 1)
    before = words[opened - 1] if opened else None
    return (how or not strictly) and before is not None and before.tag in ("NN", "NNP", "JJ")


def _is_of_many(words: Sequence[Word], word: Word) -> bool:
    """Whether what stands before a plain form can only stand before the verb of many: "two miners juggle"."""
    before = words[word.index - 1]
    if before.tag in ("NNS", "NNPS") and before.text not in _COLLECTIONS:
        return not _head_is_single(words, before.index)
    if word.verbal < LIKELY or not before.is_noun:
        return False
    many = before.index > 1 and words[before.index - 1].text == "of" and words[before.index - 2].tag == "NNS"
    return many or is_joined(words, before.index) or _has_joined(words, word.index)  # "flashes of lightning flicker"


LIKELY = 0.01
"""How likely the model must hold a verb where another noun would do: "a pot and a kettle simmer"."""


def _has_joined(words: Sequence[Word], index: int) -> bool:
    """Whether "and" joins phrases in the clause of a place: "a girl in a coat and a boy in a hat dance"."""
    for place in range(index - 1, 0, -1):
        if words[place].sentence != words[index].sentence or words[place].is_sign or words[place].text in _BOUNDS:
            return False
        if words[place].text == "and":
            return words[place + 1].text in _WHOLE and words[place - 1].is_noun
    return False


def is_joined(words: Sequence[Word], index: int) -> bool:
    """Whether a place ends the second of two phrases with articles that "and" joins."""
    place = index
    while place > 0 and (words[place].is_noun or words[place].kind == "ADJ"):
        place -= 1
    return (
        1 < place < index
        and words[place].text in _WHOLE
        and words[place - 1].text == "and"
        and words[place - 2].is_noun
    )


def _is_inverted(words: Sequence[Word], word: Word) -> bool:
    """Whether a word stands between what opens a clause, a place or a way, and a phrase: "up the stairs runs a boy"."""
    if not _is_determined(words, word.index + 1):
        return False
    first = _first(words, word.index)
    if first == word.index:
        return False
    opened = words[first]
    led = opened.kind == "ADP" or opened.text in PREPOSITIONS or opened.text.endswith(("ward", "wards"))
    led = led or (opened.text in ("straight", "high", "far", "directly", "right", "just") and word.index - first > 1)
    return led and not any(words[place].text == "," for place in range(first, word.index))


def _is_determined(words: Sequence[Word], index: int) -> bool:
    """Whether a phrase with an article, an owner or a number begins at a place."""
    return index < len(words) and words[index].text in _WHOLE


def _first(words: Sequence[Word], index: int) -> int:
    """The first word of the clause of a place; commas are no ends of it."""
    place = index
    while place > 0 and words[place - 1].sentence == words[index].sentence:
        before = words[place - 1]
        if before.text in _CLOSING or (before.is_sign and before.text not in (",", "-", "'")):
            break
        place -= 1
    return place


def has_verb(words: Sequence[Word], index: int) -> bool:
    """Whether the clause of a place has a finite verb, those of relative clauses aside."""
    first, last = _first(words, index), index
    opened = index - 1
    while opened > first and (words[opened].is_noun or words[opened].kind == "ADJ"):
        opened -= 1
    if words[opened].text in _WHOLE and opened > first and words[opened - 1].text == ",":
        first = opened  # ", a brown sled kneels"
    while last + 1 < len(words) and words[last + 1].sentence == words[index].sentence:
        if words[last + 1].text in _CLOSING or words[last + 1].is_sign:
            break
        last += 1
    for place in range(first, last + 1):
        word = words[place]
        if place != index and word.is_verb and word.tag in _FINITE and not _is_relative(words, place):
            return True
    return False


def _is_relative(words: Sequence[Word], verb: int) -> bool:
    place = verb - 1
    while place >= 0 and words[place].kind in ("AUX", "ADV", "PART"):
        place -= 1
    return place >= 0 and words[place].tag in _RELATIVE
