"""A line of a manifest as it is written, and whether its labels, entities and wordings go together."""

from __future__ import annotations

import json
import re
from typing import Annotated, Literal, get_args

from pydantic import Field, StrictBool, StrictFloat, StrictInt

from cvg.common.errors import DataError
from cvg.common.typed import read, record
from cvg.composition import LabelSet
from cvg.composition.phrases import plain
from cvg.shards.shards import SPLITS, Split

Source = Literal["render", "real", "generator"]
SOURCES: tuple[Source, ...] = get_args(Source)
_HALF = re.compile("[\ud800-\udfff]")

File = Annotated[str, Field(min_length=1)]
Phrases = Annotated[list[Annotated[str, Field(pattern=r"\S")]], Field(min_length=1)]
Term = Annotated[str, Field(min_length=1, max_length=100)]
# Whole numbers stay what they are: the split of a row that names none depends on how they are written.
Seconds = Annotated[StrictInt, Field(ge=0)] | Annotated[StrictFloat, Field(ge=0, allow_inf_nan=False)]


@record
class LineRelation:
    """A relation of a line: its label, and which of the entities are its subject and object."""

    label: str
    entities: list[StrictInt]


@record
class Line:
    """One line of a manifest as it is written; `data_prep.manifest` explains its keys."""

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
    dataset: Annotated[Term | None, Field(description="a data set's name")] = None
    licence: Annotated[Term | None, Field(description="a licence's name, of at most 100 characters")] = None
    unconfirmed: StrictBool | None = None
    id: Annotated[
        str | None, Field(pattern=r"^[A-Za-z0-9_-]{1,70}$", description="1 to 70 letters, digits, _ or -")
    ] = None


def parse(text: str) -> tuple[Line, bool]:
    """What a line says, and whether it holds halves of letters (lone surrogates), which are replaced.

    Raises:
        UserError: a key is unknown, missing or malformed.
        ValueError, RecursionError: it is no JSON.
    """
    data = json.loads(text)
    halves = "\\u" in text and _HALF.search(whole := json.dumps(data, ensure_ascii=False))
    return read(Line, json.loads(_HALF.sub("\ufffd", whole)) if halves else data, complete=False), bool(halves)


def relations_of(line: Line, labels: LabelSet) -> tuple[tuple[str, tuple[int, ...]], ...]:
    """Per relation its label and the indices of its entities. Raises UserError where they do not go together."""
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


def wordings_of(line: Line, names: list[str], labels: LabelSet) -> tuple[str, ...] | None:
    """One wording for each label, None where they are to be drawn. Raises DataError for one that states no such."""
    if line.wordings is None:
        return None
    if len(line.wordings) != len(names):
        raise DataError(f"{len(line.wordings)} wordings for {len(names)} relations; give one each, or none at all")
    for wording, name in zip(line.wordings, names, strict=True):
        # p- is made by putting a wrong label's wording in its place, so it must be one that the label set knows.
        if plain(wording) not in map(plain, labels[name].wordings):
            raise DataError(f"{wording!r} is no wording of label {name!r}; known: {', '.join(labels[name].wordings)}")
    return tuple(line.wordings)
