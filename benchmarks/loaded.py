"""What guidance takes of networks as people load them: with a LoRA, in eight bits, one layer on the device."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import torch
from torch import nn
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.utils._python_dispatch import TorchDispatchMode

from benchmarks.architecture import Architecture
from benchmarks.arithmetic import TERA, operations
from benchmarks.case import checkpointed, random_case
from benchmarks.figures import aligned
from benchmarks.guidance import gradient
from benchmarks.measure import LiveBytes, Work, stored_bytes, weight_bytes
from cvg.generators.offload import offload_layers

GIB: Final = 2**30
RANK: Final = 64
"""Of the LoRA, which changes every matrix of the blocks: the largest of those for few steps."""
GUIDED: Final = 2
"""Guided steps of one iteration whose arithmetic is told of."""


def _with_lora(network: Any) -> None:
    """What ``load_lora_weights`` makes of the network, with weights of zero."""
    from peft import LoraConfig, inject_adapter_in_model

    inside = next(name for name, each in network.named_children() if isinstance(each, nn.ModuleList))
    targets = [
        name for name, each in network.named_modules() if isinstance(each, nn.Linear) and name.startswith(f"{inside}.")
    ]
    with warnings.catch_warnings(), torch.device("meta"):  # PEFT would move them, which fake tensors do not bear
        warnings.simplefilter("ignore")  # that it cannot be merged into eight bits
        inject_adapter_in_model(LoraConfig(r=RANK, lora_alpha=RANK, target_modules=targets), network)
    for module in network.modules():
        for name, weight in module._parameters.items():
            if weight is not None and weight.device.type == "meta":
                module._parameters[name] = nn.Parameter(torch.zeros(weight.shape, dtype=network.dtype))


def _in_eight_bits(network: Any) -> None:
    """What ``from_pretrained`` makes of the network with ``torchao-int8``."""
    from torchao.quantization import Int8WeightOnlyConfig, quantize_

    kept = network._keep_in_fp32_modules or ()
    quantize_(
        network,
        Int8WeightOnlyConfig(),
        lambda module, name: isinstance(module, nn.Linear) and not any(f"{key}." in f"{name}." for key in kept),
    )


def _both(network: Any) -> None:
    _in_eight_bits(network)
    _with_lora(network)


GROUP: Final = "--offload group"
WAYS: Final[Mapping[str, Callable[[Any], None]]] = {
    "as it is": lambda network: None,
    "--lora": _with_lora,
    "--quantize torchao-int8": _in_eight_bits,
    "--quantize torchao-int8 --lora": _both,
    GROUP: lambda network: None,
}
"""Options that a network is loaded with -> what they make of it, beside offloading."""


@dataclass(frozen=True)
class Taken:
    """What one denoising step of the network takes, loaded in some way; bytes and floating-point operations.

    Attributes:
        resting: bytes on the device between passes: the network's weights, but not where these come and go.
        classifier: bytes of the classifier's, which stay on the device.
        step: most bytes at once in a plain step, beside what rests.
        guided: likewise in a guided step; None where blocks are checkpointed in any case.
        checkpointed: likewise, checkpointed.
        operations: of a plain step.
        edit: of a guided one's gradient.
        recomputed: likewise, checkpointed.
        moved: bytes of weights that a plain step brings to the device.
        borrowed: likewise a guided step's gradient.
    """

    resting: int
    classifier: int
    step: int
    guided: int | None
    checkpointed: int
    operations: int
    edit: int
    recomputed: int
    moved: int
    borrowed: int

    @property
    def plain_bytes(self) -> int:
        """Most bytes on the device without guidance."""
        return self.resting + self.step

    def guided_bytes(self, peak: int) -> int:
        """Most bytes on the device in guided sampling, of the peak of a guided step."""
        return self.resting + self.classifier + max(peak, self.step)


class _Moved(TorchDispatchMode):
    """Bytes of resting weights that were copied to the device."""

    def __init__(self, weights: Sequence[nn.Parameter]) -> None:
        super().__init__()
        self.resting = {id(weight.untyped_storage()) for weight in weights}
        self.bytes = 0

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        result = func(*args, **(kwargs or {}))
        if func is torch.ops.aten._to_copy.default and id(args[0].untyped_storage()) in self.resting:
            self.bytes += result.untyped_storage().nbytes()
        return result


def taken(
    architecture: Architecture, way: str, layers: Sequence[int] | None, dtype: str, fake: FakeTensorMode | None = None
) -> Taken:
    """Count what a way of loading takes.

    Args:
        architecture: of the network.
        way: of :data:`WAYS`.
        layers: tapped layers, see :func:`benchmarks.case.random_case`.
        dtype: weights' dtype.
        fake: for tensors that hold nothing; real ones on the CPU when None.
    """
    case = random_case(architecture, layers, 1, 50, "cpu", dtype, fake, WAYS[way])
    if fake is not None:
        case.latents = fake.from_tensor(case.latents)
    network, tower, group = case.generator.network, case.classifier.backbone.tower, way.startswith(GROUP)
    weights, resting = list(network.parameters()), weight_bytes(network)
    if group:  # the CPU stands for the device, and weights are copied all the same
        resting -= sum(stored_bytes(weight) for weight in weights)
        offload_layers(case.generator, torch.device("cpu"))

    def guided() -> None:
        gradient(case, case.generator)

    def recomputing() -> None:
        with checkpointed(case.generator):
            guided()

    again = operations(recomputing)

    def peak(work: Work) -> int:
        with LiveBytes() as counter:
            work()
        return counter.peak

    def moved(work: Work) -> int:
        if not group:
            return 0
        with _Moved(weights) as counter:
            work()
        return counter.bytes

    return Taken(
        resting=resting,
        classifier=weight_bytes(case.classifier, *([] if tower is None else [tower])),
        step=peak(case.denoise),
        guided=None if group else peak(guided),
        checkpointed=peak(recomputing),
        operations=operations(case.denoise),
        edit=again if group else operations(guided),
        recomputed=again,
        moved=moved(case.denoise),
        borrowed=moved(recomputing),
    )


HEADER: Final = [
    "loaded with",
    "weights",
    "unguided",
    "guided",
    "checkpointed",
    "TFLOP a step",
    "guided / unguided",
    "checkpointed",
    "moved, plain step",
    "guided",
]


def table(found: Mapping[str, Taken], steps: int = 50) -> str:
    """What each way takes, as a table: GiB on the device, arithmetic of sampling, GiB brought to the device."""

    def share(peak: int | None, of: Taken) -> str:
        if peak is None:
            return ""
        return f"{of.guided_bytes(peak) / GIB:.1f} ({of.guided_bytes(peak) / of.plain_bytes:.2f})"

    def ratio(edit: int, of: Taken) -> str:
        return f"{1 + GUIDED * edit / (steps * of.operations):.3f}"

    rows = [
        [
            way,
            f"{each.resting / GIB:.1f}",
            f"{each.plain_bytes / GIB:.1f}",
            share(each.guided, each),
            share(each.checkpointed, each),
            f"{each.operations / TERA:.0f}",
            "" if each.guided is None else ratio(each.edit, each),
            ratio(each.recomputed, each),
            f"{each.moved / GIB:.1f}" if each.moved else "",
            f"{each.borrowed / GIB:.1f}" if each.moved else "",
        ]
        for way, each in found.items()
    ]
    return aligned([HEADER, *rows])
