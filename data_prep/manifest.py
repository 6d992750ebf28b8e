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
    split: train, val or test. When left out a hash of path and segment decides, 80 : 10 : 10; give it yourself where
        segments of one video are to stay together.
    source: where the video came from: render, real (when left out) or generator.
    trajectory: safetensors file, relative to the manifest, of the latents that a generator's video was sampled through.
    id: unique, of letters, digits, ``_`` and ``-``; when left out it is made from the file's name and the segment.
"""

from __future__ import annotations

import hashlib
import json
import os
import random
import re
from collections.abc import Iterable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated, Any, Literal, get_args

from pydantic import Field, StrictFloat, StrictInt

from cvg.common.errors import DataError, UserError
from cvg.common.files import atomic
from cvg.common.typed import read, record
from cvg.composition import Composition, LabelSet, build
from cvg.composition.phrases import plain
from cvg.shards.shards import SPLITS, Split

NAME = "manifest.jsonl"
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
        lines = path.read_text(encoding="utf-8").split("\n")
    except OSError as error:
        raise DataError(f"manifest {path}: cannot be read ({error.strerror}); check the path") from error
    except UnicodeDecodeError as error:
        raise DataError(f"manifest {path}: not UTF-8 text ({error}); write it as JSON Lines") from error
    rows: list[Row] = []
    given: dict[str, int] = {}
    for number, line in enumerate(lines, start=1):
        if not line.strip():
            continue
        try:
            row = _row(json.loads(line), path.parent, labels)
        except UserError as error:
            raise DataError(f"{path}:{number}: {error}") from error
        except (ValueError, RecursionError) as error:
            raise DataError(f"{path}:{number}: not valid JSON ({error}); write one object per line") from error
        if row.id and row.id in given:
            raise DataError(f"{path}:{number}: id {row.id!r} is already that of line {given[row.id]}; make it unique")
        if row.id:
            given[row.id] = number
        rows.append(row)
    if not rows:
        raise DataError(f"manifest {path}: has no rows; write one JSON object per line")
    return _named(rows, set(given))


def write(path: str | Path, rows: Iterable[Row]) -> None:
    """Write a manifest, atomically; the videos' paths become relative to it.

    Raises:
        DataError: the file cannot be written.
    """
    path = Path(path)
    with atomic(path) as temporary:
        try:
            with temporary.open("w", encoding="utf-8") as file:
                file.writelines(json.dumps(_plain(row, path.parent), ensure_ascii=False) + "\n" for row in rows)
        except OSError as error:
            raise DataError(f"manifest {path}: cannot be written ({error.strerror}); choose another place") from error


def split_of(video: str, start: float | None, end: float | None) -> str:
    """The split of a row that names none: fixed by its video's path, as written in the manifest, and its segment."""
    value = int.from_bytes(hashlib.sha256(f"{video}|{start}|{end}".encode()).digest()[:8], "big") / 2**64
    return "train" if value < 0.8 else "val" if value < 0.9 else "test"


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
            while (name := stem if count == 1 else f"{stem}-{count}") in taken:
                count += 1
            last[stem] = count
            taken.add(name)
            row = replace(row, id=name)
        named.append(row)
    return named


def _row(data: Any, folder: Path, labels: LabelSet) -> Row:
    """A row from its JSON; its id is empty where none is given."""
    line = read(Line, data, complete=False)
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
        split=line.split or split_of(line.video, start, end),
        source=line.source or "real",
        trajectory=None if line.trajectory is None else folder / line.trajectory,
    )
    row.composition(labels, random.Random(0))  # the template must fit
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
