"""Records whose fields are checked by pydantic, and one line that says what does not fit."""

from __future__ import annotations

import dataclasses
import functools
import itertools
import json
from collections.abc import Callable, Sequence
from typing import Annotated, Any, Final, TypeVar, dataclass_transform, get_args, overload

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, StrictFloat, StrictInt, TypeAdapter, ValidationError
from pydantic.dataclasses import dataclass

from cvg.common.errors import DataError, SettingsError, UserError

T = TypeVar("T")

_UNKNOWN = ("unexpected_keyword_argument", "extra_forbidden")
_MISSING = ("missing", "missing_argument", "missing_keyword_only_argument")
_LONGEST = 100


@overload
def record(cls: type[T]) -> type[T]: ...
@overload
def record(*, called: str) -> Callable[[type[T]], type[T]]: ...
@dataclass_transform(kw_only_default=True, frozen_default=True, field_specifiers=(dataclasses.field, Field))
def record(cls: type[T] | None = None, *, called: str = "") -> type[T] | Callable[[type[T]], type[T]]:
    """A frozen dataclass that checks its fields' types when it is made, by keyword; nested records may be mappings.

    Give a field a ``description`` (``Annotated[int, Field(gt=0, description="a positive integer")]``): messages say
    that this was expected. `dataclasses.asdict`, ``replace`` and ``fields`` work.

    Args:
        cls: the class.
        called: what messages call such a record, where its class's name would tell a user nothing.

    Raises:
        SettingsError: on making one of which a field is unknown, missing or malformed.
    """
    if cls is None:
        return functools.partial(_record, called=called)
    return _record(cls, called)


def _record(cls: type[T], called: str) -> type[T]:
    made: Any = dataclass(cls, kw_only=True, frozen=True, config=ConfigDict(extra="forbid"))
    checked = made.__init__

    @functools.wraps(checked)
    def init(self: Any, *args: Any, **values: Any) -> None:
        try:
            checked(self, *args, **values)
        except ValidationError as error:
            raise SettingsError(f"{called or cls.__name__}: {problem(cls, error, values)}") from error

    made.__init__ = init
    found: type[T] = made
    return found


class OpenRecord(BaseModel):
    """The same, with further fields that only a reader knows: ``model_extra``. They follow the others in JSON."""

    model_config = ConfigDict(extra="allow", frozen=True)

    def __init__(self, **values: Any) -> None:
        try:
            super().__init__(**values)
        except ValidationError as error:
            raise SettingsError(f"{type(self).__name__}: {problem(type(self), error, values)}") from error

    # Inside of another record the values are checked as that one's part, not by making this one.
    __init__.__pydantic_base_init__ = True  # type: ignore[attr-defined]


def to_dict(value: Any) -> dict[str, Any]:
    """A record as JSON has it: nested ones are mappings, and fields that are None are left out."""
    plain: dict[str, Any] = TypeAdapter(type(value)).dump_python(value, mode="json", exclude_none=True)
    return plain


def read(
    kind: type[T],
    data: Any,
    where: str = "",
    remedy: str = "",
    complete: bool = True,
    error: type[UserError] = DataError,
) -> T:
    """A record from what JSON says of it.

    Args:
        kind: a class made with :func:`record`, or a subclass of :class:`OpenRecord`.
        data: the JSON object.
        where: what was read, to begin a message with.
        remedy: what to do about it, to end the message with.
        complete: fields that have a default must be there too, unless that is None.
        error: the kind of error to raise.

    Raises:
        UserError: of the given kind: a field is missing, unknown or malformed.
    """

    def refused(reason: str) -> UserError:
        return error((f"{where}: " if where else "") + reason + (f"; {remedy}" if remedy else ""))

    if not isinstance(data, dict):
        raise refused(f"a {type(data).__name__}, not an object")
    try:
        found: T = _adapter(kind).validate_python(data)
    except ValidationError as problems:
        raise refused(problem(kind, problems, data)) from problems
    if complete and (missing := _missing(to_dict(found), data)):
        raise refused(f"no {missing!r}")
    return found


_adapter: Any = functools.cache(TypeAdapter)  # making one takes longer than what it does


def problem(kind: Any, error: ValidationError, data: Any) -> str:
    """What is wrong with a record, in one line: an unknown field before a missing one before a malformed one.

    Args:
        kind: the record's class.
        error: what pydantic found.
        data: the values it was to be made of.
    """

    def order(found: Any) -> int:
        return 0 if found["type"] in _UNKNOWN else 1 if found["type"] in _MISSING else 2

    found = min(error.errors(include_url=False), key=order)
    path, described, expected, owner = _walk(kind, found["loc"])
    if order(found) < 2:
        name, known = ".".join(path), ", ".join(_fields(owner))
        return f"unknown key {name!r}; known: {known}" if order(found) == 0 else f"no {name!r}; its keys are {known}"
    if not expected and (reason := found.get("ctx", {}).get("error")):  # fields that do not go together
        return ": ".join([*([".".join(path)] if path else []), str(reason)])
    if not expected:
        described, expected = path, found["msg"].removeprefix("Input should be ")
    value = functools.reduce(
        lambda inner, name: inner.get(name) if isinstance(inner, dict) else getattr(inner, name, None), described, data
    )
    text = json.dumps(value, ensure_ascii=False, default=str)
    text = text if len(text) <= _LONGEST else text[: _LONGEST - 3] + "..."
    return f"{'.'.join(described)!r} is {text}; expected {expected}"


def _walk(kind: Any, location: Sequence[int | str]) -> tuple[list[str], list[str], str | None, Any]:
    """Where pydantic found an error.

    Returns:
        The field's path; the path of the innermost field around it that has a description, and this description; and
        the record that the field is in.
    """
    path: list[str] = []
    described: list[str] = []
    expected, owner, inside = None, kind, [kind]
    for place, part in enumerate(location):
        last = place == len(location) - 1
        holder = next((record for record in inside if part in _fields(record)), None)
        if holder is None:
            # The tag of one of several records, a position in a list, or a field that is not known.
            tagged = [
                record
                for record in inside
                if part in get_args(getattr(_fields(record).get("name"), "annotation", None))
            ]
            if tagged:
                inside, owner = tagged, tagged[0]
            elif last and isinstance(part, str):
                path.append(part)
                owner = inside[0] if inside else owner
            continue
        owner, field = holder, _fields(holder)[str(part)]
        path.append(str(part))
        if field.description:
            described, expected = list(path), field.description
        inside = _records(field.annotation)
    return path, described, expected, owner


def _fields(kind: Any) -> dict[str, Any]:
    found: dict[str, Any] = kind.__pydantic_fields__
    return found


def _records(annotation: Any) -> list[Any]:
    """The records that a type is made of."""
    if hasattr(annotation, "__pydantic_fields__"):
        return [annotation]
    return [record for part in get_args(annotation) for record in _records(part)]


def _missing(full: dict[str, Any], data: dict[str, Any]) -> str | None:
    """The first field of a record that its JSON does not have."""
    for name, value in full.items():
        if name not in data:
            return name
        if isinstance(value, dict) and isinstance(data[name], dict) and (inner := _missing(value, data[name])):
            return f"{name}.{inner}"
    return None


# Fields that several records have


def _falling(values: list[float]) -> list[float]:
    if any(a <= b for a, b in itertools.pairwise(values)):
        raise ValueError("they do not fall")
    return values


def _different(values: list[int]) -> list[int]:
    if len(set(values)) < len(values):
        raise ValueError("one is there twice")
    return values


_MORE: Final = {"float16", "lora", "quantisation", "dtype", "scheduler"}
"""What an identity may tell besides."""


def _identity(values: dict[str, str]) -> dict[str, str]:
    if set(values) - _MORE != {"name", "class", "fingerprint"} or not all(values.values()):
        raise ValueError("one is missing")
    return values


MOST: Final = 4096
"""What sizes and numbers of layers, heads, steps, frames, rows and columns can be; real ones are far below."""

Indices = Annotated[
    list[Annotated[StrictInt, Field(ge=0, lt=MOST)]],
    Field(min_length=1, max_length=MOST, description="a list of different integers of at least 0"),
    AfterValidator(_different),
]
Levels = Annotated[
    list[Annotated[StrictFloat, Field(ge=0, le=1)]],
    Field(min_length=1, max_length=MOST, description="falling numbers, noise levels from 1 to 0"),
    AfterValidator(_falling),
]
Scale = Annotated[
    StrictFloat, Field(ge=0, allow_inf_nan=False, description="a scale of classifier-free guidance, at least 0")
]
LatentGrid = Annotated[
    list[Annotated[StrictInt, Field(gt=0, le=MOST)]],
    Field(min_length=3, max_length=3, description="three positive integers: latent frames, rows and columns"),
]
Licences = Annotated[
    dict[
        Annotated[str, Field(max_length=MOST)],
        dict[Annotated[str, Field(max_length=MOST)], Annotated[StrictInt, Field(ge=0, le=1 << 40)]],
    ],
    Field(max_length=MOST, description="numbers of records by licence and data set"),
]
Identity = Annotated[
    dict[str, Annotated[str, Field(max_length=MOST)]],
    Field(description="name, class and fingerprint of a generator"),
    AfterValidator(_identity),
]
