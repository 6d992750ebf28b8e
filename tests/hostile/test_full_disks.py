"""Disks that are full, or fill up on the way, and places that are none: one line, exit code 2, nothing half written."""

from __future__ import annotations

import errno
import json
import os
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from cvg import evaluate, inspect, report, sample
from cvg.common import files
from cvg.common.cli import run
from cvg.export import export
from cvg.media.video import write_video
from data_prep import invert, label, probe, render, synthesize
from tests.helpers import tiny, training

PAGE = 4096
ROOM = {"full": 0, "soon full": 3}
"""Pages that the disk takes before it is full."""
PROMPT = "--prompt=a red circle moving up"
QUICK = (f"--steps={tiny.STEPS}", "--size=[5,32,32]")
COMMANDS: dict[str, tuple[Callable[..., Any], list[str]]] = {
    "invert": (invert.main, ["--data=MANIFEST", "--generator=GENERATOR", *QUICK, "--method=noising", "--at=[0,1]"]),
    "synthesize": (synthesize.main, ["--generator=GENERATOR", "--clips=1", QUICK[0]]),
    "render": (render.main, ["--clips=2"]),
    "probe": (probe.main, ["--data=MANIFEST", "--generator=GENERATOR", *QUICK, "--videos=1"]),
    "label": (label.main, ["--videos=MANIFEST", "--judge=shapes", "--labels=shapes"]),
    "export": (export, ["--checkpoint=CHECKPOINT"]),
    "sample": (sample.main, [PROMPT, "--classifier=CLASSIFIER", *QUICK, "--guidance=off"]),
    "evaluate": (
        evaluate.main,
        ["--classifier=CLASSIFIER", QUICK[0], "--prompts=1", "--controls=false"],
    ),
    "report": (report.main, ["--evaluation=EVALUATION", "--clips=0", "--maps=0"]),
    "inspect": (inspect.main, ["--shards=SHARDS", "--probe=none"]),
}
FILE = {"label": "out.jsonl", "evaluate": "out.json", "report": "out.html"}
"""What those write that write no folder."""
NAMES = [*COMMANDS, "train"]
SMALL = [("label", "soon full"), ("synthesize", "soon full"), ("evaluate", "soon full")]
"""What has room there; or, of the evaluation, takes long to say the same again."""
FIT = ("fit", "--data.shards=[SHARDS]", "--data.mirror=null", "--model.backbone=none", "--model.dim=16")
FIT = (*FIT, "--model.depth=0", "--trainer.accelerator=cpu", "--trainer.max_steps=1")
FIT = (*FIT, "--trainer.enable_progress_bar=false", "--trainer.logger.init_args.save_dir=PLACE/out")


@pytest.fixture(scope="module")
def inputs(shards: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """What the commands read, on a disk that has room."""
    shared, own = tmp_path_factory.getbasetemp() / "tiny", tmp_path_factory.mktemp("inputs")
    generator, classifier = tiny.make_both(shared)
    evaluation = own / "evaluation.json"
    evaluate.main(prompts=1, out=evaluation, classifier=str(classifier), steps=tiny.STEPS, controls=False)
    write_video(own / "a.mp4", np.random.default_rng(0).integers(0, 255, (6, 32, 32, 3), np.uint8), 8)
    row = {"video": "a.mp4", "template": "a {e0} {r0}", "entities": ["red circle"], "label": "left"}
    (own / "manifest.jsonl").write_text(json.dumps(row) + "\n")
    training.fit(own, shards, epochs=1)
    return {
        "GENERATOR": str(generator),
        "CLASSIFIER": str(classifier),
        "EVALUATION": str(evaluation),
        "MANIFEST": str(own / "manifest.jsonl"),
        "CHECKPOINT": str(own / "last.ckpt"),
        "SHARDS": str(shards),
    }


@pytest.fixture
def disk(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A file system that takes so many pages; where none can be mounted, every file is refused its bytes."""
    place, pages = tmp_path / "disk", ROOM[request.param]
    place.mkdir()
    options = ["-t", "tmpfs", "-o", f"size={PAGE * (pages + 1)}", "tmpfs", str(place)]
    mounted = os.getuid() == 0 and not _mount(options)
    if mounted:
        (place / "filler").write_bytes(b"x" * PAGE)
    else:
        monkeypatch.setattr(files, "_to_disk", _refuse)
    yield place
    if mounted:
        subprocess.run(["umount", "-l", str(place)], check=True)


def _refuse(path: Path) -> None:
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def refusal(name: str, inputs: dict[str, str], place: Path, capsys: pytest.CaptureFixture[str]) -> str:
    """The one line that a command ends with whose results go to a place."""

    def filled(argument: str) -> str:
        for word, path in {**inputs, "PLACE": str(place)}.items():
            argument = argument.replace(word, path)
        return argument

    capsys.readouterr()

    def call() -> None:
        if name == "train":
            training.command([filled(argument) for argument in FIT])
        else:
            command, args = COMMANDS[name]
            out = f"--out={place / FILE.get(name, 'out')}"
            run(command, f"python -m {name}", args=[out, *map(filled, args)])

    with pytest.raises(SystemExit) as caught:
        call()
    said = capsys.readouterr().err
    assert caught.value.code == 2 and "Traceback" not in said
    (line,) = [line for line in said.splitlines() if line.startswith("error: ")]
    return line


@pytest.mark.parametrize(
    ("name", "disk"),
    [(name, room) for name in NAMES for room in ROOM if (name, room) not in SMALL],
    indirect=["disk"],
)
def test_a_full_disk(name: str, disk: Path, inputs: dict[str, str], capsys: pytest.CaptureFixture[str]) -> None:
    assert "No space left on device" in refusal(name, inputs, disk, capsys)
    for path in disk.rglob("*"):
        assert ".part" not in path.name and not path.name.endswith(".lock")
        if path.suffix == ".json":
            json.loads(path.read_text())
        assert path.is_dir() or path.stat().st_size, f"{path} is empty"


@pytest.mark.parametrize("name", NAMES)
def test_a_place_that_is_a_file(
    name: str, tmp_path: Path, inputs: dict[str, str], capsys: pytest.CaptureFixture[str]
) -> None:
    place = tmp_path / "file"
    place.write_text("mine")
    assert str(place) in refusal(name, inputs, place, capsys)
    assert place.read_text() == "mine" and list(tmp_path.iterdir()) == [place]


@pytest.fixture(scope="module")
def read_only(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A place that was mounted to be read alone, which stops the superuser too; with a file in it."""
    place = tmp_path_factory.mktemp("read-only")
    if os.getuid() or _mount(["-t", "tmpfs", "tmpfs", str(place)]):
        pytest.skip("no file system can be mounted here")
    try:
        (place / "file").write_text("mine")
        if _mount(["-o", "remount,ro", str(place)]):
            pytest.skip("no file system can be mounted read-only here")
        yield place
    finally:
        subprocess.run(["umount", "-l", str(place)], check=True)


def _mount(options: list[str]) -> int:
    return subprocess.run(["mount", *options], capture_output=True).returncode


@pytest.mark.parametrize("name", NAMES)
def test_a_place_that_is_read_only(
    name: str, read_only: Path, inputs: dict[str, str], capsys: pytest.CaptureFixture[str]
) -> None:
    said = refusal(name, inputs, read_only, capsys)
    assert str(read_only) in said and "Read-only file system" in said
    assert [path.name for path in read_only.iterdir()] == ["file"]
