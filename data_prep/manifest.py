"""The manifest: one JSON object per line, each a video (or a segment of one) and the composition that it shows.

    {"video": "videos/dog.mp4", "template": "a {e0} {r0} a {e1}", "entities": ["dog", "woman"], "label": "right of",
     "start": 0.0, "end": 0.8}

Keys of a row:
    video: path, relative to the manifest.
    template: the prompt, with ``{e0}``, ``{e1}``, ... for entities and ``{r0}``, ... for the wordings of relations.
    entities: entity phrases.
    relations: ``[{"label": name, "entities": [indices]}]``, the subject first. Shorthand where there is one relation
        and the entities are its subject and object in order: ``label``, and ``group`` if it is to be checked.
    wordings: one per relation; drawn anew each time when left out.
    start, end: the segment in seconds.
    split: train, val or test. When left out a hash of path and segment decides, 80 : 10 : 10, and where that leaves a
        split without a row, one whose hash is next to it comes over; give it yourself where segments of one video are
        to stay together.
    source: where the video came from: render, real (when left out) or generator.
    trajectory: safetensors file, relative to the manifest, of the latents that a generator's video was sampled through.
    dataset, licence: name of the data set that the video is of, and of the terms it is under. They go with its records,
        and onto the card of a classifier that is trained on them.
    unconfirmed: true where it is not known whether the video shows what is said, as of a caption: a judge is to say
        (`data_prep.label`).
    id: unique, of letters, digits, ``_`` and ``-``; when left out it is made from the file's name and the segment.
        Records are named by it, and ID_r0, ID_r1, ... where there are several relations; these are unique too.
"""

from __future__ import annotations

import functools
import json
import os
import random
import re
import sys
from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, TypeVar

from cvg.common.errors import DataError, UserError
from cvg.common.files import atomic
from cvg.composition import Composition, LabelSet, build
from cvg.composition.contradictions import refuse_swapped
from cvg.shards.shards import Split
from data_prep import splits
from data_prep.lines import Line, parse, relations_of, wordings_of

NAME = "manifest.jsonl"
T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Row:
    """One line of a manifest; see the module's text.

    Attributes:
        id: unique name.
        video: path of the file as it can be opened.
        template: prompt with placeholders.
        entities: entity phrases.
        relations: per relation its label and the indices of its entities.
        wordings: one per relation, or None.
        start: start of the segment in seconds, or None.
        end: its end, or None.
        split: one of `cvg.shards.shards.SPLITS`.
        source: one of `data_prep.lines.SOURCES`.
        trajectory: file of the latents that it was sampled through, or None.
        dataset: name of the data set that it is of; empty where none is given.
        licence: the terms that it is under, likewise.
        unconfirmed: whether a judge has yet to say that the video shows it.
        line: number of its line in the manifest; 0 where it has none.
        fault: why it gives no record, where that is seen already; one such row is no bad manifest.
    """

    id: str
    video: Path
    template: str
    entities: tuple[str, ...]
    relations: tuple[tuple[str, tuple[int, ...]], ...]
    wordings: tuple[str, ...] | None = None
    start: float | None = None
    end: float | None = None
    split: str = "train"
    source: str = "real"
    trajectory: Path | None = None
    dataset: str = ""
    licence: str = ""
    unconfirmed: bool = False
    line: int = field(default=0, compare=False)
    fault: str = field(default="", compare=False)

    @property
    def keys(self) -> list[str]:
        """Names of its records, one per relation."""
        return _keys(self.id, len(self.relations))

    def composition(self, labels: LabelSet, rng: random.Random) -> Composition:
        """The composition of p+, with the row's wordings, or wordings drawn from ``rng`` where it has none.

        Raises:
            UserError: a label that is not in the label set, or a template that does not fit.
        """
        wordings = self.wordings or [rng.choice(labels[label].wordings) for label, _ in self.relations]
        return build(self.template, self.entities, self.relations, wordings)


def load(path: str | Path, labels: LabelSet) -> list[Row]:
    """Read a manifest.

    Args:
        path: the file, or a folder that holds a ``manifest.jsonl``.
        labels: the label set that its labels must come from.

    Returns:
        The rows in order. Those that are malformed, or have an id that an earlier one has, say so as their ``fault``;
        at least one is good.

    Raises:
        DataError: the file cannot be read, or has no good row; the message has the first bad line's number.
    """
    path = Path(path)
    if path.is_dir():
        path = path / NAME
    if path.exists() and not path.is_file():  # a pipe would wait for its writer for ever
        raise DataError(f"manifest {path}: cannot be read (not a regular file); check the path")
    try:
        # Some editors begin a file with a mark of its encoding.
        with path.open(encoding="utf-8-sig") as lines:
            rows, drawn, taken = _rows(lines, path.parent, labels)
    except OSError as error:
        raise DataError(f"manifest {path}: cannot be read ({error.strerror}); check the path") from error
    except ValueError as error:
        raise DataError(f"manifest {path}: not UTF-8 text ({error}); write it as JSON Lines") from error
    if not rows:
        raise DataError(f"manifest {path}: has no rows; write one JSON object per line")
    if all(row.fault for row in rows):
        raise DataError(f"{path}:{rows[0].line}: {rows[0].fault}")
    moved = splits.spread([None if row.fault else row.split for row in rows], drawn)
    rows = [replace(row, split=moved[place]) if place in moved else row for place, row in enumerate(rows)]
    return _named(rows, set(taken))


def _rows(lines: Iterable[str], folder: Path, labels: LabelSet) -> tuple[list[Row], dict[int, float], dict[str, int]]:
    """The rows; by their places, where a hash puts those that name no split; and the names given, with their lines."""
    rows: list[Row] = []
    drawn: dict[int, float] = {}
    taken: dict[str, int] = {}
    for number, line in enumerate(lines, start=1):
        if line.strip():
            row, share = _read(line.removesuffix("\n"), folder, labels, number)
            if row.id and (fault := _taken(row, taken)):
                row = _faulty(number, fault)
            elif share is not None:
                drawn[len(rows)] = share
            rows.append(row)
    return rows, drawn, taken


def _read(text: str, folder: Path, labels: LabelSet, number: int) -> tuple[Row, float | None]:
    """The row of a line, and where in [0, 1) a hash puts it if it names no split."""
    try:
        line, halves = parse(text)
        share = None if line.split else splits.share(line.video, line.start, line.end)
        row = row_of(line, folder, labels, number, line.split or splits.at(share or 0.0))
    except UserError as error:
        return _faulty(number, str(error)), None
    except (ValueError, RecursionError) as error:
        return _faulty(number, f"not valid JSON ({error}); write one object per line"), None
    if halves:
        row = replace(row, fault="holds half of a letter (a lone surrogate), which no prompt and no name can have")
    return row, share


def _faulty(number: int, fault: str) -> Row:
    """What stands for a line of which no more is known than its fault; its name is made of its number."""
    return Row("", Path(f"line-{number}"), "", (), (), line=number, fault=fault)


def write(path: str | Path, rows: Iterable[Row]) -> None:
    """Write a manifest, atomically; the videos' paths become relative to it.

    Raises:
        DataError: the file cannot be written.
    """
    path = Path(path)
    with atomic(path) as temporary:
        try:
            with temporary.open("w", encoding="utf-8", errors="backslashreplace") as file:
                file.writelines(json.dumps(_plain(row, path.parent), ensure_ascii=False) + "\n" for row in rows)
        except OSError as error:
            raise DataError(f"manifest {path}: cannot be written ({error.strerror}); choose another place") from error


def _keys(name: str, relations: int) -> list[str]:
    return [name] if relations == 1 else [f"{name}_r{number}" for number in range(relations)]


def _taken(row: Row, taken: dict[str, int]) -> str:
    """Note the names of a row that has an id; the fault, noting none, where an earlier row has one of them."""
    names = dict.fromkeys([row.id, *row.keys])
    for name in names:
        if name in taken:
            what = f"id {name!r} is" if name == row.id else f"id {row.id!r} makes a record {name!r}, which is"
            return f"{what} already that of line {taken[name]}; make it unique"
    taken.update(dict.fromkeys(names, row.line))
    return ""


def _plain(row: Row, folder: Path) -> dict[str, Any]:
    plain: dict[str, Any] = {
        "id": row.id,
        "video": Path(os.path.relpath(row.video, folder)).as_posix(),
        "template": row.template,
        "entities": list(row.entities),
        "relations": [{"label": label, "entities": list(indices)} for label, indices in row.relations],
        "wordings": list(row.wordings) if row.wordings else None,
        "start": row.start,
        "end": row.end,
        "split": row.split,
        "source": row.source,
        "trajectory": row.trajectory and Path(os.path.relpath(row.trajectory, folder)).as_posix(),
        "dataset": row.dataset or None,
        "licence": row.licence or None,
        "unconfirmed": row.unconfirmed or None,
    }
    return {key: value for key, value in plain.items() if value is not None}


def _named(rows: list[Row], taken: set[str]) -> list[Row]:
    """Give every row without an id one: file stem and segment in milliseconds, numbered where that is not unique."""
    named = []
    last: dict[str, int] = {}  # by stem, the number given last: the lower ones are taken
    for row in rows:
        if not row.id:
            stem = re.sub(r"[^A-Za-z0-9_-]+", "-", row.video.stem)[:40].strip("-") or "video"
            if row.start is not None or row.end is not None:
                stem += f"-{round(1000 * (row.start or 0))}-{'' if row.end is None else round(1000 * row.end)}".rstrip(
                    "-"
                )
            count = last.get(stem, 0) + 1
            while not taken.isdisjoint(names := _names(f"{stem}-{count}" if count > 1 else stem, row)):
                count += 1
            last[stem] = count
            taken.update(names)
            name = names[0]
            row = replace(row, id=name)
        named.append(row)
    return named


def _names(name: str, row: Row) -> list[str]:
    return [name, *_keys(name, len(row.relations))]


@functools.lru_cache(1 << 14)
def _shared(value: T) -> T:
    """An equal value that was there before: a million rows say few things."""
    return value


def row_of(line: Line, folder: Path, labels: LabelSet, number: int, split: Split) -> Row:
    """A row from its line, of a number; its id is empty where none is given."""
    start, end = line.start, line.end
    if end is not None and end <= (start or 0):
        raise DataError(f"the segment {start or 0:g} to {end:g} s is empty; 'end' must come after 'start'")
    relations = relations_of(line, labels)
    # Whether the files can be read is found out one by one, when they are: one bad video is no bad manifest.
    row = Row(
        id=line.id or "",
        video=folder / line.video,
        template=sys.intern(line.template),
        entities=_shared(tuple(line.entities)),
        relations=_shared(relations),
        wordings=wordings_of(line, [label for label, _ in relations], labels),
        start=None if start is None else float(start),
        end=None if end is None else float(end),
        split=split,
        source=line.source or "real",
        trajectory=None if line.trajectory is None else folder / line.trajectory,
        dataset=line.dataset or "",
        licence=line.licence or "",
        unconfirmed=bool(line.unconfirmed),
        line=number,
    )
    composition = build(row.template, row.entities, row.relations, row.wordings or [label for label, _ in relations])
    refuse_swapped(composition, labels)
    return row
