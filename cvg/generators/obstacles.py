"""What a pipeline may lack, or be set to, so that it cannot be guided: told before anything runs, or switched off."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

import torch
from accelerate.hooks import AlignDevicesHook
from torch import nn

from cvg.common.errors import ModelError

CACHES = ("cache", "fbc_", "pyramid_attention_broadcast")
"""In the names of diffusers' hooks that leave out parts of a network and put in what they gave at an earlier step."""
NATIVE = ("native", "_native_cudnn", "_native_efficient", "_native_flash", "_native_math")
"""Attention backends that call ``scaled_dot_product_attention``, which has gradients and which maps are read off."""
MOVING = {
    "group_offloading": "group offloading of diffusers; load with offload group of CVG, whose copies stay",
    "layerwise_casting": "layerwise casting of diffusers; load it in bfloat16, or quantised",
}
"""Hooks that change weights in place between a forward pass and its backward pass -> what they are, and the remedy."""
PARTIAL = {
    "cp_input": "sequence parallelism: it sees a part of the video; run it on one device",
    "cp_output": "sequence parallelism: it sees a part of the video; run it on one device",
    "layer_skip": "layers that are skipped; let the pipeline's guider skip them in its own passes",
    "smoothed_energy": "smoothed attention; let the pipeline's guider smooth it in its own passes",
}
"""Beginnings of hooks with which a pass is not that of the model -> what they are, and the remedy."""


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
        _check_hooks(generator, network, MOVING, "changes weights while gradients need them")
        if _is_offloaded_by_layers(network):
            raise ModelError(
                f"generator {generator.name}: its {type(network).__name__} changes weights while gradients need them, "
                "by enable_sequential_cpu_offload; load with offload group of CVG, whose copies stay"
            )


def check_readable(generator: Any) -> None:
    """Raise ModelError if what a network does with some latents cannot be read off it, as the pipeline is set now."""
    for network in generator.networks:
        _check_hooks(generator, network, PARTIAL, "computes otherwise than the model")
    if getattr(generator.pipeline, "free_init_enabled", False):
        raise ModelError(
            f"generator {generator.name}: FreeInit denoises several times, each time from noise that is mixed anew, so "
            "that there are no first steps to guide; call disable_free_init of the pipeline"
        )


def _check_hooks(generator: Any, network: nn.Module, refused: dict[str, str], what: str) -> None:
    for module in network.modules():
        for hook in _hooks(module):
            if found := next((told for begin, told in refused.items() if hook.startswith(begin)), None):
                name = type(network).__name__
                raise ModelError(f"generator {generator.name}: its {name} {what}, by {found}")


def _hooks(module: nn.Module) -> dict[str, Any]:
    """The hooks of diffusers on a module, by name."""
    hooks: dict[str, Any] = getattr(getattr(module, "_diffusers_hook", None), "hooks", {})
    return hooks


def _is_offloaded_by_layers(network: nn.Module) -> bool:
    """Whether hooks of accelerate bring single layers to the device and take them away."""
    hooks = (getattr(module, "_hf_hook", None) for module in network.modules())
    return any(isinstance(hook, AlignDevicesHook) and hook.offload for hook in hooks)


@contextmanager
def as_the_model(network: nn.Module) -> Iterator[None]:
    """Within it a network computes as it is: no step caches, and attention of PyTorch, off which maps can be read.

    Caches keep what they hold, and how many steps they have seen; other backends are there again afterwards.
    """
    with ExitStack() as changed:
        for module in network.modules():
            for name, hook in _hooks(module).items():
                if any(part in name for part in CACHES):
                    changed.enter_context(_without(hook))
            if _backend(module) not in NATIVE:
                changed.enter_context(_natively(module.processor))
        yield


@contextmanager
def _without(hook: Any) -> Iterator[None]:
    """Within it a module runs without one of its hooks; others of it stay."""
    reference = hook.fn_ref
    before = dict(vars(reference))
    reference.pre_forward = lambda module, *args, **options: (args, options)
    reference.post_forward = lambda module, output: output
    reference.forward = reference.original_forward or reference.forward
    try:
        yield
    finally:
        vars(reference).update(before)


@contextmanager
def _natively(processor: Any) -> Iterator[None]:
    """Within it an attention processor uses PyTorch's own attention."""
    from diffusers.models.attention_dispatch import AttentionBackendName

    before = processor._attention_backend
    processor._attention_backend = AttentionBackendName.NATIVE
    try:
        yield
    finally:
        processor._attention_backend = before


def _backend(module: nn.Module) -> str:
    """The attention backend of a module; that of all, where it names none."""
    processor: Any = getattr(module, "processor", None)
    if not hasattr(processor, "_attention_backend"):
        return NATIVE[0]
    from diffusers.models.attention_dispatch import _AttentionBackendRegistry

    chosen = processor._attention_backend or _AttentionBackendRegistry.get_active_backend()[0]
    return str(getattr(chosen, "value", chosen))
