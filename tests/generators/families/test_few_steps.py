"""Few-step recipes, from inversion to guided videos: their configurations as they ship, on tiny models."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
import yaml

import cvg
from cvg import sample, train
from cvg.classifier import CompositionClassifier
from cvg.common.cli import run
from cvg.common.errors import SettingsError
from cvg.common.files import read_json
from cvg.diffusion.trajectory import replay, same_way
from cvg.export import export
from cvg.generators import Loading, load_generator, wrap_pipeline
from cvg.generators.stated_steps import StatedSteps
from cvg.guidance.config import GuidanceConfig
from cvg.guidance.rules import Rules
from cvg.guidance.sampler import GuidedSampler
from cvg.shards.shards import ShardInfo
from data_prep import invert
from tests.generators.families.test_configs import RECIPES, ROOT, TINY, clips  # noqa: F401  (a fixture)
from tests.generators.families.test_ltx import TestLTX as LTX
from tests.generators.families.test_mochi import TestMochi as Mochi
from tests.generators.families.test_wan import TestWanA14B as WanA14B
from tests.helpers.changed import make_lora
from tests.helpers.conformance import PROMPTS
from tests.helpers.labels import LABELS
from tests.helpers.tiny import Narrow, tiny_classifier, tiny_pipeline

LEVELS = {
    "wan22_lightning": [1.0, 0.9375, 0.8333, 0.625],
    "ltx_distilled": [1.0, 0.9937, 0.9875, 0.9812, 0.975, 0.9094, 0.725, 0.4219],
}


def make(recipe: str, folder: Path) -> dict[str, Any]:
    """A tiny generator of a recipe's class, with the LoRAs that it names: options in place of the released ones."""
    case = RECIPES[recipe]()
    case.build().save_pretrained(folder / "generator")
    if recipe != "wan22_lightning":
        return {"generator": folder / "generator"}
    loras = {"lora": make_lora(case.build(), folder, 5, "high"), "lora_low_noise": make_lora(case.build(), folder, 6)}
    return {"generator": folder / "generator", **loras}


def given(options: dict[str, Any]) -> list[str]:
    return [f"--{name}={value}" for name, value in options.items()]


@pytest.mark.parametrize(
    "recipe", [pytest.param(name, marks=[pytest.mark.slow] if name != "wan22_lightning" else []) for name in RECIPES]
)
def test_a_recipe_goes_through_all_commands(
    recipe: str,
    clips: Path,  # noqa: F811
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """Inversion records at the sampler's steps, training hands on which they are, and sampling guides two of them."""
    config = yaml.safe_load((ROOT / f"data_prep/configs/{recipe}.yaml").read_text())
    own, size, shards = make(recipe, tmp_path), RECIPES[recipe].size, tmp_path / "shards"
    args = [f"--config={ROOT / f'data_prep/configs/{recipe}.yaml'}", *given(TINY | own | {"size": list(size)})]
    run(invert.main, "invert", args=[*args, f"--data={clips}", f"--out={shards}"])
    info = ShardInfo.load(shards)
    assert (info.count("train"), info.count("val"), info.rejected) == (1, 1, {})
    assert info.levels == pytest.approx(LEVELS[recipe], abs=2e-3) and info.guidance_scale == 1
    assert info.sigmas == [info.levels[step] for step in config["at"]]

    training = given({"data.shards": [str(shards)], "data.batch_size": 1, "model.backbone_path": "shapes-clip"})
    training += given({"trainer.accelerator": "cpu", "trainer.enable_progress_bar": "false", "trainer.max_steps": 2})
    training += given({"trainer.enable_model_summary": "false", "trainer.logger.init_args.save_dir": tmp_path})
    train.main(["fit", f"--config={ROOT / 'lightning_configs/video.yaml'}", *training])
    (checkpoint,) = (tmp_path / "train").rglob("last.ckpt")
    export(str(checkpoint), tmp_path / "classifier")
    trained = CompositionClassifier.from_pretrained(tmp_path / "classifier").config
    assert trained.levels == info.levels and trained.sampling.guidance_scale == 1

    capsys.readouterr()
    options = own | {"prompt": PROMPTS[0], "classifier": tmp_path / "classifier", "dtype": "float32"}
    options |= {"size": list(size), "out": tmp_path / "sample", "compare": "false"}
    args = [f"--config={ROOT / f'cvg/configs/{recipe}.yaml'}", *given(options)]
    (video,) = run(sample.main, "sample", args=[*args, "--strict=true"])  # nothing is otherwise than in training
    assert "trained" not in capsys.readouterr().err
    sidecar = read_json(video.with_suffix(".json"))
    assert (sidecar["steps"], sidecar["guidance_scale"]) == (len(LEVELS[recipe]), 1)
    guided = [step["step"] for step in sidecar["relations"][0]["steps"]]
    assert guided == config["at"][: sidecar["guiding"]["guided_steps"]] and len(guided) == 2

    args += ["--timesteps=null", "--steps=16", "--guidance_scale=3", "--guided_steps=1", f"--out={tmp_path / 'other'}"]
    with pytest.raises(SystemExit) as ended:
        run(sample.main, "sample", args=[*args, "--strict=true"], remedies=sample.REMEDIES)
    error = capsys.readouterr().err
    assert f"trained on {len(LEVELS[recipe])} denoising steps (noise levels 1, 0.9" in error
    assert "not on 16 denoising steps" in error and "guidance_scale 3: the classifier's own is 1" in error
    assert ended.value.code == 2 and "without --strict it is a warning" in error


def test_sampling_and_inversion_of_a_recipe_agree() -> None:
    """Whatever decides where maps are read and what a video costs stands in both files alike."""
    for recipe in RECIPES:
        ours, theirs = (
            yaml.safe_load((ROOT / f"{folder}/{recipe}.yaml").read_text())
            for folder in ("data_prep/configs", "cvg/configs")
        )
        for name in ("generator", "loading", "steps", "guidance_scale"):
            assert ours[name] == theirs[name]
        assert theirs["guiding"]["guided_steps"] <= len(ours["at"])


# Timesteps


@pytest.mark.parametrize("case", [LTX(), WanA14B()], ids=["ltx", "wan"])
def test_stated_timesteps_are_the_pipelines_and_ours(case: Any, tmp_path: Path) -> None:
    """Prediction, timesteps and levels together: no shift moves them, of the size (LTX) or of the scheduler."""
    case.build().save_pretrained(tmp_path)
    stated = [1000.0, 975.0, 725.0]
    generator = load_generator(str(tmp_path), Loading(timesteps=stated))
    schedule, states = generator.schedule(3, case.size), generator.encode_prompts(PROMPTS)
    assert schedule.timesteps.tolist() == stated
    assert schedule.levels.tolist() == pytest.approx([1.0, 0.975, 0.725, 0.0])
    noise = generator.initial_latents([torch.Generator().manual_seed(seed) for seed in range(len(PROMPTS))], case.size)
    ours, _ = replay(noise, schedule, lambda z, i: generator.predict(z, schedule.timesteps[i], states))
    theirs = generator.sample(PROMPTS, noise, 3, 1.0, case.size)
    torch.testing.assert_close(ours, theirs, atol=1e-5, rtol=1e-5)
    assert generator.identity()["scheduler"] == "Euler at timesteps 1000, 975, 725"
    rules = Rules.of(generator, LABELS, case.size)
    sampler = GuidedSampler(generator, rules, GuidanceConfig(guided_steps=2))
    assert list(sampler.guided_steps(3, case.size)) == [0, 1]
    for steps in (2, 50):
        with pytest.raises(SettingsError, match=f"steps {steps}: the generator is loaded with 3 timesteps, which are"):
            sampler.guided_steps(steps, case.size)
    late = Rules.of(generator, LABELS, case.size, sigmas=[0.5])
    with pytest.raises(SettingsError, match="steps 3: no separate denoising steps near .*; guide fewer steps, or use"):
        GuidedSampler(generator, late).guided_steps(3, case.size)
    again = StatedSteps.from_config(generator.pipeline.scheduler.config)
    again.set_timesteps(3)
    assert again.timesteps.tolist() == stated


def test_timesteps_that_cannot_be_are_one_message_each(tmp_path: Path) -> None:
    for wrong in ([], [1000, 1000], [500, 1000], [1000, 0], [float("nan")], [-5]):
        with pytest.raises(SettingsError, match=r"timesteps \[.*\]: give falling numbers"):
            load_generator("shapes-wan", Loading(timesteps=wrong))
    with pytest.raises(SettingsError, match=r"timesteps \[1001\]: give falling numbers from 1000 to above 0"):
        load_generator("shapes-wan", Loading(timesteps=[1001]))
    for more in ({"flow_shift": 5.0}, {"scheduler": "FlowMatchEulerDiscreteScheduler"}):
        with pytest.raises(SettingsError, match="timesteps: .* leave scheduler and flow_shift out"):
            load_generator("shapes-wan", Loading(timesteps=[1000], **more))
    with pytest.raises(SettingsError, match="timesteps: .*, the scheduler of shapes-cogvideox, is not one of flow"):
        load_generator("shapes-cogvideox", Loading(timesteps=[1000]))
    Mochi().build().save_pretrained(tmp_path)
    with pytest.raises(SettingsError, match="timesteps: FlowMatchEuler.* is not one of flow matching from 1000 down"):
        load_generator(str(tmp_path), Loading(timesteps=[1000]))


# Which steps are alike


def test_few_steps_are_alike_where_they_are_the_same() -> None:
    four, twelve, fifty = ([1 - i / count for i in range(count)] for count in (4, 12, 50))
    assert same_way(twelve, fifty) and same_way(fifty, twelve) and same_way(four, four)
    assert same_way(four, [level - 0.02 for level in four]) and not same_way(four, [level - 0.04 for level in four])
    assert not same_way(four, fifty) and not same_way(fifty, four) and not same_way(four, [*four, 0.1])


def test_a_guided_pipeline_and_a_sampler_tell_of_other_steps_and_scales() -> None:
    generator = wrap_pipeline(tiny_pipeline(0, Narrow()))
    levels = generator.schedule(4, generator.pixel_size([4, 8, 8])).levels.tolist()[:-1]
    own = {"levels": levels, "sampling": {"guidance_scale": 1.0}}
    classifier = tiny_classifier(generator, steps=4, **own)
    sampler = GuidedSampler(generator, classifier, GuidanceConfig(guided_steps=1, iterations=1))
    assert sampler.call_differences(4, None, None) == sampler.call_differences(4, None, 1.0) == []
    with pytest.warns(UserWarning, match="trained on 4 denoising steps .* not on 5 denoising steps"):
        sampler(["a red circle moving up"], [0], steps=5)
    guided = cvg.guide(generator.pipeline, classifier, guided_steps=1, iterations=1)
    frames = {"num_frames": 13, "height": 64, "width": 64}
    for steps, scale, told in ((4, 1.0, 0), (5, 1.0, 1), (4, 5.0, 1), (5, 5.0, 2)):
        guided(
            "a red circle moving up", num_inference_steps=steps, guidance_scale=scale, output_type="latent", **frames
        )
        assert len([line for line in guided.report.warnings if "the classifier" in line]) == told
    untold = GuidedSampler(generator, tiny_classifier(generator, steps=4))
    assert untold.call_differences(50, None, 7.0) == []  # of classifiers made before it was recorded


def test_shipped_classifiers_are_as_they_were() -> None:
    for name in ("shapes-classifier", "shapes-cogvideox-classifier"):
        config = CompositionClassifier.from_pretrained(name).config
        sampler = GuidedSampler(load_generator(config.generator["name"]), CompositionClassifier.from_pretrained(name))
        assert config.levels is None and not sampler.differing
        assert sampler.call_differences(50, None, None) == sampler.call_differences(20, None, None) == []
