"""HunyuanVideo, from text or an image: flow matching, joint attention over video and text."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, ClassVar

import numpy as np
import torch
from diffusers.pipelines.hunyuan_video.pipeline_hunyuan_video import DEFAULT_PROMPT_TEMPLATE
from diffusers.pipelines.hunyuan_video.pipeline_hunyuan_video_image2video import (
    DEFAULT_PROMPT_TEMPLATE as IMAGE_PROMPT_TEMPLATE,
)
from torch import Tensor, nn
from transformers import PreTrainedTokenizerFast
from typing_extensions import override

from cvg.common.errors import ModelError, PromptError
from cvg.common.sizes import Size
from cvg.composition import Composition
from cvg.diffusion.schedule import Schedule, flow_schedule
from cvg.generators.base import Generator
from cvg.generators.conditioning import States
from cvg.generators.image_to_video import ImageToVideo
from cvg.generators.steps import changed_steps
from cvg.grounding.keys import entity_columns


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
    template: ClassVar[Mapping[str, Any]] = DEFAULT_PROMPT_TEMPLATE
    """What Llama reads, the prompt within it, and how many of its first tokens the pipeline cuts off."""
    embedded_guidance: float = 6.0
    """The guidance scale that ``predict`` tells the network where none is asked for: the pipeline's default."""
    _asked_scale: float | None = None

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
        text = self.template["template"]
        return len(self.pipeline.tokenizer(text[: text.index("{}")]).input_ids)

    @override
    def repair_after_loading(self) -> None:
        if self._before != self.template["crop_start"]:  # transformers 5 takes Llama 3's vocabulary for Llama 2's
            folder = self.pipeline.tokenizer.name_or_path
            self.pipeline.tokenizer = PreTrainedTokenizerFast.from_pretrained(folder, trust_remote_code=False)

    @override
    def entity_columns(self, composition: Composition) -> Tensor:
        cut = self.template["crop_start"]
        if self._before != cut:
            raise ModelError(
                f"generator {self.name}: its tokenizer makes {self._before} tokens of what stands before the prompt, "
                f"but the pipeline cuts {cut} off; transformers 5 loads Llama 3's tokenizer wrongly as "
                "LlamaTokenizerFast, so load it with PreTrainedTokenizerFast.from_pretrained and give it to the "
                "pipeline as tokenizer"
            )
        return entity_columns(
            composition,
            self.pipeline.tokenizer,
            self.max_sequence_length,
            template=self.template["template"],
            skipped=cut,
        )

    @override
    def predict(self, latents: Tensor, timestep: Tensor, states: States) -> Tensor:
        batch = latents.shape[0]
        prediction: Tensor = self.network(
            hidden_states=latents.to(self.dtype),
            # The pipeline rounds it as its latents, which are in the network's dtype from the second step on.
            timestep=timestep.expand(batch).to(self.dtype),
            guidance=self._guidance(batch),
            return_dict=False,
            **states,
        )[0]
        return prediction

    def _guidance(self, batch: int) -> Tensor | None:
        """What the network is told of the guidance scale; nothing where it has no input for that."""
        if not self.network.config.guidance_embeds:
            return None
        return 1000 * torch.tensor([self._told_scale] * batch, dtype=self.dtype, device=self.device)

    @property
    def _told_scale(self) -> float:
        default = self.embedded_guidance if self._asked_scale is None else self._asked_scale
        return float(self.own_call.get("guidance_scale", default))

    @override
    @contextmanager
    def guided_by(self, scale: float | None) -> Iterator[dict[str, Any]]:
        """As everywhere; and passes that are read meanwhile tell the network the same scale."""
        before, self._asked_scale = self._asked_scale, scale
        try:
            with super().guided_by(scale) as options:
                yield options
        finally:
            self._asked_scale = before

    @override
    def options(self, size: Size) -> dict[str, Any]:
        return super().options(size) | {"max_sequence_length": self.max_sequence_length}


class HunyuanVideoImageGenerator(HunyuanVideoGenerator, ImageToVideo):
    """Adapter of ``HunyuanVideoImageToVideoPipeline``.

    Llava reads the image before the prompt, and so do the text keys: every second or fourth of the image's states, then
    the prompt's, without the four tokens with which the answer would begin. Of the two kinds of models one has the
    image in the place of the first latent frame; the other reads the image's latents, of the first frame and zero after
    it, and a mask after the channels of the video's, and its first latent frame is dropped.
    """

    template = IMAGE_PROMPT_TEMPLATE
    embedded_guidance = 1.0
    _ANSWER = 4
    """Tokens of what the template has after the prompt that the pipeline takes out of its states."""

    @property
    def _replaces(self) -> bool:
        """Whether the image takes the place of the first latent frame."""
        return bool(self.network.config.image_condition_type == "token_replace")

    @property
    @override
    def given_frames(self) -> int:
        return int(self._replaces)

    @property
    def _interleave(self) -> int:
        """Of how many of the image's states there is one text key."""
        return int(self.own_call.get("image_embed_interleave") or (4 if self._replaces else 2))

    @override
    def encode_prompts(self, prompts: Sequence[str]) -> States:
        image = self.of_call("image")
        tokens, pooled, mask = self.pipeline.encode_prompt(
            image=image if isinstance(image, list | torch.Tensor) else [image] * len(prompts),
            prompt=list(prompts),
            max_sequence_length=self.max_sequence_length,
            image_embed_interleave=self._interleave,
        )
        states = {"encoder_hidden_states": tokens, "encoder_attention_mask": mask, "pooled_projections": pooled}
        return {name: state.to(self.dtype) for name, state in states.items()}

    @override
    def entity_columns(self, composition: Composition) -> Tensor:
        if self.own_call.get("prompt_template", self.template) != self.template:
            raise ModelError(
                f"generator {self.name}: another prompt_template than {type(self.pipeline).__name__}'s own hides where "
                "the prompt's words are; leave it out"
            )
        keys = self.max_sequence_length - self._ANSWER
        prompt_TE = super().entity_columns(composition)
        if prompt_TE[keys:].any():
            raise PromptError(f"prompt of more than {keys} tokens: an entity lies beyond them; shorten it")
        image = -(-self.template["image_emb_len"] // self._interleave)
        return nn.functional.pad(prompt_TE[:keys], (0, 0, image, 0))

    @override
    def image_states(self, videos: int) -> States:
        image = self.prepared[0]
        if not self._replaces:
            first = torch.zeros_like(image[:, :1])
            first[:, :, :1] = 1
            image = torch.cat([image * first, first], dim=1)
        return {"condition": image.expand(videos, *image.shape[1:])}

    @override
    def predict(self, latents: Tensor, timestep: Tensor, states: States) -> Tensor:
        text = dict(states)
        condition = text.pop("condition").to(latents)
        seen = [condition, latents[:, :, 1:]] if self._replaces else [latents, condition]
        return super().predict(torch.cat(seen, dim=2 if self._replaces else 1), timestep, text)

    @override
    def sample(self, *args: Any, **options: Any) -> Tensor:
        """As of all; with the first latent frame, which the pipeline drops from what it returns."""
        last: list[Tensor] = []

        def keep(call: int, latents: Tensor) -> Tensor:
            last[:] = [latents]
            return latents

        with changed_steps(self.pipeline.scheduler, keep):
            final = super().sample(*args, **options)
        return final if self._replaces else last[0]

    @override
    @torch.no_grad()
    def decode_latents(self, latents: Tensor) -> Tensor:
        decoded = super().decode_latents(latents)
        return decoded if self._replaces else decoded[:, :, self.pipeline.vae_scale_factor_temporal :]
