"""Allegro."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from diffusers import (
    AllegroPipeline,
    AllegroTransformer3DModel,
    AutoencoderKLAllegro,
    EulerAncestralDiscreteScheduler,
    EulerDiscreteScheduler,
)
from torch import nn

from cvg.common.sizes import Size
from cvg.generators import Generator, wrap_pipeline
from tests.helpers.conformance import PROMPTS, FirstOrder
from tests.helpers.parts import t5_encoder, t5_tokenizer


class TestAllegro(FirstOrder):
    size = Size(24, 32, 32)

    def build(self) -> AllegroPipeline:
        torch.manual_seed(0)
        tokenizer = t5_tokenizer(64)
        transformer = AllegroTransformer3DModel(
            num_attention_heads=2,
            attention_head_dim=12,
            num_layers=3,
            cross_attention_dim=24,
            sample_height=8,
            sample_width=8,
            sample_frames=6,
            caption_channels=16,
        )
        transformer.proj_out.weight.data *= 0.1  # a trained network is smoother than a random one, and can be inverted
        vae = AutoencoderKLAllegro(
            down_block_types=("AllegroDownBlock3D",) * 3,
            up_block_types=("AllegroUpBlock3D",) * 3,
            block_out_channels=(4, 4, 4),
            temporal_downsample_blocks=(True, True, False),
            temporal_upsample_blocks=(False, True, True),
            layers_per_block=1,
            norm_num_groups=2,
            sample_size=32,
            scaling_factor=0.5,
        )
        scheduler = EulerDiscreteScheduler(timestep_spacing="leading", steps_offset=1)
        pipeline = AllegroPipeline(tokenizer, t5_encoder(len(tokenizer)), vae, transformer, scheduler)
        pipeline.set_progress_bar_config(disable=True)
        return pipeline

    @pytest.mark.parametrize("size", [(8, 16, 24), (9, 24, 16)])
    def test_the_released_scheduler(self, size: Size, monkeypatch: pytest.MonkeyPatch) -> None:
        """It draws noise at every step, from the generators that drew the first."""
        generator = wrap_pipeline(self.build(), "tiny")
        generator.pipeline.scheduler = EulerAncestralDiscreteScheduler()
        monkeypatch.setattr(self, "size", size)
        noise = [torch.Generator().manual_seed(i) for i in range(2)]
        latents = generator.initial_latents(noise, size)
        ours = generator.sample(PROMPTS, latents, self.steps, None, size, lambda step, z: z, noise)
        assert torch.equal(ours, self.plain(generator, "latent"))

    def test_the_network_reads_what_the_pipeline_gives_it(self, generator: Generator) -> None:
        """Positions of a wide video and the mask of padded tokens among it."""
        size, given = (8, 16, 24), []
        latents = generator.initial_latents([torch.Generator(), torch.Generator()], size)

        def note(module: nn.Module, args: Any, options: dict[str, Any]) -> None:
            given.append({name: options[name] for name in ("timestep", "image_rotary_emb", "encoder_attention_mask")})

        handle = generator.network.register_forward_pre_hook(note, with_kwargs=True)
        generator.sample(PROMPTS, latents, 1, 1.0, size)
        generator.predict(latents, generator.schedule(1, self.size).timesteps[0], generator.encode_prompts(PROMPTS))
        handle.remove()
        torch.testing.assert_close(*given, rtol=0, atol=0)
        assert given[0]["encoder_attention_mask"].float().mean() < 0.5

    @pytest.mark.parametrize(("frames", "latent_frames"), [(8, 2), (9, 3), (10, 3), (88, 22)])
    def test_frames(self, generator: Generator, frames: int, latent_frames: int) -> None:
        pipeline, size = generator.pipeline, (frames, 16, 24)
        theirs: Any = pipeline.prepare_latents(1, 4, *size, torch.float32, "cpu", torch.Generator())
        assert generator.initial_latents([torch.Generator()], size).shape == theirs.shape == (1, 4, latent_frames, 4, 6)
