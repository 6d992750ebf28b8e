"""Latte."""

from __future__ import annotations

from typing import Any

import torch
from diffusers import AutoencoderKL, DDIMScheduler, LattePipeline, LatteTransformer3DModel
from torch import Tensor, nn

from cvg.common.sizes import Size
from cvg.generators import Generator
from tests.helpers.conformance import COMPOSITIONS, PROMPTS, FirstOrder
from tests.helpers.parts import t5_encoder, t5_tokenizer


class TestLatte(FirstOrder):
    size = Size(4, 16, 24)

    def build(self) -> LattePipeline:
        torch.manual_seed(0)
        tokenizer = t5_tokenizer(120)
        transformer = LatteTransformer3DModel(
            num_attention_heads=2,
            attention_head_dim=8,
            in_channels=4,
            out_channels=8,
            num_layers=3,
            cross_attention_dim=16,
            attention_bias=True,
            sample_size=8,
            patch_size=2,
            activation_fn="gelu-approximate",
            num_embeds_ada_norm=1000,
            norm_type="ada_norm_single",
            norm_elementwise_affine=False,
            caption_channels=16,
            video_length=4,
        )
        vae = AutoencoderKL(
            down_block_types=("DownEncoderBlock2D",) * 2,
            up_block_types=("UpDecoderBlock2D",) * 2,
            block_out_channels=(4, 4),
            norm_num_groups=2,
            latent_channels=4,
            scaling_factor=0.5,
        )
        scheduler = DDIMScheduler(beta_schedule="linear", clip_sample=False)
        pipeline = LattePipeline(tokenizer, t5_encoder(len(tokenizer)), vae, transformer, scheduler)
        pipeline.set_progress_bar_config(disable=True)
        return pipeline

    def explicit(
        self, rows: list[Tensor], sample: int, keys: Tensor, length: int, tokens: int, generator: Generator
    ) -> Tensor:
        """Frame by frame."""
        (matrix,) = rows
        frames = matrix[4 * sample : 4 * sample + 4]
        return frames[..., keys].sum(-1).transpose(0, 1).flatten(1)

    def test_batch_equals_one_by_one(self, generator: Generator, latents: Tensor) -> None:
        """A row of a batch does. A prompt encoded alone has no padding to attend, and its maps are larger."""
        timestep, conditioning = self.timestep(generator), generator.encode(COMPOSITIONS)
        with torch.no_grad():
            together = generator.entity_maps(latents, timestep, conditioning, self.layers)
            for i, composition in enumerate(COMPOSITIONS):
                row = generator.entity_maps(latents[i : i + 1], timestep, conditioning.rows([i]), self.layers)
                torch.testing.assert_close(together[i], row[0], atol=1e-6, rtol=1e-4)
                lonely = generator.encode([composition])
                alone = generator.entity_maps(latents[i : i + 1], timestep, lonely, self.layers)
                assert alone[:, :, :, 0].mean() > 2 * row[:, :, :, 0].mean()

    def test_the_network_reads_what_the_pipeline_gives_it(self, generator: Generator, latents: Tensor) -> None:
        """One prompt cut to its own tokens; several with zeros behind theirs."""
        given: list[Tensor] = []

        def note(module: nn.Module, args: Any, options: dict[str, Any]) -> None:
            given.append(options["encoder_hidden_states"])

        handle = generator.network.register_forward_pre_hook(note, with_kwargs=True)
        for prompts in (PROMPTS, PROMPTS[:1]):
            generator.sample(prompts, latents[: len(prompts)], 1, 1.0, self.size)
            assert torch.equal(given[-1], generator.encode_prompts(prompts)["encoder_hidden_states"])
        handle.remove()
        own = len(generator.pipeline.tokenizer(PROMPTS[0]).input_ids)
        assert given[-1].shape[1] == own and given[0].shape[1] == 120
        assert given[0][0, own:].abs().max() == 0 and torch.equal(given[0][0, :own], given[-1][0])
