"""Videos that the generator makes itself: labelled by what they show, with the latents they were sampled through."""

from __future__ import annotations

import hashlib
import random
import shutil
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from cvg.common.errors import UserError
from cvg.common.sizes import Size
from cvg.composition import Composition, LabelSet, template_of
from cvg.evaluation.suites import Case, Suite
from cvg.generators import load_generator
from cvg.judging import Frames, Reading
from cvg.shapes.oracle import ShapesOracle
from cvg.shapes.renderer import render
from cvg.shapes.suite import ShapesSuite
from cvg.shapes.world import KINDS, LABELS, sample_scene, sample_spec
from cvg.shards.shards import ShardInfo
from data_prep import invert, manifest, synthesize
from tests.helpers.tiny import make_pipeline

STEPS = 4


@pytest.fixture(scope="module")
def generator(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_pipeline(tmp_path_factory.mktemp("generator"))


def first_of_group(videos: Sequence[Frames], asked: Sequence[Composition]) -> list[Reading]:
    """A random generator shows nothing: read every clip of one relation as the first label of its group."""
    assert len(videos) == len(asked) and all(video.shape == (13, 64, 64, 3) for video in videos)
    return [
        Reading((None,) * len(one.relations))
        if len(one.relations) > 1
        else Reading(tuple(LABELS.groups[LABELS[relation.label].group][0].name for relation in one.relations))
        for one in asked
    ]


def load_suite(*_: Any) -> Suite:
    suite = ShapesSuite()
    suite.judge = first_of_group
    return suite


@pytest.fixture(scope="module")
def made(generator: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("made")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(synthesize, "load_suite", load_suite)
        synthesize.main(out, clips=4, generator=str(generator), steps=STEPS, batch_size=3)
    return out


def test_the_label_is_what_a_clip_shows_not_what_was_asked() -> None:
    rng, judge = np.random.default_rng(0), ShapesOracle()
    for kind in KINDS:
        real, other = sample_spec(rng, kind), sample_spec(rng, kind)
        frames = render(sample_scene(real, rng))
        wrong = [replace(one, label=LABELS.wrong(one.label, random.Random(0)).name) for one in real.relations]
        (reading,) = judge([frames], [replace(real, relations=tuple(wrong)).composition])
        assert synthesize.shown(reading) == (tuple(relation.label for relation in real.relations), "")
        if set(other.entities) != set(real.entities):
            (reading,) = judge([frames], [other.composition])
            assert synthesize.shown(reading) == (None, "entities")


def test_training_prompts_are_drawn_as_ever() -> None:
    """They are part of what a folder of synthetic videos is: what was drawn for a number stays drawn for it."""
    suite = ShapesSuite()
    cases = suite.training_cases(8, seed=3)
    assert suite.training_cases(5, seed=3) == cases[:5] and [case.group for case in cases] == [*KINDS, *KINDS]
    for index, case in enumerate(cases):
        spec = sample_spec(np.random.default_rng([3, index, 6]), KINDS[index % 4])
        assert case == Case(case.prompt, spec.composition, spec.kind, (3_000_000 + index,))
        assert template_of(case.asked) == spec.template


def test_rows_carry_the_shown_labels_and_what_cannot_be_labelled_is_left_out(made: Path) -> None:
    rows = manifest.load(made, LABELS)
    assert len(rows) == 3 and all(row.source == "generator" for row in rows)
    assert all(label == LABELS.groups[LABELS[label].group][0].name for row in rows for label, _ in row.relations)
    assert all(row.video.exists() and row.trajectory is not None and row.trajectory.exists() for row in rows)


def test_the_kept_latents_are_those_of_the_sampler(made: Path, generator: Path) -> None:
    model = load_generator(str(generator))
    row = manifest.load(made, LABELS)[1]
    assert row.trajectory is not None
    saved = load_file(row.trajectory)
    sigmas = model.schedule(STEPS, (13, 64, 64)).levels.float()
    assert torch.equal(saved["sigmas"], sigmas[: len(saved["sigmas"])].float())
    assert saved["sigmas"].min() >= synthesize.LEAST_SIGMA > sigmas[len(saved["sigmas"])]
    noise = model.initial_latents([torch.Generator().manual_seed(int(row.id))], (13, 64, 64))
    assert torch.equal(saved["latents"][0], noise[0].half())


def test_videos_are_sampled_at_the_guidance_scale_that_is_asked_for(generator: Path, tmp_path: Path) -> None:
    model = load_generator(str(generator))
    plain, usual, five = (
        synthesize.sample_with_trajectory(model, ["a red circle moving up"], [0], 2, Size(13, 64, 64), scale)[0]
        for scale in (1.0, None, 5.0)
    )
    assert not torch.equal(plain, usual) and torch.equal(usual, five)  # 5 is Wan's own
    with pytest.raises(UserError, match="guidance_scale -1.0: give a number of at least 0"):
        synthesize.main(tmp_path, generator="none", guidance_scale=-1.0)
    assert not list(tmp_path.iterdir())


def test_a_stopped_run_goes_on_to_the_same_bytes(
    made: Path, generator: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def digests(folder: Path) -> dict[str, str]:
        files = [path for path in folder.rglob("*") if path.is_file()]
        return {str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}

    monkeypatch.setattr(synthesize, "load_suite", load_suite)
    options = {"clips": 4, "generator": str(generator), "steps": STEPS, "batch_size": 3}
    synthesize.main(tmp_path, **options)
    (tmp_path / "outcomes" / "000003.json").unlink()
    (tmp_path / "manifest.jsonl").unlink()
    synthesize.main(tmp_path, **options)
    assert digests(tmp_path) == digests(made)


def test_trajectories_become_shards(
    made: Path, generator: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    options = {"generator": str(generator), "method": "trajectory", "steps": STEPS, "layers": [0]}
    invert.main(made, str(tmp_path / "out"), at=[0, 1], **options)
    info = ShardInfo.load(tmp_path / "out")
    assert info.source == "trajectory" and sum(info.count(split) for split in info.counts) == 3
    with pytest.raises(SystemExit):
        invert.main(made, str(tmp_path / "late"), at=[3], **options)
    assert "no latents near noise level" in (tmp_path / "late" / "rejects.jsonl").read_text()
    assert "every video was left out" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("steps", STEPS + 1),
        ("seed", 1),
        ("fps", 9),
        ("batch_size", 2),
        ("size", Size(9, 64, 64)),
        ("judge", "shapes"),
        ("guidance_scale", 1.0),
    ],
)
def test_it_goes_on_under_the_same_settings_only(name: str, value: Any, made: Path, generator: Path) -> None:
    before = {path: path.stat().st_mtime_ns for path in made.rglob("*")}
    options: dict[str, Any] = {"clips": 4, "generator": str(generator), "steps": STEPS, "batch_size": 3}
    with pytest.raises(UserError, match=rf"holds videos made with {name} .*choose another folder"):
        synthesize.main(made, **options | {name: value})
    now = {path: path.stat().st_mtime_ns for path in made.rglob("*")}
    assert {path: time for path, time in now.items() if path != made} == {
        path: time for path, time in before.items() if path != made
    }


def test_another_judge_may_label_the_videos(generator: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def load_judge(name: str, labels: LabelSet, device: str, cache: None) -> Any:
        assert (name, device) == ("seer:its-model", "cpu") and "left of" in labels
        return lambda videos, asked: [Reading(("below",) * len(each.relations)) for each in asked]

    monkeypatch.setattr("cvg.shapes.suite.load_judge", load_judge)
    synthesize.main(tmp_path, clips=2, generator=str(generator), steps=STEPS, batch_size=2, judge="seer:its-model")
    assert {label for row in manifest.load(tmp_path, LABELS) for label, _ in row.relations} == {"below"}


def test_prompts_of_a_file_are_asked_in_turn(generator: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of any label set, by any judge; those that ask for nothing are left out."""

    def load_judge(name: str, labels: LabelSet, device: str, cache: None) -> Any:
        assert name == "seer:its-model" and "in front of" in labels
        return lambda videos, asked: [Reading(tuple(r.label for r in each.relations)) for each in asked]

    monkeypatch.setattr("cvg.evaluation.suites.free.load_judge", load_judge)
    path = tmp_path / "prompts.txt"
    path.write_text("a dog to the left of a cat\na quiet street\na cup in front of a book\n")
    options: dict[str, Any] = {"generator": str(generator), "steps": 2, "suite": "prompts", "prompts_file": path}
    out = tmp_path / "out"
    synthesize.main(out, clips=3, labels="world", judge="seer:its-model", **options)
    rows = manifest.load(out, LabelSet.load("world"))
    assert [(row.entities, row.relations[0][0]) for row in rows] == [
        (("dog", "cat"), "left of"),
        (("cup", "book"), "in front of"),
        (("dog", "cat"), "left of"),
    ]
    assert len({path.read_bytes() for path in (out / "videos").iterdir()}) == 3  # other noise
    path.write_text("a quiet street\n")
    with pytest.raises(UserError, match="no prompt asks for a label"):
        synthesize.main(tmp_path / "none", clips=1, judge="seer:its-model", **options)
    with pytest.raises(UserError, match="suite prompts: no judge"):
        synthesize.main(tmp_path / "none", clips=1, **options)
    with pytest.raises(UserError, match="suite shapes has no use for it"):
        synthesize.main(tmp_path / "none", clips=1, **options | {"suite": "shapes"})
    assert not (tmp_path / "none").exists()


def test_settings_that_are_gone_are_not_guessed(made: Path, generator: Path, tmp_path: Path) -> None:
    out = Path(shutil.copytree(made, tmp_path / "made"))
    for damage in (None, b"{", b"[]"):
        (out / "run.json").unlink() if damage is None else (out / "run.json").write_bytes(damage)
        with pytest.raises(UserError, match=r"holds videos (of settings that are not known|made with generator None)"):
            synthesize.main(out, clips=4, generator=str(generator), steps=STEPS, batch_size=3)
