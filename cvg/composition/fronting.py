"""Subjects that stand after their place: "to the left of the tree stands a dog", "..., and under it a cat sleeps"."""

from __future__ import annotations

from typing import TYPE_CHECKING

from cvg.composition.match import Match
from cvg.composition.phrases import JOINTS, Phrase
from cvg.composition.surroundings import FINITE, Surroundings

_BEGINNING = frozenset(
    "a an the his her its their some several many one two three four five six seven eight nine ten another".split()
)
_BEING = frozenset(
    "be stand sit lie hang rest sleep doze wait float lean kneel crouch perch grow loom rise lurk hover glow shine "
    "appear stretch tower tick burn live nest graze squat slumber sprawl park gleam sparkle flicker drift swim".split()
)
"""Verbs that say of what stands after them that it is somewhere: "behind the house stands a barn"."""


class UnclearError(Exception):
    """A relation may be of one phrase as well as of another."""


class Fronting(Surroundings):
    """Finds subjects after the places and directions that a clause begins with."""

    if TYPE_CHECKING:

        def objects(self, match: Match) -> list[Phrase]: ...  # noqa: D102

        def _pronoun(self, match: Match) -> int | None: ...

    def _fronted(self, match: Match) -> Phrase | None:
        """The subject after the object: "To the left of the tree stands a dog", "Under the bridge, a boat drifts"."""
        first, sentence = match.places[0], self.words[match.places[0]].sentence
        earlier = [each for each in self.phrases if each.last < first and self.words[each.last].sentence == sentence]
        placed = all(map(self._is_placed, earlier))
        if earlier and not (placed and self.words[first - 1].text == ","):
            return None  # but "under the bridge, to the left of a cart, sleeps a dog"
        objects = self.objects(match) if match.label.has_object else []
        after = objects[-1].last if objects else match.places[-1]
        if match.label.has_object and not objects:
            return None
        for phrase in self.phrases:
            inside = phrase.first > after and self.words[phrase.first].sentence == sentence
            if inside and not phrase.governed and (phrase.pronoun or self._led(phrase) is None):
                between = self.words[after + 1 : phrase.first]
                led = any(word.text == "," for word in between) or any(word.tag in FINITE for word in between[-2:])
                if any(word.tag in ("VBG", "VBN") for word in between) and not led:
                    continue  # "on a terrace overlooking the sea, a cat sleeps"
                if not match.literal and match.label.has_object and not any(word.is_verb for word in between):
                    return None  # "On a busy street, signs glow": where all of it is, and not of the signs alone
                return phrase if any(word.is_verb or word.text == "," for word in between) else None
        return None

    def _introduced(self, match: Match) -> Phrase | None:
        """The phrase that a place at the head of any clause introduces: "..., and under the tree a dog sleeps".

        No phrase stands right after another within a clause, so the second begins what is said.

        Raises:
            UnclearError: a verb stands between whose subject may be before or after.
        """
        first = match.places[0]
        opened = first == 0 or self.words[first - 1].is_sign or self.words[first - 1].text in JOINTS
        opened = opened or self.words[first - 1].sentence != self.words[first].sentence
        if not match.label.has_object or match.verb is not None or not opened or self._pronoun(match) is not None:
            return None
        objects = self.objects(match)
        if not objects:
            return None
        place = objects[-1].last + 1
        acting = self._verbs_from(place)
        after = acting[-1] + 1 if acting else place
        phrase = self._at.get(after + 1) or self._at.get(after)
        follows = phrase is not None and after <= phrase.first <= after + 1 and self.words[after].text in _BEGINNING
        if follows and (not acting or any(self.words[each].forms & _BEING for each in acting)):
            return phrase
        if acting or self._verb_after(place):
            sentence = self.words[first].sentence
            if any(self.words[head.first].sentence == sentence for head in self._heads(first)):
                raise UnclearError  # "and in front of the crowd raises a flag"
        return None

    def _verb_after(self, place: int) -> bool:
        """Whether a finite verb comes before a sign or a joint, with nothing but further places before it."""
        while place < len(self.words) and not self.words[place].is_sign and self.words[place].text not in JOINTS:
            word, phrase = self.words[place], self._at.get(place)
            if word.tag in FINITE:
                return True
            if phrase is not None and not self._is_placed(phrase):
                return False
            if phrase is None and word.tag in ("WDT", "WP", "VBG", "VBN"):
                return False
            place = place + 1 if phrase is None else phrase.last + 1
        return False

    def _verbs_from(self, place: int) -> list[int]:
        """The places of a finite verb right after a phrase, with its adverbs and participle: "is parked"."""
        found: list[int] = []
        while place < len(self.words) and (
            self.words[place].is_verb or self.words[place].kind == "ADV" or self.words[place].tag == "EX"
        ):
            found.append(place)
            place += 1
        return found if any(self.words[each].tag in FINITE for each in found) else []

    def _inverted(self, verb: int) -> Phrase | None:
        """The subject after a verb that a place stands before: "and behind the sofa stands a lamp"."""
        if self.words[verb].tag not in FINITE or (after := self._following(verb)) is None:
            return None
        first = verb
        while first > 0 and self.words[first - 1].sentence == self.words[verb].sentence:
            if self.words[first - 1].is_sign or self.words[first - 1].text in JOINTS:
                break
            first -= 1
        inside = [each for each in self.phrases if first <= each.first and each.last < verb]
        if inside and first in self.owner and all(map(self._is_placed, inside)):
            if self.owner[first].label.has_object and self.words[verb].forms.isdisjoint(_BEING):
                raise UnclearError  # "and behind the waiter walks a penguin"
            return after
        sentence = self.words[verb].sentence
        alone = not any(self.words[head.first].sentence == sentence for head in self._heads(verb))
        placed = any(each.last < verb and self.words[each.last].sentence == sentence for each in self.phrases)
        return after if alone and placed and self.words[verb - 1].text == "," else None

    def _is_placed(self, phrase: Phrase) -> bool:
        """Whether a preposition or a relation stands before a phrase."""
        return phrase.governed or self._led(phrase) is not None
