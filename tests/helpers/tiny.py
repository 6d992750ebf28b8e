"""A tiny random generator and classifier of the real classes, for tests of everything that samples."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from diffusers import AutoencoderKLWan, WanPipeline, WanTransformer3DModel
from tokenizers import Tokenizer, models, pre_tokenizers, processors
from transformers import CLIPConfig, CLIPModel, PreTrainedTokenizerFast, XCLIPConfig, XCLIPModel
from typing_extensions import override

from cvg.classifier import ClassifierConfig, CompositionClassifier
from cvg.common.files import write_json
from cvg.evaluate import main
from cvg.generators import Generator, load_generator
from data_prep.pretrain import text
from data_prep.pretrain.wan import Wan
from tests.helpers.labels import LABELS

STEPS = 3
"""Denoising steps that tests sample with; the classifier's sigmas are those of the first two."""


class Narrow(Wan):
    """The shapes world's classes, tokens and latents in half as many narrow blocks: a third of the time."""

    @override
    def vae(self) -> AutoencoderKLWan:
        return AutoencoderKLWan.from_config(super().vae().config, base_dim=4, decoder_base_dim=4, dim_mult=[1, 1, 1])

    @override
    def transformer(self) -> WanTransformer3DModel:
        small = {"attention_head_dim": 12, "ffn_dim": 96, "num_layers": 3}
        return WanTransformer3DModel.from_config(super().transformer().config, **small)


def tiny_pipeline(seed: int = 0, family: Wan | None = None) -> WanPipeline:
    """A ``WanPipeline`` with the shapes world's tokenizer and random weights, narrow unless told otherwise."""
    torch.manual_seed(seed)
    tokenizer, family = text.build_tokenizer(), family or Narrow()
    pipeline = family.pipeline(tokenizer, family.text_encoder(len(tokenizer)), family.vae(), family.transformer())
    pipeline.set_progress_bar_config(disable=True)
    return pipeline


def make_pipeline(folder: Path, seed: int = 0) -> Path:
    """Save :func:`tiny_pipeline`, for the commands."""
    tiny_pipeline(seed).save_pretrained(folder)
    return folder


def make_config(generator: Generator, steps: int = STEPS, **changes: Any) -> ClassifierConfig:
    """A small classifier on all layers and heads of the generator, guided at the first two of ``steps`` steps."""
    sigmas = generator.schedule(steps, generator.pixel_size([4, 8, 8])).levels
    values: dict[str, Any] = {
        "labels": LABELS.to_dict(),
        "generator": generator.identity(),
        "layers": list(range(len(generator.blocks))),
        "heads": list(range(generator.num_heads)),
        "sigmas": [float(sigma) for sigma in sigmas[:2]],
        "grid": [4, 8, 8],
        "token_grid": [4, 8, 8],
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
    """Pipeline folder and classifier folder under ``folder``; made once.

    For videos of 5 x 48 x 48: the oracle takes no smaller ones.
    """
    pipeline, classifier = folder / "generator", folder / "classifier"
    if not (classifier / "config.json").exists():
        make_pipeline(pipeline)
        grids = {name: [2, 6, 6] for name in ("grid", "token_grid", "volume_grid")}
        make_classifier(load_generator(str(pipeline)), classifier, **grids)
    return pipeline, classifier


def make_evaluation(folder: Path) -> Path:
    """An evaluation of both on two prompts in batches of one, the first with controls; made once."""
    path = folder / "evaluation.json"
    if not path.exists():
        _, classifier = make_both(folder)
        main(prompts=2, out=path, classifier=str(classifier), steps=STEPS, batch_size=1, control_prompts=1)
    return path


def make_vlm(folder: Path, kind: str, words: Sequence[str], seed: int = 0) -> Path:
    """Save a random ``CLIPModel`` or ``XCLIPModel`` (``kind``: clip, xclip) with a tokenizer of these words.

    The end of a text has the highest id, as in CLIP's tokenizer: X-CLIP finds it by that.
    """
    torch.manual_seed(seed)
    pieces = ["<pad>", "<unk>", *dict.fromkeys(words), "</s>"]
    tokenizer = Tokenizer(models.WordLevel({piece: i for i, piece in enumerate(pieces)}, unk_token="<unk>"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    end = len(pieces) - 1
    tokenizer.post_processor = processors.TemplateProcessing(single="$A </s>", special_tokens=[("</s>", end)])
    special = {"pad_token": "<pad>", "eos_token": "</s>", "unk_token": "<unk>"}
    PreTrainedTokenizerFast(tokenizer_object=tokenizer, **special).save_pretrained(folder)
    sizes = {"hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 1, "num_attention_heads": 2}
    text = sizes | {"vocab_size": len(pieces), "max_position_embeddings": 12, "pad_token_id": 0, "bos_token_id": end}
    text |= {"eos_token_id": end}
    vision = sizes | {"image_size": 16, "patch_size": 4}
    model: Any
    if kind == "clip":
        model = CLIPModel(CLIPConfig(text_config=text, vision_config=vision, projection_dim=8))
    else:
        vision |= {"num_frames": 3, "mit_hidden_size": 8, "mit_intermediate_size": 16, "mit_num_attention_heads": 2}
        model = XCLIPModel(XCLIPConfig(text_config=text, vision_config=vision, projection_dim=8))
    for parameter in model.parameters():  # larger than the usual initial weights, so that embeddings vary
        torch.nn.init.normal_(parameter, std=0.3)
    model.save_pretrained(folder)
    write_json(folder / "preprocessor_config.json", {"image_mean": [0.4] * 3, "image_std": [0.3] * 3})
    return folder
