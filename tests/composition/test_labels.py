import random
from pathlib import Path
from typing import Any

import pytest

from cvg.common.errors import DataError, UserError
from cvg.composition import LabelSet

SHAPES = "shapes"
GROUPS: dict[str, Any] = {
    "motion": {"entities": 1, "labels": {"left": ["moving left"], "right": ["moving right"], "up": ["moving up"]}},
    "spatial": {"entities": 2, "labels": {"above": ["above", "over"], "below": ["below"]}},
}


def test_shapes_label_set() -> None:
    labels = LabelSet.load(SHAPES)
    colours = ("red", "green", "blue", "yellow", "purple", "cyan")
    assert {group: [label.name for label in entries] for group, entries in labels.groups.items()} == {
        "motion": ["left", "right", "up", "down"],
        "spatial": ["left of", "right of", "above", "below"],
        "relative_motion": ["towards", "away from"],
        "depth": ["in front of", "behind"],
        "action": ["growing", "shrinking", "bouncing", "back and forth", "stopping", "setting off", "blinking"],
        "interaction": ["circling", "following", "swapping with", "bumping into", "passing", "meeting"],
        "attribute": [f"in {colour}" for colour in colours],
        "change": [f"turning {colour}" for colour in colours],
        "path": [f"{one} then {other}" for one in ("left", "right") for other in ("up", "down")]
        + [f"{other} then {one}" for one in ("left", "right") for other in ("up", "down")],
    }
    assert [labels.index(label.name) for label in labels.labels] == list(range(len(labels)))
    assert LabelSet(labels.to_dict()) == labels


def test_positions_are_class_indices() -> None:
    labels = LabelSet(GROUPS)
    assert labels.index("above") == 3
    assert labels.group_indices("below") == [3, 4]
    assert labels["above"].entities == 2
    assert labels["above"].wordings == ("above", "over")
    assert hash(labels) == hash(LabelSet(labels.to_dict()))


def test_some_groups_of_a_set_keep_all_that_it_says_of_their_labels() -> None:
    known = LabelSet.load("shapes")
    some = known.of_groups(["depth", "motion"])
    assert list(some.groups) == ["motion", "depth"]  # in the set's own order
    assert some.to_dict() == {name: entry for name, entry in known.to_dict().items() if name in ("motion", "depth")}
    assert some["left"].mirror == "right" and some["behind"].rule == "behind"
    for groups in (["size"], []):
        with pytest.raises(DataError, match="expected some of the label set's, which are motion, spatial"):
            known.of_groups(groups)


def test_wrong_is_another_label_of_the_group_and_uniform() -> None:
    labels = LabelSet(GROUPS)
    rng = random.Random(0)
    drawn = [labels.wrong("left", rng).name for _ in range(400)]
    assert set(drawn) == {"right", "up"}
    assert 150 < drawn.count("up") < 250
    assert {labels.wrong("above", rng).name for _ in range(20)} == {"below"}


def test_unknown_label_lists_the_known_ones() -> None:
    with pytest.raises(UserError, match="'behind'.*left, right, up, above, below"):
        LabelSet(GROUPS)["behind"]


@pytest.mark.parametrize(
    ("groups", "message"),
    [
        ({"g": None}, "group 'g'"),
        ({"g": {"labels": {}}}, "group 'g'"),
        ({"g": {"entities": 3, "labels": {"a": ["a"], "b": ["b"]}}}, "'entities' is 3"),
        ({"g": {"entities": 1, "labels": {"a": ["a"]}}}, "at least two"),
        ({"g": {"entities": 1, "labels": {"a": "a", "b": ["b"]}}}, "label 'a'"),
        ({"g": {"entities": 1, "labels": {"a": [], "b": ["b"]}}}, "label 'a'"),
        ({"g": {"entities": 1, "labels": {"a": ["x"], "b": ["x"]}}}, "wording 'x' appears twice"),
        (
            {
                "g": {"entities": 1, "labels": {"a": ["a"], "b": ["b"]}},
                "h": {"entities": 1, "labels": {"a": ["c"], "d": ["d"]}},
            },
            "label 'a' appears twice",
        ),
    ],
)
def test_malformed_sets_name_the_entry(groups: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError, match=message):
        LabelSet(groups)


@pytest.mark.parametrize("content", [None, "a: [", "- a\n"])
def test_bad_yaml_names_the_file(tmp_path: Path, content: str | None) -> None:
    path = tmp_path / "labels.yaml"
    if content is not None:
        path.write_text(content)
    with pytest.raises(UserError, match=r"labels\.yaml"):
        LabelSet.load(path)


FULL: dict[str, Any] = {
    "side": {
        "category": "motion",
        "entities": 1,
        "words": {"go": ["move", "run"]},
        "labels": {
            "left": {
                "wordings": ["moving left"],
                "mirror": "right",
                "rule": "left",
                "question": "Does the {subject} move to the left?",
                "patterns": ["<go> .. to left"],
            },
            "right": {"wordings": ["moving right"], "mirror": "left"},
            "up": {"wordings": ["moving up"], "mirror": {"time": "down"}},
            "down": {"wordings": ["moving down"], "mirror": {"time": "up"}},
        },
    }
}


def test_a_label_says_how_it_is_stated_and_shown() -> None:
    labels = LabelSet(FULL)
    left, up = labels["left"], labels["up"]
    assert (left.category, left.mirror, left.rule) == ("motion", "right", "left")
    assert left.question == "Does the {subject} move to the left?" and left.patterns == ("move|run .. to left",)
    assert (up.mirror, up.mirrors, up.rule, up.question, up.patterns) == ("up", {"time": "down"}, None, None, ())
    again = LabelSet(labels.to_dict())
    assert again == labels and [vars(label) for label in again.labels] == [vars(label) for label in labels.labels]


def test_sets_are_equal_by_what_a_classifier_learns() -> None:
    shapes = LabelSet.load(SHAPES)
    short = {
        group: {"entities": labels[0].entities, "labels": {label.name: list(label.wordings) for label in labels}}
        for group, labels in shapes.groups.items()
    }
    assert LabelSet(short) == shapes and hash(LabelSet(short)) == hash(shapes)
    assert LabelSet(short)["left"].rule is None
    # What a file of before leaves out is that of the set that ships.
    stored = LabelSet.stored(short)
    assert stored["left"].rule == "moves left" and stored["left"].mirror == "right"
    short["motion"]["labels"]["left"] = ["ambling left"]
    assert LabelSet.stored(short)["left"].rule is None


@pytest.mark.parametrize(
    ("said", "message"),
    [
        ({}, "label 'left'.*wordings"),
        ({"wordings": ["a"], "mirror": "sideways"}, "label 'left': its horizontal mirror image is 'sideways'"),
        ({"wordings": ["a"], "mirror": {"depth": "right"}}, "mirror 'depth' is unknown; known: horizontal"),
        ({"wordings": ["a"], "mirror": {"time": "up"}}, "label 'left': its time mirror image is 'up'"),
        ({"wordings": ["a"], "question": "Does it move?"}, r"label 'left'.*expected \{subject\}"),
        ({"wordings": ["a"], "question": "Is {subject} at {object}?"}, "question has an {object}"),
        ({"wordings": ["a"], "question": "Is {subject"}, "label 'left'.*question"),
        ({"wordings": ["a"], "patterns": ["<fly> left"]}, "<fly> is no list of its group's words"),
        ({"wordings": ["a"], "patterns": ["go .."]}, r"pattern 'go \.\.': expected words"),
        ({"wordings": [True]}, "label 'left'.*at least one wording"),
        ({"wordings": ["a"], "colour": "red"}, "unknown key 'colour'; known: wordings, mirror"),
    ],
)
def test_malformed_labels_name_the_label(said: dict[str, Any], message: str) -> None:
    group = FULL["side"] | {"labels": FULL["side"]["labels"] | {"left": {"mirror": "right"} | said}}
    with pytest.raises(UserError, match=message):
        LabelSet({"side": group})


def test_unquoted_yes_and_no_are_explained(tmp_path: Path) -> None:
    path = tmp_path / "labels.yaml"
    path.write_text("place:\n  entities: 2\n  labels:\n    on: [on top of]\n    inside: [inside]\n")
    with pytest.raises(UserError, match=r"labels\.yaml: label group 'place'.*quote it"):
        LabelSet.load(path)
    path.write_bytes(b"\xff\xfe")
    with pytest.raises(UserError, match=r"labels\.yaml: not valid YAML"):
        LabelSet.load(path)
