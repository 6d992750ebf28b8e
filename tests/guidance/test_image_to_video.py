"""Image-to-video pipelines, guided while they are called: the family's adapter, and a first frame that is given."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import numpy as np
import PIL.Image
import pytest
import torch
from diffusers import (
    CogVideoXDDIMScheduler,
    CogVideoXImageToVideoPipeline,
    HunyuanVideoImageToVideoPipeline,
    LTXImageToVideoPipeline,
    WanImageToVideoPipeline,
    WanTransformer3DModel,
)
from diffusers.pipelines.hunyuan_video.pipeline_hunyuan_video_image2video import (
    DEFAULT_PROMPT_TEMPLATE as IMAGE_TEMPLATE,
)
from torch import Tensor, nn
from transformers import (
    CLIPImageProcessor,
    CLIPVisionConfig,
    CLIPVisionModel,
    LlamaConfig,
    LlavaConfig,
    LlavaForConditionalGeneration,
)

import cvg
from cvg.common.errors import ModelError, PromptError
from cvg.common.sizes import Size
from cvg.composition import parse
from cvg.generators import Generator, wrap_pipeline
from cvg.guidance.config import GuidanceConfig
from cvg.guidance.guided_pipeline import GuidedPipeline
from cvg.guidance.rules import Rules
from cvg.guidance.sampler import GuidedSampler
from tests.generators.families import test_cogvideox as cogvideox
from tests.generators.families import test_hunyuan as hunyuan
from tests.generators.families import test_ltx as ltx
from tests.generators.families import test_wan as wan
from tests.helpers.labels import LABELS

PROMPT, STEPS = "a green triangle moving up", 4


def image_to_video(pipeline: Any, kind: type, **parts: Any) -> Any:
    made = kind(**{**pipeline.components, **parts})
    made.set_progress_bar_config(disable=True)
    return made


def wan_image(encoder: bool = False, **settings: Any) -> WanImageToVideoPipeline:
    """2.1 with an image encoder, 2.2 without one."""
    pipeline = wan.build()
    torch.manual_seed(1)
    own: dict[str, Any] = {"image_processor": None, "image_encoder": None}
    changes: dict[str, Any] = {} if settings else {"in_channels": 6 + 4 + 6}
    if encoder:
        vision = CLIPVisionConfig(
            hidden_size=16,
            intermediate_size=32,
            num_hidden_layers=2,
            num_attention_heads=2,
            image_size=16,
            patch_size=8,
        )
        size = {"height": 16, "width": 16}
        own["image_encoder"] = CLIPVisionModel(vision)
        own["image_processor"] = CLIPImageProcessor(size=size, crop_size=size)
        changes |= {"image_dim": 16, "added_kv_proj_dim": 24}
        pipeline.tokenizer.model_max_length = 512
    own["transformer"] = WanTransformer3DModel.from_config(pipeline.transformer.config, **changes)
    return image_to_video(pipeline, WanImageToVideoPipeline, **own, **settings)


def cogvideox_image() -> CogVideoXImageToVideoPipeline:
    pipeline = cogvideox.build(CogVideoXDDIMScheduler, use_rotary_positional_embeddings=True)
    torch.manual_seed(1)
    transformer = type(pipeline.transformer).from_config(pipeline.transformer.config, in_channels=8, ofs_embed_dim=8)
    return image_to_video(pipeline, CogVideoXImageToVideoPipeline, transformer=transformer)


def hunyuan_image(kind: str) -> HunyuanVideoImageToVideoPipeline:
    """With a Llava that makes 576 states of an image, as the real one."""
    changes = {"in_channels": 4 if kind == "token_replace" else 9, "guidance_embeds": kind == "token_replace"}
    pipeline = hunyuan.build(image_condition_type=kind, **changes)
    torch.manual_seed(1)
    tokenizer = hunyuan.llama3_tokenizer(IMAGE_TEMPLATE["template"], "<image>")
    text = {**pipeline.text_encoder.config.to_dict(), "vocab_size": len(tokenizer), "model_type": "llama"}
    sizes = {"hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2}
    llava = LlavaForConditionalGeneration(
        LlavaConfig(
            vision_config=CLIPVisionConfig(**sizes, image_size=24, patch_size=1),
            text_config=LlamaConfig(**text),
            image_token_index=tokenizer.convert_tokens_to_ids("<image>"),
            pad_token_id=tokenizer.pad_token_id,
        )
    )
    size = {"height": 24, "width": 24}
    own = {
        "text_encoder": llava,
        "tokenizer": tokenizer,
        "image_processor": CLIPImageProcessor(size=size, crop_size=size),
    }
    return image_to_video(pipeline, HunyuanVideoImageToVideoPipeline, **own)


def wan_first_and_last() -> WanImageToVideoPipeline:
    """2.1 for a first and a last frame, both of which its image encoder is shown."""
    pipeline = wan_image(encoder=True)
    length = 2 * 5  # patches and the class, of either
    pipeline.transformer = WanTransformer3DModel.from_config(pipeline.transformer.config, pos_embed_seq_len=length)
    return pipeline


BUILDS: dict[str, tuple[Callable[[], Any], Size]] = {
    "wan 2.1": (functools.partial(wan_image, encoder=True), Size(5, 64, 64)),
    "wan 2.2": (wan_image, Size(5, 64, 64)),
    "wan 2.2 5B": (functools.partial(wan_image, expand_timesteps=True), Size(9, 64, 64)),
    "cogvideox": (cogvideox_image, Size(9, 16, 24)),
    "hunyuan, image in place": (functools.partial(hunyuan_image, "token_replace"), Size(9, 32, 48)),
    "hunyuan, image beside": (functools.partial(hunyuan_image, "latent_concat"), Size(9, 32, 48)),
    "ltx": (lambda: image_to_video(ltx.TestLTX().build(), LTXImageToVideoPipeline), Size(17, 64, 96)),
}
GIVEN = ("wan 2.2 5B", "ltx", "hunyuan, image in place")
"""Those whose first latent frame is the image's."""


@functools.cache
def built(name: str) -> tuple[Generator, GuidedPipeline, dict[str, Any]]:
    """A tiny pipeline, guided by rules at its first two steps, and the arguments of its call."""
    build, size = BUILDS[name]
    generator = wrap_pipeline(build(), "tiny")
    levels = [float(level) for level in generator.schedule(STEPS, size).levels[:2]]
    rules = Rules.of(generator, LABELS, size, layers=[0, 1], sigmas=levels)
    pixels = np.random.default_rng(0).integers(0, 255, (size.height, size.width, 3), dtype=np.uint8)
    options = generator.options(size) | {"num_inference_steps": STEPS, "image": PIL.Image.fromarray(pixels)}
    guided = cvg.guide(generator, rules, threshold=None)
    return generator, guided, options | {"prompt": PROMPT, "output_type": "latent", "return_dict": False}


def seeded(*numbers: int) -> list[torch.Generator]:
    return [torch.Generator().manual_seed(number) for number in numbers]


@pytest.mark.parametrize("name", BUILDS)
def test_zero_step_is_the_plain_call_and_a_real_one_is_not(name: str) -> None:
    generator, guided, options = built(name)
    plain, zero, moved = (
        call(**options, generator=seeded(0)[0], **more)[0]
        for call, more in ((guided.pipeline, {}), (guided, {"step_size": 0.0}), (guided, {"step_size": 0.3}))
    )
    assert torch.equal(plain, zero) and guided.report.moved == {0: [0], 1: [0]}
    assert moved.isfinite().all() and not torch.allclose(moved, plain, atol=1e-3)
    if name in GIVEN:
        first = [generator.unpack(latents, BUILDS[name][1])[:, :, :1] for latents in (plain, moved)]
        assert torch.equal(*first)


@pytest.mark.parametrize("name", BUILDS)
def test_a_guided_pass_reads_what_the_pipeline_computes(name: str) -> None:
    """At the first step, which is looked at and left as it is: the network gets the same twice, and says the same."""
    generator, guided, options = built(name)
    seen: list[dict[str, Any]] = []

    def note(network: nn.Module, args: Any, given: dict[str, Any]) -> None:
        seen.append(given)

    handle = generator.network.register_forward_pre_hook(note, with_kwargs=True)
    guided(**options, generator=seeded(0)[0], step_size=0.0, iterations=1, guidance_scale=1.0)
    handle.remove()
    mine, pipelines = seen[:2]
    assert len(seen) == STEPS + 1
    for name_, value in mine.items():
        if isinstance(value, Tensor):
            other = pipelines[name_]
            torch.testing.assert_close(value, other.expand_as(value).to(value), atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("name", BUILDS)
def test_maps_are_of_the_video_and_gradients_reach_it(name: str) -> None:
    generator, guided, options = built(name)
    maps: list[Tensor] = []
    read = Generator.entity_maps

    def keep(*args: Any) -> Tensor:
        maps.append(read(*args))
        return maps[-1]

    generator.entity_maps = functools.partial(keep, generator)  # type: ignore[method-assign]
    try:
        guided(**options, generator=seeded(0)[0], step_size=0.2)
    finally:
        del generator.entity_maps
    assert maps and maps[0].requires_grad
    grid = generator.token_grid(generator.initial_latents(seeded(0), BUILDS[name][1]))
    assert maps[0].shape == (1, 2, generator.num_heads, 1, *grid) and maps[0].min() > 0 and maps[0].max() <= 1


def test_hunyuans_text_keys_begin_behind_the_images() -> None:
    """Another word leaves the states before its key as they were; another template hides where the words are."""
    generator, guided, options = built("hunyuan, image beside")
    with generator.called_with(options):
        composition = parse("a red circle to the left of a blue square", LABELS)
        columns = generator.entity_columns(composition)
        texts = [composition.prompt, composition.prompt.replace("blue", "green")]
        states = generator.encode_prompts(texts)["encoder_hidden_states"]
    assert columns.shape[0] == states.shape[1] == 288 + 252
    first = int(columns[:, 1].nonzero()[0])
    torch.testing.assert_close(states[0, :first], states[1, :first])
    assert not torch.allclose(states[0, first], states[1, first], atol=1e-3)
    with pytest.raises(ModelError, match="another prompt_template.*hides where the prompt's words are; leave it out"):
        guided(**options, prompt_template={"template": "<image>{}", "crop_start": 2})
    with pytest.MonkeyPatch.context() as patch:
        keys = int(columns.any(1).nonzero()[-1]) - 288 + 2
        patch.setattr(type(generator), "max_sequence_length", keys)  # of which four are the answer's
        with pytest.raises(
            PromptError, match=f"prompt of more than {keys - 4} tokens: an entity lies beyond them; shorten it"
        ):
            generator.entity_columns(composition)


def test_without_an_image_it_is_not_sampled() -> None:
    generator, guided, options = built("wan 2.2")
    with pytest.raises(ModelError, match="makes videos of images; give one, or guide its own call, with"):
        GuidedSampler(generator, guided._classifier)([PROMPT], [0], steps=STEPS, size=BUILDS["wan 2.2"][1])
    options = {name: value for name, value in options.items() if name != "image"}
    with pytest.raises((TypeError, ValueError)) as plain:
        guided.pipeline(**options)
    with pytest.raises(type(plain.value)) as ours:
        guided(**options)
    assert str(plain.value) == str(ours.value)


@pytest.mark.parametrize("name", BUILDS)
def test_sampled_with_an_image_it_is_the_pipelines_own_call(name: str) -> None:
    """From the same seeds, two at a time; and guided the same video that its own guided call makes."""
    generator, guided, options = built(name)
    config = GuidanceConfig(threshold=None, step_size=0.3)
    sampler = GuidedSampler(generator, guided._classifier, config)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(generator, "image", options["image"])
        made = [sampler([PROMPT] * 2, [0, 1], steps=STEPS, size=BUILDS[name][1], guided=on) for on in (False, True)]
    image = options["image"] if "wan" in name else [options["image"]] * 2
    call = options | {"prompt": [PROMPT] * 2, "output_type": "pt", "image": image}
    theirs = [
        guided.pipeline(**call, generator=seeded(0, 1))[0],
        guided(**call, generator=seeded(0, 1), step_size=0.3)[0],
    ]
    for ours, other in zip(made, theirs, strict=True):
        torch.testing.assert_close(ours.video_BCFHW.transpose(1, 2) / 2 + 0.5, other.float(), atol=1e-5, rtol=1e-4)
    assert not torch.allclose(theirs[0], theirs[1], atol=1e-3) and made[1].probabilities


@pytest.mark.parametrize("videos", [1, 2])
@pytest.mark.parametrize("build", [wan_image, wan_first_and_last])
def test_a_last_frame_is_what_guided_passes_are_given_too(build: Callable[[], Any], videos: int) -> None:
    """The network's prediction in a pass that is read is that of the pipeline's own, at the first step."""
    generator = wrap_pipeline(build())
    assert generator.takes_last_image and not wrap_pipeline(BUILDS["wan 2.1"][0]()).takes_last_image
    size, seeds = Size(5, 64, 64), [torch.Generator().manual_seed(seed) for seed in range(videos)]
    generator.image, generator.last_image = (PIL.Image.new("RGB", (64, 64), color) for color in ("red", "blue"))
    composition, made, seen = parse(PROMPT, LABELS), [], []

    def keep(module: nn.Module, args: Any, output: Any) -> None:
        made.append(output[0].clone())

    def look(step: int, z: Tensor) -> Tensor:
        if step == 0:
            conditioning = generator.with_image(generator.encode([composition] * videos))
            timestep = generator.schedule(2, size).timesteps[0]
            with torch.no_grad():
                seen.append(generator.predict(z, timestep, conditioning.states))
            made.clear()  # that one's own
        return z

    handle = generator.network.register_forward_hook(keep)
    generator.sample([PROMPT] * videos, None, 2, 1.0, size, look, seeds)
    handle.remove()
    torch.testing.assert_close(seen[0], made[0], atol=1e-5, rtol=1e-5)
