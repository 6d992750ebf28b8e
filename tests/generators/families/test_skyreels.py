"""SkyReels-V2, the text-to-video models without diffusion forcing."""

from __future__ import annotations

import torch
from diffusers import AutoencoderKLWan, SkyReelsV2Pipeline, SkyReelsV2Transformer3DModel, UniPCMultistepScheduler

from cvg.common.sizes import Size
from cvg.generators import Generator
from cvg.generators.families.skyreels import SkyReelsGenerator
from data_prep.pretrain.family import TEXT_DIM
from data_prep.pretrain.text import build_tokenizer
from data_prep.pretrain.wan import Wan
from tests.helpers.conformance import Conformance


class TestSkyReels(Conformance):
    size = Size(5, 32, 48)

    def build(self) -> SkyReelsV2Pipeline:
        torch.manual_seed(0)
        tokenizer = build_tokenizer()
        vae = AutoencoderKLWan(
            base_dim=4,
            z_dim=4,
            dim_mult=[1, 1, 1, 1],
            num_res_blocks=1,
            temperal_downsample=[False, True, True],
            latents_mean=[-0.2, 0.1, 0.0, 0.3],
            latents_std=[0.5, 0.8, 1.2, 0.6],
        )
        transformer = SkyReelsV2Transformer3DModel(
            num_attention_heads=2,
            attention_head_dim=12,
            in_channels=4,
            out_channels=4,
            text_dim=TEXT_DIM,
            freq_dim=16,
            ffn_dim=32,
            num_layers=3,
            rope_max_seq_len=16,
        )
        scheduler = UniPCMultistepScheduler(prediction_type="flow_prediction", use_flow_sigmas=True, flow_shift=8.0)
        encoder = Wan().text_encoder(len(tokenizer))
        pipeline = SkyReelsV2Pipeline(tokenizer, encoder, transformer, vae, scheduler)
        pipeline.set_progress_bar_config(disable=True)
        return pipeline

    def test_it_is_its_own_family(self, generator: Generator) -> None:
        assert type(generator) is SkyReelsGenerator and generator.identity()["class"] == "SkyReelsV2Pipeline"
