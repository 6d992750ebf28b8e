"""Prompts as people have them, some of which ask for nothing that can be guided; and files of them."""

from __future__ import annotations

import csv
import io
import json
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated, Any

from pydantic import Field

from cvg.common.errors import DataError, NothingToGuide, PromptError
from cvg.common.typed import read, record
from cvg.composition.composition import Composition
from cvg.composition.labels import LabelSet
from cvg.composition.parser import parse

NOTHING = "nothing to guide"
UNREAD = "cannot be read"
UNKNOWN = "labels that the classifier does not know"
REASONS = (NOTHING, UNREAD, UNKNOWN)
"""Why a prompt is sampled plainly."""
_LARGEST = 64 << 20


@record
class PromptLine:
    """A line of a file of prompts.

    Attributes:
        prompt: the text.
        entities: entity phrases by hand, subject and object of each relation in turn; read from the prompt when None.
        labels: the relations' labels by hand; read from the prompt when None.
        image: file of the picture that its videos begin with, for generators that make them of one.
        last_image: likewise of the one that they end with.
    """

    prompt: Annotated[str, Field(description="a text")]
    entities: list[str] | None = None
    labels: list[str] | None = None
    image: Path | None = None
    last_image: Path | None = None


@dataclass(frozen=True)
class Asked:
    """What a prompt asks for.

    Attributes:
        prompt: the text.
        composition: what is to be guided; None where the prompt is to be sampled plainly.
        reason: one of :data:`REASONS` where it is, else empty.
        why: the same in full.
    """

    prompt: str
    composition: Composition | None
    reason: str = ""
    why: str = ""


def understand(line: PromptLine, labels: LabelSet) -> Asked:
    """What a prompt asks for, or why it is to be sampled plainly.

    Args:
        line: the prompt.
        labels: the label set.

    Raises:
        PromptError: what is said by hand does not fit the prompt: a mistake, not a prompt without relations.
    """
    by_hand = line.entities is not None or line.labels is not None
    try:
        return Asked(line.prompt, parse(line.prompt, labels, line.entities, line.labels))
    except NothingToGuide as error:
        if by_hand:
            raise
        return Asked(line.prompt, None, NOTHING, str(error))
    except PromptError as error:
        if by_hand:
            raise
        return Asked(line.prompt, None, UNREAD, str(error))


def read_prompts(path: Path, pictures: bool = False) -> list[PromptLine]:
    """The prompts of a file.

    Args:
        path: a ``.txt`` of one prompt a line; a ``.jsonl`` of objects with ``prompt`` and, where they are said by hand,
            ``entities`` and ``labels`` (lists of texts), and where videos are made of pictures, ``image`` and
            ``last_image`` (files, relative to the folder of this one); or a ``.csv`` with these columns, in which the
            texts of a list have semicolons between them. Empty lines count as nothing.
        pictures: whether pictures are of use; a line with one is refused otherwise.

    Raises:
        DataError: it cannot be read, is of another form, or holds no prompt; the message names the line.
    """
    try:
        if path.exists() and not path.is_file():
            raise OSError(0, "not a regular file")
        if path.stat().st_size > _LARGEST:
            raise DataError(f"prompts {path}: larger than {_LARGEST >> 20} MB; give a file of prompts")
        text = path.read_text(encoding="utf-8-sig")
    except OSError as error:
        raise DataError(f"prompts {path}: cannot be read ({error.strerror}); check the path") from error
    except ValueError as error:
        raise DataError(f"prompts {path}: not UTF-8 text ({error}); write it again") from error
    kinds = {".txt": _plain, ".jsonl": _objects, ".csv": _table}
    if path.suffix not in kinds:
        raise DataError(f"prompts {path}: give a file that ends in {', '.join(kinds)}")
    lines = []
    for number, entry in kinds[path.suffix](text, path):
        where = f"prompts {path}, line {number}"
        line = read(PromptLine, entry, where, complete=False)
        if (line.image or line.last_image) and not pictures:
            raise DataError(f"{where}: has an image, and videos are made of text alone here; leave it out")
        image, last_image = (name and path.parent / name for name in (line.image, line.last_image))
        lines.append(replace(line, image=image, last_image=last_image))
    if not lines:
        raise DataError(f"prompts {path}: there is no prompt in it")
    return lines


def _plain(text: str, path: Path) -> list[tuple[int, Any]]:
    lines = enumerate(text.splitlines(), 1)
    return [(number, {"prompt": line.strip()}) for number, line in lines if line.strip()]


def _objects(text: str, path: Path) -> list[tuple[int, Any]]:
    found = []
    for number, line in enumerate(text.split("\n"), 1):
        if line.strip():
            try:
                found.append((number, json.loads(line)))
            except (ValueError, RecursionError) as error:
                raise DataError(f"prompts {path}, line {number}: not valid JSON ({error}); write it again") from error
    return found


def _table(text: str, path: Path) -> list[tuple[int, Any]]:
    reader = csv.DictReader(io.StringIO(text, newline=""), strict=True)
    found = []
    try:
        for row in reader:
            if None in row or None in row.values():
                raise DataError(
                    f"prompts {path}, line {reader.line_num}: another number of cells than the first line has; "
                    "put prompts with commas into quotes"
                )
            entry: dict[str, Any] = {name: cell for name, cell in row.items() if name == "prompt" or cell.strip()}
            for name in ("entities", "labels"):
                if name in entry:
                    entry[name] = [part.strip() for part in entry[name].split(";")]
            found.append((reader.line_num, entry))
    except csv.Error as error:
        raise DataError(f"prompts {path}, line {reader.line_num}: not CSV ({error}); write it again") from error
    return found
