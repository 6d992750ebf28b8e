"""Tiny random vision-language models of their true classes, whose processors work without torchvision."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import (
    CLIPImageProcessorPil,
    Idefics3Config,
    Idefics3ForConditionalGeneration,
    Idefics3ImageProcessorPil,
    Idefics3Processor,
    LlavaConfig,
    LlavaForConditionalGeneration,
    LlavaProcessor,
    PreTrainedTokenizerFast,
)

SIDE = 32
WORDS = """yes no Yes No is the a dog cat sitting standing running on looking at ? . , These This picture shows frames
of video in order row by Answer or User USER ASSISTANT Assistant : 1 2 3 4 6 8 Is there any""".split()
CHAT = (
    "{% for m in messages %}User:{% for part in m.content %}{% if part.type == 'image' %}<image>{% else %}"
    "{{ part.text }}{% endif %}{% endfor %}<end_of_utterance>{% endfor %}Assistant:"
)
WIDTH: dict[str, Any] = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2, "num_attention_heads": 2}


def tokenizer(*special: str, words: list[str] | None = None) -> PreTrainedTokenizerFast:
    vocabulary = ["<unk>", "<pad>", "<s>", "</s>", *(WORDS if words is None else words), *special]
    inner = Tokenizer(models.WordLevel({word: i for i, word in enumerate(vocabulary)}, unk_token="<unk>"))
    inner.pre_tokenizer = pre_tokenizers.Whitespace()
    named = {"unk_token": "<unk>", "pad_token": "<pad>", "bos_token": "<s>", "eos_token": "</s>"}
    return PreTrainedTokenizerFast(tokenizer_object=inner, additional_special_tokens=list(special), **named)


def llava(folder: Path, words: list[str] | None = None) -> str:
    """One that has no form of conversation in its folder."""
    torch.manual_seed(0)
    tokens = tokenizer("<image>", words=words)
    pictures = CLIPImageProcessorPil(size={"shortest_edge": SIDE}, crop_size={"height": SIDE, "width": SIDE})
    shape = {"vision_feature_select_strategy": "default", "patch_size": 8, "num_additional_image_tokens": 1}
    LlavaProcessor(image_processor=pictures, tokenizer=tokens, **shape).save_pretrained(folder)
    vision = WIDTH | {"model_type": "clip_vision_model", "image_size": SIDE, "patch_size": 8}
    text = WIDTH | {"model_type": "llama", "vocab_size": len(tokens), "num_key_value_heads": 2, "pad_token_id": 1}
    image = tokens.convert_tokens_to_ids("<image>")
    config = LlavaConfig(vision_config=vision, text_config=text, image_token_id=image, vision_feature_layer=-1)
    LlavaForConditionalGeneration(config).save_pretrained(folder)
    return str(folder)


def idefics3(folder: Path) -> str:
    torch.manual_seed(0)
    tokens = tokenizer("<image>", "<fake_token_around_image>", "<global-img>", "<end_of_utterance>")
    size = {"longest_edge": SIDE}
    pictures = Idefics3ImageProcessorPil(size=size, max_image_size=size, do_image_splitting=False)
    Idefics3Processor(pictures, tokens, image_seq_len=4, chat_template=CHAT).save_pretrained(folder)
    vision = WIDTH | {"image_size": SIDE, "patch_size": 8}
    text = WIDTH | {"model_type": "llama", "vocab_size": len(tokens), "num_key_value_heads": 2, "pad_token_id": 1}
    image = tokens.convert_tokens_to_ids("<image>")
    config = Idefics3Config(vision_config=vision, text_config=text, image_token_id=image, scale_factor=2)
    Idefics3ForConditionalGeneration(config).save_pretrained(folder)
    return str(folder)
