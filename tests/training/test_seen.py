"""What a classifier has seen of its labels is written down, and goes with it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from cvg.classifier import ClassifierConfig, CompositionClassifier
from cvg.classifier.checkpoint import load_checkpoint
from cvg.common import hub
from cvg.common.errors import UserError
from cvg.shards.shards import ShardInfo
from cvg.training.datamodule import CompositionDataModule
from tests.helpers.classifiers import make_config
from tests.helpers.shards import make_shards
from tests.helpers.training import MIRROR, fit

THREE = {"left": 1, "right": 1, "up": 1}


@pytest.fixture(scope="module")
def three(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Shards of three labels."""
    return make_shards(tmp_path_factory.mktemp("three"), {"train": 3, "val": 8})


def seen(*folders: Path, **options: Any) -> dict[str, int]:
    return CompositionDataModule([str(folder) for folder in folders], **options).seen


def test_labels_are_counted_over_folders_without_what_is_held_out(three: Path) -> None:
    assert seen(three) == THREE
    assert seen(three, three) == {name: 2 * count for name, count in THREE.items()}
    assert seen(three, hold_out=["up"]) == {"left": 1, "right": 1}


def test_a_mirror_image_is_seen_too(three: Path) -> None:
    assert seen(three, mirror=MIRROR) == {"left": 2, "right": 2, "up": 1, "down": 1}
    assert seen(three, mirror=MIRROR, hold_out=["down"]) == {"left": 2, "right": 2, "up": 1}
    turned = seen(three, mirror={"vertical": {"up": "down"}, "diagonal": {"left": "up", "right": "down"}})
    # Up is mirrored to down, and either is turned to left or right.
    assert turned == {"left": 2, "right": 2, "up": 2, "down": 2}


def test_it_goes_from_training_into_the_exported_config(three: Path, tmp_path: Path) -> None:
    fit(tmp_path / "run", three, data={"batch_size": 3}, epochs=1)
    load_checkpoint(tmp_path / "run" / "last.ckpt").save_pretrained(tmp_path / "first")
    config = json.loads((tmp_path / "first" / "config.json").read_text())
    assert config["seen"] == THREE
    found = CompositionClassifier.from_pretrained(tmp_path / "first").config
    assert not found.never_seen("left") and found.never_seen("down")
    # A training that starts from it has seen both.
    fit(tmp_path / "more", three, {"warm_start": str(tmp_path / "first")}, {"batch_size": 3}, epochs=1)
    more = load_checkpoint(tmp_path / "more" / "last.ckpt").config
    assert more.seen == {name: 2 * count for name, count in THREE.items()}


def test_where_it_is_not_known_nothing_is_said() -> None:
    config = make_config()
    assert config.seen is None and not config.never_seen(next(iter(config.labels)))
    assert "seen" not in config.to_dict()


def test_a_shipped_classifier_has_seen_every_label_that_it_names() -> None:
    classifiers = [CompositionClassifier.from_pretrained(name) for name in hub.shipped() if "classifier" in name]
    assert any(classifier.config.seen is not None for classifier in classifiers)
    for classifier in classifiers:
        assert [name for name in classifier.labels.names if classifier.config.never_seen(name)] == []


@pytest.mark.parametrize("value", [{"left": -1}, {"left": 0.5}, {"left": True}, [], {"left": float("inf")}])
def test_counts_are_counts(value: Any) -> None:
    with pytest.raises(UserError, match="seen"):
        ClassifierConfig.from_dict(make_config().to_dict() | {"seen": value}, "config")


def test_all_labels_of_complete_shards_are_seen(shards: Path) -> None:
    assert seen(shards) == ShardInfo.load(shards).counts["train"]
