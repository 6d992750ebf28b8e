"""Which noun phrases are the subject and the object of the words that state a label."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress

from cvg.composition.chains import MOVERS, TRANSITIVE, Chains
from cvg.composition.fronting import UnclearError
from cvg.composition.language import PREPOSITIONS, Word
from cvg.composition.lexicon import ACTION, CHANGE
from cvg.composition.match import Match
from cvg.composition.nouns import clause
from cvg.composition.phrases import DETERMINERS, JOINTS, MEDIA, Phrase
from cvg.composition.referents import RELATIVE, is_open, may_mean, referent
from cvg.composition.statements import is_value
from cvg.composition.surroundings import FINITE

_SUBJECTS = ("nsubj", "nsubjpass")
_OWN_CLAUSE = ("conj", "advcl", "xcomp", "ccomp", "dep", "aux", "auxpass")
_SPUN = frozenset("fly roll spin swing slide bounce twirl rotate whirl hang lean".split())
"""Verbs with an object that say what it does, rather than the subject."""
_DEEPEST = 6


class Attachment(Chains):
    """Finds the entities of matches.

    Args:
        words: of the prompt.
        matches: what states labels, in order of appearance.
    """

    def __init__(self, words: Sequence[Word], matches: Sequence[Match]) -> None:
        super().__init__(words, matches)
        self._subjects: dict[int, list[Phrase]] = {}

    # Slots

    def subjects(self, match: Match) -> list[Phrase]:
        """The phrases that a match says something of: several where they are joined by "and"; none where unclear."""
        number = self.matches.index(match)
        if number not in self._subjects:
            self._subjects[number] = []  # whoever asks again is in a circle
            with suppress(UnclearError):
                self._subjects[number] = self._found_subjects(match, number)
        return self._subjects[number]

    def objects(self, match: Match) -> list[Phrase]:
        """The phrases that stand right after a relation: several where they are joined; none where there is none."""
        if (pronoun := self._pronoun(match)) is not None:
            around = clause(self.words, pronoun)
            own = [one for one in self.phrases if one.head in around and self.words[one.head].dep in _SUBJECTS]
            if (
                match.label.rule
                and match.verb is None
                and is_open(self.words, self.phrases, pronoun, self.subjects(match))
            ):
                return []
            found = referent(self.words, self.phrases, pronoun, self._heads(pronoun), [*own, *self.subjects(match)])
            return [found] if found is not None else []
        phrase = self._following(match.places[-1])
        if phrase is None:
            after = self._next_match(match)
            joints = self._between(match.places[-1], after.places[0]) if after else ["?"]
            if after and after.label.has_object and joints in (["and"], ["and", "to"]):
                return self.objects(after)  # "left of and above a car"
            return []
        found_all = [self._given(phrase, match) or phrase]
        while (more := self._joined_after(found_all[-1])) and not self._continues(more):
            found_all.append(more)
        return found_all

    def _found_subjects(self, match: Match, number: int) -> list[Phrase]:
        spoken = self._beside_pronoun(match)
        if spoken is None and (introduced := self._introduced(match)) is not None:
            return self._with_joined(introduced, match)
        before = self._before(match.places[0])
        other = None if before is None or match.verb is not None else self.owner.get(before)
        if spoken is None and other is not None and other is not match and (shared := self.subjects(other)):
            return shared
        if spoken is None and match.verb is None:
            spoken = self._fronted(match)
        if spoken is None:
            spoken = self._spoken_of(match, number)
        if spoken is None:
            spoken = self._fronted(match)
        if spoken is None:
            return []
        if spoken.pronoun:
            return self._meant(spoken, number)
        return self._with_joined(spoken, match)

    def _spoken_of(self, match: Match, number: int) -> Phrase | None:
        if is_value(match.label) and (made := self._at.get(match.places[0] - 1)) is not None and not made.pronoun:
            return made  # "a lamp beside a bench made of stone"
        linear = self._linear(match, number)
        if match.verb is not None and match.verb > match.places[-1]:
            return self._following(match.verb)  # "to the left rolls a barrel"
        if match.verb is not None:
            moved = self._moved(match.verb, match)
            return moved or self._of_verb(match.verb, linear, match)
        before = self._before(match.places[0])
        if before is None:
            return linear
        word = self.words[before]
        if word.is_verb and before not in self.owner:
            return self._of_verb(before, linear, match)
        phrase = self._at.get(before)
        if phrase is None:
            return linear
        return self._of_object(phrase, match) or linear

    def _moved(self, verb: int, match: Match) -> Phrase | None:
        """What a verb moves: "a crane lifts a container upwards"."""
        after = match.places[-1] + 1
        finite = self.words[verb].tag in (*FINITE, "VBG")
        if match.label.category == CHANGE and finite and match.places[0] == verb and self._following(match.places[-1]):
            raise UnclearError  # "a cook boils milk": no other change could be said so of the milk
        spun = match.label.category == ACTION and match.places == (verb,) and self.words[verb].forms & _SPUN
        if spun and finite and any(word.head == verb and word.dep == "dobj" for word in self.words[after:]):
            raise UnclearError  # "flies a kite", "rolls dough"
        if not self.words[verb].forms & MOVERS:
            return None
        if match.label.rule and match.places == (verb,) and match.label.entities == 1:
            if self._following(verb) or (after in self._at and self._at[after].pronoun):
                raise UnclearError  # "drops a stone", "drops it"
            return None
        passive = self.words[verb].tag == "VBN"
        if (
            not passive
            and match.places[0] == verb + 1
            and self.words[verb].forms & (TRANSITIVE | {"blow"})
            and self._following(match.places[-1])
        ):
            raise UnclearError  # "kicks up dust"
        if match.places[0] <= verb:
            return None
        phrase = self._following(verb)
        return phrase if phrase is not None and phrase.last < match.places[0] else None

    # Pronouns

    def _pronoun(self, match: Match) -> int | None:
        """Place of the pronoun that is a relation's object: "behind it", "to its left"."""
        if not match.label.has_object:
            return None
        own = [place for place in match.places if self.words[place].tag == "PRP$"]
        if own and own[0] > match.places[0]:
            return own[0]
        after = self._at.get(match.places[-1] + 1)
        return after.head if after is not None and after.pronoun else None

    def _beside_pronoun(self, match: Match) -> Phrase | None:
        """The subject of a relation to a pronoun, right before or after: "a dog to its left", "below it a river"."""
        pronoun = self._pronoun(match)
        if pronoun is None or self.words[pronoun].text in RELATIVE:
            return None
        first, last = match.places[0], max(pronoun, match.places[-1])
        before = self._at.get(first - 1)
        if before is not None and not before.pronoun:
            return before
        opened = first == 0 or self.words[first - 1].text in JOINTS or self.words[first - 1].is_sign
        opened = opened or self.words[first - 1].sentence != self.words[first].sentence
        after = last + 1
        while after < len(self.words) and (self.words[after].is_verb or self.words[after].text in DETERMINERS):
            after += 1
        return self._at.get(after) if opened else None

    def _meant(self, pronoun: Phrase, number: int) -> list[Phrase]:
        """What a subject that is a pronoun stands for: the subject of before, else what the last clause is about."""
        if self.words[pronoun.head].text in ("them", "him", "her"):
            return []  # "one of them points"
        if self.words[pronoun.head].text in RELATIVE:
            found = referent(self.words, self.phrases, pronoun.head, (), ())
            return [found] if found is not None else []
        named = [phrase for phrase in self.phrases if phrase.last < pronoun.first and not phrase.pronoun]
        fitting = [phrase for phrase in named if may_mean(self.words[pronoun.head], self.words[phrase.head])]
        named = fitting or named
        for other in reversed(self.matches[:number]):
            subjects = self.subjects(other) if other.places[-1] < pronoun.first else []
            if any(phrase in named for phrase in subjects):
                return subjects
        heads = [phrase for phrase in named if not phrase.governed] or named
        heads = [phrase for phrase in heads if not self._is_objects(phrase)] or heads
        return heads[-1:]

    # Verbs

    def _of_verb(self, verb: int, linear: Phrase | None, match: Match) -> Phrase | None:
        """The subject of a verb, by the parse; where that does not tell, ``linear``."""
        if (other := self._of_participle(verb, match) or self._inverted(verb)) is not None:
            return other
        if (owner := self._having(verb)) is not None:
            return owner
        if self.words[verb].tag in FINITE and not self._is_relative(verb):
            heading = self._heading(verb)
            if heading is not None and not heading.pronoun:
                return self._last_joined(heading, verb)
        near = self._adjacent(verb)
        if near is not None and self.words[verb].tag in FINITE:
            if (led := self._led(near)) is not None:
                return self._around_object(led.places[0], verb)
            opener = self._opener(near)
            if opener is not None and self.words[opener].text in JOINTS:
                return near
            if opener is not None and self.words[opener].tag == "VBG" and self.words[opener].dep != "ROOT":
                return self._around_object(opener, verb)
        named = any(word.head == verb and word.dep in _SUBJECTS for word in self.words)
        if near is not None and not (named and self.words[near.head].dep in ("dobj", "pobj")):
            return near
        said = self._verb_subject(verb, 0)
        if said is None:
            return linear
        said = self._not_enclosed(said, verb)
        noun = self.words[said.head]
        begun = any(word.sentence == self.words[verb].sentence for word in self.words[:verb])
        if self.words[verb].tag == "VBG" and said.first > match.places[-1] and begun:
            raise UnclearError  # "tapir trotting past a bus, shopping mall": the model knows no tapir
        participle = self.words[verb].dep in ("acl", "relcl")
        if participle and linear is not None and said != linear and noun.dep != "dobj":
            return linear
        if said.first > match.places[-1] and linear is not None:
            return linear
        return said

    def _around_object(self, opener: int, verb: int) -> Phrase | None:
        """The subject of a verb right after an object: "a child on a swing waves", "on a rug lies a cat".

        Args:
            opener: the word that the object belongs to, a preposition or a participle.
            verb: the verb.
        """
        clause = [place for place in range(opener) if self.words[place].sentence == self.words[verb].sentence]
        heads = [head for head in self._heads(opener) if head.first in clause]
        joints = [place for place in clause if self.words[place].text in JOINTS]
        heads = [head for head in heads if not joints or head.first > joints[-1]]
        return heads[0] if heads else self._following(verb)

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

    # By position

    def _linear(self, match: Match, number: int) -> Phrase | None:
        """The phrase that heads the last clause before a match that has one.

        A relation that stands between takes its object away; where nothing else is left, the subject is shared with it.
        """
        earlier = [other for other in self.matches[:number] if other.places[-1] < match.places[0]]
        before = earlier[-1] if earlier else None
        region = self._clauses(before.places[-1] + 1 if before else 0, match.places[0])
        ends = before is not None and self.words[before.places[-1]].text in PREPOSITIONS
        if before and (before.label.has_object or ends) and len(region) > 1:
            region = region[1:]
        for phrases in reversed(region):
            for phrase in phrases:
                titled = phrase.bare and self.words[phrase.head].text in MEDIA and phrase != self.phrases[0]
                if not phrase.governed and not titled:  # "dancers on a stage, studio shot, dancing"
                    return phrase if not self._is_style(phrase, region, match) else None
        if before is None:
            return None
        if self.words[before.places[-1]].sentence != self.words[match.places[0]].sentence:
            return None
        shared = self.subjects(before)
        return shared[0] if shared else None

    def _with_joined(self, phrase: Phrase, match: Match) -> list[Phrase]:
        found = [phrase]
        while (previous := self._joined_before(found[0])) and not self._is_objects(previous):
            found.insert(0, previous)
        while (more := self._joined_after(found[-1])) and more.last < match.places[0]:
            if self._continues(more, match):
                break
            found.append(more)
        return found
