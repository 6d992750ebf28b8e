"""What families share whose VAE's latents are brought to mean 0 and deviation 1, channel by channel."""

from __future__ import annotations

import torch
from torch import Tensor
from typing_extensions import override

from cvg.generators.base import Generator


class StandardisedGenerator(Generator):
    """Families whose VAE comes with the mean and deviation of its latents."""

    def moments(self, frames: int) -> tuple[Tensor, Tensor]:
        """Mean and deviation of the VAE's latents, for videos of so many latent frames: (1, C, 1 or F, 1, 1) each."""
        vae, device = self.pipeline.vae, self.device  # asked for once: it looks through all parts of all networks
        mean, std = (
            torch.as_tensor(values).view(1, -1, 1, 1, 1).to(device, vae.dtype)
            for values in (vae.config.latents_mean, vae.config.latents_std)
        )
        return mean, std

    @override
    def normalise(self, raw: Tensor) -> Tensor:
        mean, std = self.moments(raw.shape[2])
        return (raw - mean) / std

    @override
    def denormalise(self, latents: Tensor) -> Tensor:
        mean, std = self.moments(latents.shape[2])
        return latents * std + mean
