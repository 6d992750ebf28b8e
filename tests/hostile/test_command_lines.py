"""Wrong command lines: each ends in one line, exit code 2, before anything is computed."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from cvg import evaluate, inspect, report, sample
from cvg.common import hub
from cvg.common.cli import run

PROMPT = "--prompt=a red circle moving up"


@pytest.fixture(autouse=True)
def nothing_runs(monkeypatch: pytest.MonkeyPatch) -> None:
    """No generator is called, and no Hub is asked."""

    def fail(*args: Any, **options: Any) -> None:
        raise AssertionError("it was begun")

    monkeypatch.setattr("cvg.guidance.sampler.GuidedSampler.__call__", fail)
    monkeypatch.setattr("huggingface_hub.hf_hub_download", fail)


def refusal(command: Callable[..., Any], args: list[str], capsys: pytest.CaptureFixture[str]) -> str:
    with pytest.raises(SystemExit) as caught:
        run(command, "python -m thing", args=args, remedies=getattr(sample, "REMEDIES", {}))
    said = capsys.readouterr().err
    assert caught.value.code == 2 and "Traceback" not in said
    (line,) = [line for line in said.splitlines() if line.startswith("error: ")]
    return line


SAMPLE = [
    (["--prompt=[]"], "prompt []: there is nothing to sample"),
    ([PROMPT, "--seed=[]"], "seed []: there is nothing to sample"),
    ([PROMPT, "--seed=-1"], "seed -1: give a number from 0"),
    ([PROMPT, f"--seed={2**64}"], f"seed {2**64}: give a number from 0"),
    ([PROMPT, "--seed=[0, 0]"], "give each prompt and seed once"),
    ([PROMPT, "--batch_size=-1"], "batch_size -1: give at least 1"),
    ([PROMPT, "--batch_size=0"], "batch_size 0: give at least 1"),
    ([PROMPT, "--steps=0"], "steps 0: give at least 1"),
    ([PROMPT, "--steps=0", "--guidance=off"], "steps 0: give at least 1"),
    ([PROMPT, "--steps=-3"], "steps -3: give at least 1"),
    ([PROMPT, "--steps=x"], "Expected a int"),
    ([PROMPT, "--fps=0"], "fps 0: give at least 1"),
    ([PROMPT, "--scale=0"], "scale 0: give at least 1"),
    ([PROMPT, "--scale=1", "--size=[13, 64, 63]"], "63 x 64 pixels"),
    ([PROMPT, "--size=[0, 64, 64]"], "frames 0: give at least 1"),
    ([PROMPT, "--guidance_scale=.nan"], "guidance_scale nan: give a number"),
    ([PROMPT, "--guidance_scale=-2"], "guidance_scale -2.0: give a number"),
    ([PROMPT, "--guidance=maybe"], "guidance"),
    ([PROMPT, "--guiding.threshold=-1"], "threshold"),
    ([PROMPT, "--guiding.iterations=0"], "iterations"),
    ([PROMPT, "--guiding.iterations=-1"], "iterations"),
    ([PROMPT, "--config=nope.yaml"], "nope.yaml"),
    ([PROMPT, "--speed=3"], "speed"),
    ([], "prompt"),
    ([PROMPT, "--classifier=nope"], "model 'nope': no such model ships"),
    ([PROMPT, "--classifier=shapes-nope"], "model 'shapes-nope': no such model ships"),
    ([PROMPT, "--classifier=./nope/there"], "no such folder is here"),
    ([PROMPT, "--classifier=/nope"], "no such folder is here"),
    ([PROMPT, "--generator=nope"], "model 'nope': no such model ships"),
    ([PROMPT, "--device=nope"], "device nope"),
    ([PROMPT, "--steps=4"], "use 5 steps or more"),
    ([PROMPT, "--steps=5", "--guided_steps=4"], "use 11 steps or more"),
    (["--prompt="], "prompt is empty"),
    (["--prompt=hello"], "no known relation"),
    (["--prompt=a red circle not moving up"], "'not' negates"),
    (["--prompt=a cat moving up"], "has never seen the entity 'cat'"),
    (["--prompt=a turquoise hexagon above a red circle"], "has never seen the entity 'turquoise hexagon'"),
    ([PROMPT, "--label=sideways"], "sideways"),
    ([PROMPT, "--entities=[blue square]"], "'blue square' is not in the prompt"),
    ([PROMPT, "--label_group=motion"], "no new label"),
]

EVALUATE = [
    (["--prompts=0"], "prompts 0: give at least 1"),
    (["--batch_size=-1"], "batch_size -1: give at least 1"),
    (["--steps=0"], "steps 0: give at least 1"),
    (["--steps=5", "--prompts=1", "--guided_steps=4"], "use 11 steps or more"),
    (["--seed=-1"], "seed -1: give at least 0"),
    (["--fps=0"], "fps 0: give at least 1"),
    (["--guiding.guided_steps=0"], "guided_steps"),
    (["--suite=nope"], "known: shapes"),
    (["--classifier=nope"], "model 'nope': no such model ships"),
    (["--generator=nope", "--prompts=1"], "model 'nope': no such model ships"),
    (["--labels=nope.yaml"], "nope.yaml"),
    (["--control_prompts=0"], "control_prompts 0"),
]


REPORT = [
    (["--clips=-1"], "clips -1: give at least 0"),
    (["--maps=-1"], "maps -1: give at least 0"),
    (["--out=a.txt"], "ends in .html"),
    (["--evaluation=nope.json"], "nope.json"),
]


@pytest.mark.parametrize(("args", "reason"), REPORT)
def test_report(args: list[str], reason: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert reason in refusal(report.main, [f"--out={tmp_path / 'out' / 'a.html'}", *args], capsys)
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(("args", "reason"), SAMPLE)
def test_sample(args: list[str], reason: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert reason in refusal(sample.main, [f"--out={tmp_path / 'out'}", *args], capsys)
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(("args", "reason"), EVALUATE)
def test_evaluate(args: list[str], reason: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert reason in refusal(evaluate.main, [f"--out={tmp_path / 'out' / 'a.json'}", *args], capsys)
    assert not (tmp_path / "out").exists()


def test_places_are_tried_before_anything_is_loaded(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def fail(*args: Any) -> None:
        raise AssertionError("it was loaded")

    monkeypatch.setattr("cvg.classifier.model.CompositionClassifier.from_pretrained", fail)
    (tmp_path / "file").write_text("")
    for command, args in (
        (sample.main, [PROMPT, f"--out={tmp_path / 'file'}"]),
        (sample.main, [PROMPT, "--out=/proc/nope"]),
        (sample.main, [PROMPT, f"--out={tmp_path / ('x' * 300)}"]),
        (evaluate.main, [f"--out={tmp_path / 'file' / 'a.json'}"]),
        (evaluate.main, [f"--out={tmp_path}"]),
        (report.main, [f"--out={tmp_path / 'file' / 'a.html'}"]),
        (inspect.main, ["--shards=x", "--classifier=shapes-classifier", f"--out={tmp_path / 'file'}"]),
        (evaluate.main, [f"--out={tmp_path / 'a.json'}", f"--videos={tmp_path / 'file'}"]),
    ):
        said = refusal(command, args, capsys)
        assert "cannot be written" in said or "is a folder" in said
    if os.getuid():
        (tmp_path / "closed").mkdir(mode=0o500)
        assert "cannot be written" in refusal(sample.main, [PROMPT, f"--out={tmp_path / 'closed'}"], capsys)


def test_a_wrong_name_lists_those_that_ship(capsys: pytest.CaptureFixture[str]) -> None:
    said = refusal(sample.main, [PROMPT, "--classifier=nope"], capsys)
    assert all(name in said for name in hub.shipped()) and "shapes-classifier" in hub.shipped()
