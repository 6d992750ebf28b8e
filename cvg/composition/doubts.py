"""Words beside a statement that turn it into something else: almost, about to, as if, will; and questions."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from cvg.composition.language import PREPOSITIONS, Word
from cvg.composition.match import Match
from cvg.composition.phrases import Phrase

_HEDGES = frozenset(
    "once almost nearly halfway half-way midway half partly partially seemingly apparently supposedly allegedly "
    "virtually practically formerly previously pretend pretending".split()
)
_PARTS = frozenset("half part most rest majority third quarter".split())
"""Before "of" they say that a statement is of some of an entity only."""
_MODALS = frozenset("will would 'll 'd could might may should must shall wo".split())
_GOALS = frozenset(
    "about ready going eager able unable likely unlikely supposed used wait need want try attempt plan prepare hope "
    "wish refuse threaten fail afraid unwilling willing reluctant long ask order tell beg invite decide promise set "
    "teach train forget".split()
)
"""Before "to" and a verb they say that it is not done, or not yet: "about to sit down"."""
_THOUGHTS = frozenset(
    "dream think talk tell read worry warn speak hear imagine remember recall prevent keep stop refrain suspect "
    "fantasize tire afraid tired capable incapable".split()
)
"""Before "of", "about" or "from" and a participle they say that it is only thought of: "dreams of running"."""
_SUPPOSING = frozenset(("if", "though", "unless", "whether"))
_AFTER = frozenset("then afterwards afterward later finally".split())
_TURNS = frozenset("and but while whereas as because so , ;".split())


def doubt(match: Match, subjects: Sequence[Phrase], words: Sequence[Word]) -> str | None:
    """The word that makes a statement doubtful; None where there is none.

    Args:
        match: the words that state a label.
        subjects: the phrases that it is said of.
        words: of the prompt.
    """
    if (supposing := _supposed(match, words)) is not None:
        return supposing
    parts = [words[phrase.first] for phrase in subjects if words[phrase.first].text in _PARTS]
    if parts and words[parts[0].index + 1].text == "of":
        return f"{parts[0].text} of"
    first = min((match.places[0], *([match.verb] if match.verb is not None else [])))
    last = max(match.places)
    begins = _clause_begin(words, first, subjects)
    before = [place for place in range(begins, last) if place not in match.places]
    named = {place for phrase in subjects for place in range(phrase.first, phrase.last + 1)}
    for place in before:
        word = words[place]
        if place in named or word.sentence != words[last].sentence:
            continue
        if word.text in _HEDGES and _bears_on(words, place, match):
            return word.text
        if word.text in _MODALS and word.kind == "AUX":
            return word.text
    return next(_unreal(match, words), None)


def passing(match: Match, subjects: Sequence[Phrase], others: Sequence[Phrase], words: Sequence[Word]) -> str | None:
    """The "then" before or after which an entity is elsewhere beside the same thing; None where there is none.

    "A dog is to the left of a table, then it runs to the front of the table": a place that holds for a part of the
    video only.

    Args:
        match: the words that state a label.
        subjects: the phrases that it is said of.
        others: the phrases of its object.
        words: of the prompt.
    """
    if match.verb is not None or not match.label.rule:
        return None
    first, sentence = match.places[0], words[match.places[0]].sentence
    turns = [word.index for word in words if word.text in _AFTER and word.sentence == sentence]
    for turn in turns:
        beyond = [word for word in words if word.sentence == sentence and (word.index > turn) == (first < turn)]
        again = {word.text for word in beyond if word.is_noun and _is_placed(words, word.index)}
        own = {words[phrase.head].text for phrase in subjects}
        same = any(word.text in own or word.text in ("it", "he", "she", "they") for word in beyond)
        if same and again & {words[phrase.head].text for phrase in others}:
            return words[turn].text
    return None


def _is_placed(words: Sequence[Word], place: int) -> bool:
    """Whether a preposition, or "of", stands before a noun and its article."""
    place -= 1
    while place > 0 and (words[place].kind in ("DET", "ADJ") or words[place].is_noun):
        place -= 1
    return place >= 0 and (words[place].kind == "ADP" or words[place].text in PREPOSITIONS)


def _supposed(match: Match, words: Sequence[Word]) -> str | None:
    """The "if" that opens the clause of a statement, or the question mark of its sentence; None where none does."""
    sentence = words[match.places[0]].sentence
    mine = [word for word in words if word.sentence == sentence]
    if mine[-1].text == "?":
        return "?"
    for place in range(match.places[0] - 1, mine[0].index - 1, -1):
        if words[place].text in _SUPPOSING:
            return words[place].text
        if words[place].text in _TURNS and not (words[place].text == "as" and words[place + 1].text in _SUPPOSING):
            return None
    return None


def _clause_begin(words: Sequence[Word], first: int, subjects: Sequence[Phrase]) -> int:
    """Where the words begin that may bear on a statement: after its subject, or after the last turn of the sentence."""
    after = [phrase.last + 1 for phrase in subjects if phrase.last < first]
    if after:
        return max(after)
    turns = [place for place in range(first) if words[place].text in _TURNS or words[place].is_sign]
    return turns[-1] + 1 if turns else 0


def _bears_on(words: Sequence[Word], place: int, match: Match) -> bool:
    """Whether nothing but adverbs and verbs stands between a hedge and the statement."""
    if place > match.places[0]:
        return True
    between = words[place + 1 : match.places[0]]
    return all(word.is_verb or word.kind in ("ADV", "PART", "ADP", "DET") or word.text == "way" for word in between)


def _unreal(match: Match, words: Sequence[Word]) -> Iterator[str]:
    """What comes before a verb and says that it is only meant: "about to", "dreams of"."""
    verb = match.verb if match.verb is not None else _carrier(match, words)
    if verb is None or verb < 2:
        return
    verb -= words[verb - 1].text in ("both", "also")
    joint, before = words[verb - 1], words[verb - 2]
    if joint.text == "to" and words[verb].tag in ("VB", "VBP", "NN"):
        named = [word for word in words[max(0, verb - 4) : verb - 1] if word.forms & _GOALS]
        if before.forms & _GOALS or (named and before.kind in ("NOUN", "PRON", "PROPN", "ADV")):
            yield f"{before.text} to"
    if joint.text in ("of", "about", "from") and words[verb].tag == "VBG" and before.forms & _THOUGHTS:
        yield f"{before.text} {joint.text}"


def _carrier(match: Match, words: Sequence[Word]) -> int | None:
    """The verb right before a relation that is none: "dreams of sitting on"."""
    place = match.places[0] - 1
    while place >= 0 and words[place].kind in ("ADV", "PART"):
        place -= 1
    return place if place >= 0 and words[place].is_verb else None
