"""SANA-Video: text-to-video by flow matching, cross-attention to Gemma 2 states (``SanaVideoPipeline``)."""

from __future__ import annotations

import inspect
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from typing_extensions import override

from cvg.common.sizes import Size
from cvg.composition import Composition
from cvg.diffusion.schedule import Schedule, flow_schedule
from cvg.generators.calls import MASKED
from cvg.generators.conditioning import States
from cvg.generators.families.standardised import StandardisedGenerator
from cvg.grounding.keys import entity_columns

TEXT_KEYS = 300
"""Text keys the transformer was trained with."""


class SanaVideoGenerator(StandardisedGenerator):
    """Adapter of ``SanaVideoPipeline``.

    Gemma reads the prompt, in lower case, after an instruction of some hundred tokens. Text keys are its first token
    and the last 299, which begin with the one before the prompt's or with the prompt's own; padded ones are masked.
    Videos have the size that is asked for: the pipeline's own bins of sizes are off.
    """

    embeddings = MASKED

    @property
    @override
    def num_heads(self) -> int:
        return int(self.network.config.num_cross_attention_heads)

    @property
    def _instruction(self) -> list[str]:
        """The pipeline's default, line by line."""
        lines: list[str] = inspect.signature(self.pipeline.__call__).parameters["complex_human_instruction"].default
        return lines

    @override
    def encode_prompts(self, prompts: Sequence[str]) -> States:
        states, mask, _, _ = self.pipeline.encode_prompt(
            list(prompts), False, max_sequence_length=TEXT_KEYS, complex_human_instruction=self._instruction
        )
        return {"encoder_hidden_states": states.to(self.dtype), "encoder_attention_mask": mask}

    @override
    def entity_columns(self, composition: Composition) -> Tensor:
        tokenizer, instruction = self.pipeline.tokenizer, "\n".join(self._instruction)

        def clean(prompt: str) -> str:
            cleaned: str = self.pipeline._text_preprocessing(prompt)[0]
            return cleaned

        skipped = len(tokenizer.encode(instruction)) - 2
        return entity_columns(composition, tokenizer, TEXT_KEYS, clean, instruction + "{}", skipped)

    @override
    def predict(self, latents: Tensor, timestep: Tensor, states: States) -> Tensor:
        prediction: Tensor = self.network(
            latents.to(self.dtype), timestep=timestep.expand(latents.shape[0]), return_dict=False, **states
        )[0]
        return prediction[:, : latents.shape[1]]  # some models also learn a variance

    @override
    def schedule(self, steps: int, size: Size) -> Schedule:
        return flow_schedule(self.pipeline.scheduler, steps, self.device, **self.own_steps)

    @override
    def moments(self, frames: int) -> tuple[Tensor, Tensor]:
        # Wan's in the 480p model, LTX-2's in the 720p one.
        vae = self.pipeline.vae
        source = vae.config if "latents_mean" in vae.config else vae
        mean, std = (torch.as_tensor(each).view(1, -1, 1, 1, 1) for each in (source.latents_mean, source.latents_std))
        return mean.to(self.device, vae.dtype), std.to(self.device, vae.dtype)

    @override
    def options(self, size: Size) -> dict[str, Any]:
        frames, height, width = size
        return {
            "frames": frames,
            "height": height,
            "width": width,
            "use_resolution_binning": False,
            "max_sequence_length": TEXT_KEYS,
        }
