from __future__ import annotations

import random
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from cvg.common.errors import UserError
from cvg.composition import LabelSet
from cvg.shards.mirror import Mirror

SIDE = {
    "left of": {"wordings": ["left of"], "mirror": "right of"},
    "right of": {"wordings": ["right of"], "mirror": "left of"},
}
LABELS = LabelSet(
    {
        "spatial": {
            "entities": 2,
            "labels": {
                **SIDE,
                "above": {"wordings": ["above"], "mirror": {"vertical": "below"}},
                "below": {"wordings": ["below"], "mirror": {"vertical": "above"}},
                "on": {"wordings": ["atop"], "rule": "on", "mirror": {"vertical": None}},
            },
        },
        "door": {
            "entities": 1,
            "labels": {
                "opens": {"wordings": ["opening"], "question": "Does the {subject} open?"},
                "closes": {"wordings": ["closing"], "question": "Does the {subject} close?"},
            },
        },
        "motion": {
            "entities": 1,
            "labels": {
                "up": {"wordings": ["rising"], "mirror": {"time": "down", "vertical": "down"}},
                "down": {"wordings": ["sinking"], "mirror": {"time": "up", "vertical": "up"}},
            },
        },
    }
)
MAPS = torch.arange(2.0 * 3 * 4).view(1, 1, 1, 1, 2, 3, 4)


def images(label: str, axis: str) -> dict[str, set[bool]]:
    """The labels that a record may come out with, and whether its maps then are the mirrored ones."""
    record: Any = SimpleNamespace(positive_SLAKFHW=MAPS, negative_SLAKFHW=MAPS, label=label)
    mirror, found = Mirror([axis], LABELS, (2, 3, 4)), dict[str, set[bool]]()
    for seed in range(16):
        positive, negative, shown = mirror(record, random.Random(seed))
        assert torch.equal(positive, negative)
        found.setdefault(shown, set()).add(not torch.equal(positive, MAPS))
    assert mirror.made_of(label) == frozenset(found)
    return found


def test_a_label_becomes_its_image_and_maps_go_with_it() -> None:
    assert images("left of", "horizontal") == {"left of": {False}, "right of": {True}}
    assert images("above", "vertical") == {"above": {False}, "below": {True}}
    assert images("left of", "vertical") == {"left of": {False, True}}  # itself
    assert images("opens", "horizontal") == {"opens": {False, True}}


def test_what_has_no_image_is_not_mirrored() -> None:
    assert images("on", "vertical") == {"on": {False}}
    assert images("opens", "time") == images("opens", "vertical") == {"opens": {False}}


def test_a_mirror_that_no_label_has_an_image_in_is_refused() -> None:
    wordings = LabelSet(
        {"a": {"entities": 1, "labels": {"x": ["x"], "y": {"wordings": ["y"], "mirror": {"time": None}}}}}
    )
    with pytest.raises(UserError, match=r"no label .*x, y.* names its time mirror image"):
        Mirror(["time"], wordings, (2, 3, 4))
