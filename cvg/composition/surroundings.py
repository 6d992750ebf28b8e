"""What stands around the words that state a label: the noun phrases, and which of them a clause may be about."""

from __future__ import annotations

from collections.abc import Sequence

from cvg.composition.language import Word
from cvg.composition.match import Match
from cvg.composition.phrases import DETERMINERS, JOINTS, Phrase, noun_phrases

FINITE = ("VBZ", "VBP", "VBD")
_OPENING = frozenset("while whereas when where as but because so until ;".split())
_LINKING = frozenset(("and", ",", "then"))
_DEEPEST = 4


class Surroundings:
    """The noun phrases of a prompt, and looks around a place.

    Args:
        words: of the prompt.
        matches: what states labels, in order of appearance.
    """

    def __init__(self, words: Sequence[Word], matches: Sequence[Match]) -> None:
        self.words, self.matches = words, matches
        self.owner = {place: match for match in matches for place in match.places}
        self.phrases = noun_phrases(words, self.owner)
        self._at = {place: phrase for phrase in self.phrases for place in range(phrase.first, phrase.last + 1)}

    def _heads(self, end: int) -> list[Phrase]:
        """The phrases before a place that a clause may be about: no preposition and no relation stands before them."""
        return [
            phrase for phrase in self.phrases if phrase.last < end and not phrase.governed and not self._led(phrase)
        ]

    def _led(self, phrase: Phrase) -> Match | None:
        """The match whose last word, a preposition, stands right before a phrase."""
        place = self._opening(phrase)
        match = self.owner.get(place)
        led = match is not None and match.places[-1] == place and not self.words[place].is_verb
        return match if led else None

    def _opener(self, phrase: Phrase) -> int | None:
        """The word before a phrase and its determiner."""
        place = self._opening(phrase)
        return place if place >= 0 else None

    def _opening(self, phrase: Phrase) -> int:
        """The place before a phrase and its determiners; -1 where they begin the prompt."""
        place = phrase.first - 1
        while place >= 0 and self.words[place].text in DETERMINERS:
            place -= 1
        return place

    def _before(self, place: int) -> int | None:
        """The word before, adverbs and commas passed over."""
        for before in range(place - 1, -1, -1):
            word = self.words[before]
            if before in self.owner or not (word.kind in ("ADV", "PART") or word.text == "," or word.kind == "SPACE"):
                return before
        return None

    def _following(self, place: int) -> Phrase | None:
        """The phrase that begins right after a word."""
        for after in range(place + 1, min(place + 4, len(self.words))):
            phrase, word = self._at.get(after), self.words[after]
            if phrase is not None:
                return phrase if phrase.first == after and not phrase.pronoun else None
            if not (word.text in DETERMINERS or word.kind in ("DET", "ADV")) or after in self.owner:
                return None
        return None

    def _adjacent(self, verb: int) -> Phrase | None:
        """The phrase that ends right before a verb, where no preposition governs it."""
        for place in range(verb - 1, -1, -1):
            if place in self._at:
                phrase = self._at[place]
                return phrase if phrase.last == place and not phrase.governed and not phrase.pronoun else None
            if self.words[place].kind not in ("ADV", "AUX") or place in self.owner:
                return None
        return None

    def _heading(self, verb: int, depth: int = 0) -> Phrase | None:
        """The phrase that heads the clause of a finite verb: the first before it that nothing governs.

        A clause begins after a conjunction, and after "and" or a comma that a verb stands before; where it has no such
        phrase, its subject is that of the verb before ("opens a window and waves").
        """
        words, first = self.words, verb
        while first > 0 and words[first - 1].sentence == words[verb].sentence:
            first -= 1
        acting = [place for place in range(first, verb) if self._acts(place)]
        begins = first
        for place in range(verb - 1, first - 1, -1):
            text = words[place].text
            if text in _OPENING or (text in _LINKING and any(other < place for other in acting)):
                begins = place
                break
        inside = [phrase for phrase in self.phrases if begins <= phrase.first and phrase.last < verb]
        free = [phrase for phrase in inside if not phrase.governed and not self._led(phrase)]
        if free:
            return free[-1] if depth == 0 and self._opens_anew(free[-1], verb) else free[0]
        earlier = [place for place in acting if place < begins and words[place].tag in FINITE]
        return self._heading(earlier[-1], depth + 1) if earlier and depth < _DEEPEST else None

    def _opens_anew(self, phrase: Phrase, verb: int) -> bool:
        """Whether a phrase right before a verb begins what is said, after a title: "slow motion, a man runs"."""
        place = self._opening(phrase)
        near = all(word.kind in ("ADV", "AUX") for word in self.words[phrase.last + 1 : verb])
        return near and place > 0 and self.words[place].is_sign and self.words[place].text not in ("-", "'", "(")

    def _last_joined(self, phrase: Phrase, end: int) -> Phrase:
        """The last of the phrases before a place that are joined to one: "a hen and a goose"."""
        while (more := self._joined_after(phrase)) is not None and more.last < end:
            phrase = more
        return phrase

    def _acts(self, place: int) -> bool:
        """Whether a word is a verb of its clause: no auxiliary, no modifier, and not of a relative clause."""
        word = self.words[place]
        helps = word.dep in ("aux", "auxpass") and self.words[word.head].is_verb
        if (
            not word.is_verb
            or helps
            or (word.tag in ("VBG", "VBN") and word.dep in ("amod", "compound") and word.head > place)
        ):
            return False
        return not self._is_relative(place)

    def _is_relative(self, verb: int) -> bool:
        """Whether "that" or "which" is the subject of a verb."""
        place = verb - 1
        while place >= 0 and self.words[place].kind in ("AUX", "ADV", "PART"):
            place -= 1
        return place >= 0 and self.words[place].tag in ("WDT", "WP")

    def _not_enclosed(self, phrase: Phrase, place: int) -> Phrase:
        """A phrase, or the one before it where commas enclose it: "a crow, wings spread, lands"."""
        first = self._opening(phrase)
        enclosed = first > 0 and self.words[first].text == "," and phrase.last < place
        said = any(word.kind == "AUX" or word.tag == "VBZ" for word in self.words[phrase.last + 1 : place])
        if not enclosed or said or self.words[place - 1].text != "," or self.words[phrase.last + 1].text == ",":
            return phrase
        sentence = self.words[phrase.first].sentence
        earlier = [head for head in self._heads(first) if self.words[head.first].sentence == sentence]
        return earlier[0] if earlier else phrase

    def _is_style(self, phrase: Phrase, region: Sequence[Sequence[Phrase]], match: Match) -> bool:
        """Whether a bare phrase between commas may be a style, and no entity: "a dog, cyberpunk, moving left"."""
        after = phrase.last + 1
        enclosed = phrase.bare and after < match.places[0] and self.words[after].text == ","
        others = [other for phrases in region for other in phrases if other.last < phrase.first]
        return enclosed and any(not other.bare and not other.governed for other in others)

    def _clauses(self, first: int, end: int) -> list[list[Phrase]]:
        """The phrases within ``words[first:end]``, by clause. Always at least one clause, maybe empty."""
        found: list[list[Phrase]] = [[]]
        for place in range(first, end):
            phrase, word = self._at.get(place), self.words[place]
            if phrase is not None:
                if place == phrase.first:
                    found[-1].append(phrase)
            elif word.is_sign or word.text in JOINTS:
                found.append([])
        return found

    def _joined_before(self, phrase: Phrase) -> Phrase | None:
        place = self.phrases.index(phrase)
        previous = self.phrases[place - 1] if place else None
        return previous if previous and self._between(previous.last, phrase.first) in (["and"], [",", "and"]) else None

    def _joined_after(self, phrase: Phrase) -> Phrase | None:
        place = self.phrases.index(phrase) + 1
        after = self.phrases[place] if place < len(self.phrases) else None
        if after is None or after.pronoun or after.governed:
            return None
        return after if self._between(phrase.last, after.first) in (["and"], [",", "and"]) else None

    def _is_objects(self, phrase: Phrase) -> bool:
        """Whether a phrase is the object of a verb or of a relation."""
        opener = self._opener(phrase)
        if phrase.governed or self.words[phrase.head].dep in ("dobj", "pobj"):
            return True
        if opener is not None and self.words[opener].is_verb and opener > 0:
            return True  # "is a soft gray, and the pines"
        return (before := self._before(phrase.first)) is not None and before in self.owner

    def _continues(self, phrase: Phrase, match: Match | None = None) -> bool:
        """Whether a phrase begins a clause of its own: a verb or another relation follows it."""
        after = phrase.last + 1
        while after < len(self.words) and self.words[after].kind in ("ADV", "PART"):
            after += 1
        if after >= len(self.words) or (match is not None and after in match.places):
            return False
        if match is not None and match.verb is not None and after <= match.verb:
            return False
        return self.words[after].is_verb or after in self.owner or self.words[after].text in ("that", "which", "who")

    def _next_match(self, match: Match) -> Match | None:
        later = [other for other in self.matches if other.places[0] > match.places[-1]]
        return later[0] if later else None

    def _between(self, last: int, first: int) -> list[str]:
        """The words between two places, without determiners."""
        return [word.text for word in self.words[last + 1 : first] if word.text not in DETERMINERS]
