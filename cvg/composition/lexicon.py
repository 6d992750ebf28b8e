"""What a label set says of sentences, made ready for reading: which words may state which label."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Sequence

from cvg.composition.labels import Label
from cvg.composition.language import Word
from cvg.composition.patterns import Pattern, compiled, of_wording, verbs_of

_SIDE = re.compile(r"to the ([a-z]+) of")
ACTION = "action"
"""Category of labels that say what somebody does."""
CHANGE = "change"
"""Category of labels that say what becomes of an entity, whoever brings it about."""
ATTRIBUTE, NUMBER = "attribute", "number"
"""Categories whose labels are said by words inside of a noun phrase ("a red ball"), or of its subject ("is red")."""


class Lexicon:
    """The patterns and values of a label set.

    Args:
        labels: the labels, in order.

    Attributes:
        values: word -> label that it states of its noun: labels of the categories attribute and number.
        verbs: plain forms of the verbs that patterns begin with.
        sides: word -> label whose wordings have it in "to the ... of", as "left" of "its left".
    """

    def __init__(self, labels: Sequence[Label]) -> None:
        self.values: dict[str, Label] = {}
        self.sides: dict[str, Label] = {}
        self._patterns: dict[str, list[tuple[Pattern, Label]]] = defaultdict(list)
        self._fronted: dict[str, list[tuple[Pattern, Label]]] = defaultdict(list)
        every: list[Pattern] = []
        for label in labels:
            valued = label.category in (ATTRIBUTE, NUMBER) and not label.has_object
            patterns = [compiled(pattern) for pattern in label.patterns]
            if valued:
                words = [*label.wordings, *label.patterns]
                self.values |= {word.lower(): label for word in words if " " not in word}
                patterns = [compiled(" ".join(word.split())) for word in words if " " in word]
            else:
                patterns += [pattern for wording in label.wordings if (pattern := of_wording(wording))]
            for wording in label.wordings if label.has_object else ():
                if found := _SIDE.fullmatch(wording):
                    self.sides[found[1]] = label
            for pattern in patterns:
                for option in pattern.parts[0] or ():
                    self._patterns[option].append((pattern, label))
                if label.rule and pattern.leading is not None and (pattern.open or label.has_object):
                    for option in pattern.parts[pattern.leading] or ():
                        self._fronted[option].append((pattern, label))
            every += patterns
        self.verbs = verbs_of(every)

    def fronted(self, words: Sequence[Word]) -> list[tuple[Label, list[int]]]:
        """Every pattern whose words stand before its verb: its label, their places, and, last, the verb's."""
        found = []
        for word in words:
            for form in word.forms:
                for pattern, label in self._fronted.get(form, ()):
                    if places := pattern.fronted(words, word.index):
                        found.append((label, places))
        return sorted(found, key=lambda each: (-len(each[1]), each[1][0]))

    def matches(self, words: Sequence[Word]) -> list[tuple[Pattern, Label, list[int]]]:
        """Every pattern that matches, with its label and the places of its words; in no order."""
        found = []
        for word in words:
            tried = set()
            for form in word.forms:
                for pattern, label in self._patterns.get(form, ()):
                    if (id(pattern), label.name) not in tried:
                        tried.add((id(pattern), label.name))
                        if places := pattern.match(words, word.index):
                            found.append((pattern, label, places))
        return found
