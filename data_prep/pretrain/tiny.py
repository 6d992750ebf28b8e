"""Tiny models of true classes with random weights, which show that all of it works together, and nothing else."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

import torch
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import (
    CLIPImageProcessorPil,
    LlavaConfig,
    LlavaForConditionalGeneration,
    LlavaProcessor,
    PreTrainedTokenizerFast,
)

from cvg.classifier import ClassifierConfig, CompositionClassifier
from cvg.classifier.config import AggregatorSettings
from cvg.composition import LabelSet
from cvg.generators import load_generator
from data_prep.pretrain.text import build_tokenizer
from data_prep.pretrain.wan import Wan

STEPS, GRID = 4, (4, 8, 8)
"""Denoising steps, and tokens of a video of 13 x 64 x 64."""


def make_generator(folder: Path, words: Iterable[str], seed: int = 0) -> None:
    """Save a ``WanPipeline`` with random weights.

    Args:
        folder: gets the pipeline.
        words: that its tokenizer keeps whole.
        seed: of the weights.
    """
    torch.manual_seed(seed)
    tokenizer, family = build_tokenizer(words=words), Wan()
    encoder = family.text_encoder(len(tokenizer))
    family.pipeline(tokenizer, encoder, family.vae(), family.transformer()).save_pretrained(folder)


def make_classifier(folder: Path, generator: Path, labels: LabelSet, seed: int = 0) -> None:
    """Save a classifier with random weights for a generator, of all its layers and heads and the first two steps.

    Args:
        folder: gets the classifier.
        generator: the pipeline's folder.
        labels: what it tells apart.
        seed: of the weights.
    """
    frozen = load_generator(str(generator))
    levels = frozen.schedule(STEPS, frozen.pixel_size(list(GRID))).levels
    config = ClassifierConfig(
        labels=labels.to_dict(),
        generator=frozen.identity(),
        layers=list(range(len(frozen.blocks))),
        heads=list(range(frozen.num_heads)),
        sigmas=[float(level) for level in levels[:2]],
        grid=list(GRID),
        token_grid=list(GRID),
        slots=2,
        volume_grid=list(GRID),
        aggregator=AggregatorSettings(dim=8, depth=1, attention_heads=2, dropout=0.0),
    )
    torch.manual_seed(seed)
    classifier = CompositionClassifier(config)
    with torch.no_grad():
        for parameter in classifier.parameters():  # initial weights of zero have no gradient
            parameter.add_(0.1 * torch.randn_like(parameter))
    classifier.save_pretrained(folder)


def make_vlm(folder: Path, words: Iterable[str], seed: int = 0) -> None:
    """Save a LLaVA with random weights.

    Args:
        folder: gets model and processor.
        words: that its tokenizer knows.
        seed: of the weights.
    """
    special = ["<unk>", "<pad>", "<s>", "</s>", "<image>"]
    pieces = list(dict.fromkeys([*special, "yes", "no", "Yes", "No", "?", ".", ":", ",", *words]))
    inner = Tokenizer(models.WordLevel({piece: i for i, piece in enumerate(pieces)}, unk_token="<unk>"))
    inner.pre_tokenizer = pre_tokenizers.Whitespace()
    named: dict[str, Any] = {"unk_token": "<unk>", "pad_token": "<pad>", "bos_token": "<s>", "eos_token": "</s>"}
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=inner, additional_special_tokens=["<image>"], **named)
    side, patch = 32, 8
    pictures = CLIPImageProcessorPil(size={"shortest_edge": side}, crop_size={"height": side, "width": side})
    shape = {"vision_feature_select_strategy": "default", "patch_size": patch, "num_additional_image_tokens": 1}
    LlavaProcessor(image_processor=pictures, tokenizer=tokenizer, **shape).save_pretrained(folder)
    width = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2, "num_attention_heads": 2}
    vision = width | {"model_type": "clip_vision_model", "image_size": side, "patch_size": patch}
    text = width | {"model_type": "llama", "vocab_size": len(pieces), "num_key_value_heads": 2, "pad_token_id": 1}
    torch.manual_seed(seed)
    model = LlavaForConditionalGeneration(
        LlavaConfig(vision_config=vision, text_config=text, image_token_id=4, vision_feature_layer=-1)
    )
    model.save_pretrained(folder)
