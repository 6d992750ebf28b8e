"""LTX-Video: flow matching on packed latents, cross-attention to T5 states (``LTXPipeline`` and image-to-video)."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from diffusers.pipelines.ltx.pipeline_ltx import calculate_shift
from torch import Tensor
from typing_extensions import override

from cvg.common.sizes import Grid, Size
from cvg.composition import Composition
from cvg.diffusion.schedule import Schedule, flow_schedule
from cvg.generators.base import Generator
from cvg.generators.calls import MASKED
from cvg.generators.conditioning import States
from cvg.generators.image_to_video import ImageToVideo
from cvg.grounding.keys import entity_columns

FRAME_RATE = 25
"""The pipeline's default; the network's positions are in seconds."""


class LTXGenerator(Generator):
    """Adapter of ``LTXPipeline``.

    Text keys are 128 T5 tokens, of which padded ones are masked. The pipeline keeps latents as a sequence
    (B, F H' W', C), one token per latent position. How far the schedule is shifted depends on the number of these
    tokens.
    """

    embeddings = MASKED

    @property
    @override
    def compression(self) -> tuple[int, int]:
        return self.pipeline.vae_temporal_compression_ratio, self.pipeline.vae_spatial_compression_ratio

    @property
    @override
    def max_sequence_length(self) -> int:
        """Text keys the transformer was trained with: 128, or fewer where the tokenizer says so."""
        return min(128, int(self.pipeline.tokenizer.model_max_length))

    @override
    def encode_prompts(self, prompts: Sequence[str]) -> States:
        states, mask, _, _ = self.pipeline.encode_prompt(
            list(prompts), do_classifier_free_guidance=False, max_sequence_length=self.max_sequence_length
        )
        return {"encoder_hidden_states": states.to(self.dtype), "encoder_attention_mask": mask}

    @override
    def entity_columns(self, composition: Composition) -> Tensor:
        return entity_columns(composition, self.pipeline.tokenizer, self.max_sequence_length)

    @override
    def predict(self, latents: Tensor, timestep: Tensor, states: States) -> Tensor:
        frames, height, width = latents.shape[-3:]
        pipeline = self.pipeline
        spatial = pipeline.vae_spatial_compression_ratio
        prediction: Tensor = self.network(
            hidden_states=self.pack(latents).to(self.dtype),
            timestep=self._timesteps(timestep, latents),
            num_frames=frames,
            height=height,
            width=width,
            rope_interpolation_scale=(pipeline.vae_temporal_compression_ratio / FRAME_RATE, spatial, spatial),
            return_dict=False,
            **states,
        )[0]
        return self._spread(prediction, Grid(frames, height, width))

    def _timesteps(self, timestep: Tensor, latents: Tensor) -> Tensor:
        """What the network is told of the noise of latents: a timestep for each video, or for each of its tokens."""
        return timestep.expand(latents.shape[0])

    @override
    def schedule(self, steps: int, size: Size) -> Schedule:
        config = self.pipeline.scheduler.config
        mu = calculate_shift(
            math.prod(self._latent_size(size)),
            config.get("base_image_seq_len", 256),
            config.get("max_image_seq_len", 4096),
            config.get("base_shift", 0.5),
            config.get("max_shift", 1.15),
        )
        sigmas = np.linspace(1.0, 1 / steps, steps)
        return flow_schedule(self.pipeline.scheduler, steps, self.device, sigmas=sigmas, mu=mu)

    @override
    def normalise(self, raw: Tensor) -> Tensor:
        vae = self.pipeline.vae
        normal: Tensor = self.pipeline._normalize_latents(
            raw, vae.latents_mean, vae.latents_std, vae.config.scaling_factor
        )
        return normal

    @override
    @torch.no_grad()
    def decode_latents(self, latents: Tensor) -> Tensor:
        vae = self.pipeline.vae
        raw = self.pipeline._denormalize_latents(
            latents.to(self.device), vae.latents_mean, vae.latents_std, vae.config.scaling_factor
        )
        # Decoders since 0.9.1 are told how noisy the latents are; the pipeline's default is not at all.
        timestep = torch.zeros(len(latents), device=self.device, dtype=vae.dtype)
        decoded: Tensor = vae.decode(
            raw.to(vae.dtype), timestep if vae.config.timestep_conditioning else None, return_dict=False
        )[0]
        return decoded.float().clamp(-1, 1)

    @override
    def options(self, size: Size) -> dict[str, Any]:
        return super().options(size) | {"max_sequence_length": self.max_sequence_length, "frame_rate": FRAME_RATE}

    def _latent_size(self, size: Size) -> Grid:
        frames, height, width = size
        spatial = self.pipeline.vae_spatial_compression_ratio
        return Grid(
            (frames - 1) // self.pipeline.vae_temporal_compression_ratio + 1, height // spatial, width // spatial
        )

    def _spread(self, packed_BNC: Tensor, grid: Grid) -> Tensor:
        spread: Tensor = self.pipeline._unpack_latents(packed_BNC, *grid)
        return spread

    @override
    def pack(self, latents: Tensor) -> Tensor:
        packed: Tensor = self.pipeline._pack_latents(latents)
        return packed

    @override
    def unpack(self, latents: Tensor, size: Size) -> Tensor:
        return self._spread(latents, self._latent_size(size))


class LTXImageGenerator(LTXGenerator, ImageToVideo):
    """Adapter of ``LTXImageToVideoPipeline``.

    The first latent frame is the image's, from the first step to the last; its tokens are told the timestep 0.
    """

    given_frames = 1

    @override
    def _timesteps(self, timestep: Tensor, latents: Tensor) -> Tensor:
        noisy = latents.new_ones(len(latents), *latents.shape[2:])
        noisy[:, 0] = 0
        return timestep.expand(len(latents))[:, None] * noisy.flatten(1)
