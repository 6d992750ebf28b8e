"""Each family's configuration of inversion, and that of training on videos, through all commands on tiny models."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml

from cvg import sample, train
from cvg.common.cli import run
from cvg.common.files import read_json
from cvg.export import export
from cvg.generators import wrap_pipeline
from cvg.generators.registry import ADAPTERS
from cvg.judging import Reading
from cvg.media.video import read_video, write_video
from cvg.shapes.world import LABELS
from cvg.shards.records import Record, encode
from cvg.shards.shards import ShardInfo
from data_prep import invert, manifest, render, synthesize
from tests.generators.families import (
    test_allegro,
    test_cogvideox,
    test_cosmos,
    test_easyanimate,
    test_hunyuan,
    test_hunyuan15,
    test_kandinsky5,
    test_latte,
    test_ltx,
    test_mochi,
    test_sana_video,
    test_skyreels,
    test_unet,
    test_wan,
)
from tests.helpers.conformance import PROMPTS

ROOT = Path(__file__).parents[3]
FAMILIES: dict[str, Any] = {
    "wan": test_wan.TestWan,
    "cogvideox": test_cogvideox.TestCogVideoX2B,
    "modelscope": test_unet.TestModelScope,
    "allegro": test_allegro.TestAllegro,
    "animatediff": test_unet.TestAnimateDiff,
    "cosmos": test_cosmos.TestCosmos,
    "easyanimate": test_easyanimate.TestEasyAnimate,
    "hunyuan": test_hunyuan.TestHunyuanVideo,
    "hunyuan15": test_hunyuan15.TestHunyuanVideo15,
    "kandinsky5": test_kandinsky5.TestKandinsky5,
    "latte": test_latte.TestLatte,
    "ltx": test_ltx.TestLTX,
    "mochi": test_mochi.TestMochi,
    "sana_video": test_sana_video.TestSanaVideo,
    "skyreels": test_skyreels.TestSkyReels,
}
RECIPES: dict[str, Any] = {"wan22_lightning": test_wan.TestWanA14B, "ltx_distilled": test_ltx.TestLTX}
"""Of few steps; `test_few_steps.py` takes them through all commands."""
SLOW = list(FAMILIES)[3:]
# What is a tiny model's own, instead of the released one's.
TINY: dict[str, Any] = {"layers": [0, 1], "heads": [0, 1], "grid": [1, 2, 2], "min_psnr": -100, "dtype": "float32"}


def inversion(family: str) -> dict[str, Any]:
    found: dict[str, Any] = yaml.safe_load((ROOT / f"data_prep/configs/{family}.yaml").read_text())
    return found


def test_every_pipeline_class_has_its_configuration() -> None:
    assert len(FAMILIES) == len([name for name in ADAPTERS if "ImageToVideo" not in name])
    assert {path.stem for path in (ROOT / "data_prep/configs").glob("*.yaml")} == {*FAMILIES, *RECIPES}
    assert {path.stem for path in (ROOT / "cvg/configs").glob("*.yaml")} == {*RECIPES, "shapes_wan_4_steps"}


@pytest.mark.parametrize("family", [*FAMILIES, *RECIPES])
def test_a_record_takes_two_megabytes_at_most(family: str) -> None:
    config = inversion(family)
    shape = (len(config["at"]), len(config["layers"]), len(config["heads"]), 2, *config["grid"])
    maps = torch.rand(shape).half()
    meta = {"group": "spatial", "prompt_positive": "", "prompt_negative": "", "negative_label": "left of"}
    record = Record("x", maps, maps.clone(), (True, True), "right of", meta)
    assert sum(len(data) for data in encode(record).values()) <= 1.95e6  # and a real one's longer meta


@pytest.fixture(scope="module")
def clips(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One to train on and one to validate with."""
    folder = tmp_path_factory.mktemp("clips")
    render.main(folder, clips=2, kinds=["spatial"])
    rows = manifest.load(folder, LABELS)
    for row in rows:  # each frame twice: Allegro's VAE takes no fewer than 24
        write_video(row.video, np.repeat(read_video(row.video, 13, 64, 64), 2, axis=0), fps=8)
    rows = [replace(row, split=split) for row, split in zip(rows, ("train", "val"), strict=True)]
    manifest.write(folder / manifest.NAME, rows)
    return folder


@pytest.mark.parametrize(
    "family", [pytest.param(name, marks=[pytest.mark.slow] if name in SLOW else []) for name in FAMILIES]
)
def test_a_family_goes_through_all_commands(
    family: str, clips: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config, size = inversion(family), FAMILIES[family].size
    pipeline, folder, shards = FAMILIES[family]().build(), tmp_path / "generator", tmp_path / "shards"
    # Cosmos cannot be loaded without NVIDIA's guardrail; Kandinsky's template has the true tokenizer's length.
    if family in ("cosmos", "kandinsky5"):
        generator = wrap_pipeline(pipeline, str(folder))
        for module in (invert, sample):
            monkeypatch.setattr(module, "load_generator", lambda *_, **__: generator)
    else:
        pipeline.save_pretrained(folder)

    options = [f"--{name}={value}" for name, value in (TINY | {"generator": folder, "size": list(size)}).items()]
    places = [f"--data={clips}", f"--out={shards}"]
    run(invert.main, "invert", args=[f"--config={ROOT / f'data_prep/configs/{family}.yaml'}", *options, *places])
    info = ShardInfo.load(shards)
    assert (info.count("train"), info.count("val"), info.rejected) == (1, 1, {})
    assert info.steps == config["steps"] and len(info.sigmas) == len(config["at"])
    assert info.grid == TINY["grid"] and info.token_grid != info.grid

    training = [f"--config={ROOT / 'lightning_configs/video.yaml'}", f"--data.shards=[{shards}]"]
    training += ["--data.batch_size=1", "--model.backbone_path=shapes-clip", "--trainer.accelerator=cpu"]
    training += ["--trainer.enable_progress_bar=false", "--trainer.enable_model_summary=false"]
    training += [f"--trainer.logger.init_args.save_dir={tmp_path}"]
    assert train.main(["fit", *training, "--trainer.max_steps=2"]).trainer.global_step == 2
    (checkpoint,) = (tmp_path / "train").rglob("last.ckpt")
    train.main(["validate", *training, f"--ckpt_path={checkpoint}"])
    assert list((tmp_path / "train").rglob("metrics.json"))
    export(str(checkpoint), tmp_path / "classifier")

    (video,) = sample.main(
        PROMPTS[0],
        out=tmp_path / "sample",
        classifier=str(tmp_path / "classifier"),
        generator=str(folder),
        steps=config["steps"],
    )
    sidecar = read_json(video.with_suffix(".json"))
    (relation,) = sidecar["relations"]
    assert video.stat().st_size and [step["step"] for step in relation["steps"]] == config["at"]
    assert sidecar["generator"]["class"] == type(pipeline).__name__


@pytest.mark.parametrize(
    "family", [pytest.param(name, marks=[pytest.mark.slow] if name != "cogvideox" else []) for name in FAMILIES]
)
def test_a_family_makes_videos_of_its_own_to_train_on(
    family: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With the latents that they were sampled through, which are recorded in place of inverted ones."""
    config, size = inversion(family), FAMILIES[family].size
    generator = wrap_pipeline(FAMILIES[family]().build(), str(tmp_path / "generator"))
    for module in (invert, synthesize):
        monkeypatch.setattr(module, "load_generator", lambda *_, **__: generator)
    # A random model shows nothing: what is asked is believed.
    believing = lambda videos, asked: [Reading(tuple(r.label for r in each.relations)) for each in asked]  # noqa: E731
    monkeypatch.setattr("cvg.shapes.suite.load_judge", lambda *_: believing)
    made = tmp_path / "made"
    synthesize.main(made, clips=2, steps=config["steps"], size=size, batch_size=2)
    rows = manifest.load(made, LABELS)
    assert len(rows) == 2 and all(row.trajectory is not None and row.video.is_file() for row in rows)
    options = {name: value for name, value in TINY.items() if name not in ("min_psnr", "dtype")}
    levels = generator.schedule(config["steps"], size).levels
    at = [step for step in config["at"] if levels[step] >= synthesize.LEAST_SIGMA]  # LTX's are lower at small sizes
    assert len(at) >= 2
    options |= {"steps": config["steps"], "at": at, "size": size, "method": "trajectory"}
    invert.main(made, str(tmp_path / "shards"), **options)
    info = ShardInfo.load(tmp_path / "shards")
    assert info.source == "trajectory" and info.rejected == {} and len(info.sigmas) == len(at)
    assert sum(info.count(split) for split in info.counts) == sum(len(row.relations) for row in rows)
