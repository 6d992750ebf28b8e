"""How benchmarks' own scripts are called, as their argument parsers want it, and what they take for granted.

T2V-CompBench's are those of its branch V2, where every category has its scripts in place; VBench's and VBench-2.0's are
an ``evaluate.py`` each.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from cvg.common.errors import DataError
from cvg.common.files import read_json

WHERE: Final = {
    "t2v-compbench": "git clone -b V2 https://github.com/KaiyueSun98/T2V-CompBench",
    "vbench": "git clone https://github.com/Vchitect/VBench",
}
"""Suites with scripts of their own -> how to get these."""
META: Final = {
    "consistent_attr_1": "consistent_attribute_binding.json",
    "dynamic_attr_2": "dynamic_attribute_binding.json",
    "spatial_3": "spatial_relationships.json",
    "motion_4": "motion_binding.json",
    "action_5": "action_binding.json",
    "interaction_6": "object_interactions.json",
    "numeracy_7": "generative_numeracy.json",
}
"""T2V-CompBench's categories -> their files in ``meta_data``, whose entries are by the prompt's number."""
_LLAVA: Final = {
    "consistent_attr_1": "compbench_eval_consistent_attr.py",
    "dynamic_attr_2": "compbench_eval_dynamic_attr.py",
    "action_5": "compbench_eval_action_binding.py",
    "interaction_6": "compbench_eval_interaction.py",
}
_GSA: Final = "Grounded-Segment-Anything"
LEAST: Final = {"spatial_3": 16, "numeracy_7": 16, "motion_4": 2}
"""Frames that a video of a category has at least: of shorter ones its script mixes up the scores."""
VBENCH2_SAMPLES: Final = 3
"""Videos of a prompt that VBench-2.0 will have."""


@dataclass(frozen=True)
class Call:
    """A program, and the folder that it has to be run in."""

    command: tuple[str, ...]
    folder: Path


@dataclass(frozen=True)
class Task:
    """What is to be scored.

    Attributes:
        repo: a checkout of the benchmark.
        python: what its scripts are run by.
        group: of the suite.
        side: ``unguided`` or ``guided``; the name that the benchmark knows the videos' model by.
        videos: folder of the group's videos.
        out: folder for results.
        frames: of every video, where a script wants to know.
        fps: frames per second of every video, likewise.
    """

    repo: Path
    python: str
    group: str
    side: str
    videos: Path
    out: Path
    frames: int = 1
    fps: int = 1


def is_second(group: str) -> bool:
    """Whether a dimension is VBench-2.0's, whose names are capitalised."""
    return group[0].isupper()


def calls(suite: str, task: Task) -> list[Call]:
    """The programs that score a group of videos, in order."""
    repo, python = task.repo, task.python
    if suite == "vbench":
        within = repo / "VBench-2.0"
        folder = within if is_second(task.group) and within.is_dir() else repo
        options = ("--videos_path", str(task.videos), "--dimension", task.group, "--output_path", str(task.out))
        return [Call((python, str(folder / "evaluate.py"), *options), folder)]
    told = ("--read-prompt-file", str(repo / "meta_data" / META[task.group]), "--t2v-model", task.side)
    common = ("--video-path", str(task.videos), "--output-path", str(task.out), *told)
    pictures = ("--output_dir", str(task.out / "pictures"))
    if task.group in _LLAVA:
        script = repo / "LLaVA" / "llava" / "eval" / _LLAVA[task.group]
        return [Call((python, str(script), *common), repo / "LLaVA")]
    if task.group == "numeracy_7":
        script = repo / _GSA / "GroundingDINO" / "demo" / "compbench_eval_numeracy.py"
        return [Call((python, str(script), *common, *pictures), repo)]
    if task.group == "spatial_3":
        depth = ("--depth_folder", str(task.out / "depth"))
        script = repo / _GSA / "compbench_eval_spatial_relationships.py"
        return [Call((python, str(script), *common, *depth, *pictures), repo)]
    # The first script writes masks, and the videos at 8 frames per second where the second wants them.
    masks, slow = str(task.out / "masks"), task.videos.parent / "video_standard" / task.videos.name
    lengths = ("--total_frame", str(task.frames), "--fps", str(task.fps))
    first = ("--video-path", str(task.videos), *told, *lengths, "--output_dir", masks)
    second = ("--video-path", str(slow), "--mask_folder", masks, "--output-path", str(task.out), *told, *pictures)
    return [
        Call((python, str(repo / _GSA / "compbench_motion_binding_seg.py"), *first), repo),
        Call((python, str(repo / "dot" / "compbench_eval_motion_binding.py"), *second), repo / "dot"),
    ]


def obstacle(task: Task) -> str | None:
    """Why a script cannot score these videos, where it would not say so itself."""
    least = max(LEAST.get(task.group, 1), task.fps if task.group == "motion_4" else 1)  # it counts whole seconds
    if task.frames < least:
        return f"its script takes at least {least} frames of a video, and these have {task.frames}; sample longer ones"
    if is_second(task.group):
        prompts = {path.stem.rpartition("-")[0] for path in task.videos.glob("*.mp4")}
        for prompt in sorted(prompts):
            there = sum((task.videos / f"{prompt}-{sample}.mp4").is_file() for sample in range(VBENCH2_SAMPLES))
            if there < VBENCH2_SAMPLES:
                return (
                    f"its script takes {VBENCH2_SAMPLES} videos of every prompt, and of {prompt!r} there are {there}; "
                    f"sample {VBENCH2_SAMPLES} of each"
                )
    return None


def check_metadata(repo: Path, prompts: Mapping[str, Sequence[object]]) -> None:
    """Ask whether T2V-CompBench's metadata are those of the suite's prompts: its two versions have other numbers.

    Raises:
        DataError: a file cannot be read, or has another number of entries.
    """
    for group, lines in prompts.items():
        path = repo / "meta_data" / META[group]
        told = read_json(path)
        if not isinstance(told, list) or len(told) != len(lines):
            entries = len(told) if isinstance(told, list) else "no"
            raise DataError(
                f"benchmark {path}: has {entries} entries, but the suite {len(lines)} prompts of {group}; give the "
                "checkout that the prompts are from"
            )
