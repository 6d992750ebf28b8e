"""Finds the adapter of a pipeline folder or hub id from its own ``model_index.json``."""

from __future__ import annotations

from typing import Any

import torch
from diffusers import DiffusionPipeline

from cvg.errors import UserError
from cvg.generators.base import Generator
from cvg.generators.wan import PIPELINES as WAN_PIPELINES
from cvg.generators.wan import WanGenerator
from cvg.shapes import assets

ADAPTERS: dict[str, type[Generator]] = dict.fromkeys(WAN_PIPELINES, WanGenerator)


def wrap_pipeline(pipeline: Any, name: str = "pipeline") -> Generator:
    """The adapter around a loaded diffusers pipeline. Raises UserError for an unknown class, listing the known."""
    kind = type(pipeline).__name__
    if kind not in ADAPTERS:
        raise UserError(f"generator {name}: its pipeline class is {kind}; known classes: {', '.join(ADAPTERS)}")
    return ADAPTERS[kind](pipeline, name)


def load_generator(name: str, device: str = "cpu", dtype: str = "float32") -> Generator:
    """Load a pipeline with ``from_pretrained`` and wrap it.

    Args:
        name: a shipped model (``shapes-wan``), a folder, or a hub id.
        device: torch device.
        dtype: torch dtype of the weights, by name.

    Raises:
        UserError: it cannot be found or loaded, or its class has no adapter.
    """
    path = assets.path(name)
    try:
        pipeline = DiffusionPipeline.from_pretrained(path, dtype=getattr(torch, dtype))
    except (OSError, ValueError) as error:
        raise UserError(
            f"generator {name}: cannot be loaded ({str(error).splitlines()[0]}); give a shipped name (shapes-wan), a "
            "diffusers pipeline folder, or a hub id"
        ) from error
    pipeline.set_progress_bar_config(disable=True)
    return wrap_pipeline(pipeline.to(device), str(name))
