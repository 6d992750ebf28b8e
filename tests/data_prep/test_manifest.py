from __future__ import annotations

import json
import random
import re
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from cvg.common.errors import UserError
from data_prep.manifest import Row, load, write
from data_prep.splits import split_of
from tests.helpers.labels import LABELS

GOOD: dict[str, Any] = {
    "video": "videos/dog 1.mp4",
    "template": "a {e0} {r0} a {e1}",
    "entities": ["dog", "woman"],
    "relations": [{"label": "right of", "entities": [0, 1]}],
}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "videos").mkdir()
    (tmp_path / "videos" / "dog 1.mp4").touch()
    return tmp_path


def save(folder: Path, *rows: Any) -> Path:
    path = folder / "manifest.jsonl"
    path.write_text("\n".join(row if isinstance(row, str) else json.dumps(row) for row in rows) + "\n\n")
    return path


def change(**changes: Any) -> dict[str, Any]:
    return {key: value for key, value in (GOOD | changes).items() if value != "drop"}


def test_defaults(folder: Path) -> None:
    path = save(folder, GOOD)
    (row,) = load(folder, LABELS)
    assert load(path, LABELS) == [row]
    assert row.id == "dog-1" and row.source == "real" and row.video == folder / "videos" / "dog 1.mp4"
    assert row.split == split_of("videos/dog 1.mp4", None, None)
    assert row.relations == (("right of", (0, 1)),)


def test_shorthand_and_segments(folder: Path) -> None:
    short = change(relations="drop", label="right of", group="spatial", start=0.5, end=2)
    motion = change(
        relations="drop", label="left", template="a {e0} {r0}", entities=["dog"], wordings=["Drifting  left"]
    )
    rows = load(save(folder, short, motion, motion, change(split="test", id="mine", source="render")), LABELS)
    assert [row.id for row in rows] == ["dog-1-500-2000", "dog-1", "dog-1-2", "mine"]
    assert rows[0].relations == (("right of", (0, 1)),) and (rows[0].start, rows[0].end) == (0.5, 2.0)
    assert rows[1].wordings == ("Drifting  left",) and rows[3].split == "test" and rows[3].source == "render"


def test_composition(folder: Path) -> None:
    both = change(
        template="a {e0} {r0} {r1} a {e1}",
        relations=[{"label": "left", "entities": [0]}, {"label": "above", "entities": [0, 1]}],
        wordings=["moving left", "over"],
    )
    drawn, fixed = load(save(folder, GOOD, both), LABELS)
    composition = fixed.composition(LABELS, random.Random(0))
    assert composition.prompt == "a dog moving left over a woman"
    assert [(r.label, len(r.entities)) for r in composition.relations] == [("left", 1), ("above", 2)]
    rng = random.Random(0)
    wordings = {drawn.composition(LABELS, rng).relations[0].wording for _ in range(50)}
    assert wordings == set(LABELS["right of"].wordings)


def test_round_trip(folder: Path) -> None:
    rows = load(save(folder, change(start=0.25, end=1.5, wordings=["right of"]), change(id="b")), LABELS)
    (folder / "deeper").mkdir()
    for path in (folder / "again.jsonl", folder / "deeper" / "manifest.jsonl"):
        write(path, rows)
        assert [(r.id, r.split, r.start, r.wordings) for r in load(path, LABELS)] == [
            (r.id, r.split, r.start, r.wordings) for r in rows
        ]
        assert load(path, LABELS)[0].video.resolve() == rows[0].video.resolve()


def test_the_split_depends_on_the_segment_as_it_is_written(folder: Path) -> None:
    written = [(start, end) for start in (0, 1, 1.5) for end in (2, 3, 3.0, 4.5)]
    others = [change(split=split) for split in ("train", "val", "test")]  # so that none has to come over
    rows = load(save(folder, *[change(start=start, end=end) for start, end in written], *others), LABELS)[:-3]
    assert [row.split for row in rows] == [split_of("videos/dog 1.mp4", *segment) for segment in written]
    assert [(row.start, row.end) for row in rows] == written and all(type(row.end) is float for row in rows)


def test_splits_are_shared_out() -> None:
    counts = Counter(split_of(f"videos/{i}.mp4", None, None) for i in range(2000))
    assert abs(counts["train"] - 1600) < 80 and abs(counts["val"] - 200) < 50 and abs(counts["test"] - 200) < 50


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ("{broken", "not valid JSON"),
        ("[1]", "a list, not an object"),
        (change(video="drop"), "no 'video'"),
        (change(video=3), "'video' is 3; expected a path"),
        (change(color="red"), "unknown key 'color'"),
        (change(entities=[]), "'entities' is .*; expected a list of phrases"),
        (change(entities="dog"), "'entities' is \"dog\""),
        (change(template="a {e0} {r0}"), "has no {e1}"),
        (change(template="a {e0} {r0} a {e1} {x}"), "{x} has no value"),
        (change(relations="drop"), "give either 'relations' or"),
        (change(label="left"), "give either 'relations' or"),
        (change(group="spatial"), "'group' goes with 'label'"),
        (change(relations=[]), "expected a list such as"),
        (change(relations=["above"]), r"'relations' is \[\"above\"\]; expected a list such as"),
        (
            change(relations=[{"label": "beside", "entities": [0, 1]}]),
            "label 'beside' is not in the label set; known: left",
        ),
        (change(relations=[{"label": "above", "entities": [0]}]), "label 'above' relates 2 entities"),
        (change(relations=[{"label": "above", "entities": [0, 2]}]), "expected different indices below 2"),
        (change(relations=[{"label": "above", "entities": [0, 0]}]), "expected different indices below 2"),
        (change(relations="drop", label="left"), "label 'left' relates 1 entities"),
        (change(relations="drop", label="above", group="motion"), "of group 'spatial', not 'motion'"),
        (change(relations="drop", label=["above"]), "expected a label's name"),
        (change(wordings=["above"]), "'above' is no wording of label 'right of'; known: to the right of"),
        (change(wordings=["right of", "over"]), "2 wordings for 1 relations"),
        (change(start=-1), "'start' is -1; expected seconds"),
        (change(start=True), "'start' is true"),
        (change(end=float("nan")), "'end' is NaN"),
        (change(start=2, end=2), "the segment 2 to 2 s is empty"),
        (change(split="dev"), "'split' is \"dev\"; expected one of train, val, test"),
        (change(source="web"), "expected one of render, real, generator"),
        (change(id="a.b"), "'id' is \"a.b\"; expected 1 to 70"),
    ],
)
def test_malformed_rows_name_their_line(folder: Path, row: Any, message: str) -> None:
    first, bad = load(save(folder, change(id="first"), row), LABELS)
    assert (first.id, first.fault) == ("first", "")
    assert (bad.id, bad.line, bad.keys) == ("line-2", 2, [])
    assert re.search(message, bad.fault) and "\n" not in bad.fault


def test_a_manifest_of_malformed_rows_alone_is_none(folder: Path) -> None:
    path = save(folder, change(color="red"), [1])
    with pytest.raises(UserError, match="unknown key 'color'") as caught:
        load(path, LABELS)
    assert str(caught.value).startswith(f"{path}:1: ") and "\n" not in str(caught.value)


def test_malformed_rows_take_no_split(folder: Path) -> None:
    rows = load(save(folder, [1], change(id="a"), [2], change(id="b"), change(id="c")), LABELS)
    assert {row.split for row in rows if not row.fault} == {"train", "val", "test"}


def test_files_that_are_no_manifest(folder: Path) -> None:
    with pytest.raises(UserError, match="manifest.jsonl: cannot be read"):
        load(folder, LABELS)
    with pytest.raises(UserError, match="has no rows"):
        load(save(folder), LABELS)
    assert load(save(folder, change(id="a"), change(id="a")), LABELS)[1].fault == (
        "id 'a' is already that of line 1; make it unique"
    )
    (folder / "manifest.jsonl").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(UserError, match="not UTF-8"):
        load(folder, LABELS)


def test_write_needs_no_labels(tmp_path: Path) -> None:
    write(tmp_path / "m.jsonl", [Row("a", tmp_path / "a.mp4", "a {e0} {r0}", ("größe",), (("left", (0,)),))])
    assert "größe" in (tmp_path / "m.jsonl").read_text(encoding="utf-8")


def test_many_rows_of_one_stem_are_numbered_past_the_given_names(folder: Path) -> None:
    other = change(video="again/dog 1.mp4")
    rows = load(save(folder, GOOD, change(id="dog-1-3"), other, GOOD, *[GOOD] * 3000), LABELS)
    assert [row.id for row in rows[:5]] == ["dog-1", "dog-1-3", "dog-1-2", "dog-1-4", "dog-1-5"]
    assert rows[-1].id == "dog-1-3004" and len({row.id for row in rows}) == len(rows)
