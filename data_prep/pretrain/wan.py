"""shapes-wan: the parts of a small ``WanPipeline``, trained by flow matching."""

from __future__ import annotations

from typing import Any

from diffusers import AutoencoderKLWan, UniPCMultistepScheduler, WanPipeline, WanTransformer3DModel
from torch import Tensor
from transformers import UMT5Config, UMT5EncoderModel
from typing_extensions import override

from data_prep.pretrain.family import TEXT_DIM, TEXT_ENCODER, Family, shifted, start_with_little_noise

LATENT_CHANNELS = 16
SHIFT = 3.0
"""Timestep shift of the shipped scheduler."""
TRAINING_SHIFT = 5.0
"""That of the training distribution: what is drawn at all, and where, is settled at high noise."""


class Wan(Family):
    """The true classes of Wan at a small width; the text is read by cross-attention."""

    name = "shapes-wan"
    prediction = "flow"
    vae_class = AutoencoderKLWan
    text_encoder_class = UMT5EncoderModel
    masked = True

    @override
    def vae(self) -> AutoencoderKLWan:
        """4x in time, 8x in space (2x by patches, as in Wan 2.2)."""
        vae = AutoencoderKLWan(
            base_dim=16,
            decoder_base_dim=32,
            z_dim=LATENT_CHANNELS,
            dim_mult=[1, 2, 2],
            num_res_blocks=1,
            temperal_downsample=[True, True],
            in_channels=12,
            out_channels=12,
            patch_size=2,
            scale_factor_temporal=4,
            scale_factor_spatial=8,
            latents_mean=[0.0] * LATENT_CHANNELS,
            latents_std=[1.0] * LATENT_CHANNELS,
        )
        start_with_little_noise(vae.quant_conv.bias)
        return vae

    @override
    def standardise(self, vae: Any, latents: Tensor) -> None:
        vae.register_to_config(
            latents_mean=latents.mean((0, 2, 3, 4)).tolist(), latents_std=latents.std((0, 2, 3, 4)).tolist()
        )

    @override
    def text_encoder(self, vocabulary: int) -> UMT5EncoderModel:
        """3 layers of width 128."""
        return UMT5EncoderModel(UMT5Config(vocab_size=vocabulary, **TEXT_ENCODER))

    @override
    def transformer(self) -> WanTransformer3DModel:
        """6 blocks of 4 heads of 32, one token per latent position."""
        return WanTransformer3DModel(
            patch_size=(1, 1, 1),
            num_attention_heads=4,
            attention_head_dim=32,
            in_channels=LATENT_CHANNELS,
            out_channels=LATENT_CHANNELS,
            text_dim=TEXT_DIM,
            freq_dim=64,
            ffn_dim=512,
            num_layers=6,
            cross_attn_norm=True,
            qk_norm="rms_norm_across_heads",
            rope_max_seq_len=64,
        )

    @override
    def pipeline(self, tokenizer: Any, text_encoder: Any, vae: Any, transformer: Any) -> WanPipeline:
        scheduler = UniPCMultistepScheduler(prediction_type="flow_prediction", use_flow_sigmas=True, flow_shift=SHIFT)
        return WanPipeline(tokenizer, text_encoder, vae, scheduler, transformer=transformer)

    @override
    def noise_levels(self, uniform: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        sigma = shifted(uniform, TRAINING_SHIFT)
        return sigma * 1000, 1 - sigma, sigma
