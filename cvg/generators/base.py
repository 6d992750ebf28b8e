"""What a text-to-video family must state, and what follows from it for all of them.

Shapes: B batch, C latent channels, F latent frames, H W latent token rows and columns, T text keys, E entities of a
prompt, K entity slots of a relation, S guided steps, L tapped layers, A heads.
"""

from __future__ import annotations

import hashlib
import json
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from cvg.composition import Composition
from cvg.errors import UserError
from cvg.generators.capture import AttentionTap


@dataclass(frozen=True)
class Conditioning:
    """Prompts as the generator sees them.

    Attributes:
        states: text states that its transformer takes, (B, T, ...).
        columns_BTE: weight of each text key in each entity, in order of ``Composition.entities``; zero columns pad.
    """

    states: Tensor
    columns_BTE: Tensor


class Generator(ABC):
    """A frozen text-to-video pipeline of diffusers, unmodified, with its attention within reach.

    Args:
        pipeline: the loaded pipeline; its modules are set to eval and need no gradients.
        name: hub id or folder it was loaded from.
    """

    def __init__(self, pipeline: Any, name: str) -> None:
        self.pipeline = pipeline
        self.name = name
        for component in pipeline.components.values():
            if isinstance(component, nn.Module):
                component.eval().requires_grad_(False)

    # What a family states.

    @property
    @abstractmethod
    def blocks(self) -> Sequence[nn.Module]:
        """The transformer's blocks, in order; layer l is ``blocks[l]``."""

    @property
    @abstractmethod
    def heads(self) -> int:
        """Attention heads per layer."""

    @abstractmethod
    def attention(self, layer: int) -> nn.Module:
        """The module whose attention lets video tokens read the prompt, in layer ``layer``."""

    @abstractmethod
    def token_grid(self, latents: Tensor) -> tuple[int, int, int]:
        """(F, H, W) of the video tokens of latents (B, C, F, H', W')."""

    @abstractmethod
    def encode_prompts(self, prompts: Sequence[str]) -> Tensor:
        """Text states of prompts, exactly as the pipeline makes them."""

    @abstractmethod
    def entity_columns(self, composition: Composition) -> Tensor:
        """Weight of each text key in each entity of the composition: (T, E)."""

    @abstractmethod
    def velocity(self, latents: Tensor, timestep: Tensor, states: Tensor) -> Tensor:
        """The transformer's prediction, as velocity dz/dsigma, for latents (B, ...) at a timestep."""

    @abstractmethod
    def timesteps(self, steps: int) -> tuple[Tensor, Tensor]:
        """The pipeline's own schedule: timesteps (N,) and sigmas (N + 1,), noisiest first."""

    @abstractmethod
    def encode_video(self, video_BCFHW: Tensor) -> Tensor:
        """Latents (posterior mode, normalised as the transformer wants them) of videos in [-1, 1]."""

    @abstractmethod
    def decode_latents(self, latents: Tensor) -> Tensor:
        """Videos (B, 3, F, H, W) in [-1, 1] of latents."""

    @abstractmethod
    def initial_latents(self, generators: Sequence[torch.Generator], size: tuple[int, int, int]) -> Tensor:
        """The noise the pipeline itself draws, one generator per video; size is (frames, height, width) in pixels."""

    @abstractmethod
    def sample(
        self,
        prompts: Sequence[str],
        latents: Tensor,
        steps: int,
        guidance_scale: float | None,
        size: tuple[int, int, int],
        callback: Callable[..., dict[str, Tensor]] | None,
    ) -> Tensor:
        """Call the pipeline itself on given initial latents and return the final ones.

        ``callback`` is diffusers' ``callback_on_step_end``; ``guidance_scale`` None is the pipeline's default.
        """

    @abstractmethod
    def forget_history(self) -> None:
        """Make the scheduler's next step depend on nothing before an edit of the latents."""

    @abstractmethod
    def pixel_size(self, grid: Sequence[int]) -> tuple[int, int, int]:
        """(frames, height, width) in pixels of videos whose token grid is (F, H, W)."""

    # What follows.

    @property
    def device(self) -> torch.device:
        """Device of the transformer."""
        return next(self.pipeline.transformer.parameters()).device

    def encode(self, compositions: Sequence[Composition]) -> Conditioning:
        """Text states and entity columns of prompts."""
        columns = [self.entity_columns(composition) for composition in compositions]
        width = max(column.shape[-1] for column in columns)
        padded = [nn.functional.pad(column, (0, width - column.shape[-1])) for column in columns]
        states = self.encode_prompts([composition.prompt for composition in compositions])
        return Conditioning(states, torch.stack(padded).to(self.device))

    def entity_maps(
        self,
        latents: Tensor,
        timestep: Tensor,
        conditioning: Conditioning,
        layers: Sequence[int],
        full: bool = False,
    ) -> tuple[Tensor, Tensor | None]:
        """Cross-attention probability of each entity: A[t,l,h,k] of the paper for one step.

        Gradients reach ``latents`` if it requires them.

        Args:
            latents: (B, C, F, H', W').
            timestep: scalar or (B,).
            conditioning: prompts of the batch.
            layers: tapped layers, ascending.
            full: run the whole transformer and return its velocity too, instead of leaving early.

        Returns:
            maps_BLAEFHW in float32, and the velocity (None unless ``full``).
        """
        last = layers[-1]
        following = self.blocks[last + 1] if last + 1 < len(self.blocks) and not full else None
        tap = AttentionTap({layer: self.attention(layer) for layer in layers}, following)
        velocity = None
        with tap.recording(conditioning.columns_BTE) as maps:
            velocity = self.velocity(latents, timestep, conditioning.states)
        stacked_BLANE = torch.stack([maps[layer] for layer in layers], dim=1).float()
        grid = self.token_grid(latents)
        return stacked_BLANE.transpose(-1, -2).unflatten(-1, grid), velocity if full else None

    def check_layers(self, layers: Sequence[int]) -> None:
        """Raise UserError unless ``layers`` are distinct, ascending and exist."""
        known = range(len(self.blocks))
        if not layers or list(layers) != sorted(set(layers)) or any(layer not in known for layer in layers):
            raise UserError(
                f"layers {list(layers)}: expected ascending numbers from 0 to {len(self.blocks) - 1}, "
                f"the blocks of {self.name}"
            )

    def identity(self) -> dict[str, str]:
        """Name, pipeline class and a fingerprint of the weights, to tell whether two runs used the same generator."""
        digest = hashlib.sha256(
            json.dumps(dict(self.pipeline.transformer.config), sort_keys=True, default=str).encode()
        )
        for name, parameter in sorted(self.pipeline.transformer.named_parameters()):
            sample = parameter.detach().flatten()[:: max(1, parameter.numel() // 16)][:16]
            digest.update(name.encode() + sample.float().cpu().numpy().tobytes())
        return {
            "name": self.name,
            "class": type(self.pipeline).__name__,
            "fingerprint": digest.hexdigest()[:16],
        }


def slot_maps(maps_BLAEFHW: Tensor, samples: Sequence[int], slots: Sequence[Sequence[int | None]]) -> Tensor:
    """Entity maps of relations, slot by slot.

    Args:
        maps_BLAEFHW: maps of all entities of the prompts.
        samples: for each relation, the batch index of its prompt.
        slots: for each relation, the entity index of each slot, or None for an absent slot (zeros).

    Returns:
        maps_RLAKFHW.
    """
    rows = []
    for sample, entities in zip(samples, slots, strict=True):
        maps = [
            torch.zeros_like(maps_BLAEFHW[sample, :, :, 0]) if e is None else maps_BLAEFHW[sample, :, :, e]
            for e in entities
        ]
        rows.append(torch.stack(maps, dim=2))
    return torch.stack(rows)
