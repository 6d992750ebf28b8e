"""Latte: text-to-video diffusion, each frame's own cross-attention to T5 states (``LattePipeline``)."""

from __future__ import annotations

import functools
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from typing_extensions import override

from cvg.common.sizes import Grid, Size
from cvg.composition import Composition
from cvg.generators.conditioning import States
from cvg.generators.families.diffusion import CLEANS, FramewiseGenerator, clean_caption
from cvg.grounding.keys import entity_columns

MAX_TOKENS = 120
"""What the pipeline truncates prompts to."""


class LatteGenerator(FramewiseGenerator):
    """Adapter of ``LattePipeline``.

    Frames read the prompt one by one. The pipeline gives the network a prompt's own tokens if it is alone; several all
    have 120, padded ones zero but attended: so a prompt's maps depend on whether it has company. The network was made
    for one number of frames. It also predicts a variance, which is dropped.
    """

    @override
    def to_token_grid(self, maps_PANE: Tensor, layer: int, grid: Grid) -> Tensor:
        frames, *rows_columns = grid
        return maps_PANE.transpose(-1, -2).unflatten(-1, rows_columns).unflatten(0, (-1, frames)).movedim(1, 3)

    @override
    def encode_prompts(self, prompts: Sequence[str]) -> States:
        states, _ = self.pipeline.encode_prompt(list(prompts), do_classifier_free_guidance=False, clean_caption=CLEANS)
        return {"encoder_hidden_states": states.to(self.dtype)}

    @override
    def entity_columns(self, composition: Composition) -> Tensor:
        clean = functools.partial(clean_caption, self.pipeline)
        return entity_columns(composition, self.pipeline.tokenizer, MAX_TOKENS, clean)

    @override
    def predict(self, latents: Tensor, timestep: Tensor, states: States) -> Tensor:
        both: Tensor = self.network(
            latents.to(self.dtype), timestep.expand(latents.shape[0]), return_dict=False, **states
        )[0]
        return both[:, : latents.shape[1]]

    @override
    @torch.no_grad()
    def decode_latents(self, latents: Tensor) -> Tensor:
        vae = self.pipeline.vae
        decoded: Tensor = self.pipeline.decode_latents(latents.to(self.device, vae.dtype), latents.shape[2])
        return decoded.clamp(-1, 1)

    @override
    def options(self, size: Size) -> dict[str, Any]:
        frames, height, width = size
        return {"video_length": frames, "height": height, "width": width}
