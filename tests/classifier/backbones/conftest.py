"""Backbones of tiny models, each model made once a module."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from cvg.classifier.backbones import build
from cvg.classifier.config import BackboneSettings
from tests.helpers.processors import QWEN_SIZE
from tests.helpers.towers import GRID, SLOTS, make


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """Folders of tiny models by model type."""
    made: dict[str, Path] = {}

    def get(kind: str) -> Path:
        if kind not in made:
            made[kind] = make(kind, tmp_path_factory.mktemp(kind))
        return made[kind]

    return get


@pytest.fixture(scope="module")
def load(folder: Callable[[str], Path]) -> Callable[..., Any]:
    """Backbones of tiny models; ``"smolvlm, answer"`` reads SmolVLM's language model."""

    def get(kind: str, slots: int = SLOTS, **options: Any) -> Any:
        name = kind.split(",")[0]
        if name != kind:
            options["read"] = "language"
        if name.startswith("qwen"):
            options = {"size": QWEN_SIZE} | options
        return build(BackboneSettings(name="vlm", path=str(folder(name)), **options), slots, GRID)

    return get
