"""SANA-Video with Wan's VAE (480p) and LTX-2's (720p)."""

from __future__ import annotations

import inspect

import torch
from diffusers import (
    AutoencoderKLLTX2Video,
    AutoencoderKLWan,
    DPMSolverMultistepScheduler,
    SanaVideoPipeline,
    SanaVideoTransformer3DModel,
)
from torch import Tensor

from cvg.common.sizes import Size
from cvg.generators import Generator, wrap_pipeline
from tests.helpers.conformance import COMPOSITIONS, PROMPTS, Conformance
from tests.helpers.parts import gemma2_encoder, gemma_tokenizer

INSTRUCTION = "\n".join(inspect.signature(SanaVideoPipeline.__call__).parameters["complex_human_instruction"].default)


def wan_vae() -> AutoencoderKLWan:
    return AutoencoderKLWan(
        base_dim=4,
        z_dim=4,
        dim_mult=[1, 1, 1, 1],
        num_res_blocks=1,
        temperal_downsample=[False, True, True],
        latents_mean=[-0.2, 0.1, 0.0, 0.3],
        latents_std=[0.5, 0.8, 1.2, 0.6],
    )


def ltx2_vae() -> AutoencoderKLLTX2Video:
    vae = AutoencoderKLLTX2Video(
        latent_channels=4,
        block_out_channels=(8, 8, 8, 8),
        decoder_block_out_channels=(8, 16, 32),
        layers_per_block=(1, 1, 1, 1, 1),
        decoder_layers_per_block=(1, 1, 1, 1),
        decoder_spatial_padding_mode="zeros",  # latents of 2 x 2 are too small to reflect
        spatial_compression_ratio=32,
        temporal_compression_ratio=8,
    )
    vae.latents_mean.copy_(torch.tensor([-0.2, 0.1, 0.0, 0.3]))
    vae.latents_std.copy_(torch.tensor([0.5, 0.8, 1.2, 0.6]))
    return vae


def build(vae: AutoencoderKLWan | AutoencoderKLLTX2Video, patch: tuple[int, int, int]) -> SanaVideoPipeline:
    tokenizer = gemma_tokenizer(INSTRUCTION)
    transformer = SanaVideoTransformer3DModel(
        in_channels=4,
        out_channels=4,
        num_attention_heads=2,
        attention_head_dim=12,
        num_layers=3,
        num_cross_attention_heads=4,
        cross_attention_head_dim=6,
        cross_attention_dim=24,
        caption_channels=16,
        patch_size=patch,
        rope_max_seq_len=16,
    )
    scheduler = DPMSolverMultistepScheduler(prediction_type="flow_prediction", use_flow_sigmas=True, flow_shift=8.0)
    pipeline = SanaVideoPipeline(tokenizer, gemma2_encoder(len(tokenizer)), vae, transformer, scheduler)
    pipeline.set_progress_bar_config(disable=True)
    return pipeline


class TestSanaVideo(Conformance):
    size = Size(5, 32, 64)

    def build(self) -> SanaVideoPipeline:
        torch.manual_seed(0)
        return build(wan_vae(), (1, 2, 2))

    def words(self, generator: Generator) -> list[str]:
        """The last 299 of all tokens, after the first of all."""
        tokenizer = generator.pipeline.tokenizer
        before = len(tokenizer(INSTRUCTION).input_ids)
        ids = tokenizer(INSTRUCTION + PROMPTS[0]).input_ids
        padded = [*ids, *[tokenizer.pad_token_id] * (before + 298 - len(ids))]
        return [tokenizer.decode([i]).replace(" ", "") for i in [padded[0], *padded[-299:]]]

    def test_keys_are_where_the_states_change(self, generator: Generator) -> None:
        """Gemma is causal: another first colour changes the states from the first entity's first key on."""
        states = generator.encode_prompts([PROMPTS[0], PROMPTS[0].replace("red", "blue")])["encoder_hidden_states"]
        assert states.shape[1] == 300
        first = (states[0] != states[1]).any(-1).nonzero().flatten()[0]
        assert first == generator.entity_columns(COMPOSITIONS[0])[:, 0].nonzero().flatten()[0]

    def test_capitals_are_read_in_lower_case(self, generator: Generator) -> None:
        states = generator.encode_prompts([PROMPTS[0], PROMPTS[0].upper()])["encoder_hidden_states"]
        assert torch.equal(*states)

    def test_padded_keys_get_nothing(self, generator: Generator, latents: Tensor) -> None:
        states = generator.encode_prompts(PROMPTS[:1])
        mask = states["encoder_attention_mask"].bool()
        assert mask.shape == (1, 300) and 10 < mask.sum() < 30
        changed = {name: state.clone() for name, state in states.items()}
        changed["encoder_hidden_states"][~mask] += 1
        with torch.no_grad():
            predictions = [generator.predict(latents[:1], torch.tensor(900), each) for each in (states, changed)]
        assert torch.equal(*predictions)


class TestSanaVideo720p:
    """The other VAE: 8 frames and 32 x 32 pixels per latent."""

    size = Size(9, 64, 96)

    def test_sizes_and_decoding(self) -> None:
        torch.manual_seed(0)
        family, generator = TestSanaVideo(), wrap_pipeline(build(ltx2_vae(), (1, 1, 1)), "tiny")
        family.size, family.steps = self.size, 2
        latents = generator.initial_latents([torch.Generator().manual_seed(i) for i in range(2)], self.size)
        assert latents.shape == (2, 4, 2, 2, 3)
        family.test_sizes_agree(generator, latents)
        family.test_decoding_is_the_pipelines_own(generator, latents)
