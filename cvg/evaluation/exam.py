"""How well prompts are understood: what a parser makes of them, against what somebody else says that they state."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Annotated, Any, Final, Literal

from pydantic import Field

from cvg.common.errors import DataError, PromptError
from cvg.common.typed import read, record
from cvg.composition import Composition, LabelSet, Parser, Relation, parse
from cvg.composition.phrases import DETERMINERS, plain

Mark = Literal["right", "refused", "wrong"]
MARKS: Final[tuple[Mark, ...]] = ("right", "refused", "wrong")
ACTING: Final = ("action", "interaction")
Naming = Callable[[str, str], bool]


@record
class Expected:
    """A relation that a prompt states.

    Attributes:
        entities: words that name its entities, subject first; those that are not given are not compared.
        label: its label; None where only the words that state it are known.
        words: a phrase of the prompt in which they are.
    """

    entities: Annotated[list[str], Field(min_length=1)]
    label: str | None = None
    words: str | None = None


@record
class Exam:
    """A prompt and what it states of one category.

    Attributes:
        prompt: the text.
        category: what it is counted under. Relations of the categories of the labels that are named are looked at;
            where none is, those of this one.
        relations: what it states.
        complete: whether that is all of the category, and its entities are whole phrases, which are to be found as
            they are. Benchmarks name what they look at, and no more, by any of its words.
        part: of a collection, where it has parts: those that a parser was made with, and those kept from it.
    """

    prompt: str
    category: str
    relations: list[Expected]
    complete: bool = False
    part: str = ""

    @property
    def heading(self) -> str:
        """What it is counted under."""
        return f"{self.category} ({self.part})" if self.part else self.category


@record
class Marks:
    """Figures of one category.

    Attributes:
        count: prompts.
        right: everything that is stated was found, and nothing that contradicts it.
        refused: the prompt was refused, or not everything was found, and nothing wrong.
        wrong: something was found that is not stated.
        milliseconds: of the processor's time that reading a prompt took, on average.
    """

    count: int
    right: int
    refused: int
    wrong: int
    milliseconds: float

    @property
    def share(self) -> float:
        """The share that is right."""
        return self.right / self.count


def mark(exam: Exam, labels: LabelSet, parser: Parser = parse) -> Mark:
    """What a parser makes of a prompt.

    Args:
        exam: the prompt, and what it states.
        labels: the label set that it is read with.
        parser: the parser.
    """
    try:
        found = parser(exam.prompt, labels)
    except PromptError:
        return "right" if not exam.relations else "refused"
    # A prompt may state more than one category, and be listed under a heading that is none ("long").
    categories = {labels[one.label].category for one in exam.relations if one.label is not None} or {exam.category}
    counted = [own for own in found.relations if any(_counts(labels[own.label].category, one) for one in categories)]
    same = _same if exam.complete else _names
    matched = [any(_is(one, own, found, same) for own in counted) for one in exam.relations]
    strange = [own for own in counted if not any(_is(one, own, found, same) for one in exam.relations)]
    if not exam.complete and any(matched):  # of other entities more may be said
        told = [one for one in exam.relations if one.label is not None]
        strange = [own for own in strange if any(_of(one, own, same) for one in told)]
    if strange:
        return "wrong"
    return "right" if all(matched) else "refused"


def measure(exams: Sequence[Exam], labels: LabelSet, parser: Parser = parse) -> dict[str, Marks]:
    """Marks of each category, in the order in which they come.

    Args:
        exams: at least one.
        labels: the label set that prompts are read with.
        parser: the parser.
    """
    mark(exams[0], labels, parser)  # what is loaded with the first prompt is no part of reading one
    figures: dict[str, Marks] = {}
    for heading in dict.fromkeys(exam.heading for exam in exams):
        mine = [exam for exam in exams if exam.heading == heading]
        began = time.process_time()
        marks = [mark(exam, labels, parser) for exam in mine]
        spent = 1000 * (time.process_time() - began) / len(mine)
        counts = {name: marks.count(name) for name in MARKS}
        figures[heading] = Marks(count=len(mine), **counts, milliseconds=round(spent, 2))
    return figures


def read_exams(path: Path) -> list[Exam]:
    """The prompts of a file, with what they state.

    Args:
        path: JSONL of objects with ``prompt``, ``category`` and ``relations``, each of which has ``entities`` and
            ``label``, or ``words`` in its place; and ``part`` where wanted. They are all of the category.

    Raises:
        DataError: it cannot be read, is of another form, or has no prompt; the message names the line.
    """
    try:
        lines = path.read_text(encoding="utf-8-sig").split("\n")
        told = [(number, json.loads(line)) for number, line in enumerate(lines, 1) if line.strip()]
    except OSError as error:
        raise DataError(f"prompts {path}: cannot be read ({error.strerror}); check the path") from error
    except (ValueError, RecursionError) as error:
        raise DataError(f"prompts {path}: not JSON, line by line ({error}); write it again") from error
    if not told:
        raise DataError(f"prompts {path}: there is no prompt in it")
    what = f"prompts {path}, line"
    return [
        read(Exam, {"complete": True} | one if isinstance(one, dict) else one, f"{what} {number}", complete=False)
        for number, one in told
    ]


def table(figures: dict[str, Marks]) -> list[list[str]]:
    """Rows of a table, its head first; of each part its sum after its last category."""
    head = ["category", "prompts", "right", "refused", "wrong", "share right", "ms a prompt"]
    parts = dict.fromkeys(name.partition(" (")[2] for name in figures)
    listed = []
    for part in parts:
        mine = {name: one for name, one in figures.items() if name.partition(" (")[2] == part}
        listed += [*mine.items(), (f"all ({part}" if part else "all", summed(list(mine.values())))]
    rows = [
        [name, *map(str, (one.count, one.right, one.refused, one.wrong)), f"{one.share:.3f}", f"{one.milliseconds:.1f}"]
        for name, one in listed
    ]
    return [head, *rows]


def summed(marks: Sequence[Marks]) -> Marks:
    """The figures of several categories together."""
    count = sum(one.count for one in marks)
    spent = sum(one.count * one.milliseconds for one in marks)
    counts = {name: sum(getattr(one, name) for one in marks) for name in MARKS}
    return Marks(count=count, **counts, milliseconds=round(spent / count, 2))


def to_json(figures: dict[str, Marks]) -> dict[str, Any]:
    """The same for a file."""
    return {name: vars(one) | {"share": one.share} for name, one in figures.items()}


def _counts(category: str, asked: str) -> bool:
    return category == asked or (asked in ACTING and category in ACTING)


def _is(expected: Expected, relation: Relation, found: Composition, same: Naming) -> bool:
    """Whether a relation that was found is the expected one."""
    if expected.label is not None and relation.label != expected.label:
        return False
    if expected.words is not None and relation.wording:
        at = found.prompt.lower().find(expected.words.lower())
        if not at <= relation.start < relation.end <= at + len(expected.words):
            return False
    return _of(expected, relation, same)


def _of(expected: Expected, relation: Relation, same: Naming) -> bool:
    """Whether a relation is of the expected entities."""
    pairs = zip(expected.entities, (entity.phrase for entity in relation.entities), strict=False)
    return all(same(words, phrase) for words, phrase in pairs)


def _same(words: str, phrase: str) -> bool:
    """Whether two phrases are one, determiners aside."""
    return _bare(words.split()) == _bare(phrase.split())


def _names(words: str, phrase: str) -> bool:
    """Whether two phrases name one thing: all words of one are in the other ("dog", "small brown dog")."""
    one, other = set(_bare(words.split())), set(_bare(phrase.split()))
    return one <= other or other <= one


def _bare(words: Iterable[str]) -> list[str]:
    bare = (plain(word.strip(".,;?!")) for word in words)
    return [word for word in bare if word and word not in DETERMINERS]
