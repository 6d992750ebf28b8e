"""Pipelines that lack a part, or are set so that no gradient reaches the latents: one message, and no change."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from diffusers import (
    FirstBlockCacheConfig,
    MagCacheConfig,
    PyramidAttentionBroadcastConfig,
    WanPipeline,
    attention_backend,
)

from cvg.common.errors import ModelError
from cvg.composition import parse
from cvg.generators import Generator, wrap_pipeline
from cvg.guidance.config import GuidanceConfig
from cvg.guidance.sampler import GuidedSampler
from tests.generators.families.test_wan import build
from tests.helpers.labels import LABELS
from tests.helpers.tiny import STEPS, tiny_classifier, tiny_pipeline

PROMPTS = ["a red circle to the left of a blue square", "a green triangle moving up"]


@pytest.fixture
def generator() -> Generator:
    return wrap_pipeline(tiny_pipeline(), "tiny")


def sample(generator: Generator, guided: bool = True) -> torch.Tensor:
    sampler = GuidedSampler(generator, tiny_classifier(generator), GuidanceConfig(threshold=None, smoothing=1))
    return sampler(PROMPTS, [0, 1], guided=guided, steps=STEPS, size=(5, 32, 32)).video_BCFHW


CACHES = [
    FirstBlockCacheConfig(threshold=0.1),
    PyramidAttentionBroadcastConfig(
        cross_attention_block_skip_range=2,
        current_timestep_callback=lambda: 500,
        cross_attention_block_identifiers=("blocks",),
    ),
    MagCacheConfig(num_inference_steps=STEPS, mag_ratios=[1.0] * STEPS),
]


@pytest.mark.parametrize("cache", CACHES, ids=lambda cache: type(cache).__name__)
def test_a_step_cache_is_refused_and_left_as_it_is(generator: Generator, cache: Any) -> None:
    wanted, network = sample(generator), generator.pipeline.transformer
    network.enable_cache(cache)
    refused = pytest.raises(ModelError, match=r"tiny: its WanTransformer3DModel has a step cache .*disable_cache")
    with refused:
        sample(generator)
    with refused:  # what a recording begins with
        generator.encode([parse("a red circle moving up", LABELS)])
    assert network.is_cache_enabled
    network.disable_cache()
    assert torch.equal(sample(generator), wanted)


def test_an_attention_backend_without_maps_is_refused(generator: Generator, monkeypatch: pytest.MonkeyPatch) -> None:
    with attention_backend("_native_math"):
        assert torch.isfinite(sample(generator)).all()
    with attention_backend("flex"), pytest.raises(ModelError, match="attention backend flex, off which no maps"):
        sample(generator)
    for block in generator.blocks:
        block.attn2.processor._attention_backend = "sage"
    with pytest.raises(ModelError, match="attention backend sage, off which no maps"):
        sample(generator)


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
