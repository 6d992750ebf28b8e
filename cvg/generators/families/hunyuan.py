"""HunyuanVideo: text-to-video by flow matching, joint attention over video and text (``HunyuanVideoPipeline``)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

import numpy as np
import torch
from diffusers.pipelines.hunyuan_video.pipeline_hunyuan_video import DEFAULT_PROMPT_TEMPLATE
from torch import Tensor, nn
from transformers import PreTrainedTokenizerFast
from typing_extensions import override

from cvg.common.errors import ModelError
from cvg.common.sizes import Size
from cvg.composition import Composition
from cvg.diffusion.schedule import Schedule, flow_schedule
from cvg.generators.base import Generator
from cvg.generators.conditioning import States
from cvg.grounding.keys import entity_columns

TEMPLATE, CUT = DEFAULT_PROMPT_TEMPLATE["template"], DEFAULT_PROMPT_TEMPLATE["crop_start"]
"""What Llama reads, the prompt within it, and how many of its first tokens the pipeline cuts off."""


class Hunyuan(Generator):
    """What both versions share: the video's tokens before the text's, the flow's steps, and how the VAE is used."""

    text_position = "last"
    attention_name = "attn"

    @property
    @override
    def latent_channels(self) -> int:
        return int(self.pipeline.vae.config.latent_channels)

    @override
    def schedule(self, steps: int, size: Size) -> Schedule:
        sigmas = np.linspace(1, 0, steps + 1)[:-1]
        return flow_schedule(self.pipeline.scheduler, steps, self.device, **({"sigmas": sigmas} | self.own_steps))


class HunyuanVideoGenerator(Hunyuan):
    """Adapter of ``HunyuanVideoPipeline``.

    Layers are the blocks with separate weights for video and text, then those that share them. Llama reads the prompt
    within a template, whose beginning is cut off its states; padded keys are masked. The transformer is distilled from
    classifier-free guidance: the scale is an input, so there is one network call per step. The prediction is the
    velocity noise - clean, at timestep 1000 sigma.
    """

    embeddings: ClassVar[Mapping[str, str]] = {
        "encoder_hidden_states": "prompt_embeds",
        "encoder_attention_mask": "prompt_attention_mask",
        "pooled_projections": "pooled_prompt_embeds",
    }
    embedded_guidance: float = 6.0
    """The guidance scale that ``predict`` tells the network: the pipeline's default."""

    @property
    @override
    def max_sequence_length(self) -> int:
        """Text keys after the cut: the pipeline's default."""
        return 256

    @property
    @override
    def blocks(self) -> Sequence[nn.Module]:
        return [*self.network.transformer_blocks, *self.network.single_transformer_blocks]

    @override
    def encode_prompts(self, prompts: Sequence[str]) -> States:
        tokens, pooled, mask = self.pipeline.encode_prompt(list(prompts), max_sequence_length=self.max_sequence_length)
        states = {"encoder_hidden_states": tokens, "encoder_attention_mask": mask, "pooled_projections": pooled}
        return {name: state.to(self.dtype) for name, state in states.items()}

    @property
    def _before(self) -> int:
        """Tokens of what the template has before the prompt."""
        return len(self.pipeline.tokenizer(TEMPLATE[: TEMPLATE.index("{}")]).input_ids)

    @override
    def repair_after_loading(self) -> None:
        if self._before != CUT:  # transformers 5 takes Llama 3's vocabulary for Llama 2's
            folder = self.pipeline.tokenizer.name_or_path
            self.pipeline.tokenizer = PreTrainedTokenizerFast.from_pretrained(folder, trust_remote_code=False)

    @override
    def entity_columns(self, composition: Composition) -> Tensor:
        if self._before != CUT:
            raise ModelError(
                f"generator {self.name}: its tokenizer makes {self._before} tokens of what stands before the prompt, "
                f"but the pipeline cuts {CUT} off; transformers 5 loads Llama 3's tokenizer wrongly as "
                "LlamaTokenizerFast, so load it with PreTrainedTokenizerFast.from_pretrained and give it to the "
                "pipeline as tokenizer"
            )
        tokenizer = self.pipeline.tokenizer
        return entity_columns(composition, tokenizer, self.max_sequence_length, template=TEMPLATE, skipped=CUT)

    @override
    def predict(self, latents: Tensor, timestep: Tensor, states: States) -> Tensor:
        batch = latents.shape[0]
        prediction: Tensor = self.network(
            hidden_states=latents.to(self.dtype),
            # The pipeline rounds it as its latents, which are in the network's dtype from the second step on.
            timestep=timestep.expand(batch).to(self.dtype),
            guidance=1000 * torch.tensor([self.embedded_guidance] * batch, dtype=self.dtype, device=self.device),
            return_dict=False,
            **states,
        )[0]
        return prediction

    @override
    def options(self, size: Size) -> dict[str, Any]:
        return super().options(size) | {"max_sequence_length": self.max_sequence_length}
