"""shapes-cogvideox: the parts of a small ``CogVideoXPipeline``, trained by v-prediction.

It has the form of version 1.5: a token joins two latent frames. The VAE decodes latent frames by two, so with 4x in
time it takes 8 N + 1 frames and not the 13 of the shapes; with 2x it does. 13 frames become 7 latent ones, the first
is put in front once more, and the tokens are the same 4 x 8 x 8 as those of shapes-wan.
"""

from __future__ import annotations

import functools
from typing import Any

from diffusers import (
    AutoencoderKLCogVideoX,
    CogVideoXDDIMScheduler,
    CogVideoXPipeline,
    CogVideoXTransformer3DModel,
)
from torch import Tensor
from transformers import T5Config, T5EncoderModel
from typing_extensions import override

from cvg.shapes.renderer import FRAMES, SIZE
from data_prep.pretrain.family import MAX_TOKENS, TEXT_DIM, TEXT_ENCODER, Family, shifted, start_with_little_noise

LATENT_CHANNELS = 4
WIDTHS = (8, 32, 32)
"""Of the VAE at full, half and quarter resolution; the first costs most of its time."""
TIMES = 2
"""Frames that a latent stands for, and latent frames that a token joins."""
SNR_SHIFT = 3.0
"""That of version 2B."""
TRAINING_SHIFT = 1.7
"""Of the timesteps in training: with it, half of the noise levels are above 0.83, as in that of shapes-wan."""


def scheduler() -> CogVideoXDDIMScheduler:
    """As released."""
    return CogVideoXDDIMScheduler(
        prediction_type="v_prediction",
        rescale_betas_zero_snr=True,
        timestep_spacing="trailing",
        clip_sample=False,
        snr_shift_scale=SNR_SHIFT,
    )


class CogVideoX(Family):
    """The true classes of CogVideoX 1.5 at a small width; text and video attend to each other in one sequence."""

    name = "shapes-cogvideox"
    prediction = "v"
    vae_class = AutoencoderKLCogVideoX
    text_encoder_class = T5EncoderModel
    masked = False

    @override
    def vae(self) -> AutoencoderKLCogVideoX:
        """2x in time, 4x in space."""
        vae = AutoencoderKLCogVideoX(
            down_block_types=("CogVideoXDownBlock3D",) * len(WIDTHS),
            up_block_types=("CogVideoXUpBlock3D",) * len(WIDTHS),
            block_out_channels=WIDTHS,
            latent_channels=LATENT_CHANNELS,
            layers_per_block=1,
            norm_num_groups=4,
            temporal_compression_ratio=TIMES,
            sample_height=SIZE,
            sample_width=SIZE,
            scaling_factor=1.0,
        )
        start_with_little_noise(vae.encoder.conv_out.conv.bias)
        return vae

    @override
    def standardise(self, vae: Any, latents: Tensor) -> None:
        vae.register_to_config(scaling_factor=1 / float(latents.std()))

    @override
    def text_encoder(self, vocabulary: int) -> T5EncoderModel:
        """3 layers of width 128, gated as in T5 v1.1."""
        return T5EncoderModel(T5Config(vocab_size=vocabulary, feed_forward_proj="gated-gelu", **TEXT_ENCODER))

    @override
    def transformer(self) -> CogVideoXTransformer3DModel:
        """6 blocks of 4 heads of 32, a token of 2 x 2 x 2 latents, rotary positions."""
        latent_side = SIZE // 2 ** (len(WIDTHS) - 1)
        return CogVideoXTransformer3DModel(
            num_attention_heads=4,
            attention_head_dim=32,
            in_channels=LATENT_CHANNELS,
            out_channels=LATENT_CHANNELS,
            time_embed_dim=64,
            text_embed_dim=TEXT_DIM,
            num_layers=6,
            sample_width=latent_side,
            sample_height=latent_side,
            sample_frames=FRAMES,
            patch_size=2,
            patch_size_t=TIMES,
            temporal_compression_ratio=TIMES,
            max_text_seq_length=MAX_TOKENS,
            use_rotary_positional_embeddings=True,
            patch_bias=False,
        )

    @override
    def pipeline(self, tokenizer: Any, text_encoder: Any, vae: Any, transformer: Any) -> CogVideoXPipeline:
        return CogVideoXPipeline(tokenizer, text_encoder, vae, transformer, scheduler())

    @functools.cached_property
    def _alphas_squared(self) -> Tensor:
        alphas_squared: Tensor = scheduler().alphas_cumprod.float()
        return alphas_squared

    @override
    def noise_levels(self, uniform: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        timesteps = (shifted(uniform, TRAINING_SHIFT) * len(self._alphas_squared)).long()
        alphas_squared = self._alphas_squared[timesteps]
        return timesteps, alphas_squared.sqrt(), (1 - alphas_squared).sqrt()
