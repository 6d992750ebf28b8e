"""Wrong command lines of preparation, training and export: one line and exit code 2, before anything is computed."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from cvg import inspect
from cvg.common.cli import run
from cvg.export import export
from data_prep import demo, invert, probe, render, synthesize
from tests.helpers import training

ROW = {"video": "a.mp4", "template": "a {e0} {r0}", "entities": ["red circle"], "label": "left"}


@pytest.fixture(autouse=True)
def nothing_runs(monkeypatch: pytest.MonkeyPatch) -> None:
    """No video is made or read, no step of a demo is taken, no Hub is asked, nothing is trained."""

    def fail(*args: Any, **options: Any) -> None:
        raise AssertionError("it was begun")

    for place in (
        "data_prep.inversion.recording.Recorder.prepare",
        "data_prep.synthesize.sample_with_trajectory",
        "data_prep.render.write_video",
        "data_prep.demo.run_step",
        "huggingface_hub.hf_hub_download",
        "cvg.training.module.CompositionModule.training_step",
    ):
        monkeypatch.setattr(place, fail)


Case = tuple[Callable[..., Any], list[str], str]


def cases(command: Callable[..., Any], *lines: tuple[list[str], str]) -> list[Case]:
    return [(command, args, reason) for args, reason in lines]


INVERT = cases(
    invert.main,
    (["--data=nope.jsonl"], "manifest nope.jsonl: cannot be read"),
    ([], "data"),
    (["--data=DATA", "--steps=0"], "steps 0: give at least 1"),
    (["--data=DATA", "--limit=0"], "limit 0: give at least 1"),
    (["--data=DATA", "--iterations=-1"], "iterations -1: give at least 0"),
    (["--data=DATA", "--min_psnr=.nan"], "min_psnr nan: give a number"),
    (["--data=DATA", "--size=[0, 64, 64]"], "frames 0: give at least 1"),
    (["--data=DATA", "--size=[12, 64, 64]"], "12"),
    (["--data=DATA", "--size=[13, 60, 64]"], "60"),
    (["--data=DATA", "--at=[]"], "at []: expected ascending step indices"),
    (["--data=DATA", "--at=[2, 1]"], "at [2, 1]: expected ascending step indices"),
    (["--data=DATA", "--at=[12]"], "at [12]: expected ascending step indices below steps=12"),
    (["--data=DATA", "--layers=[99]"], "99"),
    (["--data=DATA", "--heads=[-1]"], "heads [-1]: expected ascending numbers"),
    (["--data=DATA", "--grid=[99, 99, 99]"], "grid [99, 99, 99]"),
    (["--data=DATA", "--method=guess"], "method"),
    (["--data=DATA", "--method=trajectory"], "no row of the manifest has a saved trajectory"),
    (["--data=DATA", "--fit=stretch"], "fit"),
    (["--data=DATA", "--labels=nope.yaml"], "nope.yaml"),
    (["--data=DATA", "--generator=nope"], "model 'nope': no such model ships"),
    (["--data=DATA", "--device=nope"], "device nope"),
    (["--data=DATA", "--offload=model"], "offload model"),
    (["--data=DATA", "--config=nope.yaml"], "nope.yaml"),
    (["--data=DATA", "--speed=3"], "speed"),
    (["--data=DATA", "--generator=nope", "--out=FILE/out"], "cannot be written"),  # before the generator is loaded
    (["--data=DATA", "--generator=nope", "--out=/proc/nope"], "cannot be written"),
)
SYNTHESIZE = cases(
    synthesize.main,
    (["--clips=0"], "clips 0: give at least 1"),
    (["--steps=0"], "steps 0: give at least 1"),
    (["--batch_size=-1"], "batch_size -1: give at least 1"),
    (["--fps=0"], "fps 0: give at least 1"),
    (["--size=[0, 64, 64]"], "frames 0: give at least 1"),
    (["--size=[12, 64, 64]"], "12"),
    (["--suite=nope"], "known: shapes"),
    (["--generator=nope"], "model 'nope': no such model ships"),
    (["--generator=nope", "--out=FILE/out"], "cannot be written"),
    (["--generator=nope", "--out=/proc/nope"], "cannot be written"),
)
RENDER = cases(
    render.main,
    (["--clips=0"], "clips 0: give at least 1"),
    (["--clips=1", "--seed=-1"], "seed -1: give at least 0"),
    (["--clips=1", "--kinds=[nope]"], "kind 'nope': unknown"),
    (["--clips=1", "--out=FILE/out"], "cannot be written"),
    (["--clips=1", "--out=/proc/nope"], "cannot be written"),
)
PROBE = cases(
    probe.main,
    (["--data=nope.jsonl"], "manifest nope.jsonl: cannot be read"),
    (["--data=DATA", "--videos=0"], "videos 0: give at least 1"),
    (["--data=DATA", "--guided=0"], "guided 0: give at least 1"),
    (["--data=DATA", "--steps=0"], "steps 0: give at least 1"),
    (["--data=DATA", "--at=[12]"], "at [12]: expected ascending step indices below steps=12"),
    (["--data=DATA", "--fit=stretch"], "fit"),
    (["--data=DATA", "--generator=nope"], "model 'nope': no such model ships"),
    (["--data=DATA", "--generator=nope", "--out=FILE/out"], "cannot be written"),
)
EXPORT = cases(
    export,
    (["--checkpoint=nope.ckpt"], "checkpoint nope.ckpt: No such file or directory"),
    (["--checkpoint=http://127.0.0.1:9/a.ckpt"], "download it first"),
    (["--checkpoint=nope.ckpt", "--out=FILE/out"], "cannot be written"),
    (["--checkpoint=nope.ckpt", "--step_size=fast"], "step_size"),
    (["--checkpoint=nope.ckpt", "--step_size=-1"], "step_size"),
    (["--checkpoint=nope.ckpt", "--guidance_scale=.inf"], "guidance_scale"),
)
INSPECT = cases(
    inspect.main,
    (["--shards=nope"], "shards nope: no shards.json there"),
    (["--shards=nope", "--classifier=nope"], "model 'nope': no such model ships"),
    (["--shards=nope", "--split=dev"], "split"),
)
DEMO = cases(
    demo.main,
    (["--clips=0"], "clips 0: give at least 1"),
    (["--synthetic=-1"], "synthetic -1: give at least 0"),
    (["--generator=nope"], "model 'nope': no such model ships"),
    (["--out=FILE/out"], "cannot be written"),
)
TRAIN = [
    ([], "subcommand"),
    (["predict"], "predict"),
    (["fit", "--config=nope.yaml"], "nope.yaml"),
    (["fit", "--data.speed=3"], "speed"),
    (["fit", "--data.shards=[]"], "data.shards: no folder given"),
    (["fit", "--data.shards=[nope]"], "shards nope: no shards.json there"),
    (
        ["fit", "--data.shards=[nope]", "--data.batch_size=0"],
        "batch_size and eval_batch_size must be at least 1",
    ),
    (["fit", "--data.shards=[nope]", "--data.weights=[1, 2]"], "data.weights"),
    (["fit", "--data.shards=[nope]", "--model.depth=-1"], "depth"),
    (["fit", "--data.shards=[nope]", "--model.dim=63"], "attention_heads 4 does not divide dim 63"),
    (["fit", "--data.shards=[nope]", "--model.head=other"], "head"),
    (["fit", "--data.shards=[nope]", "--model.lr=fast"], "lr"),
    (["fit", "--data.shards=[nope]", "--model.lr=.nan"], "model.lr nan"),
    (["fit", "--data.shards=[nope]", "--model.lr=-1"], "model.lr -1"),
    (["fit", "--data.shards=[nope]", "--model.warmup=2"], "model.warmup 2"),
    (["fit", "--data.shards=[nope]", "--model.weight_decay=.inf"], "model.weight_decay inf"),
    (["fit", "--data.shards=[nope]", "--ckpt_path=nope.ckpt"], "checkpoint nope.ckpt: No such file or directory"),
    (["test", "--data.shards=[nope]", "--ckpt_path=nope.ckpt"], "checkpoint nope.ckpt: No such file or directory"),
    (["fit", "--data.shards=[nope]", "--trainer.max_epochs=many"], "max_epochs"),
]
ALL = INVERT + SYNTHESIZE + RENDER + PROBE + EXPORT + INSPECT + DEMO


def refusal(call: Callable[[], Any], capsys: pytest.CaptureFixture[str]) -> str:
    with pytest.raises(SystemExit) as caught:
        call()
    said = capsys.readouterr().err
    assert caught.value.code == 2 and "Traceback" not in said
    (line,) = [line for line in said.splitlines() if line.startswith("error: ")]
    return line


@pytest.mark.parametrize(("command", "args", "reason"), ALL, ids=[f"{c.__module__}{args}" for c, args, _ in ALL])
def test_it_is_refused(
    command: Callable[..., Any], args: list[str], reason: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "manifest.jsonl").write_text(json.dumps(ROW))
    (tmp_path / "file").write_text("")
    places = {"DATA": str(tmp_path / "manifest.jsonl"), "FILE": str(tmp_path / "file")}
    for word, place in places.items():
        args = [argument.replace(word, place) for argument in args]
    out = f"--out={tmp_path / 'out'}"
    assert reason in refusal(lambda: run(command, "python -m thing", args=[out, *args]), capsys)
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(("args", "reason"), TRAIN)
def test_training(args: list[str], reason: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    place = [f"--trainer.logger.init_args.save_dir={tmp_path / 'out'}", "--trainer.accelerator=cpu"]
    assert reason in refusal(lambda: training.command([*args, *(place if len(args) > 1 else [])]), capsys)
    assert not (tmp_path / "out").exists()
