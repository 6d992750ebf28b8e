"""Mochi 1."""

from __future__ import annotations

import pytest
import torch
from diffusers import (
    AutoencoderKLMochi,
    FlowMatchEulerDiscreteScheduler,
    MochiPipeline,
    MochiTransformer3DModel,
)
from torch import Tensor

from cvg.common.sizes import Size
from cvg.generators import Generator
from tests.helpers.conformance import COMPOSITIONS, FirstOrder
from tests.helpers.parts import t5_encoder, t5_tokenizer


class TestMochi(FirstOrder):
    size = Size(7, 32, 48)

    def build(self) -> MochiPipeline:
        torch.manual_seed(0)
        tokenizer = t5_tokenizer(256)
        transformer = MochiTransformer3DModel(
            num_attention_heads=2,
            attention_head_dim=8,
            num_layers=3,
            pooled_projection_dim=16,
            text_embed_dim=16,
            time_embed_dim=4,
            max_sequence_length=24,
        )
        torch.nn.init.normal_(transformer.pos_frequencies)  # else positions do nothing
        with torch.no_grad():
            transformer.proj_out.weight.mul_(0.3)  # the last step is long: a rougher velocity could not be inverted
        vae = AutoencoderKLMochi(
            encoder_block_out_channels=(32, 32, 32, 32),
            decoder_block_out_channels=(32, 32, 32, 32),
            layers_per_block=(1, 1, 1, 1, 1),
            scaling_factor=1.1,
        )
        scheduler = FlowMatchEulerDiscreteScheduler(invert_sigmas=True)  # as released
        pipeline = MochiPipeline(scheduler, vae, t5_encoder(len(tokenizer)), tokenizer, transformer)
        pipeline.set_progress_bar_config(disable=True)
        return pipeline

    def test_time_runs_from_0_to_1000_and_noise_from_1_to_0(self, generator: Generator) -> None:
        schedule = generator.schedule(self.steps, self.size)
        torch.testing.assert_close(schedule.timesteps.double(), 1000 * (1 - schedule.levels[:-1]))
        assert float(schedule.levels[0]) == 1 and float(schedule.levels[-1]) == 0

    @pytest.mark.parametrize("grad", [False, True])
    def test_each_sample_attends_its_own_words(self, generator: Generator, latents: Tensor, grad: bool) -> None:
        """Attended without padding: with columns of ones, text and video share the attention, and padding has none."""
        conditioning = generator.encode(COMPOSITIONS)
        mask = conditioning.states["encoder_attention_mask"]
        assert mask.sum(1).tolist() == [13, 9]
        columns = torch.stack([mask, ~mask], dim=2).float()
        z = latents.clone().requires_grad_(grad)
        maps = generator.entity_maps(
            z, self.timestep(generator), type(conditioning)(conditioning.states, columns), self.layers
        )
        assert maps[:, :, :, 0].min() > 0 and maps[:, :, :, 0].max() < 1
        assert maps[:, :, :, 1].abs().max() == 0
