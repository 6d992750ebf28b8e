"""Kandinsky 5: text-to-video by flow matching, cross-attention to Qwen 2.5-VL states (``Kandinsky5T2VPipeline``)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

import torch
from diffusers.pipelines.kandinsky5.pipeline_kandinsky import prompt_clean
from torch import Tensor, nn
from typing_extensions import override

from cvg.common.errors import ModelError
from cvg.common.sizes import Grid, Size
from cvg.composition import Composition
from cvg.diffusion.schedule import Schedule, flow_schedule
from cvg.generators.base import Generator
from cvg.generators.conditioning import States
from cvg.grounding.keys import entity_columns

TEXT_KEYS = 512
"""Text keys at most, the pipeline's default."""
TILE = 8
"""Side of the squares of tokens in whose order models with sparse self-attention keep them."""


class Kandinsky5Generator(Generator):
    """Adapter of ``Kandinsky5T2VPipeline``.

    Qwen reads the prompt within a template, whose beginning is cut off its states. Text keys are as many as the batch's
    longest prompt has, and padded ones are attended: a prompt's maps depend a little on what it is batched with. The
    pipeline keeps latents as (B, F, H', W', C), in place and in the network's dtype; models with ``visual_cond`` read a
    second video and its mask after the channels, both zero here. Models with sparse ("nabla") self-attention need the
    flex backend there; the cross-attention needs the native one.
    """

    attention_name = "cross_attention"
    embeddings: ClassVar[Mapping[str, str]] = {
        "encoder_hidden_states": "prompt_embeds_qwen",
        "pooled_projections": "prompt_embeds_clip",
    }

    @property
    @override
    def latent_channels(self) -> int:
        return int(self.network.config.in_visual_dim)

    @property
    @override
    def noise_dtype(self) -> torch.dtype:
        return self.dtype

    @property
    @override
    def blocks(self) -> Sequence[nn.Module]:
        return list(self.network.visual_transformer_blocks)

    @property
    @override
    def num_heads(self) -> int:
        return int(self.network.visual_transformer_blocks[0].cross_attention.num_heads)

    @override
    def to_token_grid(self, maps_PANE: Tensor, layer: int, grid: Grid) -> Tensor:
        if self.network.config.attention_type != "nabla":
            return super().to_token_grid(maps_PANE, layer, grid)
        frames, height, width = grid
        tiles = maps_PANE.transpose(-1, -2).unflatten(-1, (frames, height // TILE, width // TILE, TILE, TILE))
        return tiles.transpose(-3, -2).flatten(-2).flatten(-3, -2)

    @property
    def _tokenizer(self) -> Any:
        """That of the processor, which the pipeline calls its tokenizer."""
        return self.pipeline.tokenizer.tokenizer

    @override
    def encode_prompts(self, prompts: Sequence[str]) -> States:
        if self._tokenizer.padding_side != "right" and len(prompts) > 1:
            raise ModelError(
                f"generator {self.name}: its tokenizer pads on the left, where the pipeline cuts its template off; set "
                "pipeline.tokenizer.tokenizer.padding_side to 'right'"
            )
        states, pooled, _ = self.pipeline.encode_prompt(list(prompts), max_sequence_length=TEXT_KEYS, dtype=self.dtype)
        return {"encoder_hidden_states": states, "pooled_projections": pooled}

    @override
    def entity_columns(self, composition: Composition) -> Tensor:
        template, skipped = self.pipeline.prompt_template, self.pipeline.prompt_template_encode_start_idx
        return entity_columns(composition, self._tokenizer, TEXT_KEYS, prompt_clean, template, skipped)

    @override
    def predict(self, latents: Tensor, timestep: Tensor, states: States) -> Tensor:
        grid, scale = self.token_grid(latents), self.pipeline.vae_scale_factor_spatial
        height, width = latents.shape[-2:]
        packed = self.pack(latents).to(self.dtype)
        prediction: Tensor = self.network(
            hidden_states=packed,
            timestep=timestep.expand(latents.shape[0]).to(self.dtype),
            visual_rope_pos=[torch.arange(tokens, device=self.device) for tokens in grid],
            text_rope_pos=torch.arange(states["encoder_hidden_states"].shape[1], device=self.device),
            scale_factor=self.pipeline._get_scale_factor(height * scale, width * scale),
            sparse_params=self.pipeline.get_sparse_params(packed, self.device),
            return_dict=False,
            **states,
        )
        return prediction.movedim(-1, 1)

    @override
    def schedule(self, steps: int, size: Size) -> Schedule:
        return flow_schedule(self.pipeline.scheduler, steps, self.device)

    @override
    def pack(self, latents: Tensor) -> Tensor:
        packed = latents.movedim(1, -1)
        if self.network.config.visual_cond:
            nothing = packed.new_zeros(()).expand(*packed.shape[:-1], packed.shape[-1] + 1)
            return torch.cat([packed, nothing], dim=-1)
        return packed.clone(memory_format=torch.contiguous_format)

    @override
    def unpack(self, latents: Tensor, size: Size) -> Tensor:
        return latents[..., : self.network.config.in_visual_dim].movedim(-1, 1).clone()

    @override
    def options(self, size: Size) -> dict[str, Any]:
        return super().options(size) | {"max_sequence_length": TEXT_KEYS}
