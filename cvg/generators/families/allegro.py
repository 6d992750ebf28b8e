"""Allegro: text-to-video diffusion, cross-attention to T5 states (``AllegroPipeline``)."""

from __future__ import annotations

import functools
from collections.abc import Mapping, Sequence
from typing import Any

from torch import Tensor
from typing_extensions import override

from cvg.common.sizes import Grid, Size
from cvg.composition import Composition
from cvg.generators.calls import MASKED
from cvg.generators.conditioning import States
from cvg.generators.families.diffusion import CLEANS, DiffusionGenerator, clean_caption
from cvg.grounding.keys import entity_columns


class AllegroGenerator(DiffusionGenerator):
    """Adapter of ``AllegroPipeline``.

    Padded T5 tokens are masked. The VAE knows only tiles, of 24 frames of 320 x 320 pixels as released, that overlap by
    8 frames, 120 rows and 80 columns, and only one video at a time. What whole tiles do not reach comes out grey: 88
    frames of 720 x 1280 are covered, 40 of 520 x 560 too. The released scheduler draws noise at every step.
    """

    embeddings = MASKED

    def __init__(self, pipeline: Any, name: str) -> None:
        super().__init__(pipeline, name)
        pipeline.vae.enable_tiling()
        pipeline.vae.enable_slicing()

    @property
    @override
    def own_steps(self) -> dict[str, Any]:
        return {}  # of timesteps that a call states, the pipeline keeps the number alone

    @override
    def encode_prompts(self, prompts: Sequence[str]) -> States:
        states, mask, *_ = self.pipeline.encode_prompt(
            list(prompts),
            do_classifier_free_guidance=False,
            clean_caption=CLEANS,
            max_sequence_length=self.max_sequence_length,
        )
        return {"encoder_hidden_states": states.to(self.dtype)[:, None], "encoder_attention_mask": mask}

    @override
    def given_states(self, call: Mapping[str, Any]) -> States | None:
        given = super().given_states(call)
        return None if given is None else {**given, "encoder_hidden_states": given["encoder_hidden_states"][:, None]}

    @override
    def entity_columns(self, composition: Composition) -> Tensor:
        clean = functools.partial(clean_caption, self.pipeline)
        return entity_columns(composition, self.pipeline.tokenizer, self.max_sequence_length, clean)

    @override
    def predict(self, latents: Tensor, timestep: Tensor, states: States) -> Tensor:
        batch, _, frames, height, width = latents.shape
        scale = self.pipeline.vae_scale_factor_spatial
        rotary = self.pipeline._prepare_rotary_positional_embeddings(
            batch, height * scale, width * scale, frames, self.device
        )
        prediction: Tensor = self.network(
            hidden_states=latents.to(self.dtype),
            timestep=timestep.expand(batch),
            image_rotary_emb=rotary,
            return_dict=False,
            **states,
        )[0]
        return prediction

    @override
    def latent_size(self, size: Size) -> Grid:
        frames, height, width = size
        temporal, spatial = self.compression
        odd = frames % 2  # the pipeline gives the first of an odd number a latent frame of its own
        return Grid(odd + -(-(frames - odd) // temporal), height // spatial, width // spatial)

    @override
    def options(self, size: Size) -> dict[str, Any]:
        return super().options(size) | {"max_sequence_length": self.max_sequence_length}

    @override
    def pixel_size(self, grid: Sequence[int]) -> Size:
        _, height, width = super().pixel_size(grid)
        return Size(grid[0] * self.patch.frames * self.compression[0], height, width)
