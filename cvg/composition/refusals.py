"""What a prompt says and the parser cannot know: small general rules that refuse it rather than read it wrongly."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from typing import Protocol, TypeVar

from cvg.common.errors import PromptError
from cvg.composition.labels import Label, LabelSet
from cvg.composition.language import PREPOSITIONS, Word
from cvg.composition.lexicon import ATTRIBUTE
from cvg.composition.negations import leaves_choice
from cvg.composition.phrases import PhraseSpan, plain


class Wording(Protocol):
    """A wording found in a prompt: ``prompt[start:end]`` states the label."""

    @property
    def label(self) -> Label: ...  # noqa: D102

    @property
    def start(self) -> int: ...  # noqa: D102

    @property
    def end(self) -> int: ...  # noqa: D102


Found = TypeVar("Found", bound=Wording)
REFLEXIVES = frozenset("itself himself herself themselves oneself".split())
PLACE_ADVERBS = frozenset("there here yonder again".split())
# "takes over", "pulls over", "all over": the word is part of a verb or an adverb, not a place.
PHRASAL = frozenset(
    "take takes taking took taken turn turns turning turned pull pulls pulling pulled hand hands handing get gets "
    "getting knock knocks knocking think thinks thinking all game start starts starting "
    "bend bends bending switch switches switching spread spreads spreading look looks looking peer peers gaze gazes "
    "stare stares stretch stretches stretching extend extends extending".split()
)
ENDINGS = frozenset("stop stops stopped avoid avoids avoided quit quits".split())
"""Right before a wording they negate it: "stops moving left"."""
PRONOUNS = frozenset("one another each some any all others".split())
"""Right before a wording they stand for an entity: "two dogs, one moving left"."""
QUANTIFIERS = frozenset("over under above below".split())
"""Wordings that also compare: "over 40", "under an hour", "above average"."""
UNITS = frozenset(
    "second minute hour day night week month year decade century time while weekend season meter metre centimeter "
    "centimetre kilometer kilometre km cm mm inch foot feet yard mile gram kg kilogram pound ton degree percent dollar "
    "euro mph kmh age course".split()
)
ABSTRACT = frozenset(
    "average freezing zero construction control pressure attack way stress budget arrest repair load weight burden "
    "strain".split()
)
NUMBERS = frozenset(
    "ten eleven twelve thirteen fourteen fifteen sixteen seventeen eighteen nineteen twenty thirty forty fifty sixty "
    "seventy eighty ninety hundred thousand million dozen dozens hundreds thousands".split()
)
SMALL_NUMBERS = frozenset("one two three four five six seven eight nine".split())
JOINTS = frozenset(("and", "then", "but", "&", "/", "+", ","))

_WEIGHTED = re.compile(r"\(+[^()]*:\s*[+-]?\d*\.?\d+\s*\)+|\({2,}[^()]*\){2,}")
_WEIGHT = re.compile(r":\s*[+-]?\d*\.?\d+\s*(?=\))|[()]")
_EXCHANGE = re.compile(r"\[[^\[\]]*:[^\[\]]*\]|\[{2,}|<lora:", re.IGNORECASE)
_WRITTEN = re.compile(r"\w+(?:['’/-]\w+)*")
_TOKEN = re.compile(r"\w+(?:['’]\w+)*|[^\w\s]")


def denied(prompt: str, word: Word) -> PromptError:
    """The error of words that another denies, or leaves a choice of."""
    written = next(found[0] for found in _WRITTEN.finditer(prompt) if found.start() <= word.start < found.end())
    if leaves_choice(word):
        return _refused(prompt, f"{written!r} leaves a choice", "one thing")
    said = "rather than" if written.lower() == "rather" else written
    return _refused(prompt, f"{said!r} negates, so what is asked cannot be known", "what is there")


def doubtful(prompt: str, said: str, word: str) -> PromptError:
    """The error of words that a hedge, a modal or a question makes doubtful."""
    return _refused(prompt, f"{word!r} makes {said!r} doubtful", "what is there")


def short_lived(prompt: str, said: str, word: str) -> PromptError:
    """The error of a place that another takes over from, or that takes over from another."""
    return _refused(prompt, f"what is said after {word!r} replaces {said!r}, or the other way round", "one place")


def unsure(prompt: str, said: str, phrase: str, word: str) -> PromptError:
    """The error of an entity that may hold a word that is none of its own."""
    reason = f"whether {phrase!r} is one thing is doubtful ({word!r} may be no noun), so {said!r} may be of another"
    return _refused(prompt, reason, "it in a shorter sentence")


def without_weights(prompt: str) -> tuple[str, list[str]]:
    """A prompt with blanks in place of the marks of other programs' weights: "(red circle:1.3)", "((red circle))".

    Returns:
        A text of the same length, and what was marked, each once.

    Raises:
        PromptError: it exchanges words during sampling ("[dog:cat:0.5]"), or names a LoRA.
    """
    if found := _EXCHANGE.search(prompt):
        raise PromptError(
            f"prompt {prompt!r}: {found.group()!r} marks a prompt weight or an exchange of words, which the text "
            "encoder would read as words; write the prompt without it, or give its entities"
        )
    marked = [found[0] for found in _WEIGHTED.finditer(prompt)]
    text = _WEIGHT.sub(lambda found: " " * len(found[0]), prompt) if marked else prompt
    return text, list(dict.fromkeys(marked))


def half_known(prompt: str, matches: Sequence[Found], labels: LabelSet) -> Iterator[tuple[Found, PromptError]]:
    """Wordings that a direction is joined to which is none itself: "moving left and up", "to the left and above".

    A direction is a word that only one label of its group has in its wordings.

    Yields:
        Each with its error.
    """
    words = _directions(labels, matches)
    for match in matches:
        after = [token.group().lower() for token in _TOKEN.finditer(prompt, match.end)]
        starts = [other.start for other in matches if other.start >= match.end]
        room = len(_TOKEN.findall(prompt[match.end : starts[0]])) if starts else len(after)
        joints, rest = _split(after[:room])
        while rest and rest[0] in ("to", "on", "the", "also", "further", "slightly"):
            rest = rest[1:]
        listed = joints != [","] or len(rest) < 2 or rest[1] in JOINTS or not rest[1][0].isalnum()
        if joints and rest and rest[0] in words and listed:
            yield match, _two(prompt, prompt[match.start : match.end], rest[0])
        edge = max((other.end for other in matches if other.end <= match.start), default=0)
        joints, rest = _split([token.lower() for token in _TOKEN.findall(prompt[edge : match.start])][::-1])
        if joints and "," not in joints and rest and rest[0] in words:
            yield match, _two(prompt, rest[0], prompt[match.start : match.end])


def refuse_senses(prompt: str, match: Wording, entities: Sequence[PhraseSpan | None]) -> None:
    """Refuse wordings that are no relation here: "over there", "takes over", "over 40", "over an hour", "of itself"."""
    wording = plain(prompt[match.start : match.end])
    following = [token.lower() for token in _TOKEN.findall(prompt[match.end :])][:2]
    said = " ".join([wording, *following[:1]])
    if match.label.has_object and following and following[0] in PLACE_ADVERBS:
        raise _refused(prompt, f"{said!r} is a place or a manner, not a relation", "of what")
    if following and (following[0] in REFLEXIVES or following in (["each", "other"], ["one", "another"])):
        raise _refused(prompt, f"{' '.join([wording, *following])!r} relates an entity to itself", "two entities")
    before = [token.lower() for token in _TOKEN.findall(prompt[: match.start])][-1:]
    if wording == "over" and before and before[0] in PHRASAL:
        raise _refused(prompt, f"'{before[0]} over' is no place", "the relation in other words")
    if before and before[0] in ENDINGS and wording.split()[0].endswith("ing"):
        raise _refused(prompt, f"{before[0]!r} negates {wording!r}", "what is there")
    if before and before[0] in PRONOUNS:
        raise _refused(prompt, f"it does not tell which '{before[0]}' is meant", "which")
    if match.label.has_object and entities[1] is not None:
        _refuse_quantity(prompt, wording, entities[1])
    elif match.label.has_object and following and following[0][0].isdigit():
        raise _refused(prompt, f"{said!r} is a quantity", "of what")


def refuse_contradictions(prompt: str, found: Sequence[tuple[Wording, Sequence[PhraseSpan]]]) -> None:
    """Refuse two labels of one group for the same entities, of which only one can hold, and an entity with itself."""
    for i, (match, spans) in enumerate(found):
        if len(spans) == 2 and _same(prompt, *spans):
            raise _refused(
                prompt, f"{spans[0][0]!r} is both subject and object of {match.label.name!r}", "two entities"
            )
        for other, others in found[:i]:
            if match.label.group != other.label.group or match.label == other.label or not _exclude(match, other):
                continue
            if all(_same(prompt, *pair) for pair in zip(others, spans, strict=True)):
                of = " and ".join(repr(span[0]) for span in spans)
                raise PromptError(
                    f"prompt {prompt!r}: asks for {other.label.name!r} and for {match.label.name!r} of {of}, and only "
                    f"one label of the group {match.label.group!r} can hold; ask for one of them"
                )


def _refuse_quantity(prompt: str, wording: str, entity: PhraseSpan) -> None:
    """Refuse an object that is a number, a time or a measure."""
    words = entity[0].lower().split()
    comparing = wording in QUANTIFIERS or wording.endswith("than")
    first, last = words[0], words[-1]
    counted = all(_is_number(word) for word in words)
    if not counted and comparing:
        determined = bool(re.search(r"\b(the|a|an|its|his|her|their)\s+$", prompt[: entity[1]], re.IGNORECASE))
        counted = (
            (first[0].isdigit() or first in NUMBERS)
            or last in UNITS
            or last.removesuffix("s") in UNITS
            or (len(words) == 1 and last in ABSTRACT and not determined)
        )
    if counted:
        raise _refused(prompt, f"{wording} {entity[0]!r} is a quantity or a state, not a place", "of what")


def _is_number(word: str) -> bool:
    return word[0].isdigit() or word in NUMBERS or word in SMALL_NUMBERS


def _directions(labels: LabelSet, matches: Sequence[Wording]) -> frozenset[str]:
    """The prepositions and adverbs that tell a label from the others of its group, in the groups that are stated."""
    found = set()
    for name in {match.label.group for match in matches}:
        group = labels.groups[name]
        having = [{word for wording in label.wordings for word in plain(wording).split()} for label in group]
        for i, words in enumerate(having):
            found |= words - {word for other in having[:i] + having[i + 1 :] for word in other}
    vague = {"to", "from", "of", "than", "with", "in", "on", "at", "by", "for", "off", "like"}
    placing = PREPOSITIONS - vague
    return frozenset(word for word in found if word in placing or word.endswith(("ward", "wards")))


def _split(tokens: Sequence[str]) -> tuple[list[str], list[str]]:
    """The joints that tokens begin with, and the rest."""
    joints = list(_while_joint(tokens))
    return joints, list(tokens[len(joints) :])


def _while_joint(tokens: Sequence[str]) -> Iterator[str]:
    for token in tokens:
        if token not in JOINTS:
            return
        yield token


def _same(prompt: str, first: PhraseSpan, second: PhraseSpan) -> bool:
    """Whether two mentions are one entity: one place in the prompt, or "a dog ... the dog"."""
    if first[1:] == second[1:]:
        return True
    later = max(first, second, key=lambda span: span[1])
    known = re.search(r"\b(the|this|that|these|those)\s+(same\s+)?$", prompt[: later[1]], re.IGNORECASE)
    return plain(first[0]) == plain(second[0]) and known is not None


def _exclude(one: Wording, other: Wording) -> bool:
    """Whether two labels of a group cannot both be meant: places and directions do, actions may take turns."""
    return all(
        match.label.rule or not match.label.question or match.label.category == ATTRIBUTE for match in (one, other)
    )


def _two(prompt: str, first: str, second: str) -> PromptError:
    return _refused(prompt, f"{first!r} and {second!r} are joined, and only one of them is a known wording", "one")


def _refused(prompt: str, reason: str, say: str) -> PromptError:
    return PromptError(f"prompt {prompt!r}: {reason}; say {say}, or give the relation's label and entities by hand")
