"""Offloading as a CPU can show it: weights that are away are NaN, and who is on the device is written down.

Moves to the CPU are real moves off an accelerator only with an accelerator. Here the device that things run on is the
CPU too: for components it is named ``cpu:0``, so that coming and going can be told apart.
"""

from __future__ import annotations

from functools import partial
from typing import Any

import pytest
import torch
from torch import nn
from torch.multiprocessing.reductions import StorageWeakRef

from cvg.generators import Generator, offload


def offload_layers_checked(generator: Generator, monkeypatch: pytest.MonkeyPatch) -> CopiedWeights:
    """Offload layer by layer; whatever uses weights that are away computes NaN."""
    copied = CopiedWeights()
    identity = generator.identity()  # is read off the weights that rest, which are NaN from here on
    monkeypatch.setattr(generator, "identity", lambda: identity)
    with monkeypatch.context() as patch:
        patch.setattr(offload, "CopyWeights", partial(_CheckedCopy, copied=copied))
        offload.offload_layers(generator, torch.device("cpu"))
    assert all(weight.isnan().all() for weight in generator.network.parameters())
    return copied


class CopiedWeights:
    """Bytes of copied weights that are still alive, whoever holds them; ``peak`` is the most there ever were."""

    def __init__(self) -> None:
        self.alive: list[tuple[StorageWeakRef, int]] = []
        self.peak = 0

    def add(self, weight: torch.Tensor) -> None:
        storage = weight.untyped_storage()
        self.alive = [(copy, size) for copy, size in self.alive if not copy.expired()]
        self.alive.append((StorageWeakRef(storage), storage.nbytes()))
        self.peak = max(self.peak, sum(size for _, size in self.alive))


class _CheckedCopy(offload.CopyWeights):
    def __init__(self, device: torch.device, copied: CopiedWeights) -> None:
        super().__init__(device)
        self.copied = copied

    def init_hook(self, module: nn.Module) -> nn.Module:
        module = super().init_hook(module)
        self.away = {name: _parameter(torch.full_like(each, torch.nan)) for name, each in self.weights.items()}
        module._parameters.update(self.away)
        return module

    def pre_forward(self, module: nn.Module, *args: Any, **options: Any) -> tuple[Any, Any]:
        moved = super().pre_forward(module, *args, **options)
        for name in self.weights:
            self.copied.add(module._parameters[name])
        return moved

    def post_forward(self, module: nn.Module, output: Any) -> Any:
        output = super().post_forward(module, output)
        module._parameters.update(self.away)
        return output


def _parameter(value: torch.Tensor) -> nn.Parameter:
    return nn.Parameter(value, requires_grad=False)


def offload_components_checked(generator: Generator) -> list[str]:
    """Offload component by component; one that runs must be on the device, and be there alone.

    Returns:
        The components that came to the device, in order, filled while the generator runs.
    """
    present: set[str] = set()
    came: list[str] = []
    components = {
        name: component for name, component in generator.pipeline.components.items() if isinstance(component, nn.Module)
    }
    offload.offload_components(generator, torch.device("cpu:0"))
    for name, component in components.items():

        def to(device: Any, name: str = name, component: nn.Module = component) -> nn.Module:
            if torch.device(device).index is None:
                present.discard(name)
            else:
                present.add(name)
                came.append(name)
            return component

        def runs(*_: Any, name: str = name) -> None:
            assert present == {name}, f"{name} runs while {present or 'nothing'} is on the device"

        component.to = to
        for module in component.modules():
            if module._parameters and module is not component:  # whose own hook is what brings it
                module.register_forward_pre_hook(runs)
    return came
