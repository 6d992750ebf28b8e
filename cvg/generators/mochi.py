"""Mochi 1: text-to-video by flow matching, joint attention over video and text (``MochiPipeline``)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from diffusers.pipelines.mochi.pipeline_mochi import linear_quadratic_schedule
from torch import Tensor, nn
from typing_extensions import override

from cvg.composition import Composition
from cvg.generators.base import Generator, States
from cvg.generators.spans import entity_columns
from cvg.schedule import Schedule, flow_schedule

THRESHOLD_NOISE = 0.025
"""Noise level that the first half of the pipeline's steps covers, in equal parts; it is a constant there too."""


class MochiGenerator(Generator):
    """Adapter of ``MochiPipeline``.

    The T5 tokens lie after the video's in one sequence, without padding: each sample is attended by itself. The
    network's time is 1000 times the share of the clean latents, and it predicts clean - noise.
    """

    text = "last"

    @property
    @override
    def blocks(self) -> Sequence[nn.Module]:
        return list(self.network.transformer_blocks)

    @property
    @override
    def heads(self) -> int:
        return int(self.network.config.num_attention_heads)

    @override
    def attention(self, layer: int) -> nn.Module:
        module: nn.Module = self.network.transformer_blocks[layer].attn1
        return module

    @override
    def token_grid(self, latents: Tensor) -> tuple[int, int, int]:
        frames, height, width = latents.shape[-3:]
        patch = self.network.config.patch_size
        return frames, height // patch, width // patch

    @property
    def max_sequence_length(self) -> int:
        """Text keys at most: 256."""
        return int(self.network.config.max_sequence_length)

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
        prediction: Tensor = self.network(
            hidden_states=latents.to(self.dtype),
            timestep=timestep.expand(latents.shape[0]).to(self.dtype),
            return_dict=False,
            **states,
        )[0]
        return -prediction

    @override
    def schedule(self, steps: int, size: tuple[int, int, int]) -> Schedule:
        sigmas = linear_quadratic_schedule(steps, THRESHOLD_NOISE)
        return flow_schedule(self.pipeline.scheduler, steps, self.device, sigmas=sigmas)

    def _moments(self) -> tuple[Tensor, Tensor]:
        """Mean and deviation of the latents, by channel."""
        vae = self.pipeline.vae
        mean, std = (
            torch.tensor(values).view(1, -1, 1, 1, 1).to(vae.device, vae.dtype)
            for values in (vae.config.latents_mean, vae.config.latents_std)
        )
        return mean, std / vae.config.scaling_factor

    @override
    @torch.no_grad()
    def encode_video(self, video_BCFHW: Tensor) -> Tensor:
        vae = self.pipeline.vae
        mean, std = self._moments()
        mode = vae.encode(video_BCFHW.to(vae.device, vae.dtype)).latent_dist.mode()
        return ((mode - mean) / std).float()

    @override
    @torch.no_grad()
    def decode_latents(self, latents: Tensor) -> Tensor:
        vae = self.pipeline.vae
        mean, std = self._moments()
        decoded: Tensor = vae.decode(latents.to(vae.device, vae.dtype) * std + mean, return_dict=False)[0]
        return decoded.float().clamp(-1, 1)

    @override
    def initial_latents(self, generators: Sequence[torch.Generator], size: tuple[int, int, int]) -> Tensor:
        frames, height, width = size
        latents: Tensor = self.pipeline.prepare_latents(
            len(generators),
            self.network.config.in_channels,
            height,
            width,
            frames,
            self.pipeline.text_encoder.dtype,
            self.device,
            list(generators),
        )
        return latents

    @override
    def options(self, size: tuple[int, int, int]) -> dict[str, Any]:
        return super().options(size) | {"max_sequence_length": self.max_sequence_length}

    @override
    def pixel_size(self, grid: Sequence[int]) -> tuple[int, int, int]:
        frames, height, width = grid
        scale = self.pipeline.vae_spatial_scale_factor * self.network.config.patch_size
        return (frames - 1) * self.pipeline.vae_temporal_scale_factor + 1, height * scale, width * scale
