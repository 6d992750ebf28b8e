"""The demo: the public commands in a row."""

from __future__ import annotations

from pathlib import Path

import pytest

from cvg.common.errors import UserError
from cvg.common.files import read_json
from data_prep import demo
from data_prep.steps import Step, run_step


def test_the_generators_own_videos_join_the_training(tmp_path: Path) -> None:
    without = demo.preparation(tmp_path, "shapes-wan", demo.CONFIGS, 10, 0, "cpu")
    assert [step.name for step in without] == ["render", "invert", "train", "export"]
    both = demo.preparation(tmp_path, "shapes-wan", demo.CONFIGS, 10, 20, "cpu")
    assert [step.name for step in both] == ["render", "invert", "synthesize", "record", "train", "export"]
    record, train = both[3].command, both[4].command
    assert record[record.index("--method") + 1] == "trajectory"
    assert record[record.index("--out") + 1] in train[train.index("--data.shards") + 1]


def test_a_failed_step_is_one_message_and_is_not_noted(tmp_path: Path) -> None:
    step = Step("print", ["json.tool", "--no-such-option"], tmp_path / "no")  # which begins at once
    with pytest.raises(UserError, match="the step 'print' ended with exit code 2"):
        run_step(step, tmp_path, False)
    assert not (tmp_path / "steps.json").exists()
    with pytest.raises(UserError, match="synthetic -1: give at least 0"):
        demo.main(tmp_path, synthetic=-1)


@pytest.mark.slow
def test_the_whole_demo(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    options = {"clips": 60, "synthetic": 32, "prompts": 4, "control_prompts": 0, "samples": 1, "steps": 12}
    demo.main(tmp_path, **options)
    assert (tmp_path / "report.html").stat().st_size > 100_000
    assert read_json(tmp_path / "evaluation.json")["guided"]["n"] == 4
    assert "guided accuracy" in capsys.readouterr().out
    demo.main(tmp_path, **options)
    assert capsys.readouterr().out.count("done before") == 9
