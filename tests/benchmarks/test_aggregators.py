"""The comparison of aggregators: which learning rate counts, what its table says, and the whole of it."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from benchmarks import aggregators
from cvg.common.errors import UserError
from data_prep import invert, render


def log(folder: Path, losses: Sequence[float]) -> None:
    """What a training writes: rows of training steps between those of validation."""
    folder = folder / aggregators.LOG
    folder.mkdir(parents=True)
    lines = ["epoch,train/loss,val/leakage_gap,val/loss"]
    for epoch, loss in enumerate(losses):
        lines += [f"{epoch},0.1,,", f"{epoch},,{epoch / 10},{loss}"]
    (folder / "metrics.csv").write_text("\n".join(lines) + "\n")


def test_the_rate_that_reads_best_at_its_best_epoch_counts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    losses = {"lr-0.01": [0.9, 0.2, 0.7], "lr-0.001": [0.5, 0.4, 0.3]}
    commands = []

    def trained(out: Path, shards: Sequence[str], configs: Sequence[str], options: Sequence[str]) -> tuple[Path, bool]:
        log(out, losses[out.name])
        commands.append(list(options))
        return out / "classifier", out.name == "lr-0.001"

    monkeypatch.setattr(aggregators, "trained", trained)
    folder, told, new = aggregators.chosen(tmp_path, ["a"], ["shapes"], 2, False, [1e-2, 1e-3], 50)
    assert folder == tmp_path / "lr-0.01" / "classifier" and new
    assert told == {"lr": 0.01, "loss": 0.2, "leakage_gap": 0.1}
    assert all(
        "--data.mirror" in command and command[command.index("--model.depth") + 1] == "2" for command in commands
    )


def test_the_table_says_what_was_compared() -> None:
    guided = {"accuracy": 0.75, "ci95": [0.5, 0.9], "n": 8}
    row = {"depth": 1, "records": 500, "mirrored": True, "lr": 3e-3, "loss": 0.123, "leakage_gap": None}
    lines = aggregators.table([row | {"guided": guided, "time_ratio": 1.1}]).splitlines()
    assert [cell.strip() for cell in lines[2].strip("|").split("|")] == [
        *("1", "500", "yes", "0.003", "0.12", "0.75 [0.50, 0.90]", "1.10 x", "-")
    ]


@pytest.mark.parametrize(
    ("options", "message"),
    [({"depths": []}, "at least one of each"), ({"depths": [1, -1]}, r"depths\[1\]"), ({"prompts": 0}, "prompts")],
)
def test_nothing_to_compare_is_an_error(options: dict[str, Any], message: str, shards: Path, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=message):
        aggregators.main([str(shards)], tmp_path / "out", **options)
    assert not (tmp_path / "out").exists()


@pytest.mark.slow
def test_the_whole_of_it_once(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    render.main(tmp_path / "clips", clips=12)
    manifest = tmp_path / "clips" / "manifest.jsonl"
    rows = [json.loads(line) for line in manifest.read_text().splitlines()]
    for number, row in enumerate(rows):
        row["split"] = "val" if number % 4 == 0 else "train"
    manifest.write_text("".join(json.dumps(row) + "\n" for row in rows))
    invert.main(data=tmp_path / "clips", out=str(tmp_path / "shards"))
    options = {"depths": [0, 1], "mirrored": [True], "rates": [1e-3], "training_steps": 2, "prompts": 2, "steps": 12}
    for again in (False, True):
        capfd.readouterr()
        aggregators.main([str(tmp_path / "shards")], tmp_path / "out", **options)
        assert ("done before" in capfd.readouterr().out) == again
    rows = json.loads((tmp_path / "out" / "aggregators.json").read_text())["rows"]
    assert [row["depth"] for row in rows] == [0, 1] and all(row["guided"]["n"] == 2 for row in rows)
    table = (tmp_path / "out" / "aggregators.md").read_text()
    assert table.count("\n| 0 ") == table.count("\n| 1 ") == 1
