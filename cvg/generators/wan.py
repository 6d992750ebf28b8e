"""Wan 2.1: text-to-video by flow matching, cross-attention to umT5 states (``WanPipeline``)."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from diffusers.pipelines.wan.pipeline_wan import prompt_clean
from torch import Tensor, nn
from typing_extensions import override

from cvg.composition import Composition
from cvg.errors import UserError
from cvg.generators.base import Generator

PIPELINES = ("WanPipeline",)


class WanGenerator(Generator):
    """Adapter of ``WanPipeline``.

    Text keys are the umT5 tokens; padded rows are zero and are attended. The prediction is the velocity
    noise - clean already, at timestep 1000 sigma.
    """

    @property
    @override
    def blocks(self) -> Sequence[nn.Module]:
        return list(self.pipeline.transformer.blocks)

    @property
    @override
    def heads(self) -> int:
        return int(self.pipeline.transformer.config.num_attention_heads)

    @override
    def attention(self, layer: int) -> nn.Module:
        module: nn.Module = self.pipeline.transformer.blocks[layer].attn2
        return module

    @override
    def token_grid(self, latents: Tensor) -> tuple[int, int, int]:
        patch = self.pipeline.transformer.config.patch_size
        frames, height, width = (size // p for size, p in zip(latents.shape[-3:], patch, strict=True))
        return frames, height, width

    @property
    def max_sequence_length(self) -> int:
        """Text keys the transformer was trained with: 512, or fewer where the tokenizer says so."""
        return min(512, int(self.pipeline.tokenizer.model_max_length))

    @override
    def encode_prompts(self, prompts: Sequence[str]) -> Tensor:
        with torch.no_grad():
            states, _ = self.pipeline.encode_prompt(
                list(prompts), do_classifier_free_guidance=False, max_sequence_length=self.max_sequence_length
            )
        return states.to(self.pipeline.transformer.dtype)

    @override
    def entity_columns(self, composition: Composition) -> Tensor:
        length = self.max_sequence_length
        cleaned = prompt_clean(composition.prompt)
        if cleaned != composition.prompt:
            raise UserError(
                f"prompt {composition.prompt!r}: the tokenizer's clean-up changes it to {cleaned!r}, which shifts the "
                "entities; write the prompt that way"
            )
        encoded = self.pipeline.tokenizer(cleaned, truncation=True, max_length=length)
        columns_TE = torch.zeros(length, len(composition.entities))
        for index, entity in enumerate(composition.entities):
            keys = {encoded.char_to_token(char) for char in range(entity.start, entity.end)} - {None}
            if not keys:
                raise UserError(
                    f"prompt {composition.prompt!r}: the entity {entity.phrase!r} lies beyond the {length} tokens that "
                    "the generator reads; shorten the prompt"
                )
            columns_TE[sorted(keys), index] = 1
        return columns_TE

    @override
    def velocity(self, latents: Tensor, timestep: Tensor, states: Tensor) -> Tensor:
        prediction: Tensor = self.pipeline.transformer(
            hidden_states=latents.to(self.pipeline.transformer.dtype),
            timestep=timestep.expand(latents.shape[0]),
            encoder_hidden_states=states,
            return_dict=False,
        )[0]
        return prediction

    @override
    def timesteps(self, steps: int) -> tuple[Tensor, Tensor]:
        scheduler = type(self.pipeline.scheduler).from_config(self.pipeline.scheduler.config)
        scheduler.set_timesteps(steps, device=self.device)
        return scheduler.timesteps, scheduler.sigmas

    def _moments(self) -> tuple[Tensor, Tensor]:
        config, vae = self.pipeline.vae.config, self.pipeline.vae
        shape = (1, config.z_dim, 1, 1, 1)
        mean = torch.tensor(config.latents_mean).view(shape).to(vae.device, vae.dtype)
        std = torch.tensor(config.latents_std).view(shape).to(vae.device, vae.dtype)
        return mean, std

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
            self.pipeline.transformer.config.in_channels,
            height,
            width,
            frames,
            torch.float32,
            self.device,
            list(generators),
        )
        return latents

    @override
    def sample(
        self,
        prompts: Sequence[str],
        latents: Tensor,
        steps: int,
        guidance_scale: float | None,
        size: tuple[int, int, int],
        callback: Callable[..., dict[str, Tensor]] | None,
    ) -> Tensor:
        frames, height, width = size
        optional = {} if guidance_scale is None else {"guidance_scale": guidance_scale}
        final: Tensor = self.pipeline(
            prompt=list(prompts),
            latents=latents,
            num_inference_steps=steps,
            num_frames=frames,
            height=height,
            width=width,
            max_sequence_length=self.max_sequence_length,
            callback_on_step_end=callback,
            output_type="latent",
            **optional,
        ).frames
        return final

    @override
    def forget_history(self) -> None:
        scheduler = self.pipeline.scheduler
        if hasattr(scheduler, "last_sample"):  # UniPC: its corrector would undo the edit
            scheduler.last_sample = None
            scheduler.model_outputs = [None] * scheduler.config.solver_order
            scheduler.lower_order_nums = 0

    @override
    def pixel_size(self, grid: Sequence[int]) -> tuple[int, int, int]:
        patch, pipeline = self.pipeline.transformer.config.patch_size, self.pipeline
        frames, rows, columns = (tokens * p for tokens, p in zip(grid, patch, strict=True))
        scale = pipeline.vae_scale_factor_spatial
        return (frames - 1) * pipeline.vae_scale_factor_temporal + 1, rows * scale, columns * scale
