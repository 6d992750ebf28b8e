"""Runs that are killed at random moments and run again leave the bytes of runs that were not."""

from __future__ import annotations

import hashlib
import json
import multiprocessing
import random
import signal
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from cvg.common.sizes import Size
from cvg.media.video import write_video
from data_prep import invert
from tests.helpers.tiny import make_pipeline

KILLS = 20
Command = Callable[[Path], Any]


def _invert(folder: Path, out: Path) -> None:
    options: dict[str, Any] = {"steps": 3, "at": [0, 1], "layers": [0], "size": Size(5, 32, 32), "min_psnr": -100.0}
    invert.main(folder / "manifest.jsonl", out, str(folder / "generator"), **options)


COMMANDS: dict[str, Callable[[Path, Path], None]] = {"invert": _invert}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A generator and a manifest."""
    path = tmp_path_factory.mktemp("models")
    make_pipeline(path / "generator")
    rows = []
    for number in range(6):
        frames = np.random.default_rng(number).integers(0, 255, (6, 32, 32, 3), np.uint8)
        write_video(path / f"{number}.mp4", frames, 8)
        rows.append({"video": f"{number}.mp4", "template": "a {e0} {r0}", "entities": ["red circle"], "label": "left"})
    (path / "manifest.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def begun(name: str, folder: Path, out: Path) -> Any:
    """The command in a process of its own, which has its libraries already: kills meet its work, not its start."""
    process = multiprocessing.get_context("fork").Process(target=COMMANDS[name], args=(folder, out))
    process.start()
    return process


def finished(name: str, folder: Path, out: Path) -> float:
    """Run the command to its end. Returns the seconds that took."""
    began = time.monotonic()
    process = begun(name, folder, out)
    process.join(300)
    assert process.exitcode == 0, f"{name} ended with {process.exitcode}"
    return time.monotonic() - began


def contents(out: Path) -> dict[str, Any]:
    """What a folder holds, but for how long it took."""
    return {
        str(path.relative_to(out)): _timeless(json.loads(path.read_text()))
        if path.suffix == ".json"
        else hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(out.rglob("*"))
        if path.is_file()
    }


def _timeless(value: Any) -> Any:
    if isinstance(value, dict):
        return {name: _timeless(inner) for name, inner in value.items() if not ("seconds" in name or "time" in name)}
    return [_timeless(inner) for inner in value] if isinstance(value, list) else value


@pytest.mark.slow
@pytest.mark.parametrize("name", COMMANDS)
def test_killed_at_random_moments(name: str, folder: Path, tmp_path: Path) -> None:
    seconds = finished(name, folder, tmp_path / "whole")
    whole, rng = contents(tmp_path / "whole"), random.Random(name)
    assert len(whole) > 2
    killed = 0
    for number in range(KILLS):
        out = tmp_path / "killed"
        process = begun(name, folder, out)
        process.join(rng.uniform(0, seconds))
        process.kill()
        process.join()
        killed += process.exitcode == -signal.SIGKILL
        if number % 4 == 3:  # most are killed again where they went on
            finished(name, folder, out)
            found = {path.replace("killed", "whole"): value for path, value in contents(out).items()}
            assert found == whole, f"after kill {number + 1}"
            out.rename(tmp_path / f"done-{number}")
    assert killed >= KILLS // 2
