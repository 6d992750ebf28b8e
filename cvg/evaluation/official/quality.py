"""What VBench's own tool says of the kept videos' quality: the dimensions that ask for no prompt."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from cvg.common.errors import DataError, SettingsError
from cvg.evaluation.official.commands import Call
from cvg.evaluation.official.running import SIDES, Scores, interpreter, scored

DIMENSIONS: Final = (
    "subject_consistency",
    "background_consistency",
    "motion_smoothness",
    "dynamic_degree",
    "aesthetic_quality",
    "imaging_quality",
    "temporal_flickering",
)


@dataclass(frozen=True)
class Quality:
    """VBench's tool, and the videos that it is shown.

    Attributes:
        tool: the program ``vbench`` of an environment.
        videos: folder with the run's videos in ``unguided`` and ``guided``.
    """

    tool: Path
    videos: Path


def quality(environment: Path, videos: Path | None) -> Quality:
    """VBench's tool, once it is known to be there.

    Args:
        environment: the folder of an environment with the package ``vbench``, or the environment's Python.
        videos: where the run keeps its videos.

    Raises:
        SettingsError: no videos are kept.
        DataError: environment or tool is not there.
    """
    if videos is None:
        raise SettingsError("quality by VBench: no videos are kept for its tool; name a folder for them")
    tool = interpreter(environment, "the package vbench").parent / "vbench"
    if not os.access(tool, os.X_OK):
        raise DataError(f"environment {environment}: has no program vbench; install it: pip install vbench")
    return Quality(tool, videos)


def quality_scores(tools: Quality, say: Callable[[str], None] = print) -> Scores:
    """Have VBench score all videos of both sides, dimension by dimension. What is scored is not scored again.

    Args:
        tools: its tool, and the videos.
        say: shown what is run.

    Raises:
        DataError: results that are there cannot be read, or are of other videos.
    """
    scores = Scores()
    for side in SIDES:
        out = (tools.videos / "official" / side).resolve()
        videos = sorted((tools.videos / side).resolve().rglob("*.mp4"))
        videos = [path for path in videos if "video_standard" not in path.parts]  # T2V-CompBench's scripts' own
        folder = _together(videos, out / "vbench_videos")
        for name in DIMENSIONS:
            place = out / f"vbench_{name}"
            options = ("--dimension", name, "--videos_path", str(folder), "--output_path", ".")
            command = (os.path.abspath(tools.tool), "evaluate", *options, "--mode", "custom_input")  # noqa: PTH100
            score, problem = scored(name, [Call(command, place)], videos, place, say)
            if score is None:
                scores.problems.append(f"{side} {name}: {problem}")
            scores.found[side][name] = score
    return scores


def _together(videos: list[Path], folder: Path) -> Path:
    """A folder of links to all videos: the tool looks into one folder, and not below it."""
    folder.mkdir(parents=True, exist_ok=True)
    for path in folder.iterdir():
        path.unlink()
    for number, path in enumerate(videos):
        (folder / f"{number:05d}.mp4").symlink_to(path)
    return folder
