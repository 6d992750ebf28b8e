"""Other people's programs on our videos, by stand-ins with their arguments and files of their form."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import numpy as np
import pytest

from cvg import evaluate
from cvg.common.errors import UserError
from cvg.evaluation.official import official, official_scores, quality, quality_scores, read_score
from cvg.evaluation.official.quality import DIMENSIONS
from cvg.evaluation.rows import read_evaluation
from cvg.evaluation.runner import Runner
from cvg.evaluation.suites import SuiteSettings
from cvg.media.length import length
from cvg.media.video import write_video
from cvg.reporting.table import columns, score_rows
from tests.helpers import benchmarks, tiny
from tests.helpers.labels import written

PYTHON = Path(sys.executable)
SOME = {"spatial_3": ["a red circle above a blue square"], "action_5": ["a red circle moving left", "a quiet lake"]}
ALL = {group: ["a", "b"] for group in benchmarks.META}


def clips(videos: Path, names: dict[str, list[str]], frames: int = 16, fps: int = 8) -> Path:
    """Videos of both sides, by group."""
    for side in ("unguided", "guided"):
        for group, files in names.items():
            for number, name in enumerate(files):
                grey = np.full((frames, 16, 16, 3), 10 * number, np.uint8)
                write_video(videos / side / group / name, grey, fps)
    return videos


def silent(line: str) -> None:
    pass


def test_its_scores_stand_beside_ours(
    tmp_path: Path, tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch
) -> None:
    repo = benchmarks.compbench(tmp_path / "benchmark", SOME)
    tool = benchmarks.vbench_tool(tmp_path / "vbench")
    _, classifier = tiny.make_both(tmp_path_factory.getbasetemp() / "tiny")
    options = {
        "suite": "t2v-compbench",
        "labels": written(tmp_path),
        "classifier": str(classifier),
        "steps": tiny.STEPS,
    }
    options |= {"asking": SuiteSettings(suite_dir=repo, judge="shapes"), "controls": False, "batch_size": 2}
    out, videos = tmp_path / "a.json", tmp_path / "videos"
    evaluate.main(out=out, videos=videos, **options)
    assert read_evaluation(out).official is read_evaluation(out).vbench is None
    monkeypatch.setattr(Runner, "batch", lambda *args, **options: pytest.fail("sampled again"))
    # Its videos have 5 frames, which is too few for one of the scripts: it is told of, and the rest is scored.
    too_short = r"2 scores could not be had, the first: unguided spatial_3: .* at least 16 frames .* 5; sample longer"
    with pytest.raises(UserError, match=too_short):
        evaluate.main(out=out, videos=videos, official=repo, python=PYTHON, vbench=tool, **options)
    found = read_evaluation(out)
    expected = {side: {"spatial_3": None, "action_5": score} for side, score in (("unguided", 0.2), ("guided", 1.2))}
    assert found.official == expected and found.vbench is not None
    assert found.vbench["guided"] == dict.fromkeys(DIMENSIONS, 0.3) and "1.2000" in columns(score_rows("", expected))
    # What was scored is not scored again, and what the user scored by hand is read.
    (repo / "LLaVA" / "llava" / "eval" / "compbench_eval_action_binding.py").write_text("raise SystemExit(3)")
    for side in ("unguided", "guided"):
        (videos / "official" / side / "spatial_3" / "theirs.csv").write_text("name,Score\n0001.mp4,1\nscore: ,0.75\n")
    done = evaluate.main(out=out, videos=videos, official=repo, python=PYTHON, **options)
    assert done is not None and done.official is not None and done.official["guided"]["spatial_3"] == 0.75
    assert done.vbench == found.vbench


def test_all_seven_categories_are_scored_by_scripts_of_their_own(tmp_path: Path) -> None:
    repo = benchmarks.compbench(tmp_path / "the benchmark", ALL)
    videos = clips(tmp_path / "videos", {group: ["0001.mp4", "0002.mp4"] for group in ALL})
    tools = official("t2v-compbench", ALL, repo, PYTHON, videos)
    told: list[str] = []
    scores = official_scores(tools, ALL, told.append)
    assert scores.problems == []
    assert scores.found == {"unguided": dict.fromkeys(ALL, 0.2), "guided": dict.fromkeys(ALL, 1.2)}
    assert len(told) == 2 * 8  # motion takes two
    assert official_scores(tools, ALL, lambda line: pytest.fail("scored again")).found == scores.found


def test_motion_is_told_how_long_the_videos_are(tmp_path: Path) -> None:
    group = {"motion_4": ["a"]}
    repo = benchmarks.compbench(tmp_path / "benchmark", group)
    videos = clips(tmp_path / "videos", {"motion_4": ["0001.mp4"]}, frames=33, fps=16)
    assert length(videos / "guided" / "motion_4" / "0001.mp4") == (33, pytest.approx(16))
    scores = official_scores(official("t2v-compbench", group, repo, PYTHON, videos), group, silent)
    assert scores.problems == [] and scores.found["guided"] == {"motion_4": 1.1}
    short = clips(tmp_path / "short", {"motion_4": ["0001.mp4"]}, frames=7, fps=8)
    scores = official_scores(official("t2v-compbench", group, repo, PYTHON, short), group, silent)
    assert "takes at least 8 frames of a video, and these have 7" in scores.problems[0]


def test_scores_of_other_videos_are_not_taken_for_these(tmp_path: Path) -> None:
    group = {"action_5": ["a"]}
    repo = benchmarks.compbench(tmp_path / "benchmark", group)
    videos = clips(tmp_path / "videos", {"action_5": ["0001.mp4"]})
    tools = official("t2v-compbench", group, repo, PYTHON, videos)
    official_scores(tools, group, silent)
    write_video(videos / "guided" / "action_5" / "0001.mp4", np.full((16, 16, 16, 3), 200, np.uint8), 8)
    with pytest.raises(UserError, match="guided/action_5: results of other videos .* delete the folder"):
        official_scores(tools, group, silent)


def test_a_script_that_fails_does_not_keep_others_from_scoring(tmp_path: Path) -> None:
    """Its categories need two environments: what fails in one is scored with the other."""
    repo = benchmarks.compbench(tmp_path / "benchmark", ALL)
    videos = clips(tmp_path / "videos", {"action_5": ["0001.mp4"], "numeracy_7": ["0001.mp4"]})
    script = repo / "LLaVA" / "llava" / "eval" / "compbench_eval_action_binding.py"
    whole = script.read_text()
    tools = official("t2v-compbench", ALL, repo, PYTHON, videos)
    groups = ("action_5", "numeracy_7", "motion_4")
    for broken, message in (
        ("raise SystemExit('no weights')", "exit code 1 (no weights); all of its output is in"),
        ("print('nothing done')", "left no score in"),
    ):
        script.write_text(broken)
        scores = official_scores(tools, groups, silent)
        assert [message in problem for problem in scores.problems] == [True, True]
        assert scores.found["guided"] == {"action_5": None, "numeracy_7": 1.1, "motion_4": None}
    script.write_text(whole)
    assert official_scores(tools, groups, silent).problems == []


def test_what_is_absent_is_said_with_where_to_get_it(tmp_path: Path) -> None:
    repo, videos = benchmarks.compbench(tmp_path / "benchmark", SOME), tmp_path / "videos"
    for prompts, folder, environment, message in (
        ({}, tmp_path / "none", PYTHON, "no such folder; get it by: git clone -b V2 https://github.com/KaiyueSun98"),
        ({}, repo, tmp_path / "none", "no Python in it; make one"),
        ({"action_5": ["a"]}, repo, PYTHON, "has 2 entries, but the suite 1 prompts of action_5"),
    ):
        with pytest.raises(UserError, match=message):
            official("t2v-compbench", prompts, folder, environment, videos)
    (repo / "dot" / "compbench_eval_motion_binding.py").unlink()
    with pytest.raises(UserError, match="has no .*compbench_eval_motion_binding.py; get the whole"):
        official("t2v-compbench", {"motion_4": ["a"]}, repo, PYTHON, videos)
    with pytest.raises(UserError, match="suite shapes: has no scripts of its own"):
        official("shapes", {}, repo, PYTHON, videos)
    with pytest.raises(UserError, match="no videos are kept"):
        official("t2v-compbench", {}, repo, PYTHON, None)
    with pytest.raises(UserError, match="--official and --python go together"):
        evaluate._tools(evaluate.load_suite("shapes"), repo, None, videos)
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin" / "python").symlink_to(sys.executable)
    with pytest.raises(UserError, match="has no program vbench; install it: pip install vbench"):
        quality(tmp_path, videos)
    with pytest.raises(UserError, match="quality by VBench: no videos are kept"):
        quality(tmp_path, None)


def test_results_of_both_forms_are_read(tmp_path: Path) -> None:
    assert read_score(tmp_path, "color") is None
    (tmp_path / "x_eval_results.json").write_text(json.dumps({"color": [0.25, [{"video_path": "a"}]]}))
    assert read_score(tmp_path, "color") == 0.25 and read_score(tmp_path, "human_action") is None
    (tmp_path / "b.csv").write_text("score: ,nan\n")
    with pytest.raises(UserError, match="its score is 'nan'"):
        read_score(tmp_path, "human_action")
    (tmp_path / "b.csv").write_text("name\n0001.mp4\n")  # not whole yet
    assert read_score(tmp_path, "human_action") is None


def test_vbench_is_asked_by_dimension(tmp_path: Path) -> None:
    repo = benchmarks.vbench(tmp_path / "VBench")
    three = [f"a cat-{sample}.mp4" for sample in range(3)]
    videos = clips(tmp_path / "videos", {"color": three[:1], "Dynamic_Attribute": three, "Composition": three[:2]})
    groups = {"color": ["a cat"], "Dynamic_Attribute": ["a cat"], "Composition": ["a cat"]}
    scores = official_scores(official("vbench", groups, repo, PYTHON, videos), groups, silent)
    assert scores.found["guided"] == {"color": 0.25, "Dynamic_Attribute": 0.75, "Composition": None}
    assert "takes 3 videos of every prompt, and of 'a cat' there are 2; sample 3 of each" in scores.problems[0]


def test_quality_is_of_all_videos_of_a_side(tmp_path: Path) -> None:
    tool = benchmarks.vbench_tool(tmp_path / "an environment")
    videos = clips(tmp_path / "the videos", {"spatial_3": ["0001.mp4", "0002.mp4"], "motion_4": ["0001.mp4"]})
    tools = quality(tool, videos)
    scores = quality_scores(tools, silent)
    assert scores.problems == [] and scores.found["unguided"] == dict.fromkeys(DIMENSIONS, 0.3)
    assert quality_scores(tools, lambda line: pytest.fail("scored again")).found == scores.found
