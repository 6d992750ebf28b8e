"""A pipeline called as ever, and guided: its own arguments in, its own output out."""

from __future__ import annotations

import copy
import functools
import importlib
import inspect
from typing import Any

import numpy as np
import pytest
import torch
from diffusers import WanPipeline
from torch import Tensor, nn

import cvg
from cvg.classifier import CompositionClassifier
from cvg.common.errors import ModelError, PromptError, SettingsError
from cvg.common.sizes import Size
from cvg.composition import parse
from cvg.generators import wrap_pipeline
from cvg.generators.registry import ADAPTERS
from cvg.guidance.config import GuidanceConfig
from cvg.guidance.guided_pipeline import GuidedPipeline
from cvg.guidance.rules import Rules
from cvg.guidance.sampler import GuidedSampler
from tests.helpers.conformance import Conformance
from tests.helpers.labels import LABELS
from tests.helpers.tiny import STEPS, tiny_classifier, tiny_pipeline

PROMPTS = ["a red circle to the left of a blue square", "a green triangle moving up"]
FAMILIES = {
    "AllegroPipeline": "allegro.TestAllegro",
    "AnimateDiffPipeline": "unet.TestAnimateDiff",
    "CogVideoXPipeline": "cogvideox.TestCogVideoX15",
    "CosmosTextToWorldPipeline": "cosmos.TestCosmos",
    "EasyAnimatePipeline": "easyanimate.TestEasyAnimate",
    "HunyuanVideo15Pipeline": "hunyuan15.TestHunyuanVideo15",
    "HunyuanVideoPipeline": "hunyuan.TestHunyuanVideo",
    "Kandinsky5T2VPipeline": "kandinsky5.TestKandinsky5",
    "LTXPipeline": "ltx.TestLTX",
    "LattePipeline": "latte.TestLatte",
    "MochiPipeline": "mochi.TestMochi",
    "SanaVideoPipeline": "sana_video.TestSanaVideo",
    "SkyReelsV2Pipeline": "skyreels.TestSkyReels",
    "TextToVideoSDPipeline": "unet.TestModelScope",
    "WanPipeline": "wan.TestWan",
}


def seeds(*numbers: int) -> list[torch.Generator]:
    return [torch.Generator().manual_seed(number) for number in numbers]


@functools.cache
def family(name: str) -> Conformance:
    module, _, test = FAMILIES[name].partition(".")
    found: Conformance = getattr(importlib.import_module(f"tests.generators.families.test_{module}"), test)()
    return found


@functools.cache
def built(name: str) -> tuple[Any, GuidedPipeline, dict[str, Any]]:
    """A tiny pipeline of the family; the same, guided by rules at its first two steps; arguments of its call."""
    test = family(name)
    generator = wrap_pipeline(test.build(), "tiny")  # in the modes in which loading leaves one
    steps = 4  # two that are guided and two after them, for every scheduler
    levels = [float(level) for level in generator.schedule(steps, test.size).levels[:2]]
    rules = Rules.of(generator, LABELS, test.size, layers=test.layers, sigmas=levels)
    options = generator.options(test.size) | {"num_inference_steps": steps}
    return generator.pipeline, cvg.guide(generator, rules, threshold=None), options


def shrink(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    return {"latents": 0.9 * tensors["latents"]}


CALLS: list[dict[str, Any]] = [
    {"prompt": PROMPTS, "generator": lambda: seeds(0, 1), "output_type": "latent"},
    {
        "prompt": PROMPTS[0],
        "negative_prompt": "a green circle",
        "num_videos_per_prompt": 2,
        "generator": lambda: seeds(3)[0],
        "return_dict": False,
        "output_type": "np",
        "callback_on_step_end": lambda pipeline, step, timestep, tensors: shrink(tensors),
    },
    {"prompt": PROMPTS[1], "output_type": "pil", "callback_on_step_end": lambda *_: {}},
]


def called(pipeline: Any, options: dict[str, Any], call: dict[str, Any], **more: Any) -> Any:
    """The output of a call, with as many of the arguments as the pipeline has."""
    own = pipeline.pipeline if isinstance(pipeline, GuidedPipeline) else pipeline
    known = inspect.signature(own.__call__).parameters
    call = call | options
    if "num_images_per_prompt" in known and "num_videos_per_prompt" in call:
        call["num_images_per_prompt"] = call["num_videos_per_prompt"]
    if "negative_prompt" not in call and "easyanimate" in type(own).__module__:
        call["negative_prompt"] = [""] * (len(call["prompt"]) if isinstance(call["prompt"], list) else 1)
    if "hunyuan_video1_5" in type(own).__module__:
        call.pop("num_videos_per_prompt", None)  # its own plain call fails with more than one
    if callable(call.get("generator")):
        call["generator"] = call["generator"]()
    torch.manual_seed(7)
    return pipeline(**{name: value for name, value in call.items() if name in known}, **more)


@functools.cache
def plainly(name: str, number: int) -> Any:
    """What the family's own pipeline makes of a call: the same, however often; made once."""
    pipeline, _, options = built(name)
    return called(pipeline, options, CALLS[number])


def flat(output: Any) -> list[np.ndarray]:
    """Whatever a pipeline returns, as arrays."""
    videos = output[0] if isinstance(output, tuple) else output.frames
    return [np.asarray(video) for video in videos]


def same(one: Any, other: Any) -> bool:
    return type(one) is type(other) and all(map(np.array_equal, flat(one), flat(other)))


def state(pipeline: Any) -> tuple[Any, ...]:
    """What a call might leave behind on a pipeline."""
    modules = [part for _, part in sorted(pipeline.components.items()) if isinstance(part, nn.Module)]
    weights = [weight.requires_grad for module in modules for weight in module.parameters()]
    modes = [each.training for module in modules for each in module.modules()]
    hooks = [len(each._forward_pre_hooks) + len(each._forward_hooks) for module in modules for each in module.modules()]
    own = {name for name in vars(pipeline) if not name.startswith("_")} | {f"s.{x}" for x in vars(pipeline.scheduler)}
    vae = pipeline.vae
    return weights, modes, hooks, own & {"prepare_latents", "s.step"}, vars(vae).get("use_tiling"), vars(vae).keys()


def test_every_family_is_tested() -> None:
    assert set(FAMILIES) == {name for name in ADAPTERS if "ImageToVideo" not in name}


@pytest.mark.parametrize("name", FAMILIES)
@pytest.mark.parametrize("number", range(2), ids=["latent", "negative, two videos, callback"])
def test_zero_step_is_the_plain_call(name: str, number: int) -> None:
    zero_is_plain(name, number)
    if number == 0:
        _, guided, options = built(name)
        plain_again = called(guided, options, CALLS[0], guided_steps=0)
        assert same(plainly(name, 0), plain_again) and not guided.report.compositions


@pytest.mark.parametrize("name", ["CogVideoXPipeline", "TextToVideoSDPipeline", "WanPipeline"])
def test_zero_step_is_the_plain_call_whose_pictures_are_decoded_one_by_one(name: str) -> None:
    """What becomes of the latents is the pipeline's own; one of each way of decoding."""
    zero_is_plain(name, 2)


def zero_is_plain(name: str, number: int) -> None:
    pipeline, guided, options = built(name)
    plain, before = plainly(name, number), state(pipeline)
    zero = called(guided, options, CALLS[number], step_size=0.0)
    assert guided.report.probabilities and not any(guided.report.moved.values())
    assert same(plain, zero) and state(pipeline) == before


@pytest.mark.parametrize("name", FAMILIES)
def test_guided_it_returns_another_video_of_the_same_kind(name: str) -> None:
    """Of two videos, where the pipeline makes as many of one prompt."""
    pipeline, guided, options = built(name)
    plain, before = plainly(name, 1), state(pipeline)
    moved = called(guided, options, CALLS[1], step_size=0.3)
    assert type(plain) is type(moved) and [one.shape for one in flat(plain)] == [one.shape for one in flat(moved)]
    assert all(np.isfinite(one).all() for one in flat(moved)) and not same(plain, moved)
    report, videos = guided.report, len(flat(moved))
    assert len(report.compositions) == len(report.relations) == videos
    assert list(report.moved) == [0, 1] and all(report.moved[step] == list(range(videos)) for step in (0, 1))
    assert "left of (red circle, blue square): probability 0." in str(report)
    assert state(pipeline) == before


@pytest.fixture(scope="module")
def pipeline() -> WanPipeline:
    return tiny_pipeline()


@pytest.fixture(scope="module")
def classifier(pipeline: WanPipeline) -> CompositionClassifier:
    return tiny_classifier(wrap_pipeline(copy.copy(pipeline), "tiny"))


OPTIONS: dict[str, Any] = {
    "num_frames": 5,
    "height": 32,
    "width": 32,
    "num_inference_steps": STEPS,
    "max_sequence_length": 24,
    "output_type": "latent",
}


def test_it_is_the_sampler_of_the_same_seeds(pipeline: WanPipeline, classifier: CompositionClassifier) -> None:
    """And so is a call with the embeddings of the prompts, with what they ask for beside them."""
    generator = wrap_pipeline(pipeline, "tiny")
    compositions = [parse(prompt, LABELS) for prompt in PROMPTS]
    config = GuidanceConfig(threshold=None)
    wanted = GuidedSampler(generator, classifier, config)(PROMPTS, [4, 5], steps=STEPS, size=Size(5, 32, 32))
    guided = cvg.guide(pipeline, classifier, threshold=None)
    embeds, _ = pipeline.encode_prompt(PROMPTS, do_classifier_free_guidance=False, max_sequence_length=24)
    for call in ({"prompt": PROMPTS}, {"prompt_embeds": embeds, "compositions": compositions}):
        if "prompt_embeds" in call:
            call["negative_prompt_embeds"] = pipeline.encode_prompt([""] * 2, max_sequence_length=24)[0]
        made = guided(**call, **OPTIONS, generator=seeds(4, 5))
        assert torch.equal(generator.decode_latents(made.frames), wanted.video_BCFHW)
        assert guided.report.compositions == compositions
        assert list(guided.report.probabilities) == list(wanted.probabilities)
        for ours, theirs in zip(guided.report.probabilities.values(), wanted.probabilities.values(), strict=True):
            assert all(map(torch.equal, ours, theirs))


def test_what_is_said_by_hand_is_guided_to(pipeline: WanPipeline, classifier: CompositionClassifier) -> None:
    guided = cvg.guide(pipeline, classifier, guided_steps=1)
    prompts = ["a red circle and a blue square", PROMPTS[1]]
    by_hand = {"entities": [["red circle", "blue square"], None], "labels": [["right of"], None]}
    guided(prompts, **OPTIONS, **by_hand)
    assert [each.relations[0].label for each in guided.report.compositions] == ["right of", "up"]
    with pytest.raises(SettingsError, match="a list of texts for each of 2 prompts"):
        guided(prompts, **OPTIONS, entities=["red circle", "blue square"], labels=["right of"])
    with pytest.raises(PromptError, match="entities= and labels= say by hand.*guided_steps=0 samples it plainly"):
        guided(prompts[0], **OPTIONS)
    with pytest.raises(PromptError, match="give compositions="):
        guided(prompt_embeds=torch.zeros(1, 24, 8), **OPTIONS)


def test_before_anything_is_denoised_settings_are_refused(
    pipeline: WanPipeline, classifier: CompositionClassifier
) -> None:
    guided = cvg.guide(pipeline, classifier)
    ran = []
    handle = pipeline.text_encoder.register_forward_pre_hook(lambda *_: ran.append(1))
    with pytest.raises(SettingsError, match="steps 1: no separate denoising steps"):
        guided(PROMPTS[0], **{**OPTIONS, "num_inference_steps": 1})
    with pytest.raises(SettingsError, match="fade"):
        guided(PROMPTS[0], **OPTIONS, fade=2.0)
    handle.remove()
    assert not ran
    for wrong in ({"sede": 3}, {}):
        with pytest.raises((TypeError, ValueError)) as plain:
            pipeline(**wrong)
        with pytest.raises(type(plain.value)) as ours:
            guided(**wrong)
        assert str(ours.value) == str(plain.value)
    with pytest.raises(SettingsError, match="unknown key 'step_sise'; known: step_size, "):
        cvg.guide(pipeline, classifier, step_sise=0.1)
    with pytest.raises(ModelError, match="trained on the attention of"):
        cvg.guide(tiny_pipeline(7), classifier)
    with pytest.raises(SettingsError, match="label_set"):
        cvg.guide(pipeline, classifier, label_set="world")


def test_an_exception_leaves_the_pipeline_as_it_was(pipeline: WanPipeline, classifier: CompositionClassifier) -> None:
    def fail(*_: Any) -> Any:
        raise RuntimeError("stop here")

    pipeline = copy.copy(pipeline)
    pipeline.register_modules(transformer=copy.deepcopy(pipeline.transformer).train().requires_grad_(True))
    guided, before = cvg.guide(pipeline, classifier), state(pipeline)
    assert pipeline.transformer.training and next(pipeline.transformer.parameters()).requires_grad
    with pytest.raises(RuntimeError, match="stop here"):
        guided(PROMPTS[0], **OPTIONS, callback_on_step_end=fail)
    assert state(pipeline) == before


def test_the_users_callback_has_what_it_asks_for_and_what_it_says_counts(
    pipeline: WanPipeline, classifier: CompositionClassifier
) -> None:
    guided, seen = cvg.guide(pipeline, classifier, threshold=None), []

    def stop(pipe: Any, step: int, timestep: Tensor, tensors: dict[str, Tensor]) -> dict[str, Tensor]:
        seen.append((pipe, sorted(tensors)))
        pipe._interrupt = step == 0
        return {}

    asks = {"callback_on_step_end": stop, "callback_on_step_end_tensor_inputs": ["prompt_embeds"]}
    guided(PROMPTS[0], **OPTIONS, **asks, generator=seeds(0)[0])
    assert seen == [(pipeline, ["prompt_embeds"])]


def test_its_attributes_are_the_pipelines(pipeline: WanPipeline, classifier: CompositionClassifier) -> None:
    pipeline = copy.copy(pipeline)
    guided = cvg.guide(pipeline, classifier)
    assert guided.transformer is pipeline.transformer and "enable_model_cpu_offload" in dir(guided)
    guided.scheduler = scheduler = type(pipeline.scheduler).from_config(pipeline.scheduler.config)
    assert pipeline.scheduler is scheduler and guided.to("cpu") is guided
    with pytest.raises(AttributeError, match="no_such"):
        guided.no_such  # noqa: B018
    assert copy.copy(guided).pipeline is pipeline
    assert guided(PROMPTS[0], **OPTIONS, threshold=None).frames.shape[0] == 1 and guided.report.moved[1] == [0]


def test_the_networks_own_options_hold_for_guided_passes_too(
    pipeline: WanPipeline, classifier: CompositionClassifier, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[Any] = []

    plain = pipeline.transformer.forward

    def forward(*args: Any, **options: Any) -> Any:
        seen.append(options.get("attention_kwargs"))
        return plain(*args, **options)

    monkeypatch.setattr(pipeline.transformer, "forward", forward)
    guided = cvg.guide(pipeline, classifier, threshold=None)
    guided(PROMPTS[0], **OPTIONS, attention_kwargs={"scale": 0.5}, guidance_scale=1.0)
    assert len(seen) > STEPS and seen.count({"scale": 0.5}) == len(seen)


def test_steps_that_a_call_states_itself_are_those_that_are_guided() -> None:
    """Three of them, of which the rules know the first two; their number alone would make others."""
    pipeline, guided, options = built("HunyuanVideoPipeline")
    options = options | {"sigmas": [1.0, 3 / 4, 0.3]}
    plain, zero, moved = (
        called(call, options, CALLS[0], **more)
        for call, more in ((pipeline, {}), (guided, {"step_size": 0.0}), (guided, {"step_size": 0.3}))
    )
    assert len(pipeline.scheduler.timesteps) == 3 and list(guided.report.moved) == [0, 1]
    assert same(plain, zero) and not same(plain, moved)
    with pytest.raises(SettingsError, match="steps 1: no separate denoising steps"):
        called(guided, options | {"sigmas": [1.0]}, CALLS[0])
