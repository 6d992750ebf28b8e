"""Of which phrase a relation is that follows the object of something else: "a cup on a table next to a window"."""

from __future__ import annotations

from typing import TYPE_CHECKING

from cvg.composition.fronting import Fronting, UnclearError
from cvg.composition.match import Match
from cvg.composition.phrases import DETERMINERS, GIVING, JOINTS, Phrase
from cvg.composition.surroundings import FINITE

MOVERS = frozenset(
    "push pull drag tow haul carry lift raise lower hoist throw toss kick hurl fling launch drop shoot blow roll slide "
    "move pour swing send spin fly spray splash sprinkle put place set lay stack hang insert dip".split()
)
"""Verbs whose object is what moves: "a crane lifts a container upwards", "puts a cup on a table"."""
TRANSITIVE = frozenset(
    "push pull drag tow haul carry lift raise lower hoist throw toss kick hurl fling put place set lay".split()
)
"""Those of them that nothing does by itself."""
_KEEPERS = frozenset("eat drink hold carry wear chew munch use ride smoke nibble".split())
"""Verbs whose object is where the subject is: "a panda eats bamboo to the left of a tree"."""
_VESSELS = frozenset(
    "boat rowboat ship canoe kayak raft car truck van bus train carriage cart basket box crate tent".split()
)
_WEARING = frozenset("wear don".split())
_LIFTED = frozenset("hold carry".split())
_SEEING = frozenset(
    "watch see observe photograph film spot notice find show depict feature imagine picture reveal admire spy".split()
)
"""Verbs whose object is looked at where it is: "a fox watches a hen in front of the coop"."""
_AIMING = frozenset("look point gaze stare smile wave bark glance aim peer shout".split())
"""The same, before "at"."""
_SUPPORTS = ("on", "inside")
"""Rules by which what an entity is beside is so of what it carries too."""
_SIDES = ("left of", "right of")
_POSTURES = frozenset("lean hang rest recline dangle slump".split())
_HELD = frozenset("against from on".split())
"""After these verbs they name what holds the subject: "leans against a wall to the right of a door"."""
_SETTINGS = frozenset(
    "moon earth beach shore street road ground grass field meadow lawn hill mountain sea ocean lake river planet stage "
    "sidewalk pavement day night morning evening afternoon".split()
)
"""What everything of a scene is on alike."""


class Chains(Fronting):
    """Tells whom a relation right after an object is of."""

    if TYPE_CHECKING:

        def subjects(self, match: Match) -> list[Phrase]: ...  # noqa: D102

        def _of_verb(self, verb: int, linear: Phrase | None, match: Match) -> Phrase | None: ...

    def _of_object(self, phrase: Phrase, match: Match) -> Phrase | None:
        """Whom a relation right after a phrase is of; None where that follows from their places.

        Args:
            phrase: what stands right before the relation.
            match: the relation.

        Raises:
            UnclearError: it may be of the phrase, and of what the clause is about.
        """
        opener = self._opener(phrase)
        if opener is None or self.words[match.places[0] - 1].text == ",":
            return None
        word = self.words[opener]
        if word.kind == "AUX" and self.words[opener - 1].tag == "EX":
            return phrase  # "on the desk there is a globe to the left of a lamp"
        if word.is_verb and word.kind != "AUX":
            return self._after_verb(opener, phrase, match)
        if word.text == "at" and self._verb_before(opener) & _AIMING:
            return phrase
        aside = match.label.rule in (*_SIDES, "in front of")
        if aside and word.text in _HELD and self._verb_before(opener) & _POSTURES:
            return self._of_verb(opener - 1, None, match)
        if opener in self.owner:
            led = self._led(phrase)
            return None if led is None else self._after_relation(led, phrase, match)
        if word.text == "as" and opener and self.words[opener - 1].is_verb and not self.words[phrase.last + 1].is_verb:
            raise UnclearError  # "stands as a relic of old times on the sidewalk"
        if not phrase.governed or word.text in JOINTS:
            return None
        if word.text == "with":
            if not self._is_of_company(opener, match) and match.label.rule in _SUPPORTS:
                raise UnclearError  # "a cat with a bell on a rug"
            return phrase if self._is_of_company(opener, match) else None
        afloat = match.label.rule in _SUPPORTS and not self.words[phrase.head].forms.isdisjoint(_VESSELS)
        if word.text not in ("in", "without") or afloat:
            raise UnclearError  # "a girl in a boat on a lake"
        return None

    def _of_participle(self, verb: int, match: Match) -> Phrase | None:
        """Whom a participle right after an object is of; None where that follows from its place.

        Raises:
            UnclearError: it may be of the object, and of what the clause is about.
        """
        before = self._before(verb)
        participle = self.words[verb].tag in ("VBG", "VBN", "VBD")
        phrase = None if before is None or not participle else self._at.get(before)
        opener = None if phrase is None else self._opener(phrase)
        if phrase is None or opener is None or self.words[verb - 1].text == "," or phrase.last != before:
            return None
        led = self._led(phrase)
        if self.words[opener].text == "on" and "focus" in self.words[opener - 1].forms:
            return phrase  # "a shot focusing on the woman walking"
        if self.words[opener].forms & _WEARING and self.words[verb].tag == "VBG":
            return self._heading(verb)  # "a rabbit wearing a purple robe walking"
        if self.words[opener].text == "with":
            owned = any(self.words[place].tag == "PRP$" for place in range(opener + 1, phrase.last))
            if owned or (opener > 0 and self.words[opener - 1].text == ","):
                return phrase  # "rough, with white foam exploding", "with her hand raised up"
        if led is None or match.label.rule is not None or self.words[verb].tag != "VBG":
            return None
        heading = self._heading(verb)
        if heading is not None and heading != phrase and led.label.rule in _SUPPORTS:
            return heading  # "sits on a bench reading a book"
        raise UnclearError

    def _after_verb(self, verb: int, phrase: Phrase, match: Match) -> Phrase | None:
        forms = self.words[verb].forms
        if forms & (MOVERS - _KEEPERS) or forms & _SEEING or (forms & _LIFTED and match.label.rule == "above"):
            return phrase
        if forms & _KEEPERS:
            return self._of_verb(verb, None, match)
        raise UnclearError

    def _after_relation(self, led: Match, phrase: Phrase, match: Match) -> Phrase | None:
        """Whom a relation right after the object of another is of."""
        acting = [
            place
            for place in range(led.places[0] + 1)
            if self.words[place].is_verb and self._is_near(place, led.places[0])
        ]
        if not acting:
            if led.label.rule in _SUPPORTS and match.label.rule not in _SUPPORTS:
                raise UnclearError  # "a goldfish in a bowl next to a cat"
            return None
        if led.label.rule in _SUPPORTS and match.label.rule in _SIDES:
            shared = self.subjects(led)  # "stands on a table to the right of a clock"
            return shared[0] if shared else None
        object_ = self._following(match.places[-1])
        setting = object_ is not None and not self.words[object_.head].forms.isdisjoint(_SETTINGS)
        if led.label.rule in _SIDES and match.label.rule in _SUPPORTS and not setting:
            return phrase  # "sits to the right of a kettle on a counter"
        raise UnclearError

    def _is_near(self, place: int, end: int) -> bool:
        """Whether two places are of one clause."""
        between = self.words[place + 1 : end]
        same = self.words[place].sentence == self.words[end].sentence
        return same and not any(word.text in JOINTS or word.is_sign for word in between)

    def _verb_before(self, place: int) -> frozenset[str]:
        """The forms of the verb right before a place; none where there is none."""
        word = self.words[place - 1] if place else None
        return word.forms if word is not None and word.is_verb else frozenset()

    def _is_of_company(self, opener: int, match: Match) -> bool:
        """Whether a relation right after "with ..." is of that: "a hat over his ears", ", with birds above a tree"."""
        after = match.places[-1] + 1
        owned = after < len(self.words) and self.words[after].tag == "PRP$"
        return owned or (opener > 0 and self.words[opener - 1].text == ",")

    def _given(self, phrase: Phrase, match: Match) -> Phrase | None:
        """What somebody is given, where a phrase is who that is: "hands a boy a cup"; None where it is not."""
        giving = match.verb is not None and self.words[match.verb].forms & (GIVING - {"feed"})
        second = self._at.get(phrase.last + 2) if giving else None
        after = second is not None and second.first == phrase.last + 2
        return second if after and self.words[phrase.last + 1].text in DETERMINERS else None

    def _having(self, verb: int) -> Phrase | None:
        """Who has what is listed before a participle: "a lion with the ears of a bat, the tail of a rat, running"."""
        if self.words[verb].tag != "VBG" or not verb or self.words[verb - 1].text != ",":
            return None
        acting = [place for place in range(verb) if self._acts(place) and self.words[place].tag in FINITE]
        if acting and self.words[acting[-1]].sentence == self.words[verb].sentence:
            between = self.words[acting[-1] + 1 : verb - 1]
            simple = not any(word.is_sign or word.is_verb or word.text in JOINTS for word in between)
            return self._heading(acting[-1]) if simple else None  # "a girl in a coat and skirt sits inside, leaning"
        first = next(word.index for word in self.words if word.sentence == self.words[verb].sentence)
        head = next((each for each in self._heads(verb) if each.first >= first), None)
        between = self.words[head.last + 1 : verb] if head is not None else []
        having = bool(between) and between[0].text == "with" and not any(word.is_verb for word in between)
        return head if having else None
