"""What the training scripts must know of a family beside what its adapter in ``cvg.generators`` states."""

from __future__ import annotations

import importlib
from abc import ABC, abstractmethod
from typing import Any, ClassVar, Literal

import torch
from torch import Tensor

FamilyName = Literal["wan", "cogvideox"]

EARLY = 0.8
"""Share of the noise from which on a training step counts as early in the log."""
MAX_TOKENS = 24
"""Text keys of every generator here."""
TEXT_DIM = 128
"""Width of the text states."""
TEXT_ENCODER: dict[str, Any] = {
    "d_model": TEXT_DIM,
    "d_kv": 32,
    "d_ff": 256,
    "num_layers": 3,
    "num_heads": 4,
    "relative_attention_num_buckets": 16,
    "relative_attention_max_distance": 32,
    "dropout_rate": 0.0,
}
"""Of the T5 kind, in every generator here."""


def shifted(uniform: Tensor, shift: float) -> Tensor:
    """Times in [0, 1] moved towards the noisy end, as flow matching's timestep shift does."""
    return shift * uniform / (1 + (shift - 1) * uniform)


def start_with_little_noise(bias: Tensor) -> None:
    """Little posterior noise at first, or it drowns the signal before the decoder can read it.

    Args:
        bias: of the VAE's last layer before the posterior: means first, then logarithms of variances.
    """
    with torch.no_grad():
        bias[len(bias) // 2 :] = -5.0


class Family(ABC):
    """How a generator is built and noised; all train on the same clips and captions, with the same losses.

    Videos of 13 frames of 64 x 64 have a token grid of 4 x 8 x 8 in each of them.
    """

    name: ClassVar[str]
    """Of the finished pipeline's folder."""
    prediction: ClassVar[Literal["flow", "v"]]
    """What the network learns to return: see ``cvg.diffusion.schedule``."""
    vae_class: ClassVar[Any]
    text_encoder_class: ClassVar[Any]
    masked: ClassVar[bool]
    """Whether the pipeline tells the text encoder which tokens are padding."""

    @abstractmethod
    def vae(self) -> Any:
        """An untrained VAE."""

    @abstractmethod
    def standardise(self, vae: Any, latents: Tensor) -> None:
        """Write into the VAE's configuration what brings latents like these (B, C, F, H, W) to deviation 1."""

    @abstractmethod
    def text_encoder(self, vocabulary: int) -> Any:
        """An untrained text encoder."""

    @abstractmethod
    def transformer(self) -> Any:
        """An untrained transformer."""

    @abstractmethod
    def pipeline(self, tokenizer: Any, text_encoder: Any, vae: Any, transformer: Any) -> Any:
        """The pipeline of these parts, with the scheduler that ships."""

    @abstractmethod
    def noise_levels(self, uniform: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Timesteps, alphas and sigmas (B,) of training, for uniform draws (B,): z = alpha x0 + sigma eps."""


def target(prediction: Literal["flow", "v"], clean: Tensor, noise: Tensor, alpha: Tensor, sigma: Tensor) -> Tensor:
    """What the network is to return for alpha clean + sigma noise: the velocity of a flow, or v."""
    return noise - clean if prediction == "flow" else alpha * noise - sigma * clean


def noisy_and_wanted(kind: Family, batch: dict[str, Any], device: str) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """A step of training, on its device.

    Args:
        kind: the family, which says how much noise there is.
        batch: of :func:`data_prep.pretrain.clips.noised`.
        device: torch device.

    Returns:
        z, the noisy latents (B, C, F, H, W); what the network is to return for them, of the same shape; timesteps (B,);
        and 1 for those that are early in denoising, of much noise, else 0 (B,).
    """
    timestep, alpha, sigma = (level.to(device) for level in kind.noise_levels(batch["level"]))
    clean, mixed, noise = (batch[name].to(device) for name in ("clean", "mixed", "noise"))
    signal, weight = alpha.view(-1, 1, 1, 1, 1), sigma.view(-1, 1, 1, 1, 1)
    early = (sigma / (alpha + sigma) > EARLY).float()
    return signal * mixed + weight * noise, target(kind.prediction, clean, noise, signal, weight), timestep, early


def find(name: FamilyName) -> Family:
    """The family of a name."""
    classes: dict[FamilyName, str] = {"wan": "Wan", "cogvideox": "CogVideoX"}
    found: type[Family] = getattr(importlib.import_module(f"data_prep.pretrain.{name}"), classes[name])
    return found()
