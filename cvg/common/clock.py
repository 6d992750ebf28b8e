"""Wall time of work that a GPU may still be doing."""

from __future__ import annotations

import time

import torch


def synchronise(device: torch.device) -> None:
    """Wait for what was started on a GPU."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def wall_clock(device: torch.device) -> float:
    """Seconds of wall time, once the device has done what was asked of it."""
    synchronise(device)
    return time.perf_counter()
