"""Attributes and numbers: labels that words inside of a noun phrase state of its noun, or that its verb does."""

from __future__ import annotations

from collections.abc import Sequence

from cvg.composition.attachment import Attachment
from cvg.composition.labels import LabelSet
from cvg.composition.language import Word
from cvg.composition.lexicon import NUMBER
from cvg.composition.match import Match
from cvg.composition.misread import misread
from cvg.composition.phrases import MEDIA, QUALITY, Phrase, PhraseSpan
from cvg.composition.referents import is_person
from cvg.composition.refusals import UNITS

_COPULAS = frozenset("be look seem appear become remain stay".split())
_COLOURS = frozenset("red orange yellow green blue purple pink brown black white gray grey".split())
_MADE = frozenset("painted colored coloured dyed tinted made built carved crafted sculpted woven".split())
_SHADES = frozenset("dark light bright pale deep solid pure".split())
_BEFORE_VALUE = frozenset(("of", "a", "an", "the", *_SHADES))
_LINKS = frozenset(("and", ",", "-"))
_PARTS = frozenset("third thirds quarter quarters half halves fifth fifths percent".split())
_NAMES = {
    "crystal": frozenset(("clear",)),
    "lime": frozenset("juice tree slice wedge wedges peel".split()),
    "iron": frozenset("man maiden".split()),
    "orange": frozenset("juice peel tree grove slice slices marmalade soda blossom zest".split()),
    "emerald": frozenset("necklace ring earring earrings bracelet brooch pendant crown jewel".split()),
}
"""Nouns before which a word is a thing and no colour."""
_TURNING = frozenset("turn transform change morph convert evolve".split())
_HEDGES = frozenset("almost nearly half partly partially quite".split())
_LIGHT = frozenset("light hour hours lighting sunlight sunset glow tone tones background color colors colour".split())
"""Nouns whose colour is the picture's rather than an entity's."""


def stated_values(
    prompt: str, labels: LabelSet, words: Sequence[Word], attachment: Attachment
) -> list[tuple[Match, list[PhraseSpan]]]:
    """The attributes and numbers of a prompt's noun phrases, each with its noun.

    The entity is the phrase after the value: "a small red toy" states *red* of "toy", and *small* of "red toy".
    """
    values, found = labels.lexicon.values, []
    said: dict[tuple[str, int], set[str]] = {}
    for word in words if values else ():
        label = values.get(word.text) or next((values[form] for form in sorted(word.forms & values.keys())), None)
        if label is None or word.index in attachment.owner:
            continue
        phrase = next((each for each in attachment.phrases if each.first <= word.index <= each.last), None)
        described = None if phrase is None else _noun_after(words, word.index, phrase)
        if phrase is not None and described is not None:
            start = _after_value(words, word.index, described)
            if label.category == NUMBER and not _counts(words, word, phrase):
                continue
            entity, noun = (start, phrase.last), described
        elif label.category != NUMBER and (subject := _subject(words, word, attachment)):
            entity, noun = (subject.first, subject.last), subject.head
        else:
            continue
        lit = words[noun].text.endswith("ing") and words[noun - 1].text in _LIGHT  # "golden light filtering"
        if words[noun].text in _COLOURS or lit:
            continue  # "shades of purple and deep blue"
        named = words[noun].text in _NAMES.get(word.text, ()) or _is_name(prompt, words, word)
        if phrase is not None and described is not None and (misread(phrase, words) or _becomes(phrase, words)):
            continue
        if named or words[noun].text in MEDIA | QUALITY | _LIGHT or _negated(words, word):
            continue
        span = words[entity[0]].start, words[entity[1]].end
        match = Match(label, word.start, word.end, (word.index,), None, False, False)
        found.append((match, noun, [(prompt[span[0] : span[1]], *span)]))
        said.setdefault((label.group, noun), set()).add(label.name)
    # "a red and white lighthouse": it is neither as a whole.
    return [(match, spans) for match, noun, spans in found if len(said[match.label.group, noun]) == 1]


def _noun_after(words: Sequence[Word], place: int, phrase: Phrase) -> int | None:
    """The noun that a word of a phrase describes: its head, or, after "of", the last ("a glass of red wine")."""
    if place < phrase.head:
        return phrase.head
    before = place - 1
    while before > phrase.head and words[before].text in _LINKS and words[before - 1].kind == "ADJ":
        before -= 2  # "drops of yellow and blue paint"
    return phrase.last if phrase.head < place < phrase.last and words[before].text in _BEFORE_VALUE else None


def _after_value(words: Sequence[Word], place: int, noun: int) -> int:
    """Where the entity begins: after the value, and after others that are joined to it ("red and white")."""
    start = place + 1
    while start < noun and words[start].text in _LINKS:
        start += 2
    return min(start, noun)


def _counts(words: Sequence[Word], word: Word, phrase: Phrase) -> bool:
    """Whether a number counts the noun: "two dogs", not "a two dog night" or "5 inches"."""
    if not words[phrase.head].forms.isdisjoint(_PARTS | UNITS):
        return False  # "two thirds of a pizza", "ten years later"
    if words[phrase.head].text in _COLOURS:
        return False  # "one red and one white"
    if word.text == "one" and any(other.text == "another" for other in words if other.sentence == word.sentence):
        return False  # "one person hands a cup to another"
    return word.kind == "NUM" and word.index == phrase.first and (word.text != "one" or phrase.bare)


def _is_name(prompt: str, words: Sequence[Word], word: Word) -> bool:
    """Whether a value is part of a name: "the Golden Gate Bridge"; in a title all words are written so."""
    after = words[word.index + 1] if word.index + 1 < len(words) else None
    capital = prompt[word.start].isupper() and after is not None and prompt[after.start].isupper()
    return capital and any(prompt[other.start].islower() for other in words if len(other.text) > 2)


def _subject(words: Sequence[Word], word: Word, attachment: Attachment) -> Phrase | None:
    """What a value outside of a noun phrase is said of: "is red", "painted red", "made of glass", "a circle in red"."""
    found = _of_copula(words, word, attachment)
    after = words[word.index + 1] if word.index + 1 < len(words) else None
    if found is not None or (after is not None and (after.is_noun or after.kind == "ADJ") and after.dep != "conj"):
        return found
    place = word.index - 1
    while place > 0 and (words[place].text in _SHADES or words[place].kind == "ADV"):
        place -= 1
    worn = words[place].text == "in"
    if words[place].text in ("in", "of", "from"):
        place -= 1
    made = words[place].tag in ("VBN", "VBD", "VBG", "NN") and words[place].text in _MADE
    if not made and not worn:
        return None
    place -= made
    while place > 0 and (words[place].kind in ("AUX", "ADV") or words[place].text in ("that", "which")):
        place -= 1
    near = [phrase for phrase in attachment.phrases if phrase.first <= place <= phrase.last and not phrase.pronoun]
    return None if not near or (worn and not made and is_person(words[near[0].head])) else near[0]


def _of_copula(words: Sequence[Word], word: Word, attachment: Attachment) -> Phrase | None:
    """The subject of "is red", "that is red", "looks red"; None where the word is not said of anything."""
    place = word.index - 1
    while place >= 0 and (words[place].kind in ("ADV", "ADJ") or words[place].text in ("and", ",")):
        place -= 1
    if place < 0 or not (words[place].forms & _COPULAS and words[place].is_verb):
        return None
    if words[place].tag == "VBG" and words[place - 1].text == ",":
        return None  # "glides down a plate, remaining round"
    for child in words:
        if child.head == place and child.dep in ("nsubj", "nsubjpass"):
            found = next((each for each in attachment.phrases if each.first <= child.index <= each.last), None)
            if found is not None and not found.pronoun:
                return found
    before = [each for each in attachment.phrases if each.last < place and not each.pronoun]
    near = [each for each in before if words[each.last].sentence == word.sentence]
    return near[-1] if near else None


def _becomes(phrase: Phrase, words: Sequence[Word]) -> bool:
    """Whether a phrase is what turns into another, or what it turns into, so that it is so for a while only."""
    before, after = phrase.first - 1, phrase.last + 1
    while before >= 0 and (words[before].kind == "DET" or words[before].tag == "PRP$"):
        before -= 1
    while after < len(words) and words[after].kind in ("ADV", "AUX"):
        after += 1
    into = after + 1
    while into < len(words) and words[into].kind == "ADV":
        into += 1
    if into < len(words) and words[into].text == "into" and words[after].forms & _TURNING:
        return True
    verb = before - 1
    while verb > 0 and words[verb].kind == "ADV":
        verb -= 1
    return verb > 0 and words[before].text == "into" and bool(words[verb].forms & _TURNING)


def _negated(words: Sequence[Word], word: Word) -> bool:
    """Whether a value is negated, or one of a choice ("a red or green apple")."""
    before = words[max(0, word.index - 3) : word.index]
    around = words[max(0, word.index - 2) : word.index + 3]
    if any(other.text in _HEDGES for other in before):
        return True
    return any(other.text in ("not", "n't", "no", "never", "neither", "without") for other in before) or any(
        other.text in ("or", "either") for other in around
    )
