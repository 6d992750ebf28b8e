"""The form of a label set: what its YAML says of groups and labels, checked."""

from __future__ import annotations

from pathlib import Path
from string import Formatter
from typing import Annotated, Any, Final, Self

import yaml
from pydantic import AfterValidator, Field, StrictInt, model_validator

from cvg.common.errors import DataError
from cvg.common.typed import read, record

SLOT_NAMES = ("subject", "object")
SLOTS = len(SLOT_NAMES)
"""K, the entity slots of a relation; one that relates fewer entities leaves the last ones absent."""
COUNTS = " or ".join(str(count) for count in range(1, SLOTS + 1))
MIRRORS: Final = ("horizontal", "vertical", "diagonal", "time")
"""Left and right, up and down, or rows and columns exchanged; the frames in reverse."""
SHIPPED = Path(__file__).parents[1] / "label_sets"
"""Where the label sets are that ship."""
_MOST, _LONGEST = 256, 400
_LARGEST = 4 << 20
_LOADER: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)

Text = Annotated[str, Field(min_length=1, max_length=_LONGEST, pattern=r"\S")]
Pattern = Annotated[str, Field(min_length=1, max_length=10 * _LONGEST, pattern=r"\S")]
"""Longer: where a label set is stored, the words that a name stands for are written out."""


def _question(text: str) -> str:
    try:
        names = {name for _, name, _, _ in Formatter().parse(text) if name is not None}
    except ValueError as error:
        raise ValueError(f"the question {text!r}: {error}") from error
    if "subject" not in names or names - set(SLOT_NAMES):
        raise ValueError(f"the question {text!r}: expected {{subject}} in it, {{object}} where there is one, no others")
    return text


Mirrored = Annotated[
    Text | Annotated[dict[Text, Text | None], Field(max_length=len(MIRRORS))],
    Field(description=f"the label of the mirror image, or one (or null) for each of {', '.join(MIRRORS)}"),
]


@record
class LabelForm:
    """What a label set says of a label; see :class:`cvg.composition.labels.Label`."""

    wordings: Annotated[
        list[Text],
        Field(min_length=1, max_length=_MOST, description="a list of at least one wording, each of them text"),
    ]
    mirror: Mirrored | None = None
    rule: Annotated[Text | None, Field(description="the name of a rule")] = None
    question: Annotated[Text, AfterValidator(_question)] | None = None
    patterns: Annotated[list[Pattern], Field(max_length=_MOST, description="a list of patterns, each of them text")] = (
        Field(default_factory=list)
    )

    @property
    def mirrors(self) -> dict[str, str | None]:
        """The labels of the mirror images that are stated; None for an image that shows no label of the group."""
        return {"horizontal": self.mirror} if isinstance(self.mirror, str) else self.mirror or {}


@record
class GroupForm:
    """What a label set says of a group of labels that exclude one another."""

    entities: Annotated[StrictInt, Field(ge=1, le=SLOTS, description=COUNTS)]
    labels: Annotated[dict[Any, Any], Field(max_length=4096, description="a mapping of labels")]
    category: Annotated[Text | None, Field(description="the kind that its labels are counted under")] = None
    bound: Annotated[bool, Field(description="whether its labels are attributes that entities are bound to")] = False
    words: Annotated[
        dict[Text, list[Text]], Field(max_length=_MOST, description="lists of words by name, for <NAME> in patterns")
    ] = Field(default_factory=dict)

    @model_validator(mode="after")
    def _complete(self) -> Self:
        if len(self.labels) < 2:
            raise ValueError("needs at least two labels, so that a wrong one can be drawn")
        return self


def read_file(name: str | Path) -> dict[str, Any]:
    """What a label set's YAML file says, not checked yet.

    Args:
        name: the file, or the name of a set that ships.

    Raises:
        DataError: it is missing, too large, or no YAML mapping.
    """
    shipped = {path.stem: path for path in SHIPPED.glob("*.yaml")}
    try:
        with shipped.get(str(name), Path(name)).open("rb") as file:
            content = file.read(_LARGEST + 1)
    except OSError as error:
        raise DataError(
            f"label set {name}: cannot be read ({error.strerror}); give a YAML file, or one that ships: "
            f"{', '.join(sorted(shipped))}"
        ) from error
    if len(content) > _LARGEST:
        raise DataError(f"label set {name}: larger than {_LARGEST >> 20} MB; give a YAML file of labels")
    try:
        groups = yaml.load(content.decode(), _LOADER)
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        raise DataError(f"label set {name}: not valid YAML ({error})") from error
    if not isinstance(groups, dict):
        raise DataError(f"label set {name}: expected a mapping of groups")
    return groups


def read_group(name: Any, entry: Any) -> tuple[GroupForm, dict[str, LabelForm]]:
    """A group and its labels.

    Args:
        name: of the group.
        entry: what the label set says of it. A label that is a list instead of a mapping has these wordings alone.

    Raises:
        DataError: what does not fit, in one line that names the group or the label.
    """
    group = read(GroupForm, entry, f"label group {name!r}", complete=False)
    labels: dict[str, LabelForm] = {}
    for label, said in group.labels.items():
        if isinstance(label, bool):
            raise DataError(f"label group {name!r}: a label is {label}; YAML reads on, off, yes and no so: quote it")
        where = f"label {label!r}"
        form = read(LabelForm, {"wordings": said} if isinstance(said, list) else said, where, complete=False)
        if "{object}" in (form.question or "") and group.entities < SLOTS:
            raise DataError(f"{where}: its question has an {{object}}, but the label relates its subject to nothing")
        if unknown := [axis for axis in form.mirrors if axis not in MIRRORS]:
            raise DataError(f"{where}: mirror {unknown[0]!r} is unknown; known: {', '.join(MIRRORS)}")
        labels[str(label)] = form
    for label, form in labels.items():
        for axis, image in form.mirrors.items():
            if image is not None and (image not in labels or labels[image].mirrors.get(axis, image) != label):
                raise DataError(
                    f"label {label!r}: its {axis} mirror image is {image!r}, which must be a label of the group "
                    f"{name!r} that names {label!r} as its own mirror image"
                )
    return group, labels
