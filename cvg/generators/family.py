"""What a text-to-video family states about its pipeline; :mod:`cvg.generators.base` has what follows for all of them.

The four abstract methods are always stated. All others have a default that suits most pipelines.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Any, ClassVar, Literal

import torch
from torch import Tensor, nn

from cvg.common.sizes import Grid, Size
from cvg.composition import Composition
from cvg.diffusion.schedule import Schedule
from cvg.generators.conditioning import States
from cvg.generators.obstacles import check_whole
from cvg.generators.recompute import blocks_recomputed
from cvg.generators.steps import Edit


class Family(ABC):
    """A frozen text-to-video pipeline of diffusers, unmodified, and what is particular about its family.

    Args:
        pipeline: the loaded pipeline; its modules are set to eval and need no gradients.
        name: hub id or folder it was loaded from.

    Raises:
        ModelError: the pipeline was loaded without a part that it cannot do without.
    """

    compiled: bool = False
    """Whether blocks are compiled; passes that are read run them as they are, since compiled code skips the reading."""

    def __init__(self, pipeline: Any, name: str) -> None:
        self.pipeline = pipeline
        self.name = name
        self.check_parts()
        self.freeze()

    def check_parts(self) -> None:
        """Raise ModelError if the pipeline was loaded without a part that it needs."""
        check_whole(self)

    def freeze(self) -> None:
        """Set all of the pipeline's modules to eval, without gradients: those too that were put in later."""
        for component in self.pipeline.components.values():
            if isinstance(component, nn.Module):
                component.eval().requires_grad_(False)

    @property
    def device(self) -> torch.device:
        """Device that the network computes on, wherever its weights rest."""
        return torch.device(self.pipeline._execution_device)

    @property
    def dtype(self) -> torch.dtype:
        """The dtype in which the network takes latents; some parts of it may be kept in float32."""
        dtype: torch.dtype = self.network.dtype
        return dtype

    # What every family states

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
    def schedule(self, steps: int, size: Size) -> Schedule:
        """The pipeline's own denoising steps for videos of a size."""

    # The network, and where in it the prompt is read

    text_position: ClassVar[Literal["alone", "first", "last"]] = "alone"
    """Where the text keys lie in that attention: alone, or before or after the video's in one sequence."""
    attention_name: ClassVar[str] = "attn2"
    """What the module whose attention lets video tokens read the prompt is called in each block."""

    @property
    def network(self) -> Any:
        """The transformer or UNet (``nn.Module``; modules are typed as if ``config`` could be a tensor)."""
        return self.pipeline.transformer

    @property
    def networks(self) -> Sequence[Any]:
        """All that denoise, where a pipeline has more than one."""
        return [self.network]

    @property
    def map_settings(self) -> dict[str, Any]:
        """What else decides which maps a network of these weights makes, where there is anything."""
        return {}

    def at_timestep(self, timestep: Tensor) -> AbstractContextManager[None]:
        """Within it ``network``, and all that is read off it, is the one that the pipeline uses at this timestep."""
        return nullcontext()

    @property
    def blocks(self) -> Sequence[nn.Module]:
        """The network's blocks, in the order they run; layer l is ``blocks[l]``."""
        return list(self.network.transformer_blocks)

    def attention(self, layer: int) -> nn.Module:
        """The module whose attention lets video tokens read the prompt, in layer ``layer``."""
        module: nn.Module = getattr(self.blocks[layer], self.attention_name)
        return module

    @property
    def num_heads(self) -> int:
        """Attention heads of every layer's maps."""
        return int(self.network.config.num_attention_heads)

    def heads_in_module(self, layer: int, heads: Sequence[int]) -> list[int]:
        """Which heads of ``attention(layer)`` the maps of ``heads`` are made of.

        The same ones, in most networks. UNets have more heads in some layers than in others: there a head of the maps
        is the mean of a group of the module's heads (:meth:`to_token_grid` takes it), and this names the groups'
        members.

        Args:
            layer: a tapped layer.
            heads: heads of the maps, below ``num_heads``.
        """
        return list(heads)

    def to_token_grid(self, maps_PANE: Tensor, layer: int, grid: Grid) -> Tensor:
        """Maps of one layer, as its attention was computed (P*B, A, N, E), as (B, A, E, F, H, W) on the token grid."""
        return maps_PANE.transpose(-1, -2).unflatten(-1, grid)

    def recomputing(self) -> AbstractContextManager[None]:
        """Within it a backward pass computes blocks anew instead of keeping their activations."""
        return blocks_recomputed(self.network, self.compiled)

    # Text

    @property
    def max_sequence_length(self) -> int:
        """Text keys the network was trained with: 512, or fewer where the tokenizer says so."""
        return min(512, int(self.pipeline.tokenizer.model_max_length))

    # Sizes

    @property
    def patch(self) -> Grid:
        """Latent frames, rows and columns that one token joins."""
        config = self.network.config
        if isinstance(config.patch_size, int):
            return Grid(config.get("patch_size_t") or 1, config.patch_size, config.patch_size)
        return Grid(*config.patch_size)

    @property
    def compression(self) -> tuple[int, int]:
        """Frames, and rows or columns of pixels, that one latent stands for."""
        return self.pipeline.vae_scale_factor_temporal, self.pipeline.vae_scale_factor_spatial

    @property
    def latent_channels(self) -> int:
        """Channels of the latents."""
        return int(self.network.config.in_channels)

    def token_grid(self, latents: Tensor) -> Grid:
        """Frames, rows and columns of the video tokens of latents (B, C, F, H', W')."""
        return Grid(*(side // p for side, p in zip(latents.shape[-3:], self.patch, strict=True)))

    def pixel_size(self, grid: Sequence[int]) -> Size:
        """Size of the videos whose token grid is (F, H, W)."""
        frames, rows, columns = (tokens * p for tokens, p in zip(grid, self.patch, strict=True))
        temporal, spatial = self.compression
        return Size((frames - 1) * temporal + 1, rows * spatial, columns * spatial)

    # Latents

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

    @property
    def noise_dtype(self) -> torch.dtype:
        """What the pipeline draws its noise in."""
        return torch.float32

    def initial_latents(self, generators: Sequence[torch.Generator], size: Size) -> Tensor:
        """The noise that the pipeline itself draws for videos of a size, one generator per video."""
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

    def pack(self, latents: Tensor) -> Tensor:
        """Latents (B, C, F, H', W') in the pipeline's layout."""
        return latents

    def unpack(self, latents: Tensor, size: Size) -> Tensor:
        """The pipeline's latents of videos of a size, as (B, C, F, H', W')."""
        return latents

    # The pipeline's call

    def options(self, size: Size) -> dict[str, Any]:
        """Keyword arguments of the pipeline's call beside prompt, latents, steps and guidance scale."""
        frames, height, width = size
        return {"num_frames": frames, "height": height, "width": width}

    def prompt_options(self, prompts: Sequence[str]) -> dict[str, Any]:
        """Keyword arguments of the pipeline's call that depend on the prompts."""
        return {"prompt": list(prompts)}

    def guided_by(self, scale: float | None) -> AbstractContextManager[dict[str, Any]]:
        """Keyword arguments with which the call uses a scale of classifier-free guidance; its own default for None."""
        return nullcontext({} if scale is None else {"guidance_scale": scale})

    @contextmanager
    def changed_between_steps(self, change: Edit) -> Iterator[dict[str, Any]]:
        """Keyword arguments with which ``change(call, latents)`` replaces the call's latents after each step.

        Args:
            change: takes the number of network calls so far, and the latents in the pipeline's layout.
        """

        def callback(pipeline: Any, step: int, timestep: Tensor, tensors: dict[str, Tensor]) -> dict[str, Tensor]:
            tensors["latents"] = change(step + 1, tensors["latents"])
            return tensors

        yield {"callback_on_step_end": callback}

    def at_network_calls(self, edit: Edit, steps: int) -> Edit:
        """The edit, taking what the pipeline has between its steps, scale and all, as (B, C, F, H', W').

        To be stated where the pipeline's steps may call the network twice, or its latents have another scale than here.

        Args:
            edit: takes the number of the step, and latents as they are here.
            steps: denoising steps of the call.

        Returns:
            takes the number of network calls so far, and the pipeline's latents.
        """
        return edit

    def rescaled_result(self, final: Tensor) -> Tensor:
        """The final latents (B, C, F, H', W') of the pipeline's call, in the scale they have here."""
        return final

    def clear_history(self, scheduler: Any) -> None:
        """Make a multistep scheduler's next step depend on nothing before an edit of the latents.

        Args:
            scheduler: the pipeline's, or a copy of it that steps for some samples of the batch.
        """
        if hasattr(scheduler, "model_outputs"):
            scheduler.model_outputs = [None] * len(scheduler.model_outputs)
            scheduler.lower_order_nums = 0
        if hasattr(scheduler, "last_sample"):  # UniPC: its corrector would undo the edit
            scheduler.last_sample = None

    def repair_after_loading(self) -> None:  # noqa: B027  (most have nothing)
        """Put right what ``from_pretrained`` is known to get wrong; for pipelines that were loaded just now."""
