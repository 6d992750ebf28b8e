"""LTX-Video, with the plain decoder of 0.9 and that of 0.9.1 and later, which is told a timestep."""

from __future__ import annotations

import torch
from diffusers import AutoencoderKLLTXVideo, FlowMatchEulerDiscreteScheduler, LTXPipeline, LTXVideoTransformer3DModel
from torch import Tensor

from cvg.common.sizes import Size
from cvg.generators import Generator, wrap_pipeline
from tests.helpers.conformance import FirstOrder
from tests.helpers.parts import t5_encoder, t5_tokenizer


class TestLTX(FirstOrder):
    size = Size(9, 64, 96)
    timestep_conditioning = False

    def build(self) -> LTXPipeline:
        torch.manual_seed(0)
        tokenizer = t5_tokenizer(128)
        vae = AutoencoderKLLTXVideo(
            latent_channels=8,
            block_out_channels=(4, 4, 4, 4),
            decoder_block_out_channels=(4, 4, 4, 4),
            layers_per_block=(1, 1, 1, 1, 1),
            decoder_layers_per_block=(1, 1, 1, 1, 1),
            timestep_conditioning=self.timestep_conditioning,
            scaling_factor=0.8,
        )
        vae.latents_mean.copy_(torch.randn(8))
        vae.latents_std.copy_(0.5 + torch.rand(8))
        transformer = LTXVideoTransformer3DModel(
            in_channels=8,
            out_channels=8,
            num_attention_heads=2,
            attention_head_dim=12,
            cross_attention_dim=24,
            num_layers=3,
            caption_channels=16,
        )
        # As released.
        scheduler = FlowMatchEulerDiscreteScheduler(
            use_dynamic_shifting=True,
            base_shift=0.95,
            max_shift=2.05,
            base_image_seq_len=1024,
            max_image_seq_len=4096,
            shift_terminal=0.1,
        )
        pipeline = LTXPipeline(scheduler, vae, t5_encoder(len(tokenizer)), tokenizer, transformer)
        pipeline.set_progress_bar_config(disable=True)
        return pipeline

    def test_the_schedule_is_that_of_the_size(self, generator: Generator) -> None:
        small, large = generator.schedule(4, self.size), generator.schedule(4, (65, 512, 768))
        assert (large.sigmas[1:3] > small.sigmas[1:3] + 0.01).all()

    def test_padded_keys_get_nothing(self, generator: Generator, latents: Tensor) -> None:
        """The entities' share of all keys is their share of the prompt's keys."""
        conditioning = generator.encode_prompts(["a red circle moving up"])
        mask = conditioning["encoder_attention_mask"]
        assert mask.shape == (1, 128) and 0 < mask.sum() < 20
        changed = {name: state.clone() for name, state in conditioning.items()}
        changed["encoder_hidden_states"][~mask] += 1
        with torch.no_grad():
            predictions = [generator.predict(latents[:1], torch.tensor(900.0), s) for s in (conditioning, changed)]
        assert torch.equal(*predictions)


class TestLTXDecoderTimestep:
    size = TestLTX.size

    def test_decoding_is_the_pipelines_own(self) -> None:
        family = TestLTX()
        family.timestep_conditioning = True
        generator = wrap_pipeline(family.build(), "tiny")
        latents = generator.initial_latents([torch.Generator().manual_seed(i) for i in range(2)], self.size)
        FirstOrder.test_decoding_is_the_pipelines_own(family, generator, latents)
        vae = generator.pipeline.vae
        noisier = vae.decode(torch.zeros(1, 8, 2, 2, 3), torch.full((1,), 0.5), return_dict=False)[0]
        plain = vae.decode(torch.zeros(1, 8, 2, 2, 3), torch.zeros(1), return_dict=False)[0]
        assert not torch.allclose(noisier, plain)  # the timestep matters
