"""Records that check themselves: what they accept, what they write, and the one line for what they refuse."""

from __future__ import annotations

from dataclasses import asdict, field, replace
from typing import Annotated, Any, Literal

import pytest
from pydantic import Field, StrictFloat, StrictInt, model_validator

from cvg.common.errors import UserError
from cvg.common.typed import LatentGrid, Levels, OpenRecord, read, record, to_dict


@record
class Near:
    name: Literal["near"] = "near"
    reach: StrictInt


@record
class Far:
    name: Literal["far"] = "far"


class Open(OpenRecord):
    name: Literal["none", "some"] = "none"
    path: str | None = None


@record
class Pair:
    low: StrictInt
    high: StrictInt

    @model_validator(mode="after")
    def _ordered(self) -> Pair:
        if self.low > self.high:
            raise ValueError(f"low {self.low} is above high {self.high}")
        return self


@record
class Whole:
    grid: LatentGrid
    levels: Levels
    place: Annotated[Near | Far, Field(discriminator="name", description="near or far")] = field(default_factory=Far)
    near: Near
    pair: Pair
    watched: Annotated[Open, Field(description="none or some")] = Open()
    count: StrictFloat = 1.0


GOOD: dict[str, Any] = {
    "grid": [4, 8, 8],
    "levels": [0.9, 0.5],
    "place": {"name": "far"},
    "near": {"name": "near", "reach": 2},
    "pair": {"low": 1, "high": 2},
    "watched": {"name": "some", "path": "x", "layer": [1]},
    "count": 2.0,
}


def test_a_record_is_a_dataclass_and_writes_what_it_was_read_from() -> None:
    whole = read(Whole, GOOD, "here", "write it again")
    assert whole == Whole(**GOOD) and to_dict(whole) == GOOD and list(to_dict(whole)) == list(GOOD)
    assert isinstance(whole.near, Near) and asdict(whole.near) == GOOD["near"]
    assert replace(whole, place=Near(reach=1)).place == Near(reach=1)
    assert whole.watched.model_extra == {"layer": [1]}
    assert to_dict(Open()) == {"name": "none"}
    with pytest.raises(UserError, match="'levels' is .*; expected falling numbers"):
        replace(whole, levels=[0.5, 0.5])


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"grid": [4, 8]}, "'grid' is [4, 8]; expected three positive integers: latent frames, rows and columns"),
        ({"grid": [4, 8, True]}, "'grid' is [4, 8, true]; expected three positive integers"),
        ({"levels": [0.9, float("nan")]}, "'levels' is [0.9, NaN]; expected falling numbers"),
        ({"pair": {"low": 2, "high": 1}}, "pair: low 2 is above high 1"),
        ({"levels": ["0.9"]}, "'levels' is [\"0.9\"]; expected falling numbers"),
        ({"place": {"name": "away"}}, '\'place\' is {"name": "away"}; expected near or far'),
        ({"place": {"name": "near"}}, "no 'place.reach'; its keys are name, reach"),
        ({"place": {"name": "far", "reach": 1}}, "unknown key 'place.reach'; known: name"),
        ({"near": {"reach": 1, "wide": 2}}, "unknown key 'near.wide'; known: name, reach"),
        ({"near": {"reach": "1"}}, "'near.reach' is \"1\"; expected a valid integer"),
        ({"watched": {"name": "many"}}, '\'watched\' is {"name": "many"}; expected none or some'),
        ({"more": 1, "grid": []}, "unknown key 'more'; known: grid, levels, place, near, pair, watched, count"),
        ({"count": True}, "'count' is true; expected a valid number"),
        ({"grid": [1] * 99}, "1, 1, ...; expected"),
    ],
)
def test_what_does_not_fit_is_one_line(change: dict[str, Any], message: str) -> None:
    for make, before, after in (
        (lambda values: Whole(**values), "Whole: ", ""),
        (lambda values: read(Whole, values, "a.json", "write it again"), "a.json: ", "; write it again"),
    ):
        with pytest.raises(UserError) as caught:
            make(GOOD | change)
        text = str(caught.value)
        assert message in text and text.startswith(before) and text.endswith(after) and "\n" not in text


def test_a_file_has_every_field_and_options_need_not() -> None:
    for name in GOOD:
        left = {key: value for key, value in GOOD.items() if key != name}
        with pytest.raises(UserError, match=f"a.json: no '{name}'; .*again"):
            read(Whole, left, "a.json", "write it again")
    with pytest.raises(UserError, match=r"a.json: no 'near.name'; again"):
        read(Whole, GOOD | {"near": {"reach": 1}}, "a.json", "again")
    assert read(Near, {"reach": 1}, "options", "again", complete=False) == Near(reach=1)
    for data in (None, [1], "text"):
        with pytest.raises(UserError, match=r"a.json: a \w+, not an object; again"):
            read(Near, data, "a.json", "again")
    with pytest.raises(UserError, match="Open: 'name' is \"many\""):
        Open(**{"name": "many"})
