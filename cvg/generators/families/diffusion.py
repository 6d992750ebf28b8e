"""What families share that take the schedulers of Stable Diffusion: DDIM, PNDM, Euler, DPM-Solver and their kin."""

from __future__ import annotations

import functools
from collections.abc import Sequence
from typing import Any

import torch
from diffusers import PNDMScheduler
from diffusers.utils import is_bs4_available, is_ftfy_available
from diffusers.utils.torch_utils import randn_tensor
from torch import Tensor
from typing_extensions import override

from cvg.common.sizes import Grid, Size
from cvg.diffusion.schedule import Schedule, diffusion_schedule
from cvg.generators.base import Generator
from cvg.generators.steps import Edit

CLEANS = is_bs4_available() and is_ftfy_available()
"""Whether pipelines that clean captions by default do so here: without these packages they warn and only lowercase."""


def clean_caption(pipeline: Any, prompt: str) -> str:
    """What a pipeline that cleans captions by default makes of a prompt."""
    [cleaned] = pipeline._text_preprocessing(prompt, clean_caption=CLEANS)
    return str(cleaned)


class DiffusionGenerator(Generator):
    """Families that predict noise (or v) and whose checkpoints come with any of those schedulers.

    Latents keep the variance here: alpha^2 + sigma^2 = 1. Euler and its kin hold them divided by alpha and multiply the
    network's input by it, so here they are always what the network reads. The initial noise is handed over as it was
    drawn; the pipeline scales it.
    """

    @override
    def schedule(self, steps: int, size: Size) -> Schedule:
        return diffusion_schedule(self.pipeline.scheduler, steps, self.device, **self.own_steps)

    def latent_size(self, size: Size) -> Grid:
        """Frames, rows and columns of the latents of videos of a size."""
        frames, height, width = size
        temporal, spatial = self.compression
        return Grid(frames // temporal, height // spatial, width // spatial)

    @override
    def initial_latents(self, generators: Sequence[torch.Generator], size: Size) -> Tensor:
        shape = (len(generators), self.network.config.in_channels, *self.latent_size(size))
        return randn_tensor(shape, list(generators), self.device, self.pipeline.text_encoder.dtype)

    @override
    def pack(self, latents: Tensor) -> Tensor:
        return latents.to(self.pipeline.text_encoder.dtype)  # that of the noise which these pipelines draw

    @override
    def at_network_calls(self, edit: Edit, steps: int) -> Edit:
        scheduler = self.pipeline.scheduler

        def change(call: int, latents: Tensor) -> Tensor:
            timesteps = scheduler.timesteps
            if timesteps[call] in timesteps[call + 1 : call + 2]:
                return latents  # a first look at where the step may lead (PNDM, Heun): the next call is its second
            step = len(torch.unique_consecutive(timesteps[: call + 1])) - 1
            scale = float(scheduler.scale_model_input(torch.ones((), dtype=torch.float64), timesteps[call]))
            z = latents if scale == 1 else latents * scale
            edited = edit(step, z)
            return latents if edited is z else edited / scale

        return change

    @override
    def clear_history(self, scheduler: Any) -> None:
        super().clear_history(scheduler)
        if isinstance(scheduler, PNDMScheduler) and scheduler.ets:
            wrapped, own = "step" in vars(scheduler), scheduler.step

            @functools.wraps(own)
            def step(output: Tensor, *rest: Any, **options: Any) -> Any:
                if wrapped:
                    scheduler.step = own
                else:
                    del scheduler.step
                scheduler.ets = 3 * [output]  # extrapolating from equal predictions takes the last one as it is
                return own(output, *rest, **options)

            scheduler.step = step

    @override
    @torch.no_grad()
    def decode_latents(self, latents: Tensor) -> Tensor:
        vae = self.pipeline.vae
        decoded: Tensor = self.pipeline.decode_latents(latents.to(self.device, vae.dtype))
        return decoded.float().clamp(-1, 1)


class FramewiseGenerator(DiffusionGenerator):
    """Those whose VAE is one of images: each frame has its own latents."""

    @property
    @override
    def compression(self) -> tuple[int, int]:
        return 1, self.pipeline.vae_scale_factor

    @override
    @torch.no_grad()
    def encode_video(self, video_BCFHW: Tensor) -> Tensor:
        vae = self.pipeline.vae
        images = video_BCFHW.transpose(1, 2).flatten(0, 1).to(self.device, vae.dtype)
        mode: Tensor = vae.encode(images).latent_dist.mode() * vae.config.scaling_factor
        return mode.unflatten(0, (len(video_BCFHW), -1)).transpose(1, 2).float()
