"""Which noun phrases are the subject and the object of the words that state a label."""

from __future__ import annotations

from collections.abc import Sequence

from cvg.composition.language import Word
from cvg.composition.phrases import DETERMINERS, JOINTS, Phrase, noun_phrases
from cvg.composition.statements import Match

_SUBJECTS = ("nsubj", "nsubjpass")
_OWN_CLAUSE = ("conj", "advcl", "xcomp", "ccomp", "dep", "aux", "auxpass")
_DEEPEST = 6


class Attachment:
    """Finds the entities of matches.

    Args:
        words: of the prompt.
        matches: what states labels, in order of appearance.
    """

    def __init__(self, words: Sequence[Word], matches: Sequence[Match]) -> None:
        self.words, self.matches = words, matches
        self.owner = {place: match for match in matches for place in match.places}
        self.phrases = noun_phrases(words, self.owner)
        self._at = {place: phrase for phrase in self.phrases for place in range(phrase.first, phrase.last + 1)}
        self._subjects: dict[int, list[Phrase]] = {}

    # Slots

    def subjects(self, match: Match) -> list[Phrase]:
        """The phrases that a match says something of: several where they are joined by "and"; none where unclear."""
        number = self.matches.index(match)
        if number not in self._subjects:
            self._subjects[number] = []  # whoever asks again is in a circle
            self._subjects[number] = self._found_subjects(match, number)
        return self._subjects[number]

    def objects(self, match: Match) -> list[Phrase]:
        """The phrases that stand right after a relation: several where they are joined; none where there is none."""
        phrase = self._following(match.places[-1])
        if phrase is None:
            after = self._next_match(match)
            joints = self._between(match.places[-1], after.places[0]) if after else ["?"]
            if after and after.label.has_object and joints in ([], ["and"], ["and", "to"]):
                return self.objects(after)  # "left of and above a car"
            return []
        found = [phrase]
        while (more := self._joined_after(found[-1])) and not self._continues(more):
            found.append(more)
        return found

    def _found_subjects(self, match: Match, number: int) -> list[Phrase]:
        spoken = self._spoken_of(match, number)
        if spoken is None:
            spoken = self._fronted(match)
        if spoken is None:
            return []
        if spoken.pronoun:
            return self._meant(spoken, number)
        return self._with_joined(spoken, match)

    def _spoken_of(self, match: Match, number: int) -> Phrase | None:
        linear = self._linear(match, number)
        if match.verb is not None:
            return self._of_verb(match.verb, linear, match)
        before = self._before(match.places[0])
        if before is None:
            return linear
        word = self.words[before]
        if word.is_verb and before not in self.owner:
            return self._of_verb(before, linear, match)
        if before in self.owner:
            other = self.owner[before]
            shared = self.subjects(other)
            return shared[0] if shared and other is not match else linear
        phrase = self._at.get(before)
        if phrase is None:
            return linear
        head = self.words[match.places[0]].head
        if phrase.first <= head <= phrase.last and self.words[phrase.head].dep == "dobj" and not phrase.governed:
            return phrase
        return linear

    # Verbs

    def _of_verb(self, verb: int, linear: Phrase | None, match: Match) -> Phrase | None:
        """The subject of a verb, by the parse; where that does not tell, ``linear``."""
        near = self._adjacent(verb)
        named = any(word.head == verb and word.dep in _SUBJECTS for word in self.words)
        if near is not None and not (named and self.words[near.head].dep in ("dobj", "pobj")):
            return near
        said = self._verb_subject(verb, 0)
        if said is None:
            return linear
        noun = self.words[said.head]
        participle = self.words[verb].dep in ("acl", "relcl")
        if participle and linear is not None and said != linear and noun.dep != "dobj":
            return linear
        if said.first > match.places[-1] and linear is not None:
            return linear
        return said

    def _verb_subject(self, verb: int, depth: int) -> Phrase | None:
        word = self.words[verb]
        if depth > _DEEPEST:
            return None
        for child in sorted(self.words, key=lambda child: abs(child.index - verb)):
            if child.head == verb and child.dep in _SUBJECTS and child.index != verb:
                phrase = self._at.get(child.index)
                if phrase is not None and not phrase.governed:
                    return self._at.get(word.head) if phrase.pronoun and word.dep == "relcl" else phrase
        if word.dep in ("acl", "relcl"):
            return self._at.get(word.head)
        if word.dep in _OWN_CLAUSE and self.words[word.head].is_verb and word.head != verb:
            return self._verb_subject(word.head, depth + 1)
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

    # By position

    def _linear(self, match: Match, number: int) -> Phrase | None:
        """The phrase that heads the last clause before a match that has one.

        A relation that stands between takes its object away; where nothing else is left, the subject is shared with it.
        """
        earlier = [other for other in self.matches[:number] if other.places[-1] < match.places[0]]
        before = earlier[-1] if earlier else None
        region = self._clauses(before.places[-1] + 1 if before else 0, match.places[0])
        if before and before.label.has_object and len(region) > 1:
            region = region[1:]
        for phrases in reversed(region):
            for phrase in phrases:
                if not phrase.governed:
                    return phrase if not self._is_style(phrase, region, match) else None
        if before is None:
            return None
        if self.words[before.places[-1]].sentence != self.words[match.places[0]].sentence:
            return None
        shared = self.subjects(before)
        return shared[0] if shared else None

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

    def _fronted(self, match: Match) -> Phrase | None:
        """The subject after the object: "To the left of the tree stands a dog", "Under the bridge, a boat drifts"."""
        first, sentence = match.places[0], self.words[match.places[0]].sentence
        if any(phrase.last < first and self.words[phrase.last].sentence == sentence for phrase in self.phrases):
            return None
        objects = self.objects(match) if match.label.has_object else []
        after = objects[-1].last if objects else match.places[-1]
        if match.label.has_object and not objects:
            return None
        for phrase in self.phrases:
            if phrase.first > after and self.words[phrase.first].sentence == sentence:
                between = self.words[after + 1 : phrase.first]
                parted = any(word.is_verb or word.text == "," for word in between)
                if not phrase.governed:
                    if not match.literal and not any(word.is_verb for word in between):
                        return None  # "On a busy street, signs glow": where all of it is, and not of the signs alone
                    return phrase if parted else None
        return None

    # Joined phrases and pronouns

    def _with_joined(self, phrase: Phrase, match: Match) -> list[Phrase]:
        found = [phrase]
        while (previous := self._joined_before(found[0])) and not self._is_objects(previous):
            found.insert(0, previous)
        while (more := self._joined_after(found[-1])) and more.last < match.places[0]:
            if self._continues(more, match):
                break
            found.append(more)
        return found

    def _is_objects(self, phrase: Phrase) -> bool:
        """Whether a phrase is the object of a verb or of a relation."""
        if phrase.governed or self.words[phrase.head].dep in ("dobj", "pobj"):
            return True
        return (before := self._before(phrase.first)) is not None and before in self.owner

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

    def _meant(self, pronoun: Phrase, number: int) -> list[Phrase]:
        """What a pronoun stands for: the subject of before, else the last phrase that heads a clause."""
        for other in reversed(self.matches[:number]):
            if other.places[-1] < pronoun.first and (found := self.subjects(other)):
                return found
        named = [phrase for phrase in self.phrases if phrase.last < pronoun.first and not phrase.pronoun]
        heads = [phrase for phrase in named if not phrase.governed] or named
        return heads[-1:]

    # Words around

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

    def _next_match(self, match: Match) -> Match | None:
        later = [other for other in self.matches if other.places[0] > match.places[-1]]
        return later[0] if later else None

    def _between(self, last: int, first: int) -> list[str]:
        """The words between two places, without determiners."""
        return [word.text for word in self.words[last + 1 : first] if word.text not in DETERMINERS]
