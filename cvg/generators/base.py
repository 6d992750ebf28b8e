"""What a text-to-video family must state, and what follows from it for all of them.

Shapes: B batch, C latent channels, F latent frames, H W latent token rows and columns, T text keys, E entities of a
prompt, K entity slots of a relation, S guided steps, L tapped layers, A heads. Latents are (B, C, F, H', W') everywhere
outside the adapters, whatever layout a family's pipeline keeps them in.
"""

from __future__ import annotations

import functools
from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

import torch
from torch import Tensor, nn

from cvg.common.errors import SettingsError
from cvg.common.fingerprint import fingerprint
from cvg.composition import Composition
from cvg.diffusion.schedule import Schedule
from cvg.generators.recompute import blocks_recomputed, eager
from cvg.generators.steps import Edit
from cvg.grounding.capture import AttentionTap

States = Mapping[str, Tensor]
"""What a family's network takes of a prompt besides latents and timestep, by name, each with the batch first."""


@dataclass(frozen=True)
class Conditioning:
    """Prompts as the generator sees them.

    Attributes:
        states: what its network takes.
        columns_BTE: weight of each text key in each entity, in order of ``Composition.entities``; zero columns pad.
    """

    states: States
    columns_BTE: Tensor

    def rows(self, indices: Sequence[int]) -> Conditioning:
        """That of some prompts of the batch."""
        chosen = list(indices)
        return Conditioning({name: state[chosen] for name, state in self.states.items()}, self.columns_BTE[chosen])


class Generator(ABC):
    """A frozen text-to-video pipeline of diffusers, unmodified, with its attention within reach.

    Args:
        pipeline: the loaded pipeline; its modules are set to eval and need no gradients.
        name: hub id or folder it was loaded from.
    """

    text: ClassVar[Literal["cross", "first", "last"]] = "cross"
    """Where the text keys lie in the tapped attention: alone, or before or after the video's in one sequence."""
    site: ClassVar[str] = "attn2"
    """Name of a block's module whose attention lets video tokens read the prompt."""
    checkpointing: bool = False
    """Whether gradients recompute blocks in the backward pass instead of keeping their activations."""
    compiled: bool = False
    """Whether blocks are compiled; passes that are tapped run them as they are, since compiled code skips the tap."""

    def __init__(self, pipeline: Any, name: str) -> None:
        self.pipeline = pipeline
        self.name = name
        for component in pipeline.components.values():
            if isinstance(component, nn.Module):
                component.eval().requires_grad_(False)

    # What a family states.

    @abstractmethod
    def encode_prompts(self, prompts: Sequence[str]) -> States:
        """What the network takes of prompts, exactly as the pipeline makes it."""

    @abstractmethod
    def entity_columns(self, composition: Composition) -> Tensor:
        """Weight of each text key in each entity of the composition: (T, E)."""

    @abstractmethod
    def predict(self, latents: Tensor, timestep: Tensor, states: States) -> Tensor:
        """The network's prediction under one prompt (see ``Schedule.prediction``) for latents (B, C, F, H', W')."""

    @abstractmethod
    def schedule(self, steps: int, size: tuple[int, int, int]) -> Schedule:
        """The pipeline's own denoising steps for videos of (frames, height, width) in pixels."""

    # What a family may state differently.

    @property
    def blocks(self) -> Sequence[nn.Module]:
        """The network's blocks, in the order they run; layer l is ``blocks[l]``."""
        return list(self.network.transformer_blocks)

    @property
    def heads(self) -> int:
        """Attention heads per layer."""
        return int(self.network.config.num_attention_heads)

    def attention(self, layer: int) -> nn.Module:
        """The module whose attention lets video tokens read the prompt, in layer ``layer``."""
        module: nn.Module = getattr(self.blocks[layer], self.site)
        return module

    @property
    def patch(self) -> tuple[int, int, int]:
        """Latent frames, rows and columns that one token joins."""
        config = self.network.config
        if isinstance(config.patch_size, int):
            return config.get("patch_size_t") or 1, config.patch_size, config.patch_size
        frames, rows, columns = config.patch_size
        return frames, rows, columns

    @property
    def compression(self) -> tuple[int, int]:
        """Frames, and rows or columns of pixels, that one latent stands for."""
        return self.pipeline.vae_scale_factor_temporal, self.pipeline.vae_scale_factor_spatial

    @property
    def latent_channels(self) -> int:
        """Channels of the latents."""
        return int(self.network.config.in_channels)

    @property
    def max_sequence_length(self) -> int:
        """Text keys the network was trained with: 512, or fewer where the tokenizer says so."""
        return min(512, int(self.pipeline.tokenizer.model_max_length))

    @property
    def noise_dtype(self) -> torch.dtype:
        """What the pipeline draws its noise in."""
        return torch.float32

    def token_grid(self, latents: Tensor) -> tuple[int, int, int]:
        """(F, H, W) of the video tokens of latents (B, C, F, H', W')."""
        frames, height, width = (side // p for side, p in zip(latents.shape[-3:], self.patch, strict=True))
        return frames, height, width

    def pixel_size(self, grid: Sequence[int]) -> tuple[int, int, int]:
        """(frames, height, width) in pixels of videos whose token grid is (F, H, W)."""
        frames, rows, columns = (tokens * p for tokens, p in zip(grid, self.patch, strict=True))
        temporal, spatial = self.compression
        return (frames - 1) * temporal + 1, rows * spatial, columns * spatial

    def normalise(self, raw: Tensor) -> Tensor:
        """The VAE's latents as the network wants them."""
        return raw * self.pipeline.vae.config.scaling_factor

    def denormalise(self, latents: Tensor) -> Tensor:
        """Undoes ``normalise``."""
        return latents / self.pipeline.vae.config.scaling_factor

    @torch.no_grad()
    def encode_video(self, video_BCFHW: Tensor) -> Tensor:
        """Latents (posterior mode, normalised as the network wants them) of videos in [-1, 1]."""
        vae = self.pipeline.vae
        return self.normalise(vae.encode(video_BCFHW.to(self.device, vae.dtype)).latent_dist.mode()).float()

    @torch.no_grad()
    def decode_latents(self, latents: Tensor) -> Tensor:
        """Videos (B, 3, F, H, W) in [-1, 1] of latents."""
        vae = self.pipeline.vae
        decoded: Tensor = vae.decode(self.denormalise(latents.to(self.device, vae.dtype)), return_dict=False)[0]
        return decoded.float().clamp(-1, 1)

    def initial_latents(self, generators: Sequence[torch.Generator], size: tuple[int, int, int]) -> Tensor:
        """The noise the pipeline itself draws, one generator per video; size is (frames, height, width) in pixels."""
        frames, height, width = size
        noise = self.pipeline.prepare_latents(
            batch_size=len(generators),
            num_channels_latents=self.latent_channels,
            num_frames=frames,
            height=height,
            width=width,
            dtype=self.noise_dtype,
            device=self.device,
            generator=list(generators),
        )
        return self.unpack(noise, size)

    def options(self, size: tuple[int, int, int]) -> dict[str, Any]:
        """Keyword arguments of the pipeline's call beside prompt, latents, steps and guidance scale."""
        frames, height, width = size
        return {"num_frames": frames, "height": height, "width": width}

    def prompt_options(self, prompts: Sequence[str]) -> dict[str, Any]:
        """Keyword arguments of the pipeline's call that depend on the prompts."""
        return {"prompt": list(prompts)}

    def pack(self, latents: Tensor) -> Tensor:
        """Latents (B, C, F, H', W') in the pipeline's layout."""
        return latents

    def unpack(self, latents: Tensor, size: tuple[int, int, int]) -> Tensor:
        """The pipeline's latents as (B, C, F, H', W'); size is (frames, height, width) in pixels."""
        return latents

    def own_heads(self, layer: int, heads: Sequence[int]) -> list[int]:
        """The heads of a layer's attention that its maps of ``heads`` are made of."""
        return list(heads)

    def arrange(self, maps_PANE: Tensor, layer: int, grid: tuple[int, int, int]) -> Tensor:
        """Maps of one layer, as its attention was computed, as (B, A, E, F, H, W) on the token grid."""
        return maps_PANE.transpose(-1, -2).unflatten(-1, grid)

    @property
    def network(self) -> Any:
        """The transformer or UNet (``nn.Module``; modules are typed as if ``config`` could be a tensor)."""
        return self.pipeline.transformer

    @property
    def networks(self) -> Sequence[Any]:
        """All that denoise, where a pipeline has more than one."""
        return [self.network]

    def mend(self) -> None:  # noqa: B027  (most have nothing)
        """Put right what ``from_pretrained`` is known to get wrong; for pipelines that were loaded just now."""

    # What follows.

    @property
    def device(self) -> torch.device:
        """Device that the network computes on, wherever its weights rest."""
        return torch.device(self.pipeline._execution_device)

    @property
    def dtype(self) -> torch.dtype:
        """The dtype in which the network takes latents; some parts of it may be kept in float32."""
        dtype: torch.dtype = self.network.dtype
        return dtype

    def encode(self, compositions: Sequence[Composition]) -> Conditioning:
        """Text states and entity columns of prompts."""
        columns = [self.entity_columns(composition) for composition in compositions]
        width = max(column.shape[-1] for column in columns)
        padded = [nn.functional.pad(column, (0, width - column.shape[-1])) for column in columns]
        with torch.no_grad():
            states = self.encode_prompts([composition.prompt for composition in compositions])
        return Conditioning(states, torch.stack(padded).to(self.device))

    def sample(
        self,
        prompts: Sequence[str],
        latents: Tensor,
        steps: int,
        guidance_scale: float | None,
        size: tuple[int, int, int],
        edit: Edit | None = None,
        generators: Sequence[torch.Generator] | None = None,
    ) -> Tensor:
        """Call the pipeline itself on given initial latents and return the final ones.

        Args:
            prompts: one per video.
            latents: initial noise (B, C, F, H', W'), see ``initial_latents``.
            steps: denoising steps.
            guidance_scale: of classifier-free guidance; the pipeline's default when None.
            size: (frames, height, width) in pixels.
            edit: see :data:`Edit`.
            generators: those that drew the latents, for schedulers that go on to draw noise at every step.
        """

        def change(call: int, latents: Tensor) -> Tensor:
            if edit is None or call == len(self.pipeline.scheduler.timesteps):
                return latents  # the last ones: no step follows
            z = self.unpack(latents, size)
            edited = edit(call, z)
            return latents if edited is z else self.pack(edited)

        optional: dict[str, Any] = {} if guidance_scale is None else {"guidance_scale": guidance_scale}
        if generators is not None:
            optional["generator"] = list(generators)
        between: AbstractContextManager[dict[str, Any]] = self._between_steps(change) if edit else nullcontext({})
        with between as callback:
            final = self.pipeline(
                **self.prompt_options(prompts),
                latents=self.pack(latents),
                num_inference_steps=steps,
                output_type="latent",
                return_dict=False,
                **self.options(size),
                **optional,
                **callback,
            )[0]
        return self.unpack(final, size)

    @contextmanager
    def _between_steps(self, change: Edit) -> Iterator[dict[str, Any]]:
        """Options of the pipeline's call, with which ``change(call, latents)`` replaces its latents after each step.

        Args:
            change: takes the number of network calls so far, and the latents in the pipeline's layout.
        """

        def callback(pipeline: Any, step: int, timestep: Tensor, tensors: dict[str, Tensor]) -> dict[str, Tensor]:
            tensors["latents"] = change(step + 1, tensors["latents"])
            return tensors

        yield {"callback_on_step_end": callback}

    def forget_history(self) -> None:
        """Make a multistep scheduler's next step depend on nothing before an edit of the latents."""
        scheduler = self.pipeline.scheduler
        if hasattr(scheduler, "model_outputs"):
            scheduler.model_outputs = [None] * len(scheduler.model_outputs)
            scheduler.lower_order_nums = 0
        if hasattr(scheduler, "last_sample"):  # UniPC: its corrector would undo the edit
            scheduler.last_sample = None

    def recomputing(self) -> AbstractContextManager[None]:
        """Within it the network is checkpointed."""
        return blocks_recomputed(self.network, self.compiled)

    def entity_maps(
        self,
        latents: Tensor,
        timestep: Tensor,
        conditioning: Conditioning,
        layers: Sequence[int],
        heads: Sequence[int] | None = None,
        full: bool = False,
    ) -> tuple[Tensor, Tensor | None]:
        """Cross-attention probability of each entity: A[t,l,h,k] of the paper for one step.

        Gradients reach ``latents`` if it requires them.

        Args:
            latents: (B, C, F, H', W').
            timestep: scalar or (B,).
            conditioning: prompts of the batch.
            layers: tapped layers, ascending.
            heads: tapped heads, all when None; fewer cost as much less.
            full: run the whole network and return its prediction too, instead of leaving early.

        Returns:
            maps_BLAEFHW in float32, and the prediction (None unless ``full``).
        """
        last, grid = layers[-1], self.token_grid(latents)
        tokens = grid[0] * grid[1] * grid[2]
        length = conditioning.columns_BTE.shape[1]
        keys, queries = {
            "cross": (slice(None), slice(None)),
            "first": (slice(0, length), slice(length, None)),
            "last": (slice(tokens, None), slice(0, tokens)),
        }[self.text]
        following = self.blocks[last + 1] if last + 1 < len(self.blocks) and not full else None
        sites = {layer: self.attention(layer) for layer in layers}
        chosen = None if heads is None else {layer: self.own_heads(layer, heads) for layer in layers}
        tap = AttentionTap(sites, conditioning.columns_BTE, keys, queries, chosen, following)
        prediction = None
        recomputing = self.recomputing() if self.checkpointing and torch.is_grad_enabled() else nullcontext()
        with tap.recording(), recomputing, eager(self.compiled):
            prediction = self.predict(latents, timestep, conditioning.states)
        arranged = [self.arrange(tap.maps(layer).float(), layer, grid) for layer in layers]
        return torch.stack(arranged, dim=1), prediction if full else None

    def check_layers(self, layers: Sequence[int]) -> None:
        """Raise SettingsError unless ``layers`` are distinct, ascending and exist."""
        known = range(len(self.blocks))
        if not layers or list(layers) != sorted(set(layers)) or any(layer not in known for layer in layers):
            raise SettingsError(
                f"layers {list(layers)}: expected ascending numbers from 0 to {len(self.blocks) - 1}, "
                f"the blocks of {self.name}"
            )

    def identity(self) -> dict[str, str]:
        """Name, pipeline class and a fingerprint of the weights, to tell whether two runs used the same generator."""
        return {"name": self.name, "class": type(self.pipeline).__name__, "fingerprint": self._fingerprint}

    @functools.cached_property
    def _fingerprint(self) -> str:
        # Private entries tell of the folder it was loaded from and of the library's version.
        return fingerprint(
            (network, {key: value for key, value in network.config.items() if not key.startswith("_")})
            for network in self.networks
        )
