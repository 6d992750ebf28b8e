"""A benchmark's own scripts, by a stand-in that a test writes."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest

from cvg import evaluate
from cvg.common.errors import UserError
from cvg.evaluation.official import official, official_scores, read_score
from cvg.evaluation.rows import read_evaluation
from cvg.evaluation.runner import Runner
from cvg.evaluation.suites import SuiteSettings
from cvg.reporting.table import columns, official_rows
from tests.helpers import tiny

SCRIPT = """
import argparse, csv, json, os
parser = argparse.ArgumentParser()
for name in ("video-path", "t2v-model", "output-path", "read-prompt-file"):
    parser.add_argument("--" + name, required=True)
args = parser.parse_args()
told = json.load(open(args.read_prompt_file))
os.makedirs(args.output_path, exist_ok=True)
names = sorted(os.listdir(args.video_path))
with open(os.path.join(args.output_path, args.t2v_model + "_score.csv"), "a", newline="") as file:
    writer = csv.writer(file)
    writer.writerow(["name", "prompt", "Score"])
    for name in names:
        writer.writerow([name, told[int(name[:4]) - 1]["prompt"], 0.5])
    writer.writerow(["score: ", len(names) / 10 + (args.t2v_model == "guided")])
"""


@pytest.fixture
def repo(tmp_path: Path) -> Path:
    scripts = tmp_path / "benchmark" / "LLaVA" / "llava" / "eval"
    scripts.mkdir(parents=True)
    (scripts / "compbench_eval_action_binding.py").write_text(SCRIPT)
    told = [{"prompt": "a red circle moving left"}, {"prompt": "a quiet lake"}]
    (tmp_path / "benchmark" / "meta_data").mkdir()
    (tmp_path / "benchmark" / "meta_data" / "action_binding.json").write_text(json.dumps(told))
    prompts = tmp_path / "benchmark" / "prompts"
    prompts.mkdir()
    (prompts / "5_action_binding.txt").write_text("\n".join(line["prompt"] for line in told))
    (prompts / "3_spatial_relationship.txt").write_text("a red circle above a blue square")
    return tmp_path / "benchmark"


def test_its_scores_stand_beside_ours(
    repo: Path, tmp_path: Path, tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch
) -> None:
    _, classifier = tiny.make_both(tmp_path_factory.getbasetemp() / "tiny")
    options = {"suite": "t2v-compbench", "labels": "shapes", "classifier": str(classifier), "steps": tiny.STEPS}
    options |= {"asking": SuiteSettings(suite_dir=repo, judge="shapes"), "controls": False, "batch_size": 2}
    out, videos = tmp_path / "a.json", tmp_path / "videos"
    evaluate.main(out=out, videos=videos, **options)
    assert read_evaluation(out).official is None
    monkeypatch.setattr(Runner, "batch", lambda *args, **options: pytest.fail("sampled again"))
    found = evaluate.main(out=out, videos=videos, official=repo, python=Path(sys.executable), **options)
    assert found is not None
    expected = {side: {"spatial_3": None, "action_5": score} for side, score in (("unguided", 0.2), ("guided", 1.2))}
    assert found.official == read_evaluation(out).official == expected
    assert "1.2000" in columns(official_rows(found))
    # What was scored is not scored again, and what the user scored by hand is read.
    (repo / "LLaVA" / "llava" / "eval" / "compbench_eval_action_binding.py").write_text("raise SystemExit(3)")
    by_hand = videos / "official" / "guided" / "spatial_3"
    by_hand.mkdir(parents=True)
    (by_hand / "theirs.csv").write_text("name,Score\n0001.mp4,1\nscore: ,0.75\n")
    found = evaluate.main(out=out, videos=videos, official=repo, python=Path(sys.executable), **options)
    assert found is not None and found.official is not None and found.official["guided"]["spatial_3"] == 0.75


def test_what_is_absent_is_said_with_where_to_get_it(repo: Path, tmp_path: Path) -> None:
    python, videos = Path(sys.executable), tmp_path / "videos"
    for groups, folder, environment, message in (
        ((), tmp_path / "none", python, "no such folder; get it by: git clone https://github.com/KaiyueSun98"),
        ((), repo, tmp_path / "none", "no Python in it; make one"),
        (("dynamic_attr_2",), repo, python, "has no .*compbench_eval_dynamic_attr.py; get the whole"),
    ):
        with pytest.raises(UserError, match=message):
            official("t2v-compbench", groups, folder, environment, videos)
    with pytest.raises(UserError, match="suite shapes: has no scripts of its own"):
        official("shapes", (), repo, python, videos)
    with pytest.raises(UserError, match="no videos are kept"):
        official("t2v-compbench", (), repo, python, None)
    with pytest.raises(UserError, match="--official and --python go together"):
        evaluate._tools(evaluate.load_suite("shapes"), repo, None, videos)


def test_a_script_that_fails_is_one_message_with_its_last_words(repo: Path, tmp_path: Path) -> None:
    script = repo / "LLaVA" / "llava" / "eval" / "compbench_eval_action_binding.py"
    tools = official("t2v-compbench", ["action_5"], repo, Path(sys.executable), tmp_path / "videos")
    script.write_text("raise SystemExit('no weights')")
    with pytest.raises(UserError, match=r"exit code 1 \(no weights\); all of its output is in .*script.log"):
        official_scores(tools, ["action_5"], say=lambda line: None)
    script.write_text("")
    with pytest.raises(UserError, match="the script left no score"):
        official_scores(tools, ["action_5"], say=lambda line: None)


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
    (tmp_path / "VBench-2.0").mkdir()
    for folder in (tmp_path, tmp_path / "VBench-2.0"):
        (folder / "evaluate.py").write_text(
            "import sys, json, os\n"
            "told = dict(zip(sys.argv[1::2], sys.argv[2::2]))\n"
            "name = told['--dimension']\n"
            "place = os.path.join(told['--output_path'], 'results_eval_results.json')\n"
            "json.dump({name: [float(len(os.path.basename(os.getcwd()))), []]}, open(place, 'w'))\n"
        )
    groups = ["color", "Dynamic_Attribute"]
    tools = official("vbench", groups, tmp_path, Path(sys.executable), tmp_path / "videos")
    found = official_scores(tools, groups, say=lambda line: None)
    assert found["guided"]["Dynamic_Attribute"] == len("VBench-2.0")
    assert found["guided"]["color"] == len(tmp_path.name)
