"""Licences of the training videos go from shards into the classifier's config and onto its card."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from cvg.classifier.card import terms
from cvg.classifier.checkpoint import load_checkpoint
from cvg.shards.shards import NOT_STATED, ShardInfo, merge_licences
from cvg.training.datamodule import CompositionDataModule
from tests.helpers.shards import make_shards
from tests.helpers.training import fit

COUNTS = {"train": 3, "val": 8}
STATED = {"CC-BY-SA-4.0": {"vidor": 9, "vidvrd": 2}}


@pytest.fixture(scope="module")
def licensed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_shards(tmp_path_factory.mktemp("licensed"), COUNTS, changes={"licences": STATED})


def test_folders_are_counted_together(licensed: Path, tmp_path: Path) -> None:
    assert CompositionDataModule([str(licensed)]).licences == STATED
    plain = make_shards(tmp_path / "plain", COUNTS)
    assert CompositionDataModule([str(plain)]).licences is None
    both = CompositionDataModule([str(licensed), str(plain)]).licences
    assert both == STATED | {NOT_STATED: {"test": 11}}
    assert merge_licences([STATED, STATED]) == {"CC-BY-SA-4.0": {"vidor": 18, "vidvrd": 4}}
    assert "licences" not in json.loads((plain / "shards.json").read_text())


def test_they_are_on_the_exported_classifiers_card(licensed: Path, tmp_path: Path) -> None:
    fit(tmp_path / "run", licensed, data={"batch_size": 3}, epochs=1)
    load_checkpoint(tmp_path / "run" / "last.ckpt").save_pretrained(tmp_path / "first")
    assert json.loads((tmp_path / "first" / "config.json").read_text())["licences"] == STATED
    assert "| CC-BY-SA-4.0 | vidor | 9 |" in (tmp_path / "first" / "README.md").read_text()
    # One that starts from it was trained on both.
    other = make_shards(tmp_path / "other", COUNTS, changes={"licences": {"MIT": {"mine": 11}}})
    fit(tmp_path / "more", other, {"warm_start": str(tmp_path / "first")}, {"batch_size": 3}, epochs=1)
    assert load_checkpoint(tmp_path / "more" / "last.ckpt").config.licences == STATED | {"MIT": {"mine": 11}}


def test_a_name_cannot_break_the_card() -> None:
    assert terms(None) == ""
    row = terms({"a | b\n# <script>": {"x": 1}}).splitlines()[-1]
    assert row == "| a \\| b # &lt;script> | x | 1 |"


def test_what_is_no_count_is_refused(licensed: Path, tmp_path: Path) -> None:
    for value in ({"MIT": {"x": -1}}, {"MIT": 3}, ["MIT"]):
        broken = json.loads((licensed / "shards.json").read_text()) | {"licences": value}
        (tmp_path / "shards.json").write_text(json.dumps(broken))
        with pytest.raises(Exception, match="licences"):
            ShardInfo.load(tmp_path)
