"""LoRAs of the small generators: what gets one, how they are trained, and how they are stored."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from peft import LoraConfig
from peft.utils import get_peft_model_state_dict
from torch import Tensor, nn

from cvg.common.files import atomic
from cvg.generators.loras import SAVED
from data_prep.pretrain.loop import Batch, train

LAYERS = ["to_q", "to_k", "to_v", "to_out.0", "ffn.net.0.proj", "ffn.net.2", "ff.net.0.proj", "ff.net.2"]
"""What gets a LoRA in every block: all matrices of attention and of the feed-forward network."""


def add_lora(transformer: Any, rank: int) -> Any:
    """Add an untrained LoRA to a frozen transformer, which is handed back for training: the LoRA alone learns."""
    transformer.requires_grad_(False)
    transformer.add_adapter(LoraConfig(r=rank, lora_alpha=rank, target_modules=LAYERS))
    return transformer.train()


def train_lora(
    transformer: nn.Module,
    draw: Callable[[int], Batch],
    losses_of: Callable[[Batch], Mapping[str, Tensor]],
    out: Path,
    steps: int,
    lr: float,
    workers: int,
) -> nn.Module:
    """The transformer with its LoRA trained, averaged over the last steps; arguments as of the common loop's."""
    return train(
        transformer,
        draw,
        losses_of,
        out,
        steps,
        lr=lr,
        muon_lr=lr,
        hidden="no such layer",  # AdamW alone: a LoRA's two factors are no layers of their own
        ema=0.995,
        workers=workers,
    )


def save_lora(transformer: nn.Module, pipeline: Any, folder: Path) -> None:
    """Write a trained transformer's LoRA as the pipeline reads it, ``--lora FOLDER``."""
    folder.mkdir(parents=True, exist_ok=True)
    with atomic(folder / SAVED) as temporary:
        type(pipeline).save_lora_weights(
            temporary.parent,
            transformer_lora_layers=get_peft_model_state_dict(transformer),
            weight_name=temporary.name,
        )
