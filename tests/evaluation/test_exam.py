"""How well prompts are understood, against what others say that they state."""

from __future__ import annotations

import json
import runpy
from pathlib import Path
from typing import Any

import pytest

from cvg import labels as labels_command
from cvg.common.errors import DataError, SettingsError
from cvg.common.files import read_json
from cvg.composition import LabelSet
from cvg.evaluation.exam import Exam, Expected, mark, measure, read_exams
from cvg.evaluation.suites.metadata import compbench, vbench

WORLD = LabelSet.load("world")
# Not by an import: the function of that name is what `from cvg import parse` has to give.
parse_command = runpy.run_module("cvg.parse")["main"]
COMPBENCH: dict[str, list[dict[str, Any]]] = {
    "spatial_relationships": [
        {"prompt": "a kettle to the left of a lamp", "spatial": "left", "object_1": "kettle", "object_2": "lamp"},
        {"prompt": "an old lamp under a shelf", "spatial": "under", "object_1": "lamp", "object_2": "shelf"},
        {"prompt": "a kettle above a lamp", "spatial": "below", "object_1": "kettle", "object_2": "lamp"},
    ],
    "motion_binding": [
        {"prompt": "a kite moving up", "object_1": "kite", "d_1": "up", "object_2": "", "d_2": ""},
        {"prompt": "a goose moving left and a duck moving right", "object_1": "goose", "d_1": "left",
         "object_2": "duck", "d_2": "right"},
        {"prompt": "a kite in the sky", "object_1": "kite", "d_1": "up", "object_2": "", "d_2": ""},
    ],
    "consistent_attribute_binding": [
        {"prompt": "a red kettle and a white lamp", "phrases": "a red kettle; a white lamp"}
    ],
    "action_binding": [
        {"prompt": "a fox sleeps while a hen runs", "phrase_0": ["a fox?", "a fox sleeps?"],
         "phrase_1": ["a hen?", "a hen runs?"]}
    ],
    "generative_numeracy": [{"prompt": "two foxes", "objects": "foxes", "numbers": "2"}],
}  # fmt: skip
VBENCH: list[dict[str, Any]] = [
    {
        "prompt_en": "a kettle on the left of a lamp, front view",
        "dimension": ["spatial_relationship"],
        "auxiliary_info": {
            "spatial_relationship": {
                "spatial_relationship": {"object_a": "kettle", "object_b": "lamp", "relationship": "on the left of"}
            }
        },
    },
    {"prompt_en": "a purple kettle", "dimension": ["color"], "auxiliary_info": {"color": {"color": "purple"}}},
    {"prompt_en": "a quiet lake", "dimension": ["scene"], "auxiliary_info": {"scene": {"scene": "lake"}}},
]


def write_compbench(folder: Path, **changes: Any) -> Path:
    (folder / "meta_data").mkdir(parents=True)
    for name, entries in {**COMPBENCH, **changes}.items():
        (folder / "meta_data" / f"{name}.json").write_text(json.dumps(entries))
    return folder


def test_prompts_of_compbenchs_form_are_marked_by_their_metadata(tmp_path: Path) -> None:
    figures = measure(compbench(write_compbench(tmp_path / "suite")), WORLD)
    marks = {name: (one.count, one.right, one.refused, one.wrong) for name, one in figures.items()}
    assert marks == {
        "spatial": (3, 2, 0, 1),
        "motion": (3, 2, 1, 0),
        "attribute": (1, 1, 0, 0),
        "action": (1, 1, 0, 0),
        "number": (1, 1, 0, 0),
    }


def test_prompts_of_vbenchs_form_are_marked_by_their_metadata(tmp_path: Path) -> None:
    (tmp_path / "VBench_full_info.json").write_text(json.dumps(VBENCH))
    (tmp_path / "vbench").mkdir()
    (tmp_path / "vbench" / "VBench_full_info.json").write_text(json.dumps(VBENCH))  # a copy counts once
    figures = measure(vbench(tmp_path), WORLD)
    assert {name: (one.count, one.right) for name, one in figures.items()} == {"spatial": (1, 1), "attribute": (1, 1)}


def test_prompts_of_the_second_vbenchs_form_are_marked_by_its_questions(tmp_path: Path) -> None:
    places, changes = "Dynamic_Spatial_Relationship", "Dynamic_Attribute"
    told = [
        ("A hen is behind a crate, then the hen walks to the front of the crate.", places, ["Is the hen behind it?"]),
        (
            "A ribbon changes from red to grey.",
            changes,
            ["Finally, is the color of the ribbon mostly grey?"],
        ),
        ("A lantern changes from dim to bright.", changes, ["Does the light from the lantern increase? (yes or no)"]),
        ("A kitten changes from big to small.", changes, ["Does the size of the kitten decrease? (yes or no)"]),
        ("A hall changes from bright to dark.", changes, ["Does the hall become darker? (yes or no)"]),
        ("The wooden bowl turned into a metal bowl.", changes, ["Initially, is the material of the bowl wooden?"]),
        ("A hen is behind a crate.", places, ["Is the hen behind it?"]),
        ("Two hens shake hands.", "Human_Interaction", None),
    ]
    entries = [{"prompt_en": text, "dimension": [name], "auxiliary_info": asked} for text, name, asked in told]
    (tmp_path / "vbench2").mkdir()
    (tmp_path / "vbench2" / "VBench2_full_info.json").write_text(json.dumps(entries))
    figures = measure(vbench(tmp_path), WORLD)
    marks = {name: (one.count, one.right, one.refused, one.wrong) for name, one in figures.items()}
    assert marks == {
        "spatial (VBench-2.0)": (2, 1, 0, 1),
        "change (VBench-2.0)": (4, 4, 0, 0),
        "attribute (VBench-2.0)": (1, 1, 0, 0),
    }


def test_what_is_wrong_and_what_is_only_missing() -> None:
    left = Expected(label="left of", entities=["dog", "cat"])
    right = Expected(label="right of", entities=["dog", "cat"])
    prompt = "a small dog to the left of a cat"
    assert mark(Exam(prompt=prompt, category="spatial", relations=[left]), WORLD) == "right"
    assert mark(Exam(prompt=prompt, category="spatial", relations=[right]), WORLD) == "wrong"
    assert mark(Exam(prompt=prompt, category="motion", relations=[Expected(label="up", entities=["dog"])]), WORLD) == (
        "refused"
    )
    other = Expected(label="left of", entities=["cat", "dog"])
    assert mark(Exam(prompt=prompt, category="spatial", relations=[other]), WORLD) == "wrong"
    both = "a dog to the left of a cat and a bird above a tree"
    assert mark(Exam(prompt=both, category="spatial", relations=[left]), WORLD) == "right"
    assert mark(Exam(prompt=both, category="spatial", relations=[left], complete=True), WORLD) == "wrong"
    assert mark(Exam(prompt="a lake", category="spatial", relations=[], complete=True), WORLD) == "right"


def test_a_heading_that_is_no_category_hides_nothing() -> None:
    left = Expected(label="left of", entities=["dog", "cat"])
    right = Expected(label="right of", entities=["dog", "cat"])
    marks = [
        mark(Exam(prompt="a dog to the left of a cat", category="long", relations=[one]), WORLD)
        for one in (left, right)
    ]
    assert marks == ["right", "wrong"]


@pytest.mark.parametrize(
    ("name", "entries", "message"),
    [
        ("motion_binding", [{"prompt": "a kite moving up"}], r"motion_binding.json, entry 0: .*no 'object_1'"),
        ("motion_binding", ["a kite"], r"motion_binding.json, entry 0: not an object"),
        ("spatial_relationships", {"prompt": 1}, r"spatial_relationships.json: not a list of prompts"),
        ("generative_numeracy", [{"prompt": "x", "objects": "fox", "numbers": "2, 1"}], r"numeracy.json, entry 0: not"),
        ("generative_numeracy", [{"prompt": "x", "objects": "fox", "numbers": "many"}], r"numeracy.json, entry 0: not"),
    ],
)
def test_damaged_metadata_are_named(tmp_path: Path, name: str, entries: Any, message: str) -> None:
    with pytest.raises(DataError, match=message):
        compbench(write_compbench(tmp_path / "suite", **{name: entries}))


def test_a_folder_of_another_form_is_named(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"none of spatial_relationships.json, .* is in its folder meta_data"):
        compbench(tmp_path)
    with pytest.raises(DataError, match="has no VBench_full_info.json"):
        vbench(tmp_path)
    (tmp_path / "VBench_full_info.json").write_text(json.dumps([{"dimension": ["color"], "prompt_en": "a red car"}]))
    with pytest.raises(DataError, match=r"VBench_full_info.json, entry 0: not of the benchmark's form \(no 'color'\)"):
        vbench(tmp_path)


def test_the_command_shows_what_is_understood(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    parse_command(["a dog to the left of a car", "a quiet lake"])
    said = capsys.readouterr().out
    assert "  left of (dog, car), spatial, by 'to the left of'\n  wrong would be: 'a dog " in said
    assert "'a quiet lake'\n  nothing to guide: " in said
    (tmp_path / "prompts.txt").write_text("a dog to the left of a car\na quiet lake\n")
    parse_command(prompts_file=tmp_path / "prompts.txt")
    assert "1 of 2 prompts state what can be guided; nothing to guide: 1" in capsys.readouterr().out


def test_the_command_measures_and_writes_figures(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder, out = write_compbench(tmp_path / "suite"), tmp_path / "figures.json"
    parse_command(suite="t2v-compbench", suite_dir=folder, json=out)
    assert "category   prompts  right" in capsys.readouterr().out
    told = read_json(out)["categories"]["spatial"]
    assert (told["right"], told["wrong"], told["share"]) == (2, 1, pytest.approx(2 / 3))
    lines = [
        {"prompt": "a dog to the left of a car", "category": "spatial", "part": "kept apart",
         "relations": [{"label": "left of", "entities": ["dog", "car"]}]},
        {"prompt": "a quiet lake", "category": "spatial", "part": "kept apart", "relations": []},
    ]  # fmt: skip
    exam = tmp_path / "exam.jsonl"
    exam.write_text("".join(json.dumps(line) + "\n" for line in lines))
    parse_command(exam=exam, json=out)
    assert read_json(out)["categories"]["spatial (kept apart)"]["right"] == 2
    exam.write_text('{"prompt": "a dog"}\n')
    with pytest.raises(DataError, match=r"exam.jsonl, line 1"):
        read_exams(exam)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({}, "nothing to read; give one of --prompt, --prompts_file, --suite, --exam"),
        ({"prompt": "a dog", "exam": Path("x")}, "--prompt and --exam to read"),
        ({"suite": "vbench"}, "--suite and --suite_dir go together"),
        ({"prompt": "a dog", "json": Path("x.json")}, "--json is for figures"),
    ],
)
def test_options_that_do_not_go_together(options: dict[str, Any], message: str) -> None:
    with pytest.raises(SettingsError, match=message):
        parse_command(**options)


@pytest.mark.parametrize("name", ["shapes", "world"])
def test_the_label_sets_that_ship_hold_together(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    labels_command.main(name)
    said = capsys.readouterr().out
    assert f"{len(LabelSet.load(name))} labels in " in said and "rule left of" in said


def test_a_label_set_with_an_unknown_rule_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "own.yaml"
    path.write_text(
        "motion:\n  entities: 1\n  labels:\n    in: {wordings: [coming in], rule: comes in}\n    out: [going out]\n"
    )
    with pytest.raises(DataError, match=r"label 'in': rule 'comes in' is unknown"):
        labels_command.main(str(path))
