"""Wan 2.1 and 2.2: text-to-video by flow matching, cross-attention to umT5 states (``WanPipeline``)."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from diffusers.pipelines.wan.pipeline_wan import prompt_clean
from torch import Tensor, nn
from typing_extensions import override

from cvg.common.sizes import Size
from cvg.composition import Composition
from cvg.diffusion.schedule import Schedule, flow_schedule
from cvg.generators.conditioning import States
from cvg.generators.families.standardised import StandardisedGenerator
from cvg.grounding.keys import entity_columns


class WanGenerator(StandardisedGenerator):
    """Adapter of ``WanPipeline``.

    Text keys are the umT5 tokens; padded rows are zero and are attended. The prediction is the velocity
    noise - clean already, at timestep 1000 sigma. Wan 2.2 A14B has two transformers, one for timesteps from
    ``boundary_ratio`` up and one below: layers and attention modules are those of the timestep that is computed.
    Wan 2.2 5B (``expand_timesteps``) is told the timestep of every video token.
    """

    _low_noise = False
    """Whether the timestep that is computed is the second transformer's."""

    @property
    @override
    def network(self) -> Any:
        return self.pipeline.transformer_2 if self._low_noise else self.pipeline.transformer

    @property
    @override
    def networks(self) -> Sequence[Any]:
        pipeline = self.pipeline
        return [pipeline.transformer] + ([] if self._boundary is None else [pipeline.transformer_2])

    @property
    @override
    def map_settings(self) -> dict[str, Any]:
        return {} if self._boundary is None else {"boundary_ratio": self.pipeline.config.boundary_ratio}

    @property
    def _boundary(self) -> float | None:
        """Timestep below which the second transformer takes over."""
        ratio = self.pipeline.config.get("boundary_ratio")
        return None if ratio is None else ratio * self.pipeline.scheduler.config.num_train_timesteps

    @override
    @contextmanager
    def at_timestep(self, timestep: Tensor) -> Iterator[None]:
        before, boundary = self._low_noise, self._boundary
        low = torch.zeros_like(timestep, dtype=torch.bool) if boundary is None else timestep < boundary
        assert low.all() or not low.any(), "timesteps of both transformers in one batch"
        self._low_noise = bool(low.any())
        try:
            yield
        finally:
            self._low_noise = before

    @property
    @override
    def blocks(self) -> Sequence[nn.Module]:
        return list(self.network.blocks)

    @override
    def encode_prompts(self, prompts: Sequence[str]) -> States:
        states, _ = self.pipeline.encode_prompt(
            list(prompts), do_classifier_free_guidance=False, max_sequence_length=self.max_sequence_length
        )
        return {"encoder_hidden_states": states.to(self.dtype)}

    @override
    def entity_columns(self, composition: Composition) -> Tensor:
        return entity_columns(composition, self.pipeline.tokenizer, self.max_sequence_length, prompt_clean)

    @override
    def predict(self, latents: Tensor, timestep: Tensor, states: States) -> Tensor:
        with self.at_timestep(timestep):
            timestep = timestep.expand(latents.shape[0])
            if self.pipeline.config.get("expand_timesteps"):
                timestep = timestep[:, None].expand(-1, math.prod(self.token_grid(latents)))
            prediction: Tensor = self.network(
                hidden_states=latents.to(self.dtype), timestep=timestep, return_dict=False, **states
            )[0]
        return prediction

    @override
    def schedule(self, steps: int, size: Size) -> Schedule:
        return flow_schedule(self.pipeline.scheduler, steps, self.device)

    @override
    def options(self, size: Size) -> dict[str, Any]:
        return super().options(size) | {"max_sequence_length": self.max_sequence_length}
