"""Mochi 1: text-to-video by flow matching, joint attention over video and text (``MochiPipeline``)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from diffusers.pipelines.mochi.pipeline_mochi import linear_quadratic_schedule
from torch import Tensor
from typing_extensions import override

from cvg.common.sizes import Size
from cvg.composition import Composition
from cvg.diffusion.schedule import Schedule, flow_schedule
from cvg.generators.calls import MASKED
from cvg.generators.conditioning import States
from cvg.generators.families.standardised import StandardisedGenerator
from cvg.grounding.keys import entity_columns

THRESHOLD_NOISE = 0.025
"""Noise level that the first half of the pipeline's steps covers, in equal parts; it is a constant there too."""


class MochiGenerator(StandardisedGenerator):
    """Adapter of ``MochiPipeline``.

    The T5 tokens lie after the video's in one sequence, without padding: each sample is attended by itself. The
    network's time is 1000 times the share of the clean latents, and it predicts clean - noise.
    """

    embeddings = MASKED
    text_position = "last"
    attention_name = "attn1"

    @property
    @override
    def compression(self) -> tuple[int, int]:
        return self.pipeline.vae_temporal_scale_factor, self.pipeline.vae_spatial_scale_factor

    @property
    @override
    def noise_dtype(self) -> torch.dtype:
        dtype: torch.dtype = self.pipeline.text_encoder.dtype
        return dtype

    @override
    def moments(self, frames: int) -> tuple[Tensor, Tensor]:
        mean, std = super().moments(frames)
        return mean, std / self.pipeline.vae.config.scaling_factor

    @property
    @override
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
    def schedule(self, steps: int, size: Size) -> Schedule:
        sigmas = linear_quadratic_schedule(steps, THRESHOLD_NOISE)
        return flow_schedule(self.pipeline.scheduler, steps, self.device, sigmas=sigmas)

    @override
    def options(self, size: Size) -> dict[str, Any]:
        return super().options(size) | {"max_sequence_length": self.max_sequence_length}
