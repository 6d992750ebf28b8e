"""Runs that are killed and run again leave the bytes of runs that were not."""

from __future__ import annotations

import hashlib
import itertools
import json
import multiprocessing
import os
import random
import signal
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from cvg import evaluate, sample
from cvg.common.errors import DataError
from cvg.common.files import alone
from cvg.common.sizes import Size
from cvg.composition import parse
from cvg.media.video import write_video
from data_prep import invert
from data_prep.inversion.recording import Passed, Recorder
from tests.helpers import tiny
from tests.helpers.labels import LABELS

KILLS = 20


def _invert(folder: Path, out: Path) -> None:
    options: dict[str, Any] = {"steps": 3, "at": [0, 1], "layers": [0], "size": Size(5, 32, 32), "min_psnr": -100.0}
    invert.main(folder / "manifest.jsonl", str(out), str(folder / "generator"), **options)


def _sample(folder: Path, out: Path) -> None:
    prompts = ["a red circle moving up", "a blue square moving left"]
    options: dict[str, Any] = {"steps": tiny.STEPS, "size": Size(5, 32, 32), "scale": 1, "batch_size": 1}
    sample.main(prompts, out=out, classifier=str(folder / "classifier"), **options)


def _evaluate(folder: Path, out: Path, controls: bool = False) -> None:
    options: dict[str, Any] = {"prompts": 2, "steps": tiny.STEPS, "batch_size": 1, "controls": controls}
    place = {"out": out / "evaluation.json", "videos": out / "videos"}
    evaluate.main(classifier=str(folder / "classifier"), **place, **options)


CONTROLLED = "evaluate with controls"
COMMANDS: dict[str, Callable[[Path, Path], None]] = {"invert": _invert, "sample": _sample, "evaluate": _evaluate}
COMMANDS[CONTROLLED] = partial(_evaluate, controls=True)
MOMENTS = {"invert": (3,), "sample": (5,), "evaluate": (4,)}
"""Of the files that get their names, the ones before which a run is killed where no chance is to choose."""


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A generator, a classifier and a manifest."""
    parse("a red circle moving up", LABELS)  # the parser is loaded here, once, and not by every process that is begun
    path = tmp_path_factory.mktemp("models")
    tiny.make_both(path)
    rows = []
    for number in range(4):
        frames = np.random.default_rng(number).integers(0, 255, (6, 32, 32, 3), np.uint8)
        write_video(path / f"{number}.mp4", frames, 8)
        rows.append({"video": f"{number}.mp4", "template": "a {e0} {r0}", "entities": ["red circle"], "label": "left"})
    (path / "manifest.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


Whole = Callable[[str], tuple[dict[str, Any], float]]


@pytest.fixture(scope="module")
def whole(folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Whole:
    """Command -> what a run of it leaves that is not killed, and the seconds it takes; run once."""
    known: dict[str, tuple[dict[str, Any], float]] = {}

    def run(name: str) -> tuple[dict[str, Any], float]:
        if name not in known:
            out = tmp_path_factory.mktemp(name) / "out"
            seconds = finished(name, folder, out)
            known[name] = contents(out), seconds
        return known[name]

    return run


def begun(command: Callable[[], None]) -> Any:
    """The command in a process of its own, which has its libraries already: kills meet its work, not its start."""
    process = multiprocessing.get_context("fork").Process(target=command)
    process.start()
    return process


def finished(name: str, folder: Path, out: Path) -> float:
    """Run the command to its end. Returns the seconds that took."""
    began = time.monotonic()
    process = begun(partial(COMMANDS[name], folder, out))
    process.join(300)
    assert process.exitcode == 0, f"{name} ended with {process.exitcode}"
    return time.monotonic() - began


def contents(out: Path) -> dict[str, Any]:
    """What a folder holds, but for how long it took."""
    return {
        str(path.relative_to(out)): _timeless(json.loads(path.read_text().replace(str(out), "OUT")))
        if path.suffix == ".json"
        else hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(out.rglob("*"))
        if path.is_file()
    }


def _timeless(value: Any) -> Any:
    if isinstance(value, dict):
        return {name: _timeless(inner) for name, inner in value.items() if not _of_the_clock(name)}
    return [_timeless(inner) for inner in value] if isinstance(value, list) else value


def _of_the_clock(name: str) -> bool:
    """Whether a value is seconds, a ratio of them, or chosen by one."""
    return name.endswith(("seconds", "_time")) or name.startswith("time_") or name == "timing"


def no_half(out: Path, expected: dict[str, Any]) -> None:
    """Whatever has its name in a folder is whole, and is what the run that was not killed has under it."""
    there = contents(out)
    assert {path: value for path, value in there.items() if path in expected} == {
        path: value for path, value in expected.items() if path in there
    }


def _killed_before(moment: int, command: Callable[[], None]) -> None:
    """Run a command that is killed just before its file of this number gets its name."""
    replace, count = Path.replace, 0

    def kills(self: Path, target: Path) -> Path:
        nonlocal count
        count += 1
        if count == moment:
            os.kill(os.getpid(), signal.SIGKILL)
        return replace(self, target)

    Path.replace = kills  # type: ignore[method-assign,assignment]  (of the process that is killed)
    command()


@pytest.mark.parametrize("name", MOMENTS)
def test_killed_before_a_file_has_its_name(name: str, folder: Path, whole: Whole, tmp_path: Path) -> None:
    expected, _ = whole(name)
    out = tmp_path / "killed"
    for moment in MOMENTS[name]:
        process = begun(partial(_killed_before, moment, partial(COMMANDS[name], folder, out)))
        process.join(300)
        assert process.exitcode == -signal.SIGKILL
        assert any(".part" in path.name for path in out.rglob("*")), "nothing was half written"
        no_half(out, expected)
    finished(name, folder, out)
    assert contents(out) == expected


def test_a_second_sampling_of_a_folder_is_refused_at_once(folder: Path, tmp_path: Path) -> None:
    with alone(tmp_path), pytest.raises(DataError, match="another process is writing there"):
        _sample(folder, tmp_path)
    with alone(tmp_path / "videos"), pytest.raises(DataError, match="another process is writing there"):
        _evaluate(folder, tmp_path)


def _killed_in_its_second_video(command: Callable[[], None]) -> None:
    run, count = Recorder.run, itertools.count(1)

    def dies(self: Recorder, *args: Any) -> list[Passed]:
        if next(count) == 2:
            os.kill(os.getpid(), signal.SIGKILL)
        return run(self, *args)

    Recorder.run = dies  # type: ignore[method-assign]  (of the process that is killed)
    command()


def test_processes_share_the_rows_of_a_folder_and_one_is_killed(folder: Path, whole: Whole, tmp_path: Path) -> None:
    expected, _ = whole("invert")
    command = partial(_invert, folder, tmp_path / "out")
    dying, other = begun(partial(_killed_in_its_second_video, command)), begun(command)
    dying.join(300)
    other.join(300)
    assert other.exitcode == 0
    assert dying.exitcode == -signal.SIGKILL, "it had no second video"
    assert contents(tmp_path / "out") == expected


@pytest.mark.slow
def test_of_four_processes_one_is_killed_at_a_random_moment(folder: Path, whole: Whole, tmp_path: Path) -> None:
    expected, seconds = whole("invert")
    killed, rng = 0, random.Random("four")
    for number in range(5):
        out = tmp_path / str(number)
        processes = [begun(partial(_invert, folder, out)) for _ in range(4)]
        processes[rng.randrange(4)].join(rng.uniform(0, seconds))
        dying = processes.pop(rng.randrange(4))
        dying.kill()
        dying.join()
        killed += dying.exitcode == -signal.SIGKILL
        for process in processes:
            process.join(300)
            assert process.exitcode == 0
        assert contents(out) == expected
    assert killed >= 2


@pytest.mark.slow
@pytest.mark.parametrize("name", ["invert", "sample", CONTROLLED])
def test_killed_at_random_moments(name: str, folder: Path, whole: Whole, tmp_path: Path) -> None:
    expected, seconds = whole(name)
    assert len(expected) > 2
    killed, rng = 0, random.Random(name)
    for number in range(KILLS):
        out = tmp_path / "killed"
        process = begun(partial(COMMANDS[name], folder, out))
        process.join(rng.uniform(0, seconds))
        process.kill()
        process.join()
        killed += process.exitcode == -signal.SIGKILL
        if out.exists() and name != "invert":  # whose run.json and rejects grow
            no_half(out, expected)
        if number % 4 == 3:  # most are killed again where they went on
            finished(name, folder, out)
            assert contents(out) == expected, f"after kill {number + 1}"
            out.rename(tmp_path / f"done-{number}")
    assert killed >= KILLS // 2
