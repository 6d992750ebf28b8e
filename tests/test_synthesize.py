"""Videos that the generator makes itself: labelled by what they show, with the latents they were sampled through."""

from __future__ import annotations

import hashlib
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from tiny import make_pipeline

from cvg.common.errors import UserError
from cvg.generators import load_generator
from cvg.shapes.renderer import render
from cvg.shapes.world import KINDS, LABELS, Spec, sample_scene, sample_spec
from cvg.shards.shards import ShardInfo
from data_prep import invert, manifest, synthesize

STEPS = 4


@pytest.fixture(scope="module")
def generator(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_pipeline(tmp_path_factory.mktemp("generator"))


def shown(spec: Spec, frames: np.ndarray) -> tuple[tuple[str, ...] | None, str]:
    """A random generator shows nothing: say that every clip of one relation shows the first label of its group."""
    if len(spec.relations) > 1:
        return None, "cannot tell"
    return tuple(LABELS.groups[LABELS[r.label].group][0].name for r in spec.relations), ""


@pytest.fixture(scope="module")
def made(generator: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("made")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(synthesize, "label", shown)
        synthesize.main(out, clips=4, generator=str(generator), steps=STEPS, batch_size=3)
    return out


def test_the_label_is_what_a_clip_shows_not_what_was_asked() -> None:
    rng = np.random.default_rng(0)
    for kind in KINDS:
        asked, real = sample_spec(rng, kind), sample_spec(rng, kind)
        asked = Spec(kind, real.template, real.entities, real.relations, asked.wordings)
        labels, _ = synthesize.label(asked, render(sample_scene(real, rng)))
        assert labels == tuple(relation.label for relation in real.relations)
        other = sample_spec(rng, kind)
        if set(other.entities) != set(real.entities):
            assert synthesize.label(other, render(sample_scene(real, rng))) == (None, "entities")


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


def test_a_stopped_run_goes_on_to_the_same_bytes(
    made: Path, generator: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def digests(folder: Path) -> dict[str, str]:
        files = [path for path in folder.rglob("*") if path.is_file()]
        return {str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}

    monkeypatch.setattr(synthesize, "label", shown)
    options = {"clips": 4, "generator": str(generator), "steps": STEPS, "batch_size": 3}
    synthesize.main(tmp_path, **options)
    (tmp_path / "outcomes" / "000003.json").unlink()
    (tmp_path / "manifest.jsonl").unlink()
    synthesize.main(tmp_path, **options)
    assert digests(tmp_path) == digests(made)


def test_trajectories_become_shards(made: Path, generator: Path, tmp_path: Path) -> None:
    options = {"generator": str(generator), "method": "trajectory", "steps": STEPS, "layers": [0]}
    invert.main(made, tmp_path / "out", at=[0, 1], **options)
    info = ShardInfo.load(tmp_path / "out")
    assert info.source == "trajectory" and sum(info.count(split) for split in info.counts) == 3
    with pytest.raises(UserError, match=r"no latents near noise level"):
        invert.main(made, tmp_path / "late", at=[3], **options)
