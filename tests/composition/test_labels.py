import random
from pathlib import Path
from typing import Any

import pytest

from cvg.common.errors import UserError
from cvg.composition import LabelSet

SHAPES = "shapes"
GROUPS: dict[str, Any] = {
    "motion": {"entities": 1, "labels": {"left": ["moving left"], "right": ["moving right"], "up": ["moving up"]}},
    "spatial": {"entities": 2, "labels": {"above": ["above", "over"], "below": ["below"]}},
}


def test_shapes_label_set() -> None:
    labels = LabelSet.load(SHAPES)
    assert {group: [label.name for label in entries] for group, entries in labels.groups.items()} == {
        "motion": ["left", "right", "up", "down"],
        "spatial": ["left of", "right of", "above", "below"],
        "relative_motion": ["towards", "away from"],
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
        ({"g": {"entities": 3, "labels": {"a": ["a"], "b": ["b"]}}}, "entities is 3"),
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
