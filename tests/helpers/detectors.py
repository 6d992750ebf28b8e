"""Tiny random models of the classes that the detector judge looks with, each in a folder as released ones have."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors
from transformers import (
    BertConfig,
    DepthAnythingConfig,
    DepthAnythingForDepthEstimation,
    Dinov2Config,
    DPTImageProcessorPil,
    GroundingDinoConfig,
    GroundingDinoForObjectDetection,
    GroundingDinoImageProcessorPil,
    PreTrainedTokenizerFast,
    SwinConfig,
)

from data_prep.pretrain import detector
from data_prep.pretrain.text import build_tokenizer


def make_owlv2(folder: Path) -> Path:
    """An ``Owlv2ForObjectDetection`` of the shipped one's sizes, whose scores are spread out."""
    torch.manual_seed(0)
    tokenizer = build_tokenizer(end_last=True)
    model: Any = detector.build(len(tokenizer), tokenizer.eos_token_id)
    with torch.no_grad():
        model.class_head.logit_shift.bias.fill_(0.0)
    detector.save(model, tokenizer, folder)
    return folder


def make_grounding_dino(folder: Path) -> Path:
    """A ``GroundingDinoForObjectDetection`` with a tokenizer of BERT's form."""
    torch.manual_seed(0)
    sides = {"hidden_size": 32, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 32}
    swin = SwinConfig(
        image_size=64, patch_size=4, embed_dim=8, depths=[1, 1, 1, 1], num_heads=[1, 1, 2, 2], window_size=4
    )
    swin.out_features = ["stage2", "stage3", "stage4"]
    config = GroundingDinoConfig(
        backbone_config=swin,
        text_config=BertConfig(vocab_size=len(WORDS), max_position_embeddings=64, **sides),
        d_model=64,
        num_queries=12,
        encoder_layers=1,
        decoder_layers=2,
        encoder_ffn_dim=32,
        decoder_ffn_dim=32,
        encoder_attention_heads=2,
        decoder_attention_heads=2,
        max_text_len=32,
    )
    GroundingDinoForObjectDetection(config).save_pretrained(folder)
    words = Tokenizer(models.WordPiece({word: i for i, word in enumerate(WORDS)}, unk_token="[UNK]"))
    words.normalizer = normalizers.BertNormalizer(lowercase=True)
    words.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    words.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]", special_tokens=[("[CLS]", 101), ("[SEP]", 102)]
    )
    names = {"cls_token": "[CLS]", "sep_token": "[SEP]", "pad_token": "[PAD]", "unk_token": "[UNK]"}
    PreTrainedTokenizerFast(tokenizer_object=words, model_input_names=NAMES, **names).save_pretrained(folder)
    GroundingDinoImageProcessorPil(size={"shortest_edge": 48, "longest_edge": 80}).save_pretrained(folder)
    return folder


NAMES = ["input_ids", "token_type_ids", "attention_mask"]
WORDS = ["[PAD]", *(f"unused{i}" for i in range(1, 100)), "[UNK]", "[CLS]", "[SEP]"]
"""Where BERT has its special tokens: Grounding DINO knows them, and the full stop, by their numbers."""
WORDS += [f"unused{i}" for i in range(len(WORDS), 1012)] + ["."] + "red blue circle square a dog".split()


def make_depth(folder: Path) -> Path:
    """A ``DepthAnythingForDepthEstimation``."""
    torch.manual_seed(0)
    dino = Dinov2Config(
        image_size=28,
        patch_size=14,
        hidden_size=16,
        num_hidden_layers=4,
        num_attention_heads=2,
        out_indices=[1, 2, 3, 4],
        reshape_hidden_states=False,
        apply_layernorm=True,
    )
    config = DepthAnythingConfig(
        backbone_config=dino,
        reassemble_hidden_size=16,
        neck_hidden_sizes=[8, 8, 16, 16],
        fusion_hidden_size=8,
        head_hidden_size=8,
    )
    DepthAnythingForDepthEstimation(config).save_pretrained(folder)
    DPTImageProcessorPil(
        size={"height": 28, "width": 28}, keep_aspect_ratio=True, ensure_multiple_of=14
    ).save_pretrained(folder)
    return folder
