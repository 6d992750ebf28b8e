"""How much arithmetic guidance and capture add: operations of matrix products, convolutions and attention.

What a figure says of time holds as far as time follows arithmetic: on a GPU at true size, where these operations are
nearly all of it. They are counted as they run, on any device and on fake tensors.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch.utils.flop_counter import FlopCounterMode, sdpa_backward_flop_count, sdpa_flop_count

from benchmarks.case import Case
from benchmarks.figures import Figure
from benchmarks.guidance import CAPTURE_GOAL, NAMES, TIME_GOALS, captures, setting
from benchmarks.measure import Work

TERA = 1e12


def _attention(query: torch.Size, key: torch.Size, value: torch.Size, *_: Any, **__: Any) -> int:
    return int(sdpa_flop_count(query, key, value))


def _attention_backward(
    gradient: torch.Size, query: torch.Size, key: torch.Size, value: torch.Size, *_: Any, **__: Any
) -> int:
    return int(sdpa_backward_flop_count(gradient, query, key, value))


_CPU_ATTENTION = {
    torch.ops.aten._scaled_dot_product_flash_attention_for_cpu: _attention,
    torch.ops.aten._scaled_dot_product_flash_attention_for_cpu_backward: _attention_backward,
}
"""What torch's own table has for GPUs alone."""


def operations(work: Work) -> int:
    """Floating-point operations that the work takes."""
    with FlopCounterMode(display=False, custom_mapping=_CPU_ATTENTION) as counter:
        work()
    return int(counter.get_total_flops())


def arithmetic(case: Case, gradients: Mapping[str, Work]) -> list[Figure]:
    """Operations of guided sampling over those of plain sampling, and what capture adds to a forward pass.

    Args:
        case: what is counted.
        gradients: one gradient of guidance each, by the names of :data:`benchmarks.guidance.NAMES`.
    """
    step = operations(case.denoise)
    figures = [Figure("one denoising step", step / TERA, "TFLOP")]
    for name, how in NAMES.items():
        edit = operations(gradients[name])
        for (guided, iterations), goal in TIME_GOALS.items():
            ratio = 1 + guided * iterations * edit / (case.steps * step)
            what = setting(guided, iterations, how)
            figures.append(
                Figure(f"arithmetic, guided / unguided: {what}", ratio, goal="" if name == "plain way" else goal)
            )
    counted = {name: operations(work) for name, work in captures(case).items()}
    for name, what, goal in (("ours", "capture", CAPTURE_GOAL), ("materialised", "materialising", "")):
        added = 100 * (counted[name] / counted["forward"] - 1)
        figures.append(Figure(f"{what}, arithmetic added to a forward pass", added, unit="%", goal=goal))
    return figures
