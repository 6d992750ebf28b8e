"""Pipelines that lack a part, or are set so that no gradient reaches the latents: one message, and no change."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import pytest
import torch
from accelerate import cpu_offload
from diffusers import (
    FasterCacheConfig,
    FirstBlockCacheConfig,
    LayerSkipConfig,
    MagCacheConfig,
    PyramidAttentionBroadcastConfig,
    TaylorSeerCacheConfig,
    WanPipeline,
    attention_backend,
)
from diffusers.hooks import HookRegistry, ModelHook, apply_group_offloading, apply_layer_skip
from diffusers.models.attention_dispatch import AttentionBackendName, _AttentionBackendRegistry
from diffusers.models.transformers.transformer_wan import WanAttnProcessor

import cvg
from cvg.common.errors import ModelError
from cvg.composition import parse
from cvg.generators import Generator, wrap_pipeline
from cvg.guidance.config import GuidanceConfig
from cvg.guidance.guide import Guide
from cvg.guidance.rules import Rules
from cvg.guidance.sampler import GuidedSampler
from tests.generators.families.test_unet import TestAnimateDiff as AnimateDiff
from tests.generators.families.test_wan import build
from tests.helpers.labels import LABELS
from tests.helpers.tiny import STEPS, tiny_classifier, tiny_pipeline

PROMPTS = ["a red circle to the left of a blue square", "a green triangle moving up"]


@pytest.fixture
def generator() -> Generator:
    return wrap_pipeline(tiny_pipeline(), "tiny")


def sample(generator: Generator, guided: bool = True, **config: Any) -> torch.Tensor:
    config = {"threshold": None, "smoothing": 1, **config}
    sampler = GuidedSampler(generator, tiny_classifier(generator), GuidanceConfig(**config))
    return sampler(PROMPTS, [0, 1], guided=guided, steps=STEPS, size=(5, 32, 32)).video_BCFHW


CACHES = [
    FirstBlockCacheConfig(threshold=0.9),
    PyramidAttentionBroadcastConfig(
        cross_attention_block_skip_range=2,
        spatial_attention_block_skip_range=2,
        cross_attention_timestep_skip_range=(-1, 1001),
        spatial_attention_timestep_skip_range=(-1, 1001),
        current_timestep_callback=lambda: 500,
        cross_attention_block_identifiers=("blocks",),
        spatial_attention_block_identifiers=("blocks",),
    ),
    MagCacheConfig(num_inference_steps=STEPS, mag_ratios=[1.0] * STEPS, retention_ratio=0.0, threshold=1.0),
    TaylorSeerCacheConfig(cache_interval=3, disable_cache_before_step=1, cache_identifiers=[r"blocks\.\d+\.attn1"]),
    FasterCacheConfig(
        spatial_attention_block_skip_range=3,
        spatial_attention_timestep_skip_range=(-1, 901),
        current_timestep_callback=lambda: 1000,  # replaced by the pipeline's
        spatial_attention_block_identifiers=("blocks.*attn1",),
        is_guidance_distilled=True,
    ),
]


def read(generator: Generator) -> tuple[torch.Tensor, torch.Tensor]:
    """Maps, and a gradient that is taken after the pass."""
    conditioning = generator.encode([parse("a red circle moving up", LABELS)])
    torch.manual_seed(0)
    z = torch.randn(1, generator.latent_channels, 2, 4, 4).requires_grad_()
    maps = generator.entity_maps(z, torch.tensor(900.0), conditioning, range(len(generator.blocks)))
    return maps.detach(), torch.autograd.grad(maps.square().sum(), z)[0]


@pytest.mark.parametrize("cache", CACHES, ids=lambda cache: type(cache).__name__)
def test_a_step_cache_is_off_in_guided_passes_and_on_in_the_others(generator: Generator, cache: Any) -> None:
    maps, network = read(generator), generator.pipeline.transformer
    without = sample(generator, guided=False)
    cache = copy.deepcopy(cache)
    if isinstance(cache, FasterCacheConfig):
        cache.current_timestep_callback = lambda: generator.pipeline.current_timestep
    network.enable_cache(cache)
    cached = sample(generator, guided=False)
    assert not torch.equal(cached, without)  # it does leave something out
    assert torch.equal(sample(generator, step_size=0.0), cached)
    assert not torch.equal(sample(generator), cached)
    assert torch.equal(sample(generator, guided=False), cached)
    for generator.checkpointing in (False, True):
        torch.testing.assert_close(read(generator), maps, atol=1e-6, rtol=1e-4)
    assert network.is_cache_enabled
    network.disable_cache()
    assert torch.equal(sample(generator, guided=False), without)


def test_an_attention_backend_without_maps_is_off_in_guided_passes(generator: Generator) -> None:
    wanted = read(generator)
    with attention_backend("_native_math"):
        assert torch.isfinite(sample(generator)).all()
    calls: list[bool] = []

    def elsewhere(query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, **options: Any) -> torch.Tensor:
        calls.append(torch.is_grad_enabled())
        weights = (query.transpose(1, 2) @ key.permute(0, 2, 3, 1) / query.shape[-1] ** 0.5).softmax(-1)
        return (weights @ value.transpose(1, 2)).transpose(1, 2)

    with pytest.MonkeyPatch.context() as patch:  # a kernel of another package, in its place among the backends
        patch.setitem(_AttentionBackendRegistry._backends, AttentionBackendName.SAGE, elsewhere)
        patch.setitem(
            _AttentionBackendRegistry._supported_arg_names, AttentionBackendName.SAGE, {"query", "key", "value"}
        )
        for block in generator.blocks:
            block.attn1.processor._attention_backend = block.attn2.processor._attention_backend = "sage"
        plain = sample(generator, guided=False)
        assert calls and not any(calls)
        assert torch.equal(sample(generator, step_size=0.0), plain) and not torch.equal(sample(generator), plain)
        for generator.checkpointing in (False, True):
            assert all(torch.equal(ours, theirs) for ours, theirs in zip(read(generator), wanted, strict=True))
        assert not any(calls)  # never with gradients
        assert all(block.attn2.processor._attention_backend == "sage" for block in generator.blocks)


def grouped(pipeline: WanPipeline) -> None:
    device = torch.device("cpu")
    apply_group_offloading(pipeline.transformer, onload_device=device, offload_type="leaf_level")


def sequential(pipeline: WanPipeline) -> None:
    cpu_offload(pipeline.transformer, execution_device=torch.device("cpu"))


def cast(pipeline: WanPipeline) -> None:
    pipeline.transformer.enable_layerwise_casting(torch.float8_e4m3fn, torch.float32)


def skipping(pipeline: WanPipeline) -> None:
    apply_layer_skip(pipeline.transformer, LayerSkipConfig(indices=[1], fqn="blocks"))


def parallel(pipeline: WanPipeline) -> None:
    """By the name of the hook alone: the hook itself needs several processes."""
    HookRegistry.check_if_exists_or_initialize(pipeline.transformer.blocks[1]).register_hook(ModelHook(), "cp_input---")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (parallel, "computes otherwise than the model, by sequence parallelism: it sees a part of the video; run it"),
        (grouped, "changes weights while gradients need them, by group offloading of diffusers; load with offload gr"),
        (sequential, "changes weights while gradients need them, by enable_sequential_cpu_offload; load with offload"),
        (cast, "changes weights while gradients need them, by layerwise casting of diffusers; load it in bfloat16"),
        (skipping, "computes otherwise than the model, by layers that are skipped; let the pipeline's guider"),
    ],
)
def test_what_moves_weights_or_leaves_layers_out_is_refused(
    generator: Generator, change: Callable[[WanPipeline], None], message: str
) -> None:
    classifier = tiny_classifier(generator)
    change(generator.pipeline)
    with pytest.raises(ModelError, match=f"tiny: its WanTransformer3DModel {message}"):
        Guide(generator, classifier, [parse("a red circle moving up", LABELS)], GuidanceConfig())


class Negating(WanAttnProcessor):
    """As patches for negative prompts do: what another text gives is taken off."""

    def __call__(self, attn: Any, hidden_states: torch.Tensor, text: Any = None, *rest: Any) -> torch.Tensor:
        wanted = super().__call__(attn, hidden_states, text, *rest)
        return 1.5 * wanted - 0.5 * super().__call__(attn, hidden_states, 0 * text, *rest)


def test_attention_that_is_patched_for_negative_prompts_is_refused(generator: Generator) -> None:
    plain = sample(generator, guided=False)
    for block in generator.blocks:
        block.attn2.set_processor(Negating())
    assert not torch.equal(sample(generator, guided=False), plain)
    with pytest.raises(ModelError, match="its layer 0 calls attention more than once where it reads the prompt.*NAG"):
        sample(generator)
    assert torch.isfinite(sample(generator, guided=False)).all()


def test_a_pipeline_that_begins_anew_is_refused() -> None:
    """AnimateDiff with FreeInit: plainly it is called as ever."""
    case, asked = AnimateDiff(), parse(PROMPTS[1], LABELS)
    pipeline = case.build()
    generator = wrap_pipeline(pipeline, "tiny")
    options = generator.options(case.size) | {"prompt": PROMPTS[1], "output_type": "latent"}
    guided = cvg.guide(generator, Rules.of(generator, LABELS, case.size, layers=case.layers))
    pipeline.enable_free_init(num_iters=2)
    with pytest.raises(ModelError, match="FreeInit denoises several times.*; call disable_free_init of the pipeline"):
        guided(**options, num_inference_steps=12)
    assert guided(**options, num_inference_steps=1, guided_steps=0).frames.isfinite().all()
    pipeline.disable_free_init()
    assert generator.encode([asked]).columns_BTE.any()


def test_gradients_that_are_off_are_put_on_or_refused(generator: Generator) -> None:
    wanted = sample(generator)
    with torch.no_grad():
        assert torch.equal(sample(generator), wanted)
    with torch.inference_mode(), pytest.raises(ModelError, match="torch.inference_mode rules out"):
        sample(generator)
    with torch.inference_mode():
        loaded = wrap_pipeline(tiny_pipeline(), "tiny")
    with pytest.raises(ModelError, match="was loaded under torch.inference_mode"):
        sample(loaded)
    assert torch.equal(sample(generator), wanted)


def whole(pipeline: WanPipeline) -> None:
    pipeline.transformer = torch.compile(pipeline.transformer, backend="eager", fullgraph=True)


def in_place(pipeline: WanPipeline) -> None:
    pipeline.transformer.compile(backend="eager", fullgraph=True)


def blocks(pipeline: WanPipeline) -> None:
    pipeline.transformer.compile_repeated_blocks(backend="eager", fullgraph=True)


@pytest.mark.parametrize("compiling", [whole, in_place, blocks])
@pytest.mark.parametrize("checkpointing", [False, True])
def test_a_network_that_its_user_compiled_is_guided_as_any_other(
    generator: Generator, compiling: Callable[[WanPipeline], None], checkpointing: bool
) -> None:
    wanted = sample(generator)
    compiling(generator.pipeline)
    generator.checkpointing = checkpointing
    torch.testing.assert_close(sample(generator), wanted, atol=1e-3, rtol=1e-3)


@pytest.mark.parametrize(
    ("pipeline", "missing", "message"),
    [
        (tiny_pipeline, "transformer", "no transformer;"),
        (tiny_pipeline, "text_encoder", "no text_encoder;"),
        (tiny_pipeline, "vae", "no vae;"),
        (lambda: build(0, 1, boundary_ratio=0.875), "transformer_2", "no transformer_2;"),
        (lambda: build(0, 1, boundary_ratio=0.875), "transformer", "no transformer;"),
    ],
)
def test_a_pipeline_without_a_part_is_one_message(
    pipeline: Callable[[], WanPipeline], missing: str, message: str
) -> None:
    loaded = pipeline()
    setattr(loaded, missing, None)
    with pytest.raises(ModelError, match=f"generator half: has {message} load the pipeline with all of its parts"):
        wrap_pipeline(loaded, "half")
