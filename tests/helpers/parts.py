"""Tiny tokenizers and text encoders of the families' true classes, for their tests."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable

import torch
from tokenizers import Tokenizer, models, pre_tokenizers, trainers
from transformers import (
    CLIPTextConfig,
    CLIPTextModel,
    CLIPTokenizerFast,
    Gemma2Config,
    Gemma2Model,
    GemmaTokenizerFast,
    Qwen2_5_VLConfig,
    Qwen2_5_VLForConditionalGeneration,
    Qwen2Tokenizer,
    Qwen2VLProcessor,
    T5Config,
    T5EncoderModel,
    T5TokenizerFast,
)
from transformers.processing_utils import ProcessorMixin

WORDS = "a an the red blue to left right of moving up down very above below".split()
"""Words of the tests' prompts that tokenizers keep whole."""
SPLIT = [("cir", "cle"), ("squ", "are"), ("tri", "ang", "le"), ("gre", "en")]
"""Words that they split."""
LETTERS = "abcdefghijklmnopqrstuvwxyz0123456789.,:;-'\""
"""Everything else is spelt."""


def t5_tokenizer(length: int) -> T5TokenizerFast:
    """A unigram tokenizer; ``length`` is its ``model_max_length``."""
    pieces = [("<pad>", 0.0), ("</s>", 0.0), ("<unk>", 0.0), ("▁", -6.0)]
    pieces += [(f"▁{word}", -1.0) for word in [*WORDS, *(first for first, *_ in SPLIT)]]
    pieces += [(piece, -1.0) for _, *rest in SPLIT for piece in rest if piece not in dict(pieces)]
    pieces += [(letter, -8.0) for letter in LETTERS if letter not in dict(pieces)]
    return T5TokenizerFast(vocab=list(dict(pieces).items()), extra_ids=0, model_max_length=length)


def t5_encoder(vocabulary: int, width: int = 16) -> T5EncoderModel:
    """Two layers with random weights."""
    torch.manual_seed(0)
    config = T5Config(
        vocab_size=vocabulary, d_model=width, d_kv=8, d_ff=2 * width, num_layers=2, num_heads=2, dropout_rate=0.0
    )
    return T5EncoderModel(config).eval()


def clip_tokenizer(length: int = 77) -> CLIPTokenizerFast:
    """Byte pairs learned from the words, too few to keep those of ``SPLIT`` whole."""
    plain = Tokenizer(models.BPE(end_of_word_suffix="</w>"))
    plain.pre_tokenizer = pre_tokenizers.Whitespace()
    trainer = trainers.BpeTrainer(
        vocab_size=132,
        special_tokens=["<|startoftext|>", "<|endoftext|>"],
        initial_alphabet=list(LETTERS),
        end_of_word_suffix="</w>",
        show_progress=False,
    )
    plain.train_from_iterator([*8 * WORDS, *("".join(pieces) for pieces in SPLIT), *LETTERS], trainer)
    model = json.loads(plain.to_str())["model"]
    merges = [tuple(pair) for pair in model["merges"]]
    return CLIPTokenizerFast(vocab=model["vocab"], merges=merges, model_max_length=length)


def clip_encoder(tokenizer: CLIPTokenizerFast, width: int = 16) -> CLIPTextModel:
    """Two layers with random weights."""
    torch.manual_seed(0)
    config = CLIPTextConfig(
        vocab_size=len(tokenizer),
        hidden_size=width,
        intermediate_size=2 * width,
        num_hidden_layers=2,
        num_attention_heads=2,
        max_position_embeddings=tokenizer.model_max_length,
        bos_token_id=tokenizer.bos_token_id,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
    )
    return CLIPTextModel(config).eval()


def qwen2_tokenizer(template: str) -> Qwen2Tokenizer:
    """Byte pairs that keep the words and a template's pieces whole, as the real one does, and Qwen's chat form."""
    texts = [template, *(f"{space}{word}" for word in WORDS for space in ("", " "))]
    tokenizer = Qwen2Tokenizer().train_new_from_iterator(
        texts, 2000, new_special_tokens=["<|im_start|>", "<|im_end|>"], show_progress=False
    )
    tokenizer.chat_template = (
        "{% for message in messages %}<|im_start|>{{ message.role }}\n{{ message.content }}<|im_end|>\n{% endfor %}"
        "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
    )
    return tokenizer


def merges_of(words: Iterable[str]) -> list[tuple[str, str]]:
    """Byte-pair merges that build each word letter by letter; earlier words go first."""
    pairs = [(word[:end], word[end]) for word in words for end in range(1, len(word))]
    return list(dict.fromkeys(pairs))


def gemma_tokenizer(template: str) -> GemmaTokenizerFast:
    """Byte pairs that keep the words, and most of a template's, whole."""
    whole = [f"▁{word}" for word in [*WORDS, *(first for first, *_ in SPLIT)]]
    rest = sorted((piece for _, *pieces in SPLIT for piece in pieces), key=len, reverse=True)
    framing = [word.replace(" ", "▁") for word in re.findall(r" ?[A-Za-z]+", template)]
    merges = merges_of([*whole, *rest, *framing])
    pieces = ["<pad>", "<eos>", "<bos>", "<unk>", "<mask>", "▁", *sorted({*LETTERS, *template} - {" "})]
    pieces += ["".join(pair) for pair in merges]
    vocabulary = {piece: index for index, piece in enumerate(dict.fromkeys(pieces))}
    return GemmaTokenizerFast(vocab=vocabulary, merges=merges, add_bos_token=True)


def gemma2_encoder(vocabulary: int, width: int = 16) -> Gemma2Model:
    """Two layers with random weights."""
    torch.manual_seed(0)
    config = Gemma2Config(
        vocab_size=vocabulary,
        hidden_size=width,
        intermediate_size=2 * width,
        num_hidden_layers=2,
        num_attention_heads=2,
        num_key_value_heads=1,
        head_dim=8,
    )
    return Gemma2Model(config).eval()


class Qwen2TextProcessor(Qwen2VLProcessor):
    """Qwen's processor without its parts for images and videos, whose libraries tests do not have."""

    def __init__(self, tokenizer: Qwen2Tokenizer) -> None:
        self.image_token, self.video_token = "<|image_pad|>", "<|video_pad|>"
        self.image_token_id, self.video_token_id = -1, -2
        ProcessorMixin.__init__(self, tokenizer)


def qwen2_vl(vocabulary: int, width: int = 16) -> Qwen2_5_VLForConditionalGeneration:
    """Two language layers with random weights, and one for images, which goes unused."""
    torch.manual_seed(0)
    text = {
        "vocab_size": vocabulary,
        "hidden_size": width,
        "intermediate_size": 2 * width,
        "num_hidden_layers": 2,
        "num_attention_heads": 2,
        "num_key_value_heads": 1,
        "rope_parameters": {"rope_type": "default", "rope_theta": 1e4, "mrope_section": [1, 1, 2]},
        "bos_token_id": 0,
        "eos_token_id": 0,
    }
    vision = {"depth": 1, "hidden_size": width, "intermediate_size": width, "num_heads": 2, "out_hidden_size": width}
    tokens = dict.fromkeys(("image_token_id", "video_token_id", "vision_start_token_id", "vision_end_token_id"), -1)
    return Qwen2_5_VLForConditionalGeneration(Qwen2_5_VLConfig(text_config=text, vision_config=vision, **tokens)).eval()
