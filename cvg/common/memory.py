"""What to try when the memory does not suffice, given what is on already; docs/memory.md has the reasons."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch


def is_out_of_memory(error: BaseException) -> bool:
    """Whether an accelerator's or the machine's memory ran out."""
    text = str(error)
    return (
        isinstance(error, torch.OutOfMemoryError | MemoryError)
        or "out of memory" in text.lower()
        or "DefaultCPUAllocator" in text
    )


def explain(error: BaseException, options: Mapping[str, Any]) -> str:
    """One line: what happened, and the next thing to try.

    Args:
        error: for which ``is_out_of_memory`` holds.
        options: the command's, by name.
    """
    said = ". ".join((str(error) or "no more could be allocated").splitlines()[0].split(". ")[:2]).rstrip(".")
    return f"out of memory on device {options.get('device', 'cpu')}: {said}; try {next_try(options)}"


def next_try(options: Mapping[str, Any]) -> str:
    """The cheapest option of a command that is not on yet and saves memory."""
    offload = options.get("offload")
    accelerator = str(options.get("device", "cpu")) != "cpu"
    if (batch_size := options.get("batch_size", 1)) > 1:
        return f"--batch_size {batch_size // 2}"
    if options.get("dtype") == "float32":
        return "--dtype bfloat16"
    if offload == "none" and accelerator:
        return "--offload model"
    if options.get("checkpointing") is False and offload != "group":
        return "--checkpointing true"
    if options.get("tiling") is False:
        return "--tiling true"
    if offload == "model" and accelerator:
        return "--offload group" + (" --compile false" if options.get("compile") else "")
    if getattr(options.get("guiding"), "smoothing", 1) > 1:
        return "--guiding.smoothing 1"
    if "layers" in options:
        return "fewer --layers, or a smaller --size"
    if "classifier" in options:
        return "a classifier of fewer or smaller maps (fewer layers, a smaller size), or a smaller generator"
    return "smaller inputs, or a machine with more memory"
