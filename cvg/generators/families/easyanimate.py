"""EasyAnimate 5.1: text-to-video by flow matching, joint attention over text and video (``EasyAnimatePipeline``)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from typing_extensions import override

from cvg.common.sizes import Size
from cvg.composition import Composition
from cvg.diffusion.schedule import Schedule, flow_schedule
from cvg.generators.base import Generator
from cvg.generators.conditioning import States
from cvg.grounding.keys import entity_columns

TEXT_LENGTH = 256
"""Text keys, the chat template's among them; the pipeline's call takes no other number."""


class EasyAnimateGenerator(Generator):
    """Adapter of ``EasyAnimatePipeline``.

    The tokens of the prompt within Qwen2-VL's chat template lie before the video's in one sequence; padded ones are
    attended.
    """

    text_position = "first"
    attention_name = "attn1"

    @property
    @override
    def compression(self) -> tuple[int, int]:
        return self.pipeline.vae_temporal_compression_ratio, self.pipeline.vae_spatial_compression_ratio

    @property
    @override
    def noise_dtype(self) -> torch.dtype:
        dtype: torch.dtype = self.pipeline.text_encoder.dtype
        return dtype

    @override
    def encode_prompts(self, prompts: Sequence[str]) -> States:
        states, *_ = self.pipeline.encode_prompt(
            list(prompts), do_classifier_free_guidance=False, device=self.device, max_sequence_length=TEXT_LENGTH
        )
        return {"encoder_hidden_states": states.to(self.dtype)}

    @override
    def entity_columns(self, composition: Composition) -> Tensor:
        tokenizer = self.pipeline.tokenizer
        message = {"role": "user", "content": [{"type": "text", "text": "{}"}]}
        template = tokenizer.apply_chat_template([message], tokenize=False, add_generation_prompt=True)
        return entity_columns(composition, tokenizer, TEXT_LENGTH, template=template)

    @override
    def predict(self, latents: Tensor, timestep: Tensor, states: States) -> Tensor:
        prediction: Tensor = self.network(
            hidden_states=latents.to(self.dtype),
            timestep=timestep.expand(latents.shape[0]).to(self.dtype),
            return_dict=False,
            **states,
        )[0]
        return prediction

    @override
    def schedule(self, steps: int, size: Size) -> Schedule:
        return flow_schedule(self.pipeline.scheduler, steps, self.device, mu=1, **self.own_steps)

    @override
    def prompt_options(self, prompts: Sequence[str]) -> dict[str, Any]:
        # Without negative prompts, one per prompt, the pipeline's call fails.
        return super().prompt_options(prompts) | {"negative_prompt": [""] * len(prompts)}
