"""Cosmos Predict 1: text-to-video by EDM diffusion, cross-attention to T5 states (``CosmosTextToWorldPipeline``)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from diffusers.utils.torch_utils import randn_tensor
from torch import Tensor
from typing_extensions import override

from cvg.common.sizes import Size
from cvg.composition import Composition
from cvg.diffusion.schedule import Schedule
from cvg.generators.conditioning import States
from cvg.generators.families.standardised import StandardisedGenerator
from cvg.generators.steps import Edit
from cvg.grounding.keys import entity_columns

FPS = 30
"""The pipeline's default; the network's positions are in seconds."""


class CosmosGenerator(StandardisedGenerator):
    """Adapter of ``CosmosTextToWorldPipeline``.

    Text keys are 512 T5 tokens; padded rows are zero and are attended. The pipeline's latents are x0 + sigma eps, with
    clean ones of deviation sigma_data = 0.5 and sigma from 80 down. Here they are what its network reads: divided by
    sqrt(sigma^2 + sigma_data^2), of size 1 at every step. The network's output is then, up to its sign, the velocity v
    of that variance-preserving schedule, at timestep log(sigma) / 4. The initial noise is handed over as it was drawn:
    the scale there leaves the clean latents out, one part in 50 000. Diffusers needs torchvision for the released
    models (``concat_padding_mask``).
    """

    @override
    def encode_prompts(self, prompts: Sequence[str]) -> States:
        states, _ = self.pipeline.encode_prompt(
            list(prompts), do_classifier_free_guidance=False, max_sequence_length=self.max_sequence_length
        )
        return {"encoder_hidden_states": states.to(self.dtype)}

    @override
    def entity_columns(self, composition: Composition) -> Tensor:
        return entity_columns(composition, self.pipeline.tokenizer, self.max_sequence_length)

    @override
    def predict(self, latents: Tensor, timestep: Tensor, states: States) -> Tensor:
        z, scale = latents.to(self.dtype), self.pipeline.vae_scale_factor_spatial
        height, width = latents.shape[-2:]
        output: Tensor = self.network(
            hidden_states=z,
            timestep=timestep.expand(latents.shape[0]).to(self.dtype),
            fps=FPS,
            padding_mask=z.new_zeros(1, 1, height * scale, width * scale),
            return_dict=False,
            **states,
        )[0]
        return -output if self.pipeline.scheduler.config.prediction_type == "epsilon" else output

    def _scales(self, steps: int) -> tuple[Tensor, Tensor, Tensor]:
        """Timesteps (N,), sigmas (N + 1,), and what the pipeline's latents are divided by to be those here (N + 1,)."""
        scheduler = self.pipeline.scheduler
        scheduler = type(scheduler).from_config(scheduler.config)
        scheduler.set_timesteps(steps, device=self.device)
        sigmas, sigma_data = scheduler.sigmas.double(), scheduler.config.sigma_data
        scales = (sigmas.square() + sigma_data**2).sqrt()
        scales[-1] = sigma_data
        return scheduler.timesteps, sigmas, scales

    @override
    def schedule(self, steps: int, size: Size) -> Schedule:
        timesteps, sigmas, scales = self._scales(steps)
        return Schedule(timesteps, self.pipeline.scheduler.config.sigma_data / scales, sigmas / scales, "v")

    @override
    def at_network_calls(self, edit: Edit, steps: int) -> Edit:
        scales = self._scales(steps)[-1].tolist()

        def change(step: int, held: Tensor) -> Tensor:
            z = held / scales[step]
            edited = edit(step, z)
            return held if edited is z else edited * scales[step]

        return change

    @override
    def rescaled_result(self, final: Tensor) -> Tensor:
        return final / self.pipeline.scheduler.config.sigma_data

    @override
    def moments(self, frames: int) -> tuple[Tensor, Tensor]:
        # Some VAEs have them frame by frame, some have none.
        vae = self.pipeline.vae
        channels, mean, std = vae.config.latent_channels, vae.config.latents_mean, vae.config.latents_std
        both = [[0.0] * channels, [1.0] * channels] if mean is None else [mean, std]
        mean, std = (torch.tensor(each).view(1, channels, -1, 1, 1)[:, :, :frames] for each in both)
        return mean.to(self.device, vae.dtype), std.to(self.device, vae.dtype)

    @override
    def initial_latents(self, generators: Sequence[torch.Generator], size: Size) -> Tensor:
        frames, height, width = size
        pipeline = self.pipeline
        latent_frames = (frames - 1) // pipeline.vae_scale_factor_temporal + 1
        rows, columns = (side // pipeline.vae_scale_factor_spatial for side in (height, width))
        shape = (len(generators), self.network.config.in_channels, latent_frames, rows, columns)
        return randn_tensor(shape, list(generators), self.device, torch.float32)

    @override
    def options(self, size: Size) -> dict[str, Any]:
        return super().options(size) | {"max_sequence_length": self.max_sequence_length, "fps": FPS}
