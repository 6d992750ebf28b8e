"""A tiny pipeline's LoRA and GGUF file, made by the libraries that make real ones, and what they come to."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import gguf
import torch
from diffusers import WanPipeline
from diffusers.quantizers.gguf.utils import GGUFParameter, dequantize_gguf_tensor
from peft import LoraConfig
from peft.utils import get_peft_model_state_dict
from torch import nn

from cvg.common.quantised import dequantised, kind_of

TARGETS = ["to_q", "to_k", "to_v", "to_out.0"]


def make_lora(pipeline: WanPipeline, folder: Path, seed: int = 5, name: str = "style") -> Path:
    """Save a random LoRA of rank 4, alpha 8, for the attention of a pipeline's network, as diffusers does."""
    network = copy.deepcopy(pipeline.transformer)
    torch.manual_seed(seed)
    network.add_adapter(LoraConfig(r=4, lora_alpha=8, init_lora_weights=False, target_modules=TARGETS))
    weights = get_peft_model_state_dict(network)
    metadata = {"r": 4, "lora_alpha": 8, "target_modules": TARGETS, "lora_dropout": 0.0}
    WanPipeline.save_lora_weights(
        str(folder),
        transformer_lora_layers=weights,
        transformer_lora_adapter_metadata=metadata,
        weight_name=f"{name}.safetensors",
    )
    return folder / f"{name}.safetensors"


def make_gguf(network: nn.Module, path: Path) -> Path:
    """Write a network's weights as a GGUF file, the blocks' matrices in Q8_0 as such files have them."""
    writer = gguf.GGUFWriter(path, "wan")
    few = gguf.GGMLQuantizationType.Q8_0
    for name, weight in network.state_dict().items():
        values = weight.float().numpy()
        if values.ndim == 2 and name.startswith("blocks.") and values.shape[1] % 32 == 0:
            writer.add_tensor(name, gguf.quants.quantize(values, few), raw_dtype=few)
        else:
            writer.add_tensor(name, values)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path


def dequantise(network: nn.Module) -> int:
    """Put a plain layer with the same values in place of every quantised one; their number."""
    found = [(path, layer) for path, layer in network.named_modules() if isinstance(layer, nn.Linear)]
    count = 0
    for path, layer in found:
        if kind_of(layer.weight) is None:
            continue
        values = _values(layer)
        plain = nn.Linear(values.shape[1], values.shape[0], bias=layer.bias is not None)
        plain.weight = nn.Parameter(values)
        if layer.bias is not None:
            plain.bias = nn.Parameter(layer.bias.detach().float())
        owner, _, name = path.rpartition(".")
        setattr(network.get_submodule(owner), name, plain.requires_grad_(False))
        count += 1
    return count


def _values(layer: Any) -> torch.Tensor:
    """The values of a quantised layer's weight."""
    weight = layer.weight
    if isinstance(weight, GGUFParameter):  # as diffusers has them, whose scales are in half precision
        return dequantize_gguf_tensor(weight).float()
    if type(layer).__name__ == "Linear8bitLt":
        return weight.data.float() * weight.SCB.float()[:, None] / 127
    if type(layer).__name__ == "Linear4bit":
        from bitsandbytes.functional import dequantize_4bit

        return dequantize_4bit(weight.data, weight.quant_state).float()
    values = dequantised(weight)
    assert values is not None
    return values


def merge_by_hand(network: nn.Module, file: Path, scale: float) -> None:
    """Add ``scale`` times a LoRA of :func:`make_lora` to the weights of a network: W + scale alpha / rank B A."""
    from safetensors.torch import load_file

    weights: dict[str, Any] = load_file(file)
    downs = {name: value for name, value in weights.items() if name.endswith("lora_A.weight")}
    assert len(downs) > 0
    for name, down in downs.items():
        layer = network.get_submodule(name.removeprefix("transformer.").removesuffix(".lora_A.weight"))
        up = weights[name.replace("lora_A", "lora_B")]
        with torch.no_grad():
            layer.weight += scale * 8 / 4 * up @ down  # type: ignore[operator]
