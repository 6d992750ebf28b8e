"""Weights that rest in main memory and are on the device only while they are used.

Either whole components come and go, one at a time, or single layers. The hooks of diffusers do not fit guidance: those
for components follow the order of a plain run, while a guided step calls the network before the pipeline calls its text
encoder; those for layers change weights in place, which a backward pass still needs as they were.
"""

from __future__ import annotations

from typing import Any

import torch
from accelerate.hooks import ModelHook, add_hook_to_module
from accelerate.utils import send_to_device
from accelerate.utils.memory import clear_device_cache
from torch import nn
from typing_extensions import override

from cvg.generators.base import Generator


class MoveComponent(ModelHook):
    """Brings a component to the device when it runs; it stays there until another with the same list runs.

    Args:
        device: where the component runs.
        on_device: what is on the device now; one list, shared by all components that must not be there together.
    """

    def __init__(self, device: torch.device, on_device: list[nn.Module]) -> None:
        self.execution_device = device  # the pipeline takes its device from here
        self.on_device = on_device

    @override
    def pre_forward(self, module: nn.Module, *args: Any, **options: Any) -> tuple[Any, Any]:
        if module not in self.on_device:
            for other in self.on_device:
                other.to("cpu")
            clear_device_cache()
            self.on_device[:] = [module.to(self.execution_device)]
        return send_to_device(args, self.execution_device), send_to_device(options, self.execution_device)


class CopyWeights(ModelHook):
    """Gives a layer copies of its own weights on the device, for one forward pass.

    Its parameters are replaced, not changed: a backward pass still has those that it was recorded with, and frees them.
    """

    def __init__(self, device: torch.device) -> None:
        self.execution_device = device

    @override
    def init_hook(self, module: nn.Module) -> nn.Module:
        self.weights = dict(module.named_parameters(recurse=False))
        for name, buffer in module.named_buffers(recurse=False):
            module._buffers[name] = buffer.to(self.execution_device)
        return module

    @override
    def pre_forward(self, module: nn.Module, *args: Any, **options: Any) -> tuple[Any, Any]:
        for name, weight in self.weights.items():
            copy = weight.to(self.execution_device, copy=True)
            module._parameters[name] = nn.Parameter(copy, requires_grad=False)
        return send_to_device(args, self.execution_device), send_to_device(options, self.execution_device)

    @override
    def post_forward(self, module: nn.Module, output: Any) -> Any:
        module._parameters.update(self.weights)
        return output


def offload_components(generator: Generator, device: torch.device) -> None:
    """Let only one component of the pipeline be on the device: text encoder, network or VAE.

    Args:
        generator: with all weights in main memory.
        device: where the components run.
    """
    on_device: list[nn.Module] = []
    for component in _components(generator).values():
        add_hook_to_module(component, MoveComponent(device, on_device))


def offload_layers(generator: Generator, device: torch.device) -> None:
    """Let only one layer of networks and text encoders be on the device; the VAE, which is small, stays once used.

    Autograd keeps the weights that a backward pass will need. So blocks are checkpointed from here on: they keep none,
    and have theirs copied again, one block after another.

    Args:
        generator: with all weights in main memory.
        device: where the layers run.
    """
    generator.checkpointing = True
    for name, component in _components(generator).items():
        if name == "vae":  # some pass on a list that they change, and hooks hand over copies
            add_hook_to_module(component, MoveComponent(device, []))
            continue
        for module in component.modules():
            if module is component or module._parameters or module._buffers:
                add_hook_to_module(module, CopyWeights(device))


def _components(generator: Generator) -> dict[str, nn.Module]:
    return {name: each for name, each in generator.pipeline.components.items() if isinstance(each, nn.Module)}
