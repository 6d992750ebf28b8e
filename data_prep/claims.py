"""What is claimed of videos: captions, or templates with entities and labels, in JSON Lines or CSV.

    {"video": "a.mp4", "caption": "a dog runs to the left of a woman"}
    {"video": "b.mp4", "template": "a {e0} {r0}", "entities": ["dog"], "label": "left", "start": 2.0, "end": 4.5}

A row is one of a manifest (`data_prep.manifest`), or has a ``caption`` in place of template, entities and labels. Paths
are relative to the file. In CSV the first line names the columns, and entities have semicolons between them.
"""

from __future__ import annotations

import csv
import json
import random
import re
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from cvg.common.errors import DataError, NothingToGuide, UserError
from cvg.common.typed import read
from cvg.composition import Composition, LabelSet, Parser, template_of
from cvg.composition.phrases import plain
from data_prep import manifest, splits
from data_prep.lines import Line

_OWN = ("template", "entities", "relations", "label", "group", "wordings")
"""Keys that a caption stands in for."""


@dataclass(frozen=True)
class Claim:
    """One video and what is said of it.

    Attributes:
        line: number of its line in the file.
        row: the manifest's row that it would be, were it true; None where it is malformed.
        composition: what is claimed; None likewise.
        fault: why it is not judged; empty where it is.
        reason: the kind of fault: malformed, prompt (a caption that cannot be understood), nothing (one that states
            no label).
    """

    line: int
    row: manifest.Row | None = None
    composition: Composition | None = None
    fault: str = ""
    reason: str = ""


def load(path: str | Path, labels: LabelSet, parse: Parser) -> list[Claim]:
    """Read claims. Malformed rows, and captions that cannot be understood, are claims with a fault.

    Args:
        path: a file of JSON Lines, or of CSV where its name ends in ``.csv``.
        labels: the label set that labels come from.
        parse: who reads the captions.

    Raises:
        DataError: the file cannot be read, or has no rows.
    """
    path = Path(path)
    if path.exists() and not path.is_file():  # a pipe would wait for its writer for ever
        raise DataError(f"videos {path}: cannot be read (not a regular file); give a file of JSON Lines or CSV")
    try:
        text = path.read_text(encoding="utf-8-sig")
    except OSError as error:
        raise DataError(f"videos {path}: cannot be read ({error.strerror}); check the path") from error
    except ValueError as error:
        raise DataError(f"videos {path}: not UTF-8 text ({error}); write it as JSON Lines or CSV") from error
    rows = _csv(path, text) if path.suffix.lower() == ".csv" else _json(text)
    claims: list[Claim] = []
    ids: dict[str, int] = {}
    for number, values in rows:
        claim = _claim(number, values, path.parent, labels, parse)
        if claim.row is not None:
            first = ids.setdefault(claim.row.id, number)
            if first != number:
                fault = f"id {claim.row.id!r} is already that of line {first}; make it unique"
                claim = Claim(number, fault=fault, reason="malformed")
        claims.append(claim)
    if not claims:
        raise DataError(f"videos {path}: has no rows; write one video per line, with what is said of it")
    return claims


def _json(text: str) -> Iterator[tuple[int, dict[str, Any] | str]]:
    """Number and keys of each line, or what is wrong with it."""
    for number, line in enumerate(text.split("\n"), start=1):
        if not line.strip():
            continue
        try:
            values = json.loads(line)
        except (ValueError, RecursionError) as error:
            yield number, f"not valid JSON ({error}); write one object per line"
            continue
        yield number, values if isinstance(values, dict) else f"a {type(values).__name__}, not an object"


def _csv(path: Path, text: str) -> Iterator[tuple[int, dict[str, Any] | str]]:
    """The same of a table, whose empty cells are left out."""
    reader = csv.DictReader(text.splitlines(keepends=True), strict=True)
    try:
        for cells in reader:
            if None in cells or None in cells.values():
                yield reader.line_num, "has more or fewer cells than the first line; put quotes around commas"
                continue
            values: dict[str, Any] = {name.strip(): cell.strip() for name, cell in cells.items() if cell.strip()}
            try:
                values |= {name: float(values[name]) for name in ("start", "end") if name in values}
            except ValueError as error:
                yield reader.line_num, f"{error}; give seconds"
                continue
            for name in ("entities", "wordings"):
                if name in values:
                    values[name] = [phrase.strip() for phrase in values[name].split(";")]
            yield reader.line_num, values
    except csv.Error as error:
        raise DataError(f"videos {path}: line {reader.line_num}: not valid CSV ({error}); write it again") from error


def _claim(number: int, values: dict[str, Any] | str, folder: Path, labels: LabelSet, parse: Parser) -> Claim:
    if isinstance(values, str):
        return Claim(number, fault=values, reason="malformed")
    captioned = "caption" in values
    try:
        if captioned:
            values = understood(values, labels, parse)
    except UserError as error:
        return Claim(number, fault=str(error), reason="nothing" if isinstance(error, NothingToGuide) else "prompt")
    try:
        json.dumps(values, ensure_ascii=False).encode()
        line = read(Line, values, complete=False)
        split = line.split or splits.split_of(line.video, line.start, line.end)
        row = manifest.row_of(line, folder, labels, number, split)
        row = replace(row, id=row.id or f"{re.sub(r'[^A-Za-z0-9_-]+', '-', row.video.stem)[:40].strip('-')}-{number}")
        return Claim(number, row, row.composition(labels, random.Random(row.id)))
    except UserError as error:
        return Claim(number, fault=str(error), reason="malformed")
    except ValueError as error:
        return Claim(number, fault=f"holds half of a letter ({error}); write it anew", reason="malformed")


def understood(values: dict[str, Any], labels: LabelSet, parse: Parser) -> dict[str, Any]:
    """The keys of a manifest's row, from a caption.

    Args:
        values: ``caption``, and keys of a row that do not say the same.
        labels: the label set that labels come from.
        parse: who reads the caption.

    Raises:
        UserError: the caption cannot be understood, states no label (`NothingToGuide`), or is beside what it says.
    """
    if given := [name for name in _OWN if name in values]:
        raise DataError(f"has a caption and {given[0]!r}; give one of them")
    if not isinstance(values["caption"], str):
        raise DataError(f"caption is {values['caption']!r}; give a text")
    said = parse(values["caption"], labels)
    found: dict[str, Any] = {name: value for name, value in values.items() if name != "caption"}
    found["template"] = template_of(said)
    found["entities"] = [entity.phrase for entity in said.entities]
    found["relations"] = [
        {"label": relation.label, "entities": [said.entities.index(entity) for entity in relation.entities]}
        for relation in said.relations
    ]
    # Words by which a parser recognises a label need not be a wording, which could be replaced: then one is drawn.
    if all(plain(relation.wording) in map(plain, labels[relation.label].wordings) for relation in said.relations):
        found["wordings"] = [relation.wording for relation in said.relations]
    return found
