"""Guidance as a block of Wan's modular pipeline: the same video as a guided pipeline's, and nothing of it changed."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from diffusers import (
    AdaptiveProjectedGuidance,
    ClassifierFreeGuidance,
    ModularPipelineBlocks,
    UniPCMultistepScheduler,
    WanBlocks,
    WanPipeline,
)
from diffusers.modular_pipelines.ltx.modular_blocks_ltx import LTXBlocks
from torch import Tensor

import cvg
from cvg import CompositionGuidanceBlock
from cvg.common.errors import ModelError, PromptError, SettingsError
from tests.guidance.test_guided_pipeline import built
from tests.helpers.tiny import STEPS, tiny_classifier, tiny_pipeline

PROMPTS = ["a red circle to the left of a blue square", "a green triangle moving up"]
CALL: dict[str, Any] = {"num_frames": 13, "height": 64, "width": 64, "max_sequence_length": 24}
CALL |= {"num_inference_steps": STEPS, "output_type": "pt"}


@pytest.fixture(scope="module")
def plain() -> WanPipeline:
    pipeline = tiny_pipeline()
    pipeline.scheduler = UniPCMultistepScheduler.from_config(pipeline.scheduler.config)  # remembers steps
    return pipeline


@pytest.fixture(scope="module")
def classifier(plain: WanPipeline) -> cvg.CompositionClassifier:
    return tiny_classifier(cvg.generators.wrap_pipeline(plain))


def modular(plain: WanPipeline, block: CompositionGuidanceBlock | None, scale: float = 5.0) -> Any:
    """The modular pipeline of the same parts, with the block at the front of its loop."""
    blocks = WanBlocks()
    if block is not None:
        blocks.sub_blocks["denoise"].sub_blocks["denoise"].sub_blocks.insert("guidance", block, 0)
    pipeline = blocks.init_pipeline()
    parts = {name: part for name, part in plain.components.items() if name in pipeline.components and part is not None}
    pipeline.update_components(**parts, guider=ClassifierFreeGuidance(guidance_scale=scale))
    return pipeline


def seeds(*numbers: int) -> list[torch.Generator]:
    return [torch.Generator().manual_seed(number) for number in numbers]


def video(pipeline: Any, prompt: Any = PROMPTS, generator: Any = None, **more: Any) -> Tensor:
    generator = generator or seeds(0, 1)
    own = isinstance(pipeline, WanPipeline | cvg.guidance.guided_pipeline.GuidedPipeline)
    options = {name: value for name, value in CALL.items() if name not in more}
    if own:
        return torch.as_tensor(pipeline(prompt, generator=generator, **options, **more).frames)
    return torch.as_tensor(
        pipeline(prompt=prompt, generator=generator, output="videos", **options | sides(pipeline), **more)
    )


def sides(pipeline: Any) -> dict[str, int]:
    """The height and width to ask for: a modular pipeline takes a VAE's pixels in patches for more of them."""
    return {side: CALL[side] * pipeline.vae_scale_factor_spatial // 8 for side in ("height", "width")}


def test_the_same_video_as_the_guided_pipelines_bit_for_bit(
    plain: WanPipeline, classifier: cvg.CompositionClassifier
) -> None:
    settings = {"threshold": 0.6, "step_size": 0.5}  # one sample needs less than the other: histories part
    guided = cvg.guide(plain, classifier, **settings)
    pipeline = modular(plain, CompositionGuidanceBlock(classifier, **settings))
    theirs = video(guided)
    state = pipeline(prompt=PROMPTS, generator=seeds(0, 1), **CALL | sides(pipeline))
    assert torch.equal(theirs, torch.as_tensor(state.get("videos")))
    ours = state.get("guidance_report")
    assert str(ours) == str(guided.report) and ours.moved == guided.report.moved and ours.compositions
    assert not torch.equal(theirs, video(plain))
    assert "step" not in vars(plain.scheduler) and not any(part.training for part in (plain.transformer, plain.vae))


@pytest.mark.slow
def test_the_same_of_shapes_wan() -> None:
    shipped = cvg.load_generator("shapes-wan").pipeline
    guided, pipeline = (
        cvg.guide(shipped, "shapes-classifier"),
        modular(shipped, CompositionGuidanceBlock("shapes-classifier")),
    )
    steps = {"num_inference_steps": 12}
    expected = video(guided, **steps)
    assert any(guided.report.moved.values()) and torch.equal(expected, video(pipeline, **steps))


def test_off_and_a_zero_step_are_the_plain_pipeline(plain: WanPipeline, classifier: cvg.CompositionClassifier) -> None:
    expected = video(modular(plain, None))
    assert torch.equal(expected, video(plain))
    pipeline = modular(plain, CompositionGuidanceBlock(classifier))
    assert torch.equal(expected, video(pipeline, guided_steps=0))
    assert torch.equal(expected, video(modular(plain, CompositionGuidanceBlock(classifier, step_size=0))))
    assert torch.equal(
        video(modular(plain, None), "rain on a window", seeds(2)),
        video(pipeline, "rain on a window", seeds(2), guided_steps=0),
    )


def test_by_rules_by_hand_and_by_embeddings(plain: WanPipeline) -> None:
    settings = {"label_set": "shapes", "step_size": 0.3}
    guided = cvg.guide(plain, "rules", **settings)
    block = CompositionGuidanceBlock("rules", **settings)
    by_hand = {"entities": ["red circle"], "labels": ["up"]}
    prompt = "a red circle that is going up"
    pipeline = modular(plain, block)
    steps = {"num_inference_steps": 12}
    assert torch.equal(
        video(guided, prompt, seeds(3), **by_hand, **steps), video(pipeline, prompt, seeds(3), **by_hand, **steps)
    )
    with pytest.raises(PromptError, match="entities= and labels= say by hand"):
        video(pipeline, prompt, seeds(3), **steps)
    assert "step" not in vars(plain.scheduler)


def test_the_users_guider_is_his(plain: WanPipeline, classifier: cvg.CompositionClassifier) -> None:
    pipeline = modular(plain, CompositionGuidanceBlock(classifier, step_size=0.5))
    others = {
        scale: video(modular(plain, CompositionGuidanceBlock(classifier, step_size=0.5), scale)) for scale in (2.0, 3.0)
    }
    assert not torch.equal(others[2.0], others[3.0])
    for scale, expected in others.items():
        pipeline.guider.guidance_scale = scale
        assert torch.equal(video(pipeline), expected)
    pipeline.update_components(
        guider=AdaptiveProjectedGuidance(guidance_scale=3.0, adaptive_projected_guidance_rescale=5.0)
    )
    projected = video(pipeline)
    assert torch.isfinite(projected).all() and not torch.equal(projected, others[3.0])
    assert isinstance(pipeline.guider, AdaptiveProjectedGuidance)


def test_saved_and_loaded_without_code(
    plain: WanPipeline, classifier: cvg.CompositionClassifier, tmp_path: Path
) -> None:
    classifier.save_pretrained(tmp_path / "classifier")
    block = CompositionGuidanceBlock(str(tmp_path / "classifier"), step_size=0.5)
    block.save_pretrained(tmp_path / "block")
    assert [path.name for path in (tmp_path / "block").iterdir()] == ["modular_config.json"]
    again = CompositionGuidanceBlock.from_pretrained(tmp_path / "block")
    assert torch.equal(video(modular(plain, again)), video(modular(plain, block)))
    with pytest.raises(ValueError, match="trust_remote_code"):  # what is not asked of the class itself
        ModularPipelineBlocks.from_pretrained(tmp_path / "block")
    with pytest.raises(SettingsError, match="its classifier is a loaded one"):
        CompositionGuidanceBlock(classifier).save_pretrained(tmp_path / "loaded")


RULES_ALONE = {"classifier": "rules", "label_set": None}


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("{", "cannot be read"),
        ("{}", "cannot be read"),
        (json.dumps({"classifier": 3, "label_set": None, "guidance": {}}), "not settings of guidance"),
        (json.dumps(RULES_ALONE | {"guidance": {"speed": 1}}), "guidance: unknown key 'speed'"),
        (json.dumps(RULES_ALONE | {"guidance": {"fade": 2}}), "'fade' is 2; expected a number of at least 0 and at"),
        (json.dumps(RULES_ALONE | {"guidance": {"fade": "x"}}), "save the block again"),
    ],
)
def test_what_is_no_block_is_refused(text: str, reason: str, tmp_path: Path) -> None:
    (tmp_path / "modular_config.json").write_text(text)
    with pytest.raises(ModelError, match=reason):
        CompositionGuidanceBlock.from_pretrained(tmp_path)


def test_what_cannot_be_guided_is_refused(plain: WanPipeline, classifier: cvg.CompositionClassifier) -> None:
    with pytest.raises(SettingsError, match="guidance: unknown key 'speed'"):
        CompositionGuidanceBlock("rules", speed=1)
    with pytest.raises(SettingsError, match="a classifier has one of its own"):
        CompositionGuidanceBlock(classifier, label_set="shapes")
    pipeline = modular(plain, CompositionGuidanceBlock(classifier))
    with pytest.raises(SettingsError, match="other steps than the"):
        video(pipeline, sigmas=np.array([0.99, 0.6, 0.2]))
    other = tiny_pipeline(5)
    with pytest.raises(ModelError, match="trained on the attention of"):
        video(modular(other, CompositionGuidanceBlock(classifier)))
    pipeline.update_components(vae=None)
    with pytest.raises(ModelError, match="has no vae"):
        video(pipeline)


def test_a_run_that_fails_leaves_nothing_behind(
    plain: WanPipeline, classifier: cvg.CompositionClassifier, monkeypatch: pytest.MonkeyPatch
) -> None:
    pipeline, expected = modular(plain, CompositionGuidanceBlock(classifier, step_size=0.5)), video(plain)
    good = video(pipeline)
    calls = 0

    def fail(*args: Any, **options: Any) -> Any:
        nonlocal calls
        calls += 1
        raise RuntimeError("in the middle")

    with monkeypatch.context() as patch:
        patch.setattr(type(plain.scheduler), "step", fail)
        with pytest.raises(RuntimeError, match="in the middle") as kept:  # its traceback holds the run
            video(pipeline)
    assert calls == 1 and kept.value.__traceback__ is not None
    assert torch.equal(video(pipeline), good)
    assert torch.equal(video(plain), expected)


def test_a_loop_without_its_text_encoder_is_refused(plain: WanPipeline, classifier: cvg.CompositionClassifier) -> None:
    embeds, negative = plain.encode_prompt(PROMPTS, max_sequence_length=24)
    loop = WanBlocks().sub_blocks["denoise"]
    loop.sub_blocks["denoise"].sub_blocks.insert("guidance", CompositionGuidanceBlock(classifier), 0)
    pipeline, whole = loop.init_pipeline(), modular(plain, None)
    pipeline.update_components(**{name: part for name, part in whole.components.items() if name in pipeline.components})
    with pytest.raises(ModelError, match="has no tokenizer and no text_encoder and no vae; load all of its components"):
        pipeline(prompt_embeds=embeds, negative_prompt_embeds=negative, num_inference_steps=STEPS, num_frames=13)


def test_ltx_up_to_rounding() -> None:
    """Its modular pipeline, unguided too, rounds otherwise than its plain one."""
    plain, guided, options = built("LTXPipeline")
    call = options | {"output_type": "pt"}
    expected = torch.as_tensor(guided(PROMPTS, generator=seeds(0, 1), **call).frames)
    blocks = LTXBlocks()
    block = CompositionGuidanceBlock(vars(guided)["_classifier"], threshold=None)
    blocks.sub_blocks["denoise"].sub_blocks["denoise"].sub_blocks.insert("guidance", block, 0)
    pipeline = blocks.init_pipeline()
    parts = {name: part for name, part in plain.components.items() if name in pipeline.components}
    pipeline.update_components(**parts, guider=ClassifierFreeGuidance(guidance_scale=3.0))
    state = pipeline(prompt=PROMPTS, generator=seeds(0, 1), **call)
    torch.testing.assert_close(torch.as_tensor(state.get("videos")), expected, rtol=0, atol=1e-4)
    assert state.get("guidance_report").moved == guided.report.moved and guided.report.moved[0] == [0, 1]
