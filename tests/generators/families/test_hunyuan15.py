"""HunyuanVideo 1.5."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import torch
from diffusers import (
    AutoencoderKLHunyuanVideo15,
    ClassifierFreeGuidance,
    FlowMatchEulerDiscreteScheduler,
    HunyuanVideo15Pipeline,
    HunyuanVideo15Transformer3DModel,
)
from diffusers.pipelines.hunyuan_video1_5.pipeline_hunyuan_video1_5 import format_text_input
from torch import Tensor
from transformers import ByT5Tokenizer, Qwen2_5_VLTextConfig, Qwen2_5_VLTextModel

from cvg.common.errors import UserError
from cvg.common.sizes import Size
from cvg.diffusion.trajectory import replay
from cvg.generators import Generator, wrap_pipeline
from tests.helpers.conformance import COMPOSITIONS, PROMPTS, Conformance
from tests.helpers.parts import qwen2_tokenizer, t5_encoder

QUOTING = replace(COMPOSITIONS[0], prompt=PROMPTS[0] + ', "up"')
"""A prompt with quoted text, which the second text encoder reads."""
QUOTED = len('Text "up". ') + 1
"""Its bytes, as the pipeline states it, and an end."""


class TestHunyuanVideo15(Conformance):
    size = Size(9, 32, 48)

    def build(self) -> HunyuanVideo15Pipeline:
        torch.manual_seed(0)
        message = HunyuanVideo15Pipeline._get_mllm_prompt_embeds.__defaults__[-2]
        tokenizer, tokenizer_2 = qwen2_tokenizer(f"system\n{message}\nuser\nassistant\n"), ByT5Tokenizer()
        text_encoder = Qwen2_5_VLTextModel(
            Qwen2_5_VLTextConfig(
                vocab_size=len(tokenizer),
                hidden_size=32,
                intermediate_size=32,
                num_hidden_layers=3,
                num_attention_heads=2,
                num_key_value_heads=1,
                rope_parameters={"rope_type": "default", "rope_theta": 1e4, "mrope_section": [2, 3, 3]},
                pad_token_id=tokenizer.pad_token_id,
            )
        )
        transformer = HunyuanVideo15Transformer3DModel(
            in_channels=9,
            out_channels=4,
            num_attention_heads=2,
            attention_head_dim=16,
            num_layers=3,
            num_refiner_layers=1,
            text_embed_dim=32,
            text_embed_2_dim=16,
            image_embed_dim=8,
            rope_axes_dim=(4, 6, 6),
        )
        vae = AutoencoderKLHunyuanVideo15(latent_channels=4, block_out_channels=(8, 8, 8, 8, 8), layers_per_block=1)
        pipeline = HunyuanVideo15Pipeline(
            text_encoder,
            tokenizer,
            transformer,
            vae,
            FlowMatchEulerDiscreteScheduler(shift=3.0),
            t5_encoder(len(tokenizer_2)),
            tokenizer_2,
            ClassifierFreeGuidance(guidance_scale=3.0),
        )
        # Fewer text keys than the 1000, 256 and 729 of the released model; the cut of 108 is its own.
        pipeline.tokenizer_max_length, pipeline.tokenizer_2_max_length, pipeline.vision_num_semantic_tokens = 24, 16, 5
        pipeline.set_progress_bar_config(disable=True)
        return pipeline

    def plain(self, generator: Generator, output: str) -> Any:
        vae = generator.pipeline.vae
        vae.enable_slicing()  # the pipeline cannot decode two videos at once
        try:
            return super().plain(generator, output)
        finally:
            vae.disable_slicing()

    def words(self, generator: Generator) -> list[str]:
        tokenizer, pipeline = generator.pipeline.tokenizer, generator.pipeline
        [chat] = tokenizer.apply_chat_template(
            format_text_input(PROMPTS[:1], pipeline.system_message), add_generation_prompt=True, tokenize=False
        )
        ids = tokenizer(chat).input_ids[pipeline.prompt_template_encode_start_idx :]
        assert len(ids) < pipeline.tokenizer_max_length
        return [tokenizer.decode([i]).strip() for i in ids]

    def test_the_template_is_cut_off(self, generator: Generator) -> None:
        assert self.words(generator)[:2] == ["a", "red"]
        other = wrap_pipeline(self.build(), "tiny")
        other.pipeline.prompt_template_encode_start_idx += 2
        with pytest.raises(UserError, match="'red circle' lies in the first 110 tokens"):
            other.entity_columns(COMPOSITIONS[0])

    def test_the_pipeline_without_guidance_is_our_replay(self, generator: Generator, latents: Tensor) -> None:
        """Prediction, timesteps and levels together; the guider keeps its own scale."""
        schedule, states = generator.schedule(self.steps, self.size), generator.encode_prompts(PROMPTS)
        ours, _ = replay(latents, schedule, lambda z, i: generator.predict(z, schedule.timesteps[i], states))
        theirs = generator.sample(PROMPTS, latents, self.steps, 1.0, self.size)
        torch.testing.assert_close(ours, theirs, atol=1e-5, rtol=1e-4)
        assert generator.pipeline.guider.guidance_scale == 3.0
        guided = generator.sample(PROMPTS, latents, self.steps, None, self.size)
        assert not torch.allclose(ours, guided, atol=1e-3)

    def test_the_scheduler_is_left_as_it_was(self, generator: Generator, latents: Tensor) -> None:
        """Its step is replaced during the call, also where an edit fails."""
        seen: list[int] = []

        def edit(step: int, z: Tensor) -> Tensor:
            seen.append(step)
            if step == 3:
                raise RuntimeError("edit")
            return z

        with pytest.raises(RuntimeError, match="edit"):
            generator.sample(PROMPTS, latents, self.steps, 2.0, self.size, edit)
        assert seen == [0, 1, 2, 3]
        assert "step" not in vars(generator.pipeline.scheduler)
        assert generator.pipeline.guider.guidance_scale == 3.0

    def test_quoted_text_shifts_the_entities(self, generator: Generator, latents: Tensor) -> None:
        """What the first block sees at an entity's keys are the prompt's own states, behind those of quoted text."""
        conditioning = generator.encode([QUOTING, COMPOSITIONS[0]])
        plain = generator.entity_columns(COMPOSITIONS[0])
        first, keys = int(plain[:, 0].nonzero()[0]), int(plain.sum())
        assert torch.equal(conditioning.columns_BTE[0], plain.roll(QUOTED, 0))
        assert torch.equal(conditioning.columns_BTE[1], plain)
        seen: dict[str, Tensor] = {}

        def look(module: Any, args: Any, output: Tensor | None = None) -> None:
            if output is None:
                seen["keys"] = args[1]
            else:
                seen["prompt"] = output

        network = generator.network
        handles = [
            generator.blocks[0].register_forward_pre_hook(look),
            network.context_embedder.register_forward_hook(look),
        ]
        with torch.no_grad():
            generator.predict(latents, self.timestep(generator), conditioning.states)
            kind = network.cond_type_embed(torch.tensor(0))
        for handle in handles:
            handle.remove()
        assert seen["keys"].shape[:2] == conditioning.columns_BTE.shape[:2]
        for sample, shift in ((0, QUOTED), (1, 0)):
            rows = conditioning.columns_BTE[sample].sum(1).nonzero().flatten()
            assert len(rows) == keys and int(rows[0]) == first + shift
            torch.testing.assert_close(seen["keys"][sample, rows], seen["prompt"][sample, rows - shift] + kind)

    def test_half_precision_is_the_pipelines_own(self) -> None:
        """Noise and latents are in the network's dtype."""
        generator = wrap_pipeline(self.build().to(torch.bfloat16), "tiny")
        noise = generator.initial_latents([torch.Generator().manual_seed(i) for i in range(2)], self.size)
        final = generator.sample(PROMPTS, noise, self.steps, None, self.size, lambda step, z: z)
        assert noise.dtype == final.dtype == torch.bfloat16
        assert torch.equal(final, self.plain(generator, "latent"))
