"""A small classifier configuration for the shards of :mod:`tests.helpers.shards`, and maps of its shape."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from cvg.classifier import ClassifierConfig
from tests.helpers.shards import FRAMES, GRID, HEADS, LABELS, LAYERS, SIDE, SLOTS, STEPS

GRID3 = (FRAMES, SIDE, SIDE)


def make_config(**changes: Any) -> ClassifierConfig:
    config = ClassifierConfig(
        labels=LABELS,
        generator={"name": "tiny", "class": "Tiny", "fingerprint": "0"},
        layers=list(range(LAYERS)),
        heads=list(range(HEADS)),
        sigmas=[0.99, 0.9],
        grid=GRID,
        token_grid=GRID,
        slots=SLOTS,
        volume_grid=GRID,
        aggregator={"dim": 16, "depth": 1, "attention_heads": 2, "dropout": 0.0},
        noise=0.5,
    )
    return replace(config, **changes)


def make_maps(batch: int = 3, seed: int = 0) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return 0.01 * torch.rand(batch, STEPS, LAYERS, HEADS, SLOTS, *GRID3, generator=generator)


PRESENT = torch.tensor([[True, True], [True, False], [True, True]])
STEPS_ALL = torch.ones(3, STEPS, dtype=torch.bool)
