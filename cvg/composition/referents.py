"""What pronouns stand for: "a sofa with a dog to its right", "a boy throws a ball and a dog catches it"."""

from __future__ import annotations

from collections.abc import Collection, Sequence

from cvg.composition.language import Word
from cvg.composition.phrases import Phrase

RELATIVE = frozenset("which that who whom".split())
_OF_PERSONS = frozenset("he she him her his".split())
_OF_MANY = frozenset("they them their".split())
_PERSONS = frozenset(
    "man woman boy girl child kid person baby toddler lady guy gentleman mother father sister brother son daughter "
    "grandmother grandfather king queen prince princess teacher student chef waiter farmer worker soldier knight nurse "
    "doctor player dancer singer actor monk priest nun pirate sailor fisherman driver rider cyclist runner couple "
    "friend family crowd people teenager wizard witch clown astronaut scientist artist painter photographer "
    "adventurer warrior explorer hero heroine hunter captain detective baker barber scholar gardener tailor".split()
)


_WOMEN = frozenset("woman girl lady mother sister daughter grandmother queen princess nun witch heroine".split())
_MEN = frozenset("man boy guy gentleman father brother son grandfather king prince monk wizard".split())


def is_person(word: Word) -> bool:
    """Whether a noun is known to name a person."""
    return not _PERSONS.isdisjoint({word.text, *word.forms})


def may_mean(pronoun: Word, noun: Word) -> bool:
    """Whether a pronoun may stand for a noun, as far as it is known to name a person: "she" for "girl"."""
    if pronoun.text in _OF_PERSONS:
        others = _WOMEN if pronoun.text in ("he", "him", "his") else _MEN
        return is_person(noun) and others.isdisjoint({noun.text, *noun.forms})
    return pronoun.text != "it" or not is_person(noun)


def is_open(words: Sequence[Word], phrases: Sequence[Phrase], pronoun: int, but: Collection[Phrase]) -> bool:
    """Whether "it" may stand for more than one thing of its sentence; see :func:`referent`."""
    if words[pronoun].text not in ("it", "its"):
        return False
    things = [
        phrase
        for phrase in phrases
        if phrase.last < pronoun
        and not phrase.pronoun
        and phrase not in but
        and words[phrase.head].sentence == words[pronoun].sentence
        and words[phrase.head].tag not in ("NNS", "NNPS")
        and not is_person(words[phrase.head])
    ]
    return len(things) > 1


def referent(
    words: Sequence[Word], phrases: Sequence[Phrase], pronoun: int, heads: Collection[Phrase], but: Collection[Phrase]
) -> Phrase | None:
    """The phrase that a pronoun stands for; None where there is none.

    Args:
        words: of the prompt.
        phrases: its noun phrases, in order.
        pronoun: place of the pronoun.
        heads: the phrases that say what a clause is about; they are preferred.
        but: phrases that it cannot stand for: the other entity of its relation.
    """
    text = words[pronoun].text
    named = [phrase for phrase in phrases if phrase.last < pronoun and not phrase.pronoun and phrase not in but]
    if text in RELATIVE:
        return named[-1] if named else None
    if text in ("it", "its"):
        named = [phrase for phrase in named if not is_person(words[phrase.head])]
        named = [phrase for phrase in named if words[phrase.head].tag not in ("NNS", "NNPS")] or named
    elif text in _OF_PERSONS:
        named = [phrase for phrase in named if is_person(words[phrase.head])] or named
    elif text in _OF_MANY:
        named = [phrase for phrase in named if words[phrase.head].tag in ("NNS", "NNPS")] or named
    else:
        return None
    named = [phrase for phrase in named if phrase in heads] or named
    return named[-1] if named else None
