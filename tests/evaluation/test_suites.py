"""Suites of free prompts, prompts that are not guided, and runs that several processes share."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from cvg import evaluate
from cvg.common.errors import UserError
from cvg.composition import LabelSet, parse
from cvg.composition.asking import NOTHING, UNKNOWN
from cvg.evaluation.batches import check_names, in_batches, within
from cvg.evaluation.directions import directions, outcome
from cvg.evaluation.processes import Processes
from cvg.evaluation.rows import read_evaluation
from cvg.evaluation.runner import Runner
from cvg.evaluation.suites import Case, SuiteSettings, load_suite
from cvg.judging.quality import flicker, static_share
from cvg.reporting.table import render
from tests.helpers import tiny
from tests.helpers.labels import LABELS, written

PROMPTS = [
    "a red circle moving left",
    "a quiet lake at dawn",
    "a blue square above a green circle",
    "a red square moving up",
]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.getbasetemp() / "tiny"


@pytest.fixture
def prompts(tmp_path: Path) -> SuiteSettings:
    (tmp_path / "prompts.txt").write_text("\n".join(PROMPTS))
    return SuiteSettings(prompts_file=tmp_path / "prompts.txt", judge="shapes")


def options(folder: Path, asking: SuiteSettings, **changes: Any) -> dict[str, Any]:
    _, classifier = tiny.make_both(folder)
    values = {"suite": "prompts", "asking": asking, "labels": written(folder), "classifier": str(classifier)}
    return values | {"steps": tiny.STEPS, "batch_size": 1, "controls": False} | changes


def test_a_file_of_prompts_is_a_suite(prompts: SuiteSettings) -> None:
    suite = load_suite("prompts", LABELS, settings=prompts)
    cases = suite.cases(None, 3)
    assert [case.prompt for case in cases] == PROMPTS and suite.cases(2, 3) == cases[:2]
    assert [case.composition is None for case in cases] == [False, True, False, False]
    assert cases[1].reason == NOTHING and len({seed for case in cases for seed in case.seeds}) == 16
    check_names(suite, cases)
    with pytest.raises(UserError, match="suite prompts: no prompts_file"):
        load_suite("prompts", LABELS)
    with pytest.raises(UserError, match="suite shapes has no use for it"):
        load_suite("shapes", settings=prompts)
    assert SuiteSettings.of(json.loads(json.dumps(prompts.to_dict()))) == prompts


def test_numbers_are_of_prompts_and_empty_lines_have_none(tmp_path: Path, prompts: SuiteSettings) -> None:
    suite = load_suite("prompts", LABELS, settings=prompts)
    cases = suite.cases(None, 3)
    (tmp_path / "spaced.txt").write_text("\n\n" + "\n \n\t\n".join(PROMPTS) + "\n\n")
    spaced = load_suite("prompts", LABELS, settings=replace(prompts, prompts_file=tmp_path / "spaced.txt"))
    assert spaced.cases(None, 3) == cases and [case.number for case in cases] == [0, 1, 2, 3]
    assert [spaced.video_name(case) for case in cases] == [suite.video_name(case) for case in cases]
    assert suite.video_name(cases[2]) == "0003-a-blue-square-above-a-green-circle-0.mp4"
    asking = compbench(tmp_path / "benchmark")
    (tmp_path / "benchmark" / "prompts" / "3_spatial_relationship.txt").write_text("\na cat\n\n\na dog\n")
    numbered = load_suite("t2v-compbench", LABELS, settings=asking)
    names = [numbered.video_name(case) for case in numbered.cases(None, 0) if case.group == "spatial_3"]
    assert names == ["spatial_3/0001.mp4", "spatial_3/0002.mp4"]


def test_a_stopped_run_goes_on_with_its_own_prompts_alone(
    folder: Path, tmp_path: Path, prompts: SuiteSettings, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Empty lines do not matter to it; another prompt in the place of one that is done does."""
    evaluate.main(out=tmp_path / "whole.json", **options(folder, prompts))
    batch, done = Runner.batch, 0

    def stop(self: Runner, *args: Any, **given: Any) -> Any:
        nonlocal done
        done += 1
        if done == 2:
            raise KeyboardInterrupt
        return batch(self, *args, **given)

    monkeypatch.setattr(Runner, "batch", stop)
    with pytest.raises(KeyboardInterrupt):
        evaluate.main(out=tmp_path / "a.json", **options(folder, prompts))
    assert prompts.prompts_file is not None
    prompts.prompts_file.write_text("\n".join(["a green square moving down", *PROMPTS[1:]]))
    with pytest.raises(UserError, match="stopped, with other settings .the prompts.; use the same"):
        evaluate.main(out=tmp_path / "a.json", **options(folder, prompts))
    prompts.prompts_file.write_text("\n\n" + "\n\n".join(PROMPTS))
    evaluate.main(out=tmp_path / "a.json", **options(folder, prompts))
    assert done == 4 and rows(tmp_path / "a.json") == rows(tmp_path / "whole.json")


def test_what_a_classifier_does_not_know_is_not_guided() -> None:
    both = LabelSet({"motion": {"entities": 1, "labels": {"left": ["moving left"], "up": ["moving up"]}}})
    composition = parse("a red circle moving left above a blue square", LABELS)
    assert [relation.label for relation in composition.relations] == ["left", "above"]
    cases = [Case(composition.prompt, composition, "a", (0,))]
    (case,) = within(cases, both.names)
    assert [relation.label for relation in case.asked.relations] == ["left"] and case.unknown == ("above",)
    above = parse("a red circle above a blue square", LABELS)
    found = within([*cases, Case(above.prompt, above, "a", (1,))], both.names)
    assert found[1].composition is None and found[1].reason == UNKNOWN and "above" in found[1].why
    assert [batch.guided for batch in in_batches(found, 1, 1, plain=True)] == [True, False]
    assert [len(batch.cases) for batch in in_batches(found, 1, 1, plain=False)] == [1]
    with pytest.raises(UserError, match="none of the 1 prompts can be guided"):
        within(found[1:], both.names)


def test_prompts_with_nothing_to_guide_are_sampled_plainly_and_counted(
    folder: Path, tmp_path: Path, prompts: SuiteSettings
) -> None:
    videos = tmp_path / "videos"
    found = evaluate.main(out=tmp_path / "a.json", videos=videos, **options(folder, prompts))
    assert found is not None and [row.prompt for row in found.rows] == [PROMPTS[0], *PROMPTS[2:]]
    (plain,) = found.plain_rows
    assert (plain.prompt, found.plain["n"], found.plain["of"]) == (PROMPTS[1], 1, 4) and plain.reason == NOTHING
    assert found.unguided["n"] == found.guided["n"] == 3
    name = "0002-a-quiet-lake-at-dawn-0.mp4"
    assert (videos / "unguided" / name).read_bytes() == (videos / "guided" / name).read_bytes()
    assert len(list((videos / "guided").iterdir())) == 4
    assert "1 of 4 prompts are not guided" in render(found) and "static share" in render(found)
    assert read_evaluation(tmp_path / "a.json").plain_rows == found.plain_rows


def test_outcomes_of_relations() -> None:
    assert outcome("left of", "right of", True, LABELS) == "opposite"
    assert outcome("left of", "above", True, LABELS) == "wrong"
    assert outcome("left of", "left of", True, LABELS) == "right"
    assert outcome("left of", None, True, LABELS) == "cannot tell"
    assert outcome("left of", "left of", False, LABELS) == "not found"
    assert directions([], ("a",), LABELS)["guided"]["groups"]["a"]["accuracy"] is None


def test_flicker_and_static_share() -> None:
    still = np.full((8, 16, 16, 3), 100, np.uint8)
    assert flicker(still) == 0 and static_share(still) == 1
    moving = still.copy()
    for t in range(8):
        moving[t, 4:8, t : t + 4] = 255
    assert flicker(moving) < 0.02 and static_share(moving) == 0
    flickering = still.copy()
    flickering[::2] += 20
    assert flicker(flickering) == pytest.approx(20 / 255) and static_share(flickering) == 0
    half = still.copy()
    half[4:] += 20
    assert static_share(half) == pytest.approx(6 / 7)


def rows(path: Path) -> Any:
    found = json.loads(path.read_text())
    return found["rows"], found["unguided"], found["guided"], found["satisfied"], found["plain_rows"]


def test_processes_share_a_run_and_say_the_same(
    folder: Path, tmp_path: Path, prompts: SuiteSettings, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One of two is stopped before the other has begun; one process alone goes on with the rest."""
    evaluate.main(out=tmp_path / "whole.json", **options(folder, prompts))
    for rank, crew in ((1, Processes(1, 2)), (0, Processes())):

        @contextmanager
        def these(crew: Processes = crew) -> Iterator[Processes]:
            yield crew

        monkeypatch.setattr(evaluate, "processes", these)
        monkeypatch.setattr(Processes, "meet", lambda self: None)
        found = evaluate.main(out=tmp_path / "a.json", **options(folder, prompts))
        assert (found is None) == (rank == 1) and (tmp_path / "a.json.rows.1.jsonl").exists() == (rank == 1)
    assert rows(tmp_path / "a.json") == rows(tmp_path / "whole.json")
    assert [path.name for path in tmp_path.glob("a.json*")] == ["a.json"]


def test_each_process_has_its_own_accelerator() -> None:
    assert [Processes(rank, 3, rank).device("cuda") for rank in range(3)] == ["cuda:0", "cuda:1", "cuda:2"]
    assert Processes().device("cuda") == "cuda" and Processes(1, 2, 1).device("cpu") == "cpu"
    assert Processes(1, 2, 1).share([0, 1, 2, 3, 4]) == [1, 3]


def torchrun(folder: Path, prompts: SuiteSettings, out: Path) -> subprocess.CompletedProcess[str]:
    _, classifier = tiny.make_both(folder)
    command = [sys.executable, "-m", "torch.distributed.run", "--nproc_per_node", "2", "--standalone"]
    command += ["-m", "cvg.evaluate", "--suite", "prompts", "--prompts_file", str(prompts.prompts_file)]
    command += [
        "--judge",
        "shapes",
        "--labels",
        written(folder),
        "--classifier",
        str(classifier),
        "--steps",
        str(tiny.STEPS),
    ]
    command += ["--batch_size", "1", "--controls", "false", "--out", str(out)]
    return subprocess.run(
        command, capture_output=True, text=True, check=False, env={**os.environ, "OMP_NUM_THREADS": "1"}
    )


@pytest.mark.slow
def test_torchrun_gives_the_same_rows_and_ends_as_one(folder: Path, tmp_path: Path, prompts: SuiteSettings) -> None:
    evaluate.main(out=tmp_path / "whole.json", **options(folder, prompts))
    done = torchrun(folder, prompts, tmp_path / "a.json")
    assert done.returncode == 0, done.stderr
    assert rows(tmp_path / "a.json") == rows(tmp_path / "whole.json")
    journal = tmp_path / "b.json.rows.1.jsonl"
    journal.mkdir()  # where the second process cannot write: it ends, and with it the other
    done = torchrun(folder, prompts, tmp_path / "b.json")
    assert done.returncode != 0 and "error: " in done.stderr and not (tmp_path / "b.json").exists()
    journal.rmdir()
    done = torchrun(folder, prompts, tmp_path / "b.json")
    assert done.returncode == 0 and rows(tmp_path / "b.json") == rows(tmp_path / "whole.json")


def compbench(folder: Path) -> SuiteSettings:
    (folder / "prompts").mkdir(parents=True)
    (folder / "prompts" / "3_spatial_relationship.txt").write_text("a red circle above a blue square\na quiet lake")
    (folder / "prompts" / "4_motion_binding.txt").write_text("a red circle moving left")
    return SuiteSettings(suite_dir=folder, judge="shapes")


def test_t2v_compbench_is_laid_out_by_line(tmp_path: Path) -> None:
    suite = load_suite("t2v-compbench", LABELS, settings=compbench(tmp_path))
    assert suite.groups == ("spatial_3", "motion_4")
    cases = suite.cases(None, 0)
    names = ["spatial_3/0001.mp4", "motion_4/0001.mp4", "spatial_3/0002.mp4"]
    assert [suite.video_name(case) for case in cases] == names
    assert [case.composition is None for case in cases] == [False, False, True]
    # The seed of a prompt is its own, whatever else is there.
    assert suite.cases(2, 0) == cases[:2]
    with pytest.raises(UserError, match="none of 1_consistent_attr.txt"):
        load_suite("t2v-compbench", LABELS, settings=SuiteSettings(suite_dir=tmp_path / "prompts", judge="shapes"))
    with pytest.raises(UserError, match="suite t2v-compbench has no use for it"):
        load_suite("t2v-compbench", LABELS, settings=SuiteSettings(suite_dir=tmp_path, samples=5))


def vbench(folder: Path, name: str, told: list[dict[str, Any]], samples: int = 1) -> SuiteSettings:
    (folder / name).write_text(json.dumps(told))
    return SuiteSettings(suite_dir=folder, judge="shapes", samples=samples)


def test_vbench_is_laid_out_by_prompt(tmp_path: Path) -> None:
    above, still = "a red circle above a blue square", "a cat"
    told = [
        {"prompt_en": still, "dimension": ["subject_consistency"]},
        {"prompt_en": above, "dimension": ["spatial_relationship"], "auxiliary_info": {}},
    ]
    suite = load_suite("vbench", LABELS, settings=vbench(tmp_path, "VBench_full_info.json", told, 2))
    first, second = suite.cases(None, 0)
    assert suite.video_name(first) == f"spatial_relationship/{above}-0.mp4" and first.seeds != second.seeds
    assert suite.video_name(second) == f"spatial_relationship/{above}-1.mp4"
    long = [{"prompt_en": f"{above}, {'x' * 300}", "dimension": ["color"]}]
    suite = load_suite("vbench", LABELS, settings=vbench(tmp_path, "VBench_full_info.json", long))
    with pytest.raises(UserError, match="no file can have that name .longer than 255 bytes"):
        check_names(suite, suite.cases(None, 0))
    slash = [{"prompt_en": f"{above} and/or more", "dimension": ["color"]}]
    suite = load_suite("vbench", LABELS, settings=vbench(tmp_path, "VBench_full_info.json", slash))
    with pytest.raises(UserError, match="has a slash in it"):
        check_names(suite, suite.cases(None, 0))


def test_vbench_2_cuts_names(tmp_path: Path) -> None:
    prompt = "a red circle above a blue square, " + "x" * 300
    told = [{"prompt_en": prompt, "dimension": ["Dynamic_Attribute"]}]
    settings = vbench(tmp_path, "VBench2_full_info.json", told)
    suite = load_suite("vbench", LABELS, settings=settings)
    (case,) = suite.cases(None, 0)
    assert suite.video_name(case) == f"Dynamic_Attribute/{prompt[:180]}-0.mp4"
    alike = [*told, {"prompt_en": prompt + " y", "dimension": ["Dynamic_Attribute"]}]
    vbench(tmp_path, "VBench2_full_info.json", alike)
    suite = load_suite("vbench", LABELS, settings=settings)
    with pytest.raises(UserError, match="two videos would be named"):
        check_names(suite, suite.cases(None, 0))
    for broken, message in (({}, "a dict, not a list"), ([{}], "entry 0 has no prompt_en"), ([], "has no prompt of")):
        (tmp_path / "VBench2_full_info.json").write_text(json.dumps(broken))
        with pytest.raises(UserError, match=message):
            load_suite("vbench", LABELS, settings=settings)
