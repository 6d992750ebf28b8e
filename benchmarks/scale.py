"""Memory and arithmetic of guided sampling at true scale, on any machine: with fake tensors, which hold nothing.

python -m benchmarks.scale --architecture '[wan-1.3b]'

What is counted is what tensors would hold, with fused attention; what kernels take for themselves is not.
"""

from __future__ import annotations

from collections.abc import Sequence
from types import ModuleType
from typing import Any

import diffusers
import torch
import transformers
from torch._subclasses.fake_tensor import FakeTensorMode

from benchmarks import architecture as architectures
from benchmarks.architecture import Architecture
from benchmarks.arithmetic import arithmetic
from benchmarks.case import Case, checkpointed, random_case
from benchmarks.figures import Figure, markdown
from benchmarks.guidance import MEMORY_GOAL, MIB, NAMES, Peaks, capture_memory, gradient, memory, peaks
from benchmarks.loaded import WAYS, table, taken
from benchmarks.measure import LiveBytes, Work, weight_bytes
from benchmarks.plain import plain
from cvg.common.cli import run
from cvg.common.sizes import Size


def figures_of(architecture: Architecture, layers: Sequence[int] | None, dtype: str) -> list[Figure]:
    """Guided over plain: memory and arithmetic of a step, memory of a video where text encoder and VAE are known."""
    fake = FakeTensorMode(allow_non_fake_inputs=True)
    case = random_case(architecture, layers, 1, 50, "cpu", dtype, fake)
    case.latents = fake.from_tensor(case.latents)

    def recomputing() -> None:
        with checkpointed(case.generator):
            gradient(case, case.generator)

    work: dict[str, Work] = {
        "guided": lambda: gradient(case, case.generator),
        "checkpointed": recomputing,
        "plain way": lambda: gradient(case, plain(case.generator)),
    }
    found = peaks(case, work)
    counted = capture_memory(case) + arithmetic(case, work)
    return memory(found) + whole(architecture, case, found, dtype, fake) + counted


def whole(architecture: Architecture, case: Case, found: Peaks, dtype: str, fake: FakeTensorMode) -> list[Figure]:
    """Peak memory of whole videos, with text encoder and VAE: all of it on the device, or one component at a time."""
    if architecture.text_encoder is None or architecture.vae is None:
        return []
    before = torch.get_default_dtype()
    torch.set_default_dtype(getattr(torch, dtype))
    try:
        with fake:
            encoder = _make(transformers, architecture.text_encoder)
            vae = _make(diffusers, architecture.vae)
    finally:
        torch.set_default_dtype(before)
    with fake, torch.no_grad():
        with LiveBytes() as encoding:
            encoder(torch.zeros(1, case.conditioning.columns_BTE.shape[1], dtype=torch.long))
        with LiveBytes() as decoding:
            vae.decode(torch.empty(case.latents.shape, dtype=vae.dtype))
    text, pixels, network = weight_bytes(encoder), weight_bytes(vae), found.network
    together = text + pixels + network
    figures = []
    # Where everything stays, each stage has all weights beside it, else only its own; the classifier always stays.
    homes = {"all on the device": (together, together, together), "--offload model": (text, pixels, network)}
    for where, stages in homes.items():
        plain_bytes = max(stages[0] + encoding.peak, stages[1] + decoding.peak, stages[2] + found.step)
        figures.append(Figure(f"peak memory of a whole plain video, {where}", plain_bytes / MIB, "MiB"))
        for name, how in NAMES.items():
            peak = found.guided[name]
            assert peak is not None, "fake tensors do not run out of memory"
            guided = found.classifier + max(plain_bytes, stages[2] + peak)
            goal = "" if name == "plain way" else MEMORY_GOAL
            figures.append(Figure(f"whole video, guided / unguided, {where}: {how}", guided / plain_bytes, goal=goal))
    return figures


def _make(library: ModuleType, settings: dict[str, Any]) -> Any:
    """A model of diffusers or transformers from its configuration, in the default dtype."""
    options = dict(settings)
    kind = getattr(library, options.pop("_class_name"))
    return kind(kind.config_class(**options)) if library is transformers else kind(**options)


def main(
    architecture: list[str],
    layers: list[int] | None = None,
    size: Size | None = None,
    dtype: str = "bfloat16",
    loaded: bool = False,
) -> None:
    """Print the peak memory and the arithmetic of plain and guided sampling of one video, without running them.

    Args:
        architecture: names of files in benchmarks/architectures.
        layers: tapped layers; every third of the first two thirds when left out.
        size: frames, height and width in pixels; the released ones when left out.
        dtype: weights' dtype.
        loaded: a second table for the network with a LoRA, in eight bits, and with one layer at a time on the device.
    """
    shrunk = {name: architectures.load(name).shrunk(size=size) for name in architecture}
    for small in shrunk.values():
        architectures.check_size(small)
    for name, small in shrunk.items():
        print(f"\n## {name}\n\n{markdown(figures_of(small, layers, dtype))}", flush=True)
        if loaded:
            fake = FakeTensorMode(allow_non_fake_inputs=True)
            print(f"\n{table({way: taken(small, way, layers, dtype, fake) for way in WAYS})}", flush=True)


if __name__ == "__main__":
    run(main, prog="python -m benchmarks.scale")
