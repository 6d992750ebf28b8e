"""Weights that are kept in fewer bits than they were trained in, by the libraries that diffusers quantises with."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open
from torch import Tensor, nn
from typing_extensions import override

_FLOATS = (torch.float64, torch.float32, torch.bfloat16, torch.float16)


def kind_of(weight: Any) -> str | None:
    """How a weight is quantised, such as ``torchao Int8Tensor`` or ``gguf Q4_K``; None where it is not."""
    kind = type(weight)
    if kind.__name__ == "GGUFParameter":
        return f"gguf {weight.quant_type.name}"
    if kind in (Tensor, nn.Parameter) and weight.dtype in _FLOATS:
        return None
    if kind in (Tensor, nn.Parameter):
        return str(weight.dtype)
    package = kind.__module__.partition(".")[0]
    return f"{package} {kind.__name__}" if package in ("torchao", "bitsandbytes") else kind.__name__


def dequantised(weight: Any) -> Tensor | None:
    """The values of a quantised weight, in float32; None where they cannot be had without its layer."""
    if type(weight).__name__ == "GGUFParameter":
        from gguf.quants import dequantize  # only here: it is there where a weight is of this kind

        packed = weight.detach().as_subclass(Tensor).cpu().numpy()
        return torch.from_numpy(dequantize(packed, weight.quant_type)).float()
    if type(weight).__module__.startswith("torchao."):
        values: Tensor = weight.dequantize().float()
        return values
    return None


class StoredWeights(Mapping[str, Tensor]):
    """The weights in a folder of safetensors files, of which only what is looked at is read.

    Args:
        folder: of a network of diffusers, as ``save_pretrained`` writes it.
    """

    def __init__(self, folder: Path) -> None:
        self.files: dict[str, Path] = {}
        # Variants (diffusion_pytorch_model.fp16.safetensors) after the files without: the first holds.
        for path in sorted(folder.glob("*.safetensors"), key=lambda path: (path.name.count("."), path.name)):
            with safe_open(path, "pt") as opened:
                for name in opened.keys():  # noqa: SIM118  (it is no mapping)
                    self.files.setdefault(name, path)

    @override
    def __getitem__(self, name: str) -> Tensor:
        with safe_open(self.files[name], "pt") as opened:
            value: Tensor = opened.get_tensor(name)
        return value

    @override
    def __iter__(self) -> Iterator[str]:
        return iter(self.files)

    @override
    def __len__(self) -> int:
        return len(self.files)
