"""A benchmark's own scores of the videos that a run kept, by its own scripts, in an environment of its own.

Its requirements clash with everybody's, so that its scripts only ever run as processes of another Python. They read the
videos where they lie, and what they write is read back: a CSV whose last row is ``score: ``, or VBench's JSON.
"""

from __future__ import annotations

import csv
import math
import os
import subprocess
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from cvg.common.errors import DataError, SettingsError
from cvg.common.files import read_json

SIDES: Final = ("unguided", "guided")
WHERE: Final = {
    "t2v-compbench": "https://github.com/KaiyueSun98/T2V-CompBench",
    "vbench": "https://github.com/Vchitect/VBench",
}
"""Suites with scripts of their own -> where these come from."""
_LLAVA: Final = {
    "consistent_attr_1": ("compbench_eval_consistent_attr.py", "consistent_attribute_binding.json"),
    "dynamic_attr_2": ("compbench_eval_dynamic_attr.py", "dynamic_attribute_binding.json"),
    "action_5": ("compbench_eval_action_binding.py", "action_binding.json"),
    "interaction_6": ("compbench_eval_interaction.py", "object_interactions.json"),
}
"""T2V-CompBench's categories that one script scores -> the script and its metadata. The others take several, with
checkpoints at places that only the user knows; their files are read where the user puts them."""


@dataclass(frozen=True)
class Official:
    """A benchmark's scripts and what runs them.

    Attributes:
        suite: the suite's name, of :data:`WHERE`.
        repo: a checkout of the benchmark.
        python: interpreter of the environment that its requirements are installed in.
        videos: folder with the run's videos in ``unguided`` and ``guided``.
    """

    suite: str
    repo: Path
    python: Path
    videos: Path

    def results(self, side: str, group: str) -> Path:
        """The folder that results of a group of videos are in."""
        return self.videos / "official" / side / group

    def command(self, side: str, group: str) -> tuple[list[str], Path] | None:
        """The command that scores a group of videos, and the folder to run it in; None where no single one does."""
        videos, out = (self.videos / side / group).resolve(), self.results(side, group).resolve()
        python = os.path.abspath(self.python)  # noqa: PTH100  (resolved, an environment's Python is the system's)
        repo = self.repo.resolve()
        if self.suite == "vbench":
            second = (repo / "VBench-2.0") if group[0].isupper() and (repo / "VBench-2.0").is_dir() else repo
            options = ["--videos_path", str(videos), "--dimension", group, "--output_path", str(out)]
            return [python, str(second / "evaluate.py"), *options], second
        if group not in _LLAVA:
            return None
        script, told = _LLAVA[group]
        options = ["--video-path", str(videos), "--t2v-model", side, "--output-path", str(out)]
        options += ["--read-prompt-file", str(repo / "meta_data" / told)]
        return [python, str(repo / "LLaVA" / "llava" / "eval" / script), *options], repo / "LLaVA"


def official(suite: str, groups: Iterable[str], repo: Path, python: Path, videos: Path | None) -> Official:
    """A benchmark's scripts, once all that they need is known to be there.

    Args:
        suite: the suite's name.
        groups: of the suite.
        repo: a checkout of the benchmark.
        python: an environment's folder, or its interpreter.
        videos: where the run keeps its videos.

    Raises:
        SettingsError: the suite has no scripts of its own, or no videos are kept.
        DataError: checkout or environment is not there; the message says how to get it.
    """
    if suite not in WHERE:
        raise SettingsError(f"suite {suite}: has no scripts of its own; those that have: {', '.join(WHERE)}")
    if videos is None:
        raise SettingsError("official scores: no videos are kept for the benchmark's scripts; name a folder for them")
    if not repo.is_dir():
        raise DataError(f"benchmark {repo}: no such folder; get it by: git clone {WHERE[suite]}")
    interpreter = python / "bin" / "python" if python.is_dir() else python
    if not os.access(interpreter, os.X_OK):
        raise DataError(
            f"environment {python}: no Python in it; make one (python -m venv) and install into it what "
            f"{WHERE[suite]} asks for"
        )
    found = Official(suite, repo, interpreter, videos)
    for group in groups:
        made = found.command("guided", group)
        if made is not None and not Path(made[0][1]).is_file():
            raise DataError(f"benchmark {repo}: has no {made[0][1]}; get the whole of it by: git clone {WHERE[suite]}")
    return found


def official_scores(tools: Official, groups: Iterable[str], say: Callable[[str], None] = print) -> dict[str, Any]:
    """Have the benchmark score both sides of every group. Those whose results are there are not scored again.

    Args:
        tools: scripts and videos.
        groups: of the suite.
        say: shown what is run.

    Returns:
        ``{side: {group: score}}``; None for groups that no single script scores and no file tells of.

    Raises:
        DataError: a script failed, or left no result that can be read; its output is in a file that is named.
    """
    found: dict[str, Any] = {side: {} for side in SIDES}
    for side in SIDES:
        for group in groups:
            score, made = read_score(tools.results(side, group), group), tools.command(side, group)
            if score is None and made is not None:
                say(f"{side} {group}: {' '.join(made[0])}")
                _run(*made, tools.results(side, group))
                score = read_score(tools.results(side, group), group)
                if score is None:
                    raise DataError(f"{tools.results(side, group)}: the script left no score there; see its script.log")
            elif score is None:
                say(
                    f"{side} {group}: several scripts score it; run them as the benchmark's README says and put their "
                    f"CSV into {tools.results(side, group)}"
                )
            found[side][group] = score
    return found


def _run(command: list[str], folder: Path, out: Path) -> None:
    out.mkdir(parents=True, exist_ok=True)
    log = out / "script.log"
    # Not what this process's own environment is made of.
    kept = {name: value for name, value in os.environ.items() if name not in ("PYTHONPATH", "PYTHONHOME")}
    with log.open("w") as file:
        code = subprocess.run(
            command, cwd=folder, env=kept, stdout=file, stderr=subprocess.STDOUT, check=False
        ).returncode
    if code:
        lines = log.read_text(errors="replace").strip().splitlines()
        last = lines[-1][:200] if lines else "it said nothing"
        raise DataError(f"{command[1]}: ended with exit code {code} ({last}); all of its output is in {log}")


def read_score(folder: Path, group: str) -> float | None:
    """The score that a benchmark's script left in a folder; None where there is none.

    Args:
        folder: of its results.
        group: which part of the benchmark they are of.

    Raises:
        DataError: a file of its form holds no number.
    """
    for path in sorted(folder.glob("*_eval_results.json")):
        told = read_json(path)
        if isinstance(told, dict) and group in told:
            value = told[group][0] if isinstance(told[group], list) and told[group] else told[group]
            return _number(value, path)
    for path in sorted(folder.glob("*.csv")):
        try:
            with path.open(newline="", encoding="utf-8", errors="replace") as file:
                rows = [row for row in csv.reader(file) if row]
        except (OSError, csv.Error) as error:
            raise DataError(f"{path}: cannot be read ({error}); have the benchmark write it again") from error
        if rows and rows[-1][0].strip() == "score:":
            return _number(rows[-1][1] if len(rows[-1]) > 1 else None, path)
    return None


def _number(value: Any, path: Path) -> float:
    try:
        found = float(value)
        if not math.isfinite(found):
            raise ValueError
    except (TypeError, ValueError) as error:
        raise DataError(f"{path}: its score is {value!r}, not a number; have the benchmark write it again") from error
    return found
