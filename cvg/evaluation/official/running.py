"""A benchmark's own scores of the videos that a run kept, by its own scripts, in an environment of its own.

Its requirements clash with everybody's, so that its scripts only ever run as processes of another Python. They read the
videos where they lie, and what they write is read back: a CSV whose last row is ``score: ``, or VBench's JSON.
"""

from __future__ import annotations

import csv
import hashlib
import math
import os
import subprocess
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Final

from cvg.common.errors import DataError, SettingsError
from cvg.common.files import atomic, read_json
from cvg.evaluation.official.commands import LEAST, WHERE, Call, Task, calls, check_metadata, obstacle
from cvg.media.length import length

SIDES: Final = ("unguided", "guided")
_OF: Final = "videos.sha256"
"""In a folder of results: of which videos they are."""


@dataclass(frozen=True)
class Scores:
    """Scores by somebody else's program.

    Attributes:
        found: ``{side: {group: score}}``; None where there is none.
        problems: of those that could not be had, why, in a line each.
    """

    found: dict[str, dict[str, float | None]] = field(default_factory=lambda: {side: {} for side in SIDES})
    problems: list[str] = field(default_factory=list)


@dataclass(frozen=True)
class Official:
    """A benchmark's scripts and what runs them.

    Attributes:
        suite: the suite's name, of :data:`cvg.evaluation.official.commands.WHERE`.
        repo: a checkout of the benchmark.
        python: interpreter of the environment that its requirements are installed in.
        videos: folder with the run's videos in ``unguided`` and ``guided``.
    """

    suite: str
    repo: Path
    python: Path
    videos: Path

    def task(self, side: str, group: str) -> Task:
        """What scoring a group of videos is about, but for their length."""
        python = os.path.abspath(self.python)  # noqa: PTH100  (resolved, an environment's Python is the system's)
        videos, out = (self.videos / part / group for part in (side, f"official/{side}"))
        return Task(self.repo.resolve(), python, group, side, videos.resolve(), out.resolve())


def official(
    suite: str, prompts: Mapping[str, Sequence[object]], repo: Path, python: Path, videos: Path | None
) -> Official:
    """A benchmark's scripts, once all that they need is known to be there.

    Args:
        suite: the suite's name.
        prompts: those of every group of the suite, in the order of their numbers.
        repo: a checkout of the benchmark.
        python: an environment's folder, or its interpreter.
        videos: where the run keeps its videos.

    Raises:
        SettingsError: the suite has no scripts of its own, or no videos are kept.
        DataError: checkout or environment is not there (the message says how to get it), or the checkout is of other
            prompts.
    """
    if suite not in WHERE:
        raise SettingsError(f"suite {suite}: has no scripts of its own; those that have: {', '.join(WHERE)}")
    if videos is None:
        raise SettingsError("official scores: no videos are kept for the benchmark's scripts; name a folder for them")
    if not repo.is_dir():
        raise DataError(f"benchmark {repo}: no such folder; get it by: {WHERE[suite]}")
    found = Official(suite, repo, interpreter(python, f"what the README of {suite} asks for"), videos)
    for group in prompts:
        for call in calls(suite, found.task("guided", group)):
            if not Path(call.command[1]).is_file():
                raise DataError(f"benchmark {repo}: has no {call.command[1]}; get the whole of it by: {WHERE[suite]}")
    if suite == "t2v-compbench":
        check_metadata(repo, prompts)
    return found


def interpreter(python: Path, needs: str) -> Path:
    """The Python of an environment.

    Args:
        python: the environment's folder, or the Python itself.
        needs: what is to be installed in it.

    Raises:
        DataError: there is none.
    """
    found = python / "bin" / "python" if python.is_dir() else python
    if not os.access(found, os.X_OK):
        raise DataError(f"environment {python}: no Python in it; make one (python -m venv) and install into it {needs}")
    return found


def official_scores(tools: Official, groups: Iterable[str], say: Callable[[str], None] = print) -> Scores:
    """Have the benchmark score both sides of every group. Those whose results are there are not scored again.

    A group whose script fails does not keep the others from being scored, as groups may need different environments.

    Args:
        tools: scripts and videos.
        groups: of the suite.
        say: shown what is run.

    Raises:
        DataError: results that are there cannot be read, or are of other videos.
    """
    scores = Scores()
    for side in SIDES:
        for group in groups:
            task = tools.task(side, group)
            videos = sorted(task.videos.glob("*.mp4"))
            score = None
            if videos:
                if group in LEAST:
                    frames, fps = length(videos[0])
                    task = replace(task, frames=frames, fps=round(fps))
                problem = obstacle(task)
                score, failed = scored(group, [] if problem else calls(tools.suite, task), videos, task.out, say)
                if score is None:
                    scores.problems.append(f"{side} {group}: {problem or failed}")
            scores.found[side][group] = score
    return scores


def scored(
    group: str, programs: Iterable[Call], videos: Sequence[Path], out: Path, say: Callable[[str], None]
) -> tuple[float | None, str]:
    """The score of some videos: that which is there, else that which programs leave.

    Args:
        group: what is scored.
        programs: run in order where there is no score yet.
        videos: that the score is of.
        out: folder of results.
        say: shown what is run.

    Returns:
        The score, or None and why there is none.

    Raises:
        DataError: results that are there cannot be read, or are of other videos.
    """
    kept, these = out / _OF, _fingerprint(videos)
    if kept.exists() and kept.read_text(encoding="utf-8").strip() != these:
        raise DataError(f"{out}: results of other videos than those that are there now; delete the folder")
    score = read_score(out, group)
    if not kept.exists():
        with atomic(kept) as temporary:
            temporary.write_text(these + "\n", encoding="utf-8")
    if score is not None:
        return score, ""
    log, last = out / "script.log", "nothing was run"
    log.unlink(missing_ok=True)
    for program in programs:
        say(f"{out.parent.name} {group}: {' '.join(program.command)}")
        code, last = _run(program, log)
        if code:
            return None, f"{program.command[1]} ended with exit code {code} ({last}); all of its output is in {log}"
    score = read_score(out, group)
    return score, "" if score is not None else f"left no score in {out} ({last}); all of its output is in {log}"


def _run(program: Call, log: Path) -> tuple[int, str]:
    """Run a program, its output added to a file: its exit code and last words."""
    # Not what this process's own environment is made of; and `python` is that of the other.
    kept = {name: value for name, value in os.environ.items() if name not in ("PYTHONPATH", "PYTHONHOME")}
    kept["PATH"] = f"{Path(program.command[0]).parent}{os.pathsep}{kept.get('PATH', '')}"
    with log.open("a") as file:
        code = subprocess.run(
            program.command, cwd=program.folder, env=kept, stdout=file, stderr=subprocess.STDOUT, check=False
        ).returncode
    lines = log.read_text(errors="replace").strip().splitlines()
    return code, lines[-1][:200] if lines else "it said nothing"


def _fingerprint(videos: Sequence[Path]) -> str:
    """Of the videos' names and bytes."""
    whole = hashlib.sha256()
    for path in videos:
        with path.open("rb") as file:
            whole.update(f"{path.name} {hashlib.file_digest(file, 'sha256').hexdigest()}\n".encode())
    return whole.hexdigest()


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
        if rows and rows[-1][0].strip().lower() == "score:":
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
