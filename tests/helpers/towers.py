"""Tiny random models of the backbones' true classes, saved as their released folders are."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import nn
from transformers import (
    CLIPConfig,
    CLIPModel,
    InternVLConfig,
    InternVLForConditionalGeneration,
    Qwen2_5_VLConfig,
    Qwen2_5_VLForConditionalGeneration,
    Qwen2Tokenizer,
    Qwen3VLConfig,
    Qwen3VLForConditionalGeneration,
    Siglip2Config,
    Siglip2Model,
    Siglip2Tokenizer,
    SiglipConfig,
    SiglipModel,
    SmolVLMConfig,
    SmolVLMForConditionalGeneration,
    VideoPrismClipModel,
    VideoPrismConfig,
    VideoPrismTokenizer,
    VJEPA2Config,
    VJEPA2Model,
    XCLIPConfig,
    XCLIPModel,
)

from tests.helpers.parts import clip_tokenizer

SIZE, PATCH = 16, 4
SLOTS, GRID = 2, (3, 8, 8)
PRESENT = torch.ones(2, SLOTS, dtype=torch.bool)
MEAN, STD = [0.4, 0.5, 0.6], [0.2, 0.3, 0.4]
WIDTH: dict[str, Any] = {"hidden_size": 16, "intermediate_size": 32, "num_attention_heads": 2}
PICTURE = {"image_size": SIZE, "patch_size": PATCH, "num_hidden_layers": 2}
LETTERS = "abcdefghijklmnopqrstuvwxyz"


def text_config(vocabulary: int, length: int = 20, **more: Any) -> dict[str, Any]:
    return WIDTH | {"vocab_size": vocabulary, "num_hidden_layers": 1, "max_position_embeddings": length} | more


def language(vocabulary: int, **more: Any) -> dict[str, Any]:
    values = text_config(vocabulary, 512, num_hidden_layers=2, num_key_value_heads=1, head_dim=8, **more)
    return values | {"bos_token_id": 0, "eos_token_id": 0, "pad_token_id": 0}


def chat_tokenizer(*special: str) -> Qwen2Tokenizer:
    """Byte pairs, and the special tokens of a family's conversations."""
    return Qwen2Tokenizer().train_new_from_iterator(
        ["where are the spots"], 280, new_special_tokens=["<|im_start|>", "<|im_end|>", *special], show_progress=False
    )


def clip() -> tuple[Any, Any]:
    tokenizer = clip_tokenizer(20)
    text = text_config(len(tokenizer), eos_token_id=tokenizer.eos_token_id)
    return CLIPModel(CLIPConfig(text_config=text, vision_config=WIDTH | PICTURE, projection_dim=8)), tokenizer


def xclip() -> tuple[Any, Any]:
    tokenizer = clip_tokenizer(20)
    text = text_config(len(tokenizer), eos_token_id=tokenizer.eos_token_id)
    mit = {"mit_hidden_size": 8, "mit_intermediate_size": 16, "mit_num_attention_heads": 2, "mit_num_hidden_layers": 1}
    vision = WIDTH | PICTURE | mit | {"num_frames": 6}
    return XCLIPModel(XCLIPConfig(text_config=text, vision_config=vision, projection_dim=8)), tokenizer


def siglip() -> tuple[Any, Any]:
    tokenizer = Siglip2Tokenizer(  # what the released SigLIP 2 models of fixed resolution have
        vocab={
            piece: index for index, piece in enumerate(["<pad>", "<eos>", "<bos>", "<unk>", "<mask>", "▁", *LETTERS])
        }
    )
    text = text_config(len(tokenizer), projection_size=16)
    return SiglipModel(SiglipConfig(text_config=text, vision_config=WIDTH | PICTURE)), tokenizer


def siglip2() -> tuple[Any, Any]:
    _, tokenizer = siglip()
    text = text_config(len(tokenizer), projection_size=16)
    vision = WIDTH | {"patch_size": PATCH, "num_patches": (SIZE // PATCH) ** 2, "num_hidden_layers": 2}
    return Siglip2Model(Siglip2Config(text_config=text, vision_config=vision)), tokenizer


def videoprism() -> tuple[Any, Any]:
    tokenizer = VideoPrismTokenizer(
        vocab=[("<pad>", 0.0), ("</s>", 0.0), ("<unk>", 0.0), ("▁", -2.0), *((letter, -3.0) for letter in LETTERS)],
        extra_ids=0,
    )
    vision = WIDTH | {"image_size": SIZE, "tubelet_size": [1, PATCH, PATCH], "num_frames": 6}
    vision |= {"num_spatial_layers": 2, "num_temporal_layers": 1, "num_auxiliary_layers": 1}
    config = VideoPrismConfig(text_config=text_config(len(tokenizer)), vision_config=vision)
    return VideoPrismClipModel(config), tokenizer


def vjepa2() -> tuple[Any, Any]:
    config = {"hidden_size": 24, "num_attention_heads": 2, "mlp_ratio": 2, "num_hidden_layers": 2, "crop_size": SIZE}
    config |= {"patch_size": PATCH, "frames_per_clip": 8, "pred_hidden_size": 24, "pred_num_attention_heads": 2}
    return VJEPA2Model(VJEPA2Config(**config, pred_num_hidden_layers=1)), None


def qwen_parts(tokenizer: Any) -> tuple[dict[str, Any], dict[str, int]]:
    """The language model, and ids of the special tokens."""
    rope = {"rope_type": "default", "rope_theta": 1e4, "mrope_section": [2, 1, 1]}
    names = {"video_token_id": "<|video_pad|>", "image_token_id": "<|image_pad|>"}
    names |= {"vision_start_token_id": "<|vision_start|>", "vision_end_token_id": "<|vision_end|>"}
    ids = {name: tokenizer.convert_tokens_to_ids(token) for name, token in names.items()}
    return language(len(tokenizer), rope_parameters=rope), ids


QWEN = ("<|vision_start|>", "<|vision_end|>", "<|video_pad|>", "<|image_pad|>")


def qwen2_5_vl() -> tuple[Any, Any]:
    tokenizer = chat_tokenizer(*QWEN)
    text, ids = qwen_parts(tokenizer)
    vision = {"depth": 2, "hidden_size": 16, "intermediate_size": 32, "num_heads": 2, "out_hidden_size": 16}
    # Windows of two by two merged patches in the first block.
    vision |= {"patch_size": PATCH, "window_size": 4 * PATCH, "fullatt_block_indexes": [1], "tokens_per_second": 2}
    return Qwen2_5_VLForConditionalGeneration(
        Qwen2_5_VLConfig(text_config=text, vision_config=vision, **ids)
    ), tokenizer


def qwen3_vl() -> tuple[Any, Any]:
    tokenizer = chat_tokenizer(*QWEN)
    text, ids = qwen_parts(tokenizer)
    vision = {"depth": 2, "hidden_size": 16, "intermediate_size": 32, "num_heads": 2, "out_hidden_size": 16}
    vision |= {"patch_size": PATCH, "num_position_embeddings": 16, "deepstack_visual_indexes": [0]}
    return Qwen3VLForConditionalGeneration(Qwen3VLConfig(text_config=text, vision_config=vision, **ids)), tokenizer


def smolvlm() -> tuple[Any, Any]:
    tokenizer = chat_tokenizer("<image>", "<fake_token_around_image>", "<global-img>", "<end_of_utterance>")
    text = language(len(tokenizer), model_type="llama")
    image = tokenizer.convert_tokens_to_ids("<image>")
    config = SmolVLMConfig(
        text_config=text, vision_config=WIDTH | PICTURE, scale_factor=2, image_token_id=image, pad_token_id=0
    )
    return SmolVLMForConditionalGeneration(config), tokenizer


def internvl() -> tuple[Any, Any]:
    tokenizer = chat_tokenizer("<img>", "</img>", "<IMG_CONTEXT>")
    text = language(len(tokenizer), model_type="qwen2")
    image = tokenizer.convert_tokens_to_ids("<IMG_CONTEXT>")
    vision = WIDTH | {"image_size": [SIZE, SIZE], "patch_size": [PATCH, PATCH], "num_hidden_layers": 2}
    config = InternVLConfig(text_config=text, vision_config=vision, image_token_id=image)
    return InternVLForConditionalGeneration(config), tokenizer


BUILDERS: dict[str, Callable[[], tuple[Any, Any]]] = {
    build.__name__: build
    for build in (clip, xclip, siglip, siglip2, videoprism, vjepa2, qwen2_5_vl, qwen3_vl, smolvlm, internvl)
}
"""By model type."""
DUAL = ("clip", "xclip", "siglip", "siglip2", "videoprism")
GENERATIVE = ("qwen2_5_vl", "qwen3_vl", "smolvlm", "internvl")
PROCESSORS: dict[str, dict[str, Any]] = {
    # As the released one's: the light's middle becomes zero.
    "smolvlm": {"image_mean": [0.5] * 3, "size": {"longest_edge": SIZE}, "max_image_size": {"longest_edge": SIZE}},
}


def make(kind: str, folder: Path) -> Path:
    """Save a model with its processor's settings and, where it has one, its tokenizer."""
    torch.manual_seed(0)
    model, tokenizer = BUILDERS[kind]()
    for name, parameter in model.named_parameters():
        if parameter.ndim > 1:  # larger than the usual initial weights, so that the features vary
            nn.init.normal_(parameter, std=0.3)
        elif "norm" not in name:
            nn.init.normal_(parameter, std=0.1)
    model.save_pretrained(folder)
    if tokenizer is not None:
        tokenizer.save_pretrained(folder)
    video = kind in ("videoprism", "vjepa2")
    settings = {"image_mean": MEAN, "image_std": STD, "do_rescale": True, "rescale_factor": 1 / 255}
    name = "video_preprocessor_config.json" if video else "preprocessor_config.json"
    (folder / name).write_text(json.dumps(settings | PROCESSORS.get(kind, {})))
    return folder
