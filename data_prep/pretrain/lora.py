"""LoRAs of the small generators: what gets one, and how they are stored."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from diffusers.loaders.lora_base import LORA_WEIGHT_NAME_SAFE
from peft import LoraConfig
from peft.utils import get_peft_model_state_dict
from torch import nn

from cvg.common.files import atomic

LAYERS = ["to_q", "to_k", "to_v", "to_out.0", "ffn.net.0.proj", "ffn.net.2", "ff.net.0.proj", "ff.net.2"]
"""What gets a LoRA in every block: all matrices of attention and of the feed-forward network."""


def add_lora(transformer: Any, rank: int) -> Any:
    """Add an untrained LoRA to a frozen transformer, which is handed back for training: the LoRA alone learns."""
    transformer.requires_grad_(False)
    transformer.add_adapter(LoraConfig(r=rank, lora_alpha=rank, target_modules=LAYERS))
    return transformer.train()


def save_lora(transformer: nn.Module, pipeline: Any, folder: Path) -> None:
    """Write a trained transformer's LoRA as the pipeline reads it, ``--lora FOLDER``."""
    folder.mkdir(parents=True, exist_ok=True)
    with atomic(folder / LORA_WEIGHT_NAME_SAFE) as temporary:
        type(pipeline).save_lora_weights(
            temporary.parent,
            transformer_lora_layers=get_peft_model_state_dict(transformer),
            weight_name=temporary.name,
        )
