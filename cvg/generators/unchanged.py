"""A pipeline lent out and given back: what reading and guiding set on its parts is undone."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from torch import nn


@contextmanager
def unchanged(pipeline: Any) -> Iterator[None]:
    """After it the pipeline's parts are as they were: training or not, with gradients or not, the VAE tiled or not.

    By name, since offloading puts other weights in the places of these.
    """
    parts = [part for part in pipeline.components.values() if isinstance(part, nn.Module)]
    modules = [module for part in parts for module in part.modules()]
    training = [module.training for module in modules]
    needing = [(module, name) for module in modules for name, weight in module._parameters.items() if _needs(weight)]
    vae = pipeline.components.get("vae")
    modes = {name: getattr(vae, name) for name in ("use_tiling", "use_slicing") if hasattr(vae, name)}
    try:
        yield
    finally:
        for module, mode in zip(modules, training, strict=True):
            module.training = mode
        for module, name in needing:
            if (weight := module._parameters.get(name)) is not None:
                weight.requires_grad_(True)
        for name, value in modes.items():
            setattr(vae, name, value)


def _needs(weight: nn.Parameter | None) -> bool:
    return weight is not None and weight.requires_grad
