"""HunyuanVideo 1.5: as HunyuanVideo, with two text encoders and plain guidance (``HunyuanVideo15Pipeline``)."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, ClassVar

import torch
from diffusers.pipelines.hunyuan_video1_5.pipeline_hunyuan_video1_5 import extract_glyph_texts, format_text_input
from torch import Tensor, nn
from typing_extensions import override

from cvg.composition import Composition
from cvg.generators.conditioning import States
from cvg.generators.families.hunyuan import Hunyuan
from cvg.generators.steps import Edit, changed_steps
from cvg.grounding.keys import entity_columns


class HunyuanVideo15Generator(Hunyuan):
    """Adapter of ``HunyuanVideo15Pipeline``.

    Three kinds of text keys lie behind the video's: an image's (none here), bytes of quoted text (ByT5), and the prompt
    (Qwen2.5-VL within a chat template, whose tokens are cut off). The network moves each prompt's valid keys to the
    front in that order and masks the others, so quoted text shifts the entities. The latents come with zeros for the
    channels of a first frame. The VAE takes one video at a time: its attention masks do not fit a batch. The pipeline
    has no callback, and its guider holds the guidance scale. Ready-made states of prompts are not read.
    """

    embeddings: ClassVar[Mapping[str, str]] = {}

    @override
    def encode_prompts(self, prompts: Sequence[str]) -> States:
        names = (
            "encoder_hidden_states",
            "encoder_attention_mask",
            "encoder_hidden_states_2",
            "encoder_attention_mask_2",
        )
        states = self.pipeline.encode_prompt(list(prompts), dtype=self.dtype, batch_size=len(prompts))
        return dict(zip(names, states, strict=True))

    @override
    def entity_columns(self, composition: Composition) -> Tensor:
        pipeline = self.pipeline
        [template] = pipeline.tokenizer.apply_chat_template(
            format_text_input(["{}"], pipeline.system_message), add_generation_prompt=True, tokenize=False
        )
        prompt_TE = entity_columns(
            composition,
            pipeline.tokenizer,
            pipeline.tokenizer_max_length,
            template=template,
            skipped=pipeline.prompt_template_encode_start_idx,
        )
        quoted, others = extract_glyph_texts(composition.prompt), pipeline.tokenizer_2_max_length
        first = len(pipeline.tokenizer_2(quoted, truncation=True, max_length=others).input_ids) if quoted else 0
        others += pipeline.vision_num_semantic_tokens
        return nn.functional.pad(prompt_TE, (0, 0, first, others - first))

    @override
    def predict(self, latents: Tensor, timestep: Tensor, states: States) -> Tensor:
        pipeline, batch = self.pipeline, latents.shape[0]
        z = latents.to(self.dtype)
        no_image = z.new_zeros(batch, pipeline.vision_num_semantic_tokens, pipeline.vision_states_dim)
        prediction: Tensor = self.network(
            hidden_states=torch.cat([z, *pipeline.prepare_cond_latents_and_mask(z, self.dtype, self.device)], dim=1),
            timestep=timestep.expand(batch).to(self.dtype),
            image_embeds=no_image,
            return_dict=False,
            **states,
        )[0]
        return prediction

    @override
    def encode_video(self, video_BCFHW: Tensor) -> Tensor:
        return torch.cat([super(HunyuanVideo15Generator, self).encode_video(video) for video in video_BCFHW.split(1)])

    @override
    def decode_latents(self, latents: Tensor) -> Tensor:
        return torch.cat([super(HunyuanVideo15Generator, self).decode_latents(z) for z in latents.split(1)])

    @property
    @override
    def noise_dtype(self) -> torch.dtype:
        return self.dtype

    @override
    @contextmanager
    def guided_by(self, scale: float | None) -> Iterator[dict[str, Any]]:
        guider = self.pipeline.guider
        own = guider.guidance_scale
        guider.guidance_scale = own if scale is None else scale
        try:
            yield {}
        finally:
            guider.guidance_scale = own

    @override
    @contextmanager
    def changed_between_steps(self, change: Edit) -> Iterator[dict[str, Any]]:
        with changed_steps(self.pipeline.scheduler, change):
            yield {}
