"""Noun phrases of a prompt: those that its words make, and those that are given by hand."""

from __future__ import annotations

import functools
import re
from collections.abc import Collection, Sequence
from dataclasses import dataclass

from cvg.common.errors import PromptError
from cvg.composition.language import PREPOSITIONS, Word, lemmas

DETERMINERS = frozenset(
    "a an the this that these those some another one its his her their my your our each every any no".split()
)
JOINTS = frozenset("and or but while whereas when where then as because so".split())
# "a photo of a dog": the dog is meant, not the photo.
MEDIA = frozenset(
    "photo photograph picture image video clip footage shot scene view close-up closeup animation rendering render "
    "painting drawing illustration timelapse time-lapse lapse sight tableau".split()
)
_STATES = frozenset("open shut closed ajar wide aloft empty full high low".split())
"""Adjectives after a noun that are no part of its name: "holds a door open"."""
_HUNG = frozenset("hang lean decorate adorn".split())
# "a dog, 8k, best quality, moving left": they praise the picture and are nothing in it.
QUALITY = frozenset(
    "masterpiece best high highest top ultra highly very quality detailed detail details resolution res hd uhd fhd hdr "
    "raw cinematic photorealistic realistic realism photoreal sharp focus award-winning trending artstation octane "
    "render aesthetic professional stunning intricate lighting 4k 8k".split()
)
GIVING = frozenset("give hand offer throw toss show feed bring pass serve teach tell buy pour send lend".split())
"""Verbs after which two phrases may stand, whom and what: "hands a boy a cup"."""
FRAME = frozenset("frame screen image picture scene view camera video shot viewer lens".split())
"""What is seen rather than in it: "to the left of the frame" is no place beside an entity."""
_MEASURE = re.compile(r"\d+(?:[.:]\d+)?(?:k|p|fps|mm|hd|px)?")
_RELATIVES = frozenset("it they he she which who whom that them him".split())
# Thai, Lao and Tibetan; Burmese; Khmer; kana; ideographs; kana of half width.
_UNSPACED = (
    "\u0e00-\u0fff\u1000-\u109f\u1780-\u17ff\u3005-\u3007\u3040-\u30ff\u31f0-\u31ff"
    "\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff\uff66-\uff9f\U00020000-\U0003ffff"
)
PhraseSpan = tuple[str, int, int]
"""(phrase, start, end), with ``phrase == prompt[start:end]``."""


@dataclass(frozen=True)
class Phrase:
    """A noun phrase without its determiner.

    Attributes:
        first: its first word.
        last: its last word.
        head: its noun.
        governed: whether a preposition stands before it ("in the snow"), so that it cannot head a clause.
        bare: whether it has no determiner.
        pronoun: whether it is a pronoun, which stands for another.
    """

    first: int
    last: int
    head: int
    governed: bool = False
    bare: bool = False
    pronoun: bool = False


def plain(text: str) -> str:
    """A phrase as phrases are compared: in lower case, with single spaces."""
    return " ".join(text.lower().split())


@functools.lru_cache(maxsize=1 << 12)
def word_pattern(phrase: str) -> re.Pattern[str]:
    """A phrase on word boundaries ("left-over" has no "left", no "over"), in any case, with any white space.

    Scripts that put no space between words (Chinese, Japanese, Thai and their kin) have no boundaries to look for, nor
    has a word of another script that stands among them.
    """
    kept = phrase.strip()
    before = "" if re.match(f"[{_UNSPACED}]", kept) else rf"(?<!-)(?<![^\W{_UNSPACED}])"
    after = "" if re.search(f"[{_UNSPACED}]$", kept) else rf"(?!-|[^\W{_UNSPACED}])"
    return re.compile(before + r"\s+".join(map(re.escape, phrase.split())) + after, re.IGNORECASE)


def locate(prompt: str, phrase: str) -> PhraseSpan:
    """Find an entity phrase given by hand: (phrase as it stands in the prompt, start, end).

    Args:
        prompt: the prompt.
        phrase: the phrase, with or without a determiner; ``"dog#2"`` is its second occurrence.

    Raises:
        PromptError: it is not in the prompt, not that often, or more than once and no occurrence was chosen.
    """
    words, _, number = phrase.partition("#")
    kept = words.split()
    while len(kept) > 1 and kept[0].lower() in DETERMINERS:
        kept.pop(0)
    if not kept or (number and not number.strip().isdecimal()):
        raise PromptError(
            f"entity {phrase!r}: expected a phrase of the prompt, such as 'dog', or 'dog#2' for the second one"
        )
    name = " ".join(kept)
    found = list(word_pattern(name).finditer(prompt))
    if not found:
        raise PromptError(f"entity {name!r} is not in the prompt {prompt!r}; name it with the prompt's own words")
    if not number and len(found) > 1:
        choices = " or ".join(f"'{name}#{i + 1}'" for i in range(len(found)))
        raise PromptError(f"entity {name!r} occurs {len(found)} times in the prompt {prompt!r}; choose {choices}")
    if not 1 <= int(number or 1) <= len(found):
        raise PromptError(f"entity {phrase!r}: the prompt {prompt!r} has {name!r} {len(found)} time(s)")
    match = found[int(number or 1) - 1]
    return match.group(), match.start(), match.end()


def _is_adjective(word: Word) -> bool:
    return word.kind == "ADJ" or (word.is_noun and word.tag not in ("NNS", "NNPS") and bool(lemmas(word.text, "ADJ")))


def span_of(prompt: str, phrase: Phrase, words: Sequence[Word]) -> PhraseSpan:
    """A phrase as it stands in the prompt."""
    start, end = words[phrase.first].start, words[phrase.last].end
    return prompt[start:end], start, end


def noun_phrases(words: Sequence[Word], blocked: Collection[int]) -> list[Phrase]:
    """The noun phrases of a prompt, in order.

    Args:
        words: its words.
        blocked: words that state a relation, and end a phrase.
    """
    reader = _Reader(words, blocked)
    for word in words:
        reader.take(word)
    reader.close()
    return reader.phrases


class _Reader:
    """Collects noun phrases word by word."""

    def __init__(self, words: Sequence[Word], blocked: Collection[int]) -> None:
        self.words, self.blocked = words, frozenset(blocked)
        self.phrases: list[Phrase] = []
        self.taken: list[int] = []
        self.determined = self.governed = False

    def take(self, word: Word) -> None:
        """Take one word."""
        last = self.words[self.taken[-1]] if self.taken else None
        if word.index in self.blocked:
            self.close()
        elif word.text == "of" and last is not None and last.is_noun and self._nominal(word.index + 1):
            if (last.text in MEDIA or last.forms & MEDIA) and not self._is_hung(word.index):
                self.close(drop=True)
            else:
                self.taken.append(word.index)  # "a cup of coffee", "the roof of a house"
        elif last is not None and last.text == "of" and (word.kind == "DET" or word.tag == "PRP$"):
            self.taken.append(word.index)
        elif word.tag == "POS" or word.text == "'s":
            if last is not None and self._nominal(word.index + 1):
                self.taken.append(word.index)  # "a dog's bowl"; but "a dog's running"
            else:
                self.close()
        elif word.text in ("and", ",") and last is not None and self._joins_modifiers(last, word):
            self.taken.append(word.index)
        elif (
            word.text in DETERMINERS
            and not self._is_her(word)
            and word.kind != "NUM"
            and not (word.kind == "PRON" and word.tag != "PRP$")
        ):
            self.close(keep=True)
            self.determined = True
        elif word.kind == "NUM" and word.text == "one" and not self._nominal(word.index + 1):
            self.close()
        elif word.text == "other" and word.index and self.words[word.index - 1].text == "each":
            self.close()  # "help each other lift a box"
        elif (word.text in _RELATIVES and word.kind in ("PRON", "DET", "SCONJ")) or self._is_her(word):
            self.close()
            self.phrases.append(Phrase(word.index, word.index, word.index, bare=True, pronoun=True))
        elif (word.kind == "ADP" or word.text in PREPOSITIONS or word.text == "to") and not self._is_round(word):
            self.close()
            self.governed = not self._opens_clause(word)
        elif self._belongs(word):
            if word.kind == "NUM" and last is not None and last.is_noun:
                self.close()
            self.taken.append(word.index)
        else:
            self.close()

    def _is_hung(self, index: int) -> bool:
        """Whether a picture is a thing of its own: "a painting of a ship hangs above the sofa"."""
        verb = next((word for word in self.words[index:] if word.is_verb and word.kind != "AUX"), None)
        return verb is not None and verb.sentence == self.words[index].sentence and not verb.forms.isdisjoint(_HUNG)

    def _is_round(self, word: Word) -> bool:
        """Whether "round" is the shape: "a round clock"."""
        before = self.words[word.index - 1] if word.index else None
        after_verb = not self.determined and before is not None and before.is_verb
        return (
            word.text == "round" and word.kind in ("ADJ", "NOUN") and not after_verb and self._nominal(word.index + 1)
        )

    def _is_her(self, word: Word) -> bool:
        """Whether "her" stands alone: "behind her", not "her dog"."""
        return word.text == "her" and not self._nominal(word.index + 1)

    def _opens_clause(self, word: Word) -> bool:
        """Whether "as" joins clauses: "sits as a jester juggles"; but "dressed as a clown"."""
        before = self.words[word.index - 1] if word.index else None
        return word.text in ("as", "while", "until", "since") and (
            before is None or not (before.tag == "VBN" or before.text in ("same", "such", "as"))
        )

    def _belongs(self, word: Word) -> bool:
        if word.kind in ("NOUN", "PROPN", "ADJ", "NUM", "X", "SYM"):
            return not word.is_sign
        if word.kind == "VERB" and word.tag in ("VBG", "VBN", "VBD"):  # "a parked car", "a flying bird"
            governed = word.index > 0 and self.words[word.index - 1].kind == "ADP"  # "under drifting clouds"
            return (self.determined or bool(self.taken) or governed) and self._modifies(word)
        if word.kind == "ADV":  # "a rather large dog"
            return word.head > word.index and word.dep == "advmod" and self._nominal(word.index + 1) and self.determined
        return self.determined and word.kind == "VERB" and not self.taken and self._modifies(word)

    def _modifies(self, word: Word) -> bool:
        if word.head <= word.index and word.dep not in ("amod", "compound"):
            return False
        return word.dep in ("amod", "compound", "nmod") and self._nominal(word.index + 1)

    def _nominal(self, index: int) -> bool:
        if index >= len(self.words) or index in self.blocked:
            return False
        word = self.words[index]
        article = word.kind == "DET" or word.tag == "PRP$"
        return word.kind in ("NOUN", "PROPN", "ADJ", "NUM") or article or word.dep in ("amod", "compound")

    def _joins_modifiers(self, last: Word, word: Word) -> bool:
        """Whether a sign or "and" is between adjectives of one noun: "a black and white cat", "a red, round ball"."""
        after = self.words[word.index + 1 : word.index + 3]
        if len(after) < 2 or not all(map(_is_adjective, (last, after[0]))):
            return False
        so_far = [self.words[place] for place in self.taken]
        if word.text == "," and not (self.determined and all(one.kind == "ADJ" or one.is_sign for one in so_far)):
            return False
        return after[1].is_noun or after[1].kind == "ADJ" or (word.text == "," and after[1].text == ",")

    def close(self, keep: bool = False, drop: bool = False) -> None:
        """End the phrase being read, if any; ``keep`` that a preposition governs what follows, ``drop`` the phrase."""
        words, had = self.taken, bool(self.taken)
        while words and not self.words[words[-1]].is_noun and not self._named(words):
            words.pop()
        if words and not drop and not (self._is_praise() and not self.determined):
            ofs = [place for place in words if self.words[place].text == "of"]
            nouns = [place for place in words if not ofs or place < ofs[0]]
            head = nouns[-1]
            self.phrases.append(Phrase(words[0], words[-1], head, self.governed, not self.determined))
        self.taken, self.determined = [], False
        if had or not keep:
            self.governed = False

    def _named(self, words: Sequence[int]) -> bool:
        """Whether words without a noun name an entity all the same: "a square", "2" are the model's slips."""
        alone = not any(self.words[place].is_noun for place in words)
        ended = words[-1] + 1 == len(self.words) or self.words[words[-1] + 1].text != "of"  # "a cart full of hay"
        if not alone and ended and self.determined and self.words[words[-1]].kind == "ADJ":
            # "a cyan square", of which the model makes a noun and its adjective
            return self.words[words[-1]].text not in _STATES
        return (
            alone and self.words[words[-1]].kind in ("ADJ", "X", "NUM", "VERB") and (self.determined or len(words) > 1)
        )

    def _is_praise(self) -> bool:
        """Whether the phrase is of quality words and sizes alone ("8k", "best quality")."""
        texts = [self.words[place].text for place in self.taken]
        return all(text in QUALITY or _MEASURE.fullmatch(text) for text in texts)
