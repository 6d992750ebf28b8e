"""EasyAnimate 5.1."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from diffusers import (
    AutoencoderKLMagvit,
    EasyAnimatePipeline,
    EasyAnimateTransformer3DModel,
    FlowMatchEulerDiscreteScheduler,
)
from transformers import Qwen2VLConfig, Qwen2VLForConditionalGeneration

from cvg.common.sizes import Size
from cvg.generators import Generator
from tests.helpers.conformance import COMPOSITIONS, PROMPTS, FirstOrder
from tests.helpers.parts import qwen2_tokenizer

SYSTEM = "You are a helpful assistant."
CHAT = (
    f"<|im_start|>system\n{SYSTEM}<|im_end|>\n"
    "{% for message in messages %}<|im_start|>{{ message.role }}\n"
    "{% for part in message.content %}{{ part.text }}{% endfor %}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
"""What Qwen2-VL's template makes of text."""


def build(mmdit_layers: int = 3) -> EasyAnimatePipeline:
    torch.manual_seed(0)
    tokenizer = qwen2_tokenizer(f"system user assistant {SYSTEM}")
    tokenizer.chat_template = CHAT
    text: dict[str, Any] = {
        "vocab_size": len(tokenizer),
        "hidden_size": 16,
        "intermediate_size": 32,
        "num_hidden_layers": 2,
        "num_attention_heads": 2,
        "num_key_value_heads": 2,
        "rope_parameters": {"rope_type": "default", "rope_theta": 10000.0, "mrope_section": [2, 1, 1]},
        "bos_token_id": None,
        "eos_token_id": None,
    }
    vision = {"depth": 1, "embed_dim": 16, "hidden_size": 16, "num_heads": 2}
    encoder = Qwen2VLForConditionalGeneration(Qwen2VLConfig(text_config=text, vision_config=vision)).eval()
    torch.nn.init.normal_(encoder.model.language_model.embed_tokens.weight)  # words differ as those of trained models
    transformer = EasyAnimateTransformer3DModel(
        num_attention_heads=2,
        attention_head_dim=16,
        in_channels=4,
        out_channels=4,
        patch_size=2,
        num_layers=3,
        mmdit_layers=mmdit_layers,
        time_embed_dim=8,
        text_embed_dim=16,
        add_norm_text_encoder=True,
    )
    vae = AutoencoderKLMagvit(latent_channels=4, block_out_channels=[4, 4, 4, 4], layers_per_block=1, norm_num_groups=2)
    pipeline = EasyAnimatePipeline(vae, encoder, tokenizer, transformer, FlowMatchEulerDiscreteScheduler(shift=3.0))
    pipeline.set_progress_bar_config(disable=True)
    return pipeline


class TestEasyAnimate(FirstOrder):
    size = Size(5, 32, 48)

    def build(self) -> EasyAnimatePipeline:
        return build()

    def words(self, generator: Generator) -> list[str]:
        tokenizer = generator.pipeline.tokenizer
        message = {"role": "user", "content": [{"type": "text", "text": PROMPTS[0]}]}
        chat = tokenizer.apply_chat_template([message], tokenize=False, add_generation_prompt=True)
        assert chat.endswith(f"user\n{PROMPTS[0]}<|im_end|>\n<|im_start|>assistant\n")
        return [tokenizer.decode([i]).replace(" ", "") for i in tokenizer(chat).input_ids]

    def test_the_prompt_follows_the_templates_own_words(self, generator: Generator) -> None:
        """States of keys before the first changed word do not change: its text encoder reads from left to right."""
        first, second = (
            generator.encode_prompts([f"a {colour} circle to the left of a blue square"])["encoder_hidden_states"][0]
            for colour in ("red", "blue")
        )
        changed = (first != second).any(-1).nonzero().flatten().tolist()
        columns = generator.entity_columns(COMPOSITIONS[0])
        assert changed[0] == int(columns[:, 0].nonzero()[0])


@pytest.mark.slow
class TestSharedWeights(TestEasyAnimate):
    """Blocks from ``mmdit_layers`` on project text and video by the same weights."""

    def build(self) -> EasyAnimatePipeline:
        return build(mmdit_layers=1)
