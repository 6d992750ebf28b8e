"""Noun phrases of a prompt, by closed lists of English function words. No model: the same result anywhere."""

from __future__ import annotations

import re
from dataclasses import dataclass

from cvg.common.errors import PromptError

DETERMINERS = frozenset(
    "a an the this that these those some another one its his her their my your our each every any no".split()
)
SEPARATORS = frozenset("and or but while whereas when where then as because so".split())
# They end a noun phrase and never belong to one: auxiliaries, pronouns, and verbs that describe a scene.
STOPS = frozenset(
    "is are was were be being been am has have had does do did can will would should may might must gets get "
    "which who whom whose it they he she there both not "
    "sits stands runs walks moves lies flies hovers floats goes jumps rests stays drives swims appears drifts slides "
    "rolls travels remains hangs waits sleeps plays comes passes rides".split()
)
PREPOSITIONS = frozenset(
    "in on at by near into onto from to through across along inside outside during against around beneath between "
    "behind beside for toward towards under over above below within without upon underneath opposite past off with "
    "next beyond like of up down".split()
)
POSSESSIVES = frozenset(("'s", "’s"))
ADVERBS = frozenset("now still just also together fast quickly always currently slowly again away".split())
COLORS = frozenset("black white red green blue yellow orange purple pink brown grey gray gold silver".split())
# "a photo of a dog": the dog is meant, not the photo.
MEDIA = frozenset(
    "photo photograph picture image video clip footage shot scene view close-up closeup animation".split()
)
# "a dog, 8k, best quality, moving left": they praise the picture and are nothing in it.
QUALITY = frozenset(
    "masterpiece best high highest top ultra highly very quality detailed detail details resolution res hd uhd fhd hdr "
    "raw cinematic photorealistic realistic realism photoreal sharp focus award-winning trending artstation octane "
    "render aesthetic professional stunning intricate".split()
)
_MEASURE = re.compile(r"\d+(?:[.:]\d+)?(?:k|p|fps|mm|hd|px)?")
MEDIA_VERBS = frozenset("showing shows depicting featuring".split())
# Nouns that end like participles or adverbs.
NOUNS = frozenset(
    "building painting ceiling pudding duckling sibling gosling dumpling sapling earring offspring herring starling "
    "railing awning wedding drawing viking seedling hatchling icing stocking lightning clothing carving crossing "
    "hundred bobsled infrared toolshed seabed flatbed family jelly lily belly bully holly dolly trolly".split()
)

_TOKEN = re.compile(r"'s\b|’s\b|[^\W_]+(?:['’-](?!s\b)[^\W_]+)*|[^\w\s]")


# Thai, Lao and Tibetan; Burmese; Khmer; kana; ideographs; kana of half width.
_UNSPACED = (
    "\u0e00-\u0fff\u1000-\u109f\u1780-\u17ff\u3005-\u3007\u3040-\u30ff\u31f0-\u31ff"
    "\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff\uff66-\uff9f\U00020000-\U0003ffff"
)
"""Letters of scripts that put no space between words, as a range of a regular expression."""


PhraseSpan = tuple[str, int, int]
"""(phrase, start, end), with ``phrase == prompt[start:end]``."""


@dataclass(frozen=True)
class Chunk:
    """A noun phrase without its determiner.

    Attributes:
        span: the phrase and where it stands.
        governed: whether a preposition stands before it ("in the snow"), so that it cannot head a clause.
        bare: whether it has no determiner.
    """

    span: PhraseSpan
    governed: bool
    bare: bool = False


Clause = list[Chunk]


def plain(text: str) -> str:
    """A phrase as phrases are compared: in lower case, with single spaces."""
    return " ".join(text.lower().split())


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


def joined(prompt: str, first: Chunk, second: Chunk) -> bool:
    """Whether nothing but "and" or "or" (and a determiner) stands between two noun phrases: "a dog and a cat"."""
    between = re.findall(r"\w+|[^\w\s]", prompt[first.span[2] : second.span[1]].lower())
    return [word for word in between if word not in DETERMINERS] in (["and"], ["or"], [",", "and"], [",", "or"])


def clauses(prompt: str, start: int, end: int) -> list[Clause]:
    """The clauses of ``prompt[start:end]``, each with its noun phrases in order. Always at least one, maybe empty."""
    reader = _Reader(prompt)
    tokens = [(match.group().lower(), match.start(), match.end()) for match in _TOKEN.finditer(prompt, start, end)]
    for i, token in enumerate(tokens):
        reader.take(token, tokens[i + 1][0] if i + 1 < len(tokens) else None)
    reader.close_phrase()
    return reader.clauses


Token = tuple[str, int, int]


class _Reader:
    """Collects noun phrases word by word."""

    def __init__(self, prompt: str) -> None:
        self.prompt = prompt
        self.clauses: list[Clause] = [[]]
        self.words: list[Token] = []
        self.determined = False
        self.governed = False

    def take(self, token: Token, following: str | None) -> None:
        """Take one word, knowing the one after it."""
        word, last = token[0], self.words[-1][0] if self.words else None
        if last in MEDIA and (word == "of" or word in MEDIA_VERBS):
            self.words = []
            self.close_phrase()
        elif word == "of" and last is not None and following is not None and _is_plain(following):
            self.words.append(token)  # "a cup of coffee" is one phrase; "the top of the hill" is not
        elif word in POSSESSIVES and last is not None and following is not None and not _is_trailing(following):
            self.words.append(token)  # "a dog's bowl"; but "a dog's running"
        elif word == "and" and last in COLORS and following in COLORS:
            self.words.append(token)  # "a black and white cat"
        elif word in DETERMINERS:
            self.close_phrase(keep_preposition=True)
            self.determined = True
        elif word in PREPOSITIONS:
            self.close_phrase()
            self.governed = True
        elif word in STOPS or word in POSSESSIVES:
            self.close_phrase()
        elif word in SEPARATORS or not word[0].isalnum():
            self.close_phrase()
            self.clauses.append([])
        else:
            self.words.append(token)

    def close_phrase(self, keep_preposition: bool = False) -> None:
        """End the phrase being read, if any: without trailing adverbs and participles ("a dog slowly running")."""
        had_words = bool(self.words)
        least = 1 if self.determined else 0  # "the running": someone's noun; ", running": a verb
        while len(self.words) > least and _is_trailing(self.words[-1][0]):
            self.words.pop()
        if self.words and not (self._is_praise() and not self.determined):
            start, end = self.words[0][1], self.words[-1][2]
            self.clauses[-1].append(Chunk((self.prompt[start:end], start, end), self.governed, not self.determined))
        self.words = []
        self.determined = False
        if had_words or not keep_preposition:
            self.governed = False

    def _is_praise(self) -> bool:
        """Whether the phrase is of quality words and sizes alone ("8k", "best quality")."""
        sizes = [_MEASURE.fullmatch(word) is not None for word, _, _ in self.words]
        return all(size or word in QUALITY for size, (word, _, _) in zip(sizes, self.words, strict=True))


def _is_plain(word: str) -> bool:
    functions = DETERMINERS | SEPARATORS | STOPS | PREPOSITIONS
    return word[0].isalnum() and word not in functions


def _is_trailing(word: str) -> bool:
    """Whether a word at the end of a phrase is an adverb or a participle rather than its noun."""
    if word in ADVERBS:
        return True
    if word in NOUNS or word.endswith("fly"):
        return False
    # A stem without a vowel is a noun: ring, string, wing.
    verb = word.endswith("ing") and re.search("[aeiouy]", word[:-3]) is not None
    return verb or (len(word) > 5 and word.endswith("ed")) or (len(word) > 4 and word.endswith("ly"))
