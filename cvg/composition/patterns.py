"""The patterns of a label set: how sentences state a label, over lemmas.

A pattern is words in a row, such as ``move|go left``. ``a|b`` stands for either word, ``<NAME>`` for one of a list of
words that the group names under ``words``, and ``..`` for words between, of the same clause. Words are compared by
their lemmas ("moves", "moving"), or as they stand; determiners and adverbs between them do not matter. A first word
that is a verb in the dictionary must be one in the sentence. A last word after ``~`` must be the noun of the phrase
that follows, and remains the entity's: ``in ~box|cage``.
"""

from __future__ import annotations

import functools
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from cvg.common.errors import DataError
from cvg.composition.language import Word, is_verb, lemmas

GAP, AHEAD = "..", "~"
_PHRASE = ("DET", "ADJ", "NOUN", "PROPN", "NUM", "VERB", "ADV", "PRON")
_PLACE = ("DET", "ADJ", "NOUN", "PROPN", "NUM", "PRON")
_SUBJECT = ("DET", "ADJ", "NOUN", "PROPN", "NUM", "PRON")
_FINITE = ("VBZ", "VBP", "VBD")
_WIDEST = 14
"""Most words that a gap can hold."""
_CLOSING = frozenset("and or but while whereas when where then because so which that who".split())


def expanded(pattern: str, words: Mapping[str, Sequence[str]], where: str) -> str:
    """A pattern with its lists of words written out.

    Args:
        pattern: see the module.
        words: lists of words by name.
        where: what the pattern belongs to, to begin a message with.

    Raises:
        DataError: an unknown list, or a gap at an end.
    """

    def listed(found: re.Match[str]) -> str:
        if found[1] not in words:
            known = ", ".join(words) or "none"
            raise DataError(f"{where}: pattern {pattern!r}: <{found[1]}> is no list of its group's words ({known})")
        return "|".join(words[found[1]])

    full = re.sub(r"<([^<>]*)>", listed, pattern)
    parts = full.lower().split()
    ahead = [part for part in parts if part.startswith(AHEAD)]
    misplaced = GAP in (parts[0], parts[-1]) or len(parts) == len(ahead) or ahead not in ([], parts[-1:])
    if misplaced or any(not option for part in parts for option in part.removeprefix(AHEAD).split("|")):
        raise DataError(
            f"{where}: pattern {pattern!r}: expected words, '..' between words, '|' between two, '~' before the last"
        )
    return " ".join(parts)


@dataclass(frozen=True)
class Pattern:
    """A pattern made ready.

    Attributes:
        parts: the options of each word; None for a gap.
        verb: whether its first word must be a verb.
        ahead: the nouns of which the phrase that follows must have one; any may follow where there are none.
    """

    parts: tuple[frozenset[str] | None, ...]
    verb: bool
    ahead: frozenset[str] = frozenset()

    @property
    def open(self) -> bool:
        """Whether it has a gap: the words after it state the label, with any of many verbs."""
        return None in self.parts

    def fronted(self, words: Sequence[Word], start: int) -> list[int] | None:
        """The places of its words where they open a clause before its verb: "to the left rolls a barrel".

        Args:
            words: of the prompt.
            start: place of the first word after the verb, or after the gap.

        Returns:
            The places of the words without the verb, and, last, that of the verb, which a noun phrase follows; None
            where it does not match.
        """
        part = self.leading
        if part is None or not self._fits(words[start], part):
            return None
        before = words[start - 1] if start else None
        if before is not None and before.kind == "ADV" and start > 1:
            before = words[start - 2]
        opened = before is None or before.sentence != words[start].sentence or before.is_sign or before.text in _CLOSING
        found = self._rest(words, [start], part + 1) if opened or (start == 1 and words[0].kind == "ADV") else None
        if found is None or (found[-1] + 1 < len(words) and words[found[-1] + 1].text == "of"):
            return None
        place = found[-1] + 1
        place += place < len(words) and words[place].text == "from"  # "up from the grave climbs a skeleton"
        while place < len(words) and (words[place].kind in _PLACE or words[place].text == "of"):
            place += 1
        if place + 1 >= len(words) or words[place].tag not in _FINITE or not self._fits(words[place], 0):
            return None
        return [*found, place] if words[place + 1].kind in _SUBJECT else None

    @property
    def leading(self) -> int | None:
        """The part that opens a clause where its words stand before its verb; None where they cannot."""
        after = 1 + (len(self.parts) > 1 and self.parts[1] is None)
        return after if self.verb and after < len(self.parts) and not self.ahead else None

    def match(self, words: Sequence[Word], start: int) -> list[int] | None:
        """The places of its words, the first of them at ``start``; None where it does not match."""
        if not self._fits(words[start], 0) or (self.verb and not words[start].is_verb):
            return None
        found = self._rest(words, [start], 1)
        return found if found is None or not self.ahead or self._leads(words, found[-1] + 1) else None

    def _leads(self, words: Sequence[Word], place: int) -> bool:
        """Whether the phrase from a place on has one of the nouns ahead."""
        while place < len(words) and words[place].kind in _PHRASE:
            last = place + 1 == len(words) or not words[place + 1].is_noun
            if words[place].is_noun and last:
                return not self.ahead.isdisjoint(words[place].forms)
            place += 1
        return False

    def _fits(self, word: Word, part: int) -> bool:
        options = self.parts[part]
        return options is not None and not options.isdisjoint(word.forms)

    def _rest(self, words: Sequence[Word], found: list[int], part: int) -> list[int] | None:
        if part == len(self.parts):
            return found
        gap = self.parts[part] is None
        part += gap
        for place in range(found[-1] + 1, min(found[-1] + 1 + (_WIDEST if gap else 4), len(words))):
            word = words[place]
            if self._fits(word, part) and (rest := self._rest(words, [*found, place], part + 1)):
                return rest
            parted = word.is_sign and (self.verb or not gap or word.text != ",")  # "from left to right, a dog crosses"
            if word.sentence != words[found[-1]].sentence or parted:
                return None
            if not gap and not (word.kind == "DET" or (word.tag in ("PRP$", "RB", "RP") and word.text != "not")):
                return None
            if gap and (word.text in _CLOSING or word.is_verb):
                return None
        return None


@functools.lru_cache(maxsize=1 << 16)
def compiled(pattern: str) -> Pattern:
    """A pattern that has no lists any more."""
    own, _, ahead = pattern.partition(f" {AHEAD}")
    parts = tuple(None if part == GAP else frozenset(part.split("|")) for part in own.split())
    first = parts[0] or frozenset()
    return Pattern(
        parts, any(is_verb(option) for option in first), frozenset(ahead.split("|")) if ahead else frozenset()
    )


@functools.lru_cache(maxsize=1 << 12)
def of_wording(wording: str) -> Pattern | None:
    """The pattern of a wording that begins with a participle, over all forms of its verb: "move left"."""
    first, *rest = wording.lower().split()
    verbs = lemmas(first, "VERB") if first.endswith("ing") else frozenset()
    return Pattern((frozenset(verbs), *(frozenset({word}) for word in rest)), True) if verbs else None


def verbs_of(patterns: Iterable[Pattern]) -> frozenset[str]:
    """All verbs that patterns begin with."""
    return frozenset(option for pattern in patterns if pattern.verb for option in pattern.parts[0] or ())
