"""The way from free English to a judged composition, on tiny random models."""

from __future__ import annotations

import importlib
import json
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest

from cvg.classifier import CompositionClassifier
from cvg.common.cli import run
from cvg.composition import LabelSet
from cvg.evaluation.rows import read_evaluation
from cvg.evaluation.suites import SuiteSettings, load_suite
from cvg.generators import load_generator
from cvg.generators.vocabulary import vocabulary_warnings
from data_prep import pretrain, steps, world


def test_its_models_fit_its_prompts(tmp_path: Path) -> None:
    world.make_models(tmp_path)
    settings = SuiteSettings(suite_dir=tmp_path / "compbench", judge=f"detector+vlm:{tmp_path / 'vlm'}")
    suite = load_suite("t2v-compbench", settings=settings)
    cases = suite.cases(None, 0)
    asked = [case.composition for case in cases if case.composition is not None]
    assert {"spatial_3", "motion_4"} <= {case.group for case in cases if case.composition is not None}
    assert [case.prompt for case in cases if case.group == "interaction_6" and case.composition is None]
    generator = load_generator(str(tmp_path / "generator"))
    assert vocabulary_warnings(generator, asked) == []
    classifier = CompositionClassifier.from_pretrained(tmp_path / "classifier")
    assert classifier.labels == LabelSet.load("world") and classifier.config.generator == generator.identity()
    before = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*")}
    world.make_models(tmp_path)
    assert {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*")} == before


def test_the_whole_way(tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    """By the commands that ``make world`` runs, here in one process: most of their time is that of imports."""

    def run_here(command: list[str], check: bool) -> SimpleNamespace:
        assert command[:2] == [sys.executable, "-m"] and not check
        run(importlib.import_module(command[2]).main, prog=f"python -m {command[2]}", args=command[3:])
        return SimpleNamespace(returncode=0)

    monkeypatch.setattr(steps, "subprocess", SimpleNamespace(run=run_here))
    monkeypatch.setattr(pretrain.tiny, "GRID", (2, 4, 4))  # videos of 5 x 32 x 32, which take a fraction of the time
    world.main(tmp_path)
    found = read_evaluation(tmp_path / "evaluation.json")
    prompts = sum(len(lines) for lines in world.PROMPTS.values())
    assert len(found.rows) + len(found.plain_rows) == prompts and len(found.rows) >= 2
    for side in ("unguided", "guided"):
        for name, lines in (("spatial_3", 2), ("motion_4", 2), ("interaction_6", 1)):
            names = sorted(path.name for path in (tmp_path / "videos" / side / name).iterdir())
            assert names == [f"{number:04d}.mp4" for number in range(1, lines + 1)]
    assert (tmp_path / "report.html").read_text().count("data:image/png") > 1
    assert set(json.loads((tmp_path / "steps.json").read_text())) == {"evaluate", "report"}
    world.main(tmp_path)
    assert capsys.readouterr().out.count("done before") == 2


@pytest.mark.slow
def test_the_whole_way_by_processes_of_its_own(tmp_path: Path) -> None:
    world.main(tmp_path)
    assert read_evaluation(tmp_path / "evaluation.json").rows and (tmp_path / "report.html").exists()
