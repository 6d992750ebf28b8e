"""Stand-ins for benchmarks' checkouts: scripts of the same names and arguments, which leave files of the same form."""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

META = {
    "consistent_attr_1": "consistent_attribute_binding.json",
    "dynamic_attr_2": "dynamic_attribute_binding.json",
    "spatial_3": "spatial_relationships.json",
    "motion_4": "motion_binding.json",
    "action_5": "action_binding.json",
    "interaction_6": "object_interactions.json",
    "numeracy_7": "generative_numeracy.json",
}
PROMPTS = {
    "consistent_attr_1": "1_consistent_attr",
    "dynamic_attr_2": "2_dynamic_attr",
    "spatial_3": "3_spatial_relationship",
    "motion_4": "4_motion_binding",
    "action_5": "5_action_binding",
    "interaction_6": "6_interaction",
    "numeracy_7": "7_numeracy",
}
_HEAD = """
import argparse, csv, json, os, shutil
parser = argparse.ArgumentParser()
for name in {required}:
    parser.add_argument(name, required=True)
args = parser.parse_args()
told = json.load(open(args.read_prompt_file)) if hasattr(args, "read_prompt_file") else None
model = getattr(args, "t2v_model", None)
names = sorted(os.listdir(args.video_path))
assert all(told[int(name[:4]) - 1]["prompt"] for name in names)
# What the videos are as the scripts want them: the share of the prompts, and 1 more where they are guided.
score = len(names) / 10 + (model == "guided")

def table(path, rows, last=None):
    os.makedirs(args.output_path, exist_ok=True)
    with open(os.path.join(args.output_path, model + path), "w", newline="") as file:
        csv.writer(file).writerows([*rows, *([[last, score]] if last else [])])
"""
_COMMON = ["--video-path", "--t2v-model", "--read-prompt-file"]
_LLAVA = """
rows = [["name", "prompt", "Score"], *([name, told[0]["prompt"], 0.5] for name in names)]
assert os.path.basename(os.getcwd()) == "LLaVA", os.getcwd()
table("_{name}_score.csv", rows, "score: ")
"""
_NUMERACY = """
assert os.path.isdir("Grounded-Segment-Anything/GroundingDINO/demo"), os.getcwd()
table("_numeracy_frame.csv", [["video_name", "image_name", "score"]] + [[name, "0", 1.0] for name in names] * 16)
table("_numeracy_video.csv", [["id", "Score_frame_1", "Score_1"], ["0001", [1.0] * 16, 1.0]], "score: ")
"""
_SPATIAL = """
assert os.path.isdir("Depth-Anything"), os.getcwd()
for part in ("2d", "3d"):
    table("_" + part + "frame.csv", [["video_name", "image_name", "prompt", "score"]])
    table("_" + part + "video.csv", [["id", "Score_frame_1", "Score_1"], ["0001", [1.0] * 16, 1.0]])
table("_spatial_score.csv", [["id", "score_frame", "Score"], ["0001", [1.0] * 16, 1.0]], "Score: ")
"""
_MASKS = """
assert os.path.isdir("Grounded-Segment-Anything"), os.getcwd()
slow = os.path.join(os.path.dirname(args.video_path), "video_standard", os.path.basename(args.video_path))
assert int(args.total_frame) // int(args.fps) * 8 == 16, (args.total_frame, args.fps)
os.makedirs(slow, exist_ok=True)
for name in names:
    shutil.copy(os.path.join(args.video_path, name), os.path.join(slow, name))
    os.makedirs(os.path.join(args.output_dir, model, name.split(".")[0]))
"""
_TRACKS = """
assert os.path.basename(os.getcwd()) == "dot", os.getcwd()
assert os.path.basename(os.path.dirname(args.video_path)) == "video_standard"
assert sorted(os.listdir(os.path.join(args.mask_folder, model))) == [name.split(".")[0] for name in names]
for part in ("foreground", "background", "motion_back_fore"):
    table("_" + part + ".csv", [["id", "prompt", "object_1", "d_1", "object_2", "d_2"]])
table("_motion_score.csv", [["id", "object_1", "d_1", "Score"], ["0001", "a", "left", 0.5]], "score: ")
"""
_VBENCH = """
import argparse, datetime, json, os
parser = argparse.ArgumentParser()
parser.add_argument("--videos_path", required=True)
parser.add_argument("--dimension", nargs="+", required=True)
parser.add_argument("--output_path", default="./evaluation_results/")
parser.add_argument("--mode", choices=["custom_input", "vbench_standard", "vbench_category"], default="vbench_standard")
args = parser.parse_args({arguments})
assert args.mode == {mode!r}
(name,) = args.dimension
videos = [os.path.join(args.videos_path, file) for file in os.listdir(args.videos_path) if file.endswith(".mp4")]
assert videos and all(os.path.getsize(path) for path in videos)
score = [{score}, [{{"video_path": path, "video_results": 0.5}} for path in videos]]
os.makedirs(args.output_path, exist_ok=True)
start = os.path.join(args.output_path, "results_" + datetime.datetime.now().strftime("%Y-%m-%d-%H:%M:%S"))
json.dump([], open(start + "_full_info.json", "w"))
json.dump({{name: score}}, open(start + "_eval_results.json", "w"))
"""


def _script(path: Path, required: Sequence[str], body: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(_HEAD.replace("{required}", repr(list(required))) + body)


def compbench(folder: Path, prompts: Mapping[str, Sequence[str]]) -> Path:
    """T2V-CompBench's branch V2 with some prompts by category."""
    for group, lines in prompts.items():
        for place, text in (
            (folder / "prompts" / f"{PROMPTS[group]}.txt", "\n".join(lines)),
            (folder / "meta_data" / META[group], json.dumps([{"prompt": line} for line in lines])),
        ):
            place.parent.mkdir(parents=True, exist_ok=True)
            place.write_text(text)
    (folder / "Depth-Anything").mkdir()
    inner = folder / "LLaVA" / "llava" / "eval"
    for script, name in (
        ("consistent_attr", "consistent_attr"),
        ("dynamic_attr", "dynamic_attr"),
        ("action_binding", "action_binding"),
        ("interaction", "object_interactions"),
    ):
        body = _LLAVA.replace("{name}", name)
        _script(inner / f"compbench_eval_{script}.py", [*_COMMON, "--output-path"], body)
    gsa = folder / "Grounded-Segment-Anything"
    pictures = [*_COMMON, "--output-path", "--output_dir"]
    _script(gsa / "GroundingDINO" / "demo" / "compbench_eval_numeracy.py", pictures, _NUMERACY)
    _script(gsa / "compbench_eval_spatial_relationships.py", [*pictures, "--depth_folder"], _SPATIAL)
    masks = [*_COMMON, "--output_dir", "--total_frame", "--fps"]
    _script(gsa / "compbench_motion_binding_seg.py", masks, _MASKS)
    _script(folder / "dot" / "compbench_eval_motion_binding.py", [*pictures, "--mask_folder"], _TRACKS)
    return folder


def vbench(folder: Path) -> Path:
    """VBench, with VBench-2.0 in it: scores are 0.25 and 0.75."""
    for place, score in ((folder, 0.25), (folder / "VBench-2.0", 0.75)):
        place.mkdir(parents=True, exist_ok=True)
        (place / "evaluate.py").write_text(_VBENCH.format(arguments="", mode="vbench_standard", score=score))
    return folder


def vbench_tool(environment: Path) -> Path:
    """An environment with the program ``vbench``, whose scores are the share of ten that it is shown."""
    (environment / "bin").mkdir(parents=True)
    (environment / "bin" / "python").symlink_to(sys.executable)
    body = _VBENCH.format(arguments="__import__('sys').argv[2:]", mode="custom_input", score="len(videos) / 10")
    (environment / "bin" / "vbench").write_text(f"#!/usr/bin/env python\n{body}")
    (environment / "bin" / "vbench").chmod(0o755)
    return environment
