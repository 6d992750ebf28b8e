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
    id: unique, of letters, digits, ``_`` and ``-``; when left out it is made from the file's name and the segment.
        Records are named by it, and ID_r0, ID_r1, ... where there are several relations; these are unique too.
"""

from __future__ import annotations

import hashlib
import json
import os
import random
import re
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Annotated, Any, Literal, get_args

from pydantic import Field, StrictFloat, StrictInt

from cvg.common.errors import DataError, UserError
from cvg.common.files import atomic
from cvg.common.typed import read, record
from cvg.composition import Composition, LabelSet, build
from cvg.composition.composition import compose
from cvg.composition.phrases import plain
from cvg.shards.shards import SPLITS, Split

NAME = "manifest.jsonl"
_HALF = re.compile("[\ud800-\udfff]")
Source = Literal["render", "real", "generator"]
SOURCES: tuple[Source, ...] = get_args(Source)

File = Annotated[str, Field(min_length=1)]
Phrases = Annotated[list[Annotated[str, Field(pattern=r"\S")]], Field(min_length=1)]
# Whole numbers stay what they are: the split of a row that names none depends on how they are written.
Seconds = Annotated[StrictInt, Field(ge=0)] | Annotated[StrictFloat, Field(ge=0, allow_inf_nan=False)]


@record
class LineRelation:
    """A relation of a line: its label, and which of the entities are its subject and object."""

    label: str
    entities: list[StrictInt]


@record
class Line:
    """One line of a manifest as it is written; see the module's text, which has its keys."""

    video: Annotated[File, Field(description="a path")]
    template: Annotated[str, Field(description="text")]
    entities: Annotated[Phrases, Field(description="a list of phrases")]
    relations: Annotated[
        list[LineRelation] | None,
        Field(min_length=1, description='a list such as [{"label": "above", "entities": [0, 1]}]'),
    ] = None
    label: Annotated[str | None, Field(description="a label's name")] = None
    group: Annotated[str | None, Field(description="a group's name")] = None
    wordings: Annotated[Phrases | None, Field(description="a list of phrases")] = None
    start: Annotated[Seconds | None, Field(description="seconds (0 or more)")] = None
    end: Annotated[Seconds | None, Field(description="seconds (0 or more)")] = None
    split: Annotated[Split | None, Field(description=f"one of {', '.join(SPLITS)}")] = None
    source: Annotated[Source | None, Field(description=f"one of {', '.join(SOURCES)}")] = None
    trajectory: Annotated[File | None, Field(description="a path")] = None
    id: Annotated[
        str | None, Field(pattern=r"^[A-Za-z0-9_-]{1,70}$", description="1 to 70 letters, digits, _ or -")
    ] = None


@dataclass(frozen=True)
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
        split: one of ``SPLITS``.
        source: one of ``SOURCES``.
        trajectory: file of the latents that it was sampled through, or None.
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
        The rows in order, at least one.

    Raises:
        DataError: the file cannot be read or is empty, or a row is malformed; the message has the line's number.
    """
    path = Path(path)
    if path.is_dir():
        path = path / NAME
    try:
        # Some editors begin a file with a mark of its encoding.
        lines = path.read_text(encoding="utf-8-sig").split("\n")
    except OSError as error:
        raise DataError(f"manifest {path}: cannot be read ({error.strerror}); check the path") from error
    except ValueError as error:
        raise DataError(f"manifest {path}: not UTF-8 text ({error}); write it as JSON Lines") from error
    rows: list[Row] = []
    drawn: dict[int, float] = {}
    taken: dict[str, int] = {}
    for number, line in enumerate(lines, start=1):
        if not line.strip():
            continue
        try:
            data = json.loads(line)
            halves = "\\u" in line and _HALF.search(text := json.dumps(data, ensure_ascii=False))
            read_line = read(Line, json.loads(_HALF.sub("\ufffd", text)) if halves else data, complete=False)
            share = None if read_line.split else _share(read_line.video, read_line.start, read_line.end)
            row = _row(read_line, path.parent, labels, number, read_line.split or _split(share or 0.0))
        except UserError as error:
            raise DataError(f"{path}:{number}: {error}") from error
        except (ValueError, RecursionError) as error:
            raise DataError(f"{path}:{number}: not valid JSON ({error}); write one object per line") from error
        if halves:
            row = replace(row, fault="holds half of a letter (a lone surrogate), which no prompt and no name can have")
        if row.id:
            _take(row, taken, f"{path}:{number}")
        if share is not None:
            drawn[len(rows)] = share
        rows.append(row)
    if not rows:
        raise DataError(f"manifest {path}: has no rows; write one JSON object per line")
    return _named(_spread(rows, drawn) if len(rows) > 1 else rows, set(taken))


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


def split_of(video: str, start: float | None, end: float | None) -> Split:
    """The split of a row that names none: fixed by its video's path, as written in the manifest, and its segment."""
    return _split(_share(video, start, end))


def _split(share: float) -> Split:
    return "train" if share < _TRAIN else "val" if share < _VAL else "test"


_TRAIN, _VAL = 0.8, 0.9
"""Where the shares of train and val end."""


def _share(video: str, start: float | None, end: float | None) -> float:
    """Where in [0, 1) a hash puts a row."""
    text = f"{video}|{start}|{end}".encode(errors="backslashreplace")
    return int.from_bytes(hashlib.sha256(text).digest()[:8], "big") / 2**64


def _spread(rows: list[Row], drawn: dict[int, float]) -> list[Row]:
    """The rows with each split held by one at least, as far as there are rows whose split was drawn.

    A row comes over from the drawn ones of the split that has most of them: the one whose hash is nearest.

    Args:
        rows: all rows.
        drawn: the hash of each row, by its place, that names no split.
    """
    rows = list(rows)
    for split, middle in (("train", 0.0), ("val", (_TRAIN + _VAL) / 2), ("test", 1.0)):
        if any(row.split == split for row in rows):
            continue
        counts = Counter(row.split for row in rows)
        many = Counter(rows[i].split for i in drawn if counts[rows[i].split] > 1 or split == "train")
        if many:
            most = many.most_common(1)[0][0]
            nearest = min((i for i in drawn if rows[i].split == most), key=lambda i: abs(drawn[i] - middle))
            rows[nearest] = replace(rows[nearest], split=split)
    return rows


def _keys(name: str, relations: int) -> list[str]:
    return [name] if relations == 1 else [f"{name}_r{number}" for number in range(relations)]


def _take(row: Row, taken: dict[str, int], where: str) -> None:
    """Note the names of a row that has an id; DataError where an earlier row has one of them."""
    for name in dict.fromkeys([row.id, *row.keys]):
        if name in taken:
            what = f"id {name!r} is" if name == row.id else f"id {row.id!r} makes a record {name!r}, which is"
            raise DataError(f"{where}: {what} already that of line {taken[name]}; make it unique")
        taken[name] = row.line


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


def _row(line: Line, folder: Path, labels: LabelSet, number: int, split: Split) -> Row:
    """A row from its line, of a number; its id is empty where none is given."""
    start, end = line.start, line.end
    if end is not None and end <= (start or 0):
        raise DataError(f"the segment {start or 0:g} to {end:g} s is empty; 'end' must come after 'start'")
    relations = _relations(line, labels)
    # Whether the files can be read is found out one by one, when they are: one bad video is no bad manifest.
    row = Row(
        id=line.id or "",
        video=folder / line.video,
        template=line.template,
        entities=tuple(line.entities),
        relations=relations,
        wordings=_wordings(line, [label for label, _ in relations], labels),
        start=None if start is None else float(start),
        end=None if end is None else float(end),
        split=split,
        source=line.source or "real",
        trajectory=None if line.trajectory is None else folder / line.trajectory,
        line=number,
    )
    compose(row.template, row.entities, row.wordings or [label for label, _ in relations])  # the template must fit
    return row


def _relations(line: Line, labels: LabelSet) -> tuple[tuple[str, tuple[int, ...]], ...]:
    count = len(line.entities)
    if (line.relations is None) == (line.label is None):
        raise DataError("give either 'relations' or, for a single relation, 'label'")
    if line.relations is not None:
        if line.group is not None:
            raise DataError("'group' goes with 'label'; leave it out beside 'relations'")
        listed = [(labels[relation.label], relation.entities) for relation in line.relations]
    else:
        label = labels[line.label or ""]
        if line.group not in (None, label.group):
            raise DataError(
                f"label {label.name!r} is of group {label.group!r}, not {line.group!r}; correct one of them"
            )
        listed = [(label, list(range(count)))]
    for label, indices in listed:
        if len(indices) != label.entities:
            raise DataError(f"label {label.name!r} relates {label.entities} entities, not {indices}")
        if not all(0 <= i < count for i in indices) or len(set(indices)) != len(indices):
            raise DataError(f"relation {label.name!r}: entities {indices}; expected different indices below {count}")
    return tuple((label.name, tuple(indices)) for label, indices in listed)


def _wordings(line: Line, names: list[str], labels: LabelSet) -> tuple[str, ...] | None:
    if line.wordings is None:
        return None
    if len(line.wordings) != len(names):
        raise DataError(f"{len(line.wordings)} wordings for {len(names)} relations; give one each, or none at all")
    for wording, name in zip(line.wordings, names, strict=True):
        # p- is made by putting a wrong label's wording in its place, so it must be one that the label set knows.
        if plain(wording) not in map(plain, labels[name].wordings):
            raise DataError(f"{wording!r} is no wording of label {name!r}; known: {', '.join(labels[name].wordings)}")
    return tuple(line.wordings)
