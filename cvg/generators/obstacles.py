"""What a pipeline may lack, or be set to, so that it cannot be guided: told before anything runs."""

from __future__ import annotations

from typing import Any

import torch
from diffusers.models.attention_dispatch import _AttentionBackendRegistry
from torch import nn

from cvg.common.errors import ModelError

CACHES = ("cache", "fbc_", "pyramid_attention_broadcast")
"""In the names of diffusers' hooks that leave out parts of a network and put in what they gave at an earlier step."""
NATIVE = ("native", "_native_cudnn", "_native_efficient", "_native_flash", "_native_math")
"""Attention backends that call ``scaled_dot_product_attention``, which has gradients and which maps are read off."""


def check_whole(generator: Any) -> None:
    """Raise ModelError if a part that the pipeline needs was left out when it was loaded (``transformer=None``)."""
    pipeline = generator.pipeline
    optional = getattr(pipeline, "_optional_components", ())
    missing = [name for name, part in pipeline.components.items() if part is None and name not in optional]
    # One may be optional, and needed all the same
    for name, network in zip(("transformer", "transformer_2"), generator.networks, strict=False):
        if network is None:
            missing.append(name)
    if missing:
        raise ModelError(
            f"generator {generator.name}: has no {' and no '.join(dict.fromkeys(missing))}; load the pipeline with all "
            "of its parts"
        )


def check_gradients(generator: Any) -> None:
    """Raise ModelError if gradients cannot reach the latents, as the pipeline is set now."""
    if torch.is_inference_mode_enabled():
        raise ModelError("guidance: needs gradients, which torch.inference_mode rules out; use torch.no_grad instead")
    for network in generator.networks:
        if any(weight.is_inference() for weight in network.parameters()):
            raise ModelError(
                f"generator {generator.name}: its {type(network).__name__} was loaded under torch.inference_mode, "
                "which rules out gradients; load it outside of it"
            )


def check_readable(generator: Any) -> None:
    """Raise ModelError if what a network does with some latents cannot be read off it, as the pipeline is set now."""
    for network in generator.networks:
        kind = f"generator {generator.name}: its {type(network).__name__}"
        for module in network.modules():
            cache = _cache(module)
            if cache is not None:
                raise ModelError(
                    f"{kind} has a step cache ({cache}), which hands on predictions, maps and gradients of other "
                    "latents; turn it off (disable_cache) for guided sampling and for recording"
                )
            backend = _backend(module)
            if backend not in NATIVE:
                raise ModelError(
                    f"{kind} uses the attention backend {backend}, off which no maps can be read; "
                    "set the native one (set_attention_backend)"
                )


def _cache(module: nn.Module) -> str | None:
    """The name of a hook that is a step cache."""
    hooks = getattr(getattr(module, "_diffusers_hook", None), "hooks", {})
    return next((name for name in hooks if any(part in name for part in CACHES)), None)


def _backend(module: nn.Module) -> str:
    """The attention backend of a module; that of all, where it names none."""
    processor: Any = getattr(module, "processor", None)
    if not hasattr(processor, "_attention_backend"):
        return NATIVE[0]
    chosen = processor._attention_backend or _AttentionBackendRegistry.get_active_backend()[0]
    return str(getattr(chosen, "value", chosen))
