"""A tiny random generator and classifier of the real classes, for tests of everything that samples."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from diffusers import WanPipeline

from cvg.classifier import ClassifierConfig, CompositionClassifier
from cvg.evaluate import main
from cvg.generators import Generator, load_generator
from cvg.shapes.world import LABELS
from data_prep.pretrain import text
from data_prep.pretrain.wan import Wan

STEPS = 3
"""Denoising steps that tests sample with; the classifier's sigmas are those of the first two."""


def tiny_pipeline(seed: int = 0) -> WanPipeline:
    """A ``WanPipeline`` with the shapes world's tokenizer and sizes, and random weights."""
    torch.manual_seed(seed)
    tokenizer, family = text.build_tokenizer(), Wan()
    pipeline = family.pipeline(tokenizer, family.text_encoder(len(tokenizer)), family.vae(), family.transformer())
    pipeline.set_progress_bar_config(disable=True)
    return pipeline


def make_pipeline(folder: Path, seed: int = 0) -> Path:
    """Save :func:`tiny_pipeline`."""
    tiny_pipeline(seed).save_pretrained(folder)
    return folder


def make_config(generator: Generator, steps: int = STEPS, **changes: Any) -> ClassifierConfig:
    """A small classifier on all layers and heads of the generator, guided at the first two of ``steps`` steps."""
    sigmas = generator.schedule(steps, generator.pixel_size([4, 8, 8])).levels
    values: dict[str, Any] = {
        "labels": LABELS.to_dict(),
        "generator": generator.identity(),
        "layers": list(range(len(generator.blocks))),
        "heads": list(range(generator.heads)),
        "sigmas": [float(sigma) for sigma in sigmas[:2]],
        "grid": [4, 8, 8],
        "slots": 2,
        "volume_grid": [4, 8, 8],
        "aggregator": {"dim": 8, "depth": 1, "attention_heads": 2, "dropout": 0.0},
        "noise": 0.2,
    }
    return ClassifierConfig(**values | changes)


def tiny_classifier(generator: Generator, seed: int = 1, **changes: Any) -> CompositionClassifier:
    """A random classifier for the generator whose gradient is not zero."""
    torch.manual_seed(seed)
    classifier = CompositionClassifier(make_config(generator, **changes))
    with torch.no_grad():
        for parameter in classifier.parameters():
            parameter.add_(0.1 * torch.randn_like(parameter))
    return classifier


def make_classifier(generator: Generator, folder: Path, seed: int = 1, **changes: Any) -> Path:
    """Save :func:`tiny_classifier`."""
    tiny_classifier(generator, seed, **changes).save_pretrained(folder)
    return folder


def make_both(folder: Path) -> tuple[Path, Path]:
    """Pipeline folder and classifier folder under ``folder``; made once."""
    pipeline, classifier = folder / "generator", folder / "classifier"
    if not (classifier / "config.json").exists():
        make_pipeline(pipeline)
        make_classifier(load_generator(str(pipeline)), classifier)
    return pipeline, classifier


def make_evaluation(folder: Path) -> Path:
    """An evaluation of both on two prompts in batches of one, the first with controls; made once."""
    path = folder / "evaluation.json"
    if not path.exists():
        _, classifier = make_both(folder)
        main(prompts=2, json=path, classifier=str(classifier), steps=STEPS, batch_size=1, control_prompts=1)
    return path
