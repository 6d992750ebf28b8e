"""Backbones, by the name a configuration gives them."""

from __future__ import annotations

import functools
import importlib
from typing import Any

from cvg.classifier.backbones.base import WITH_TEXT, Backbone
from cvg.classifier.backbones.none import NoBackbone
from cvg.common import hub
from cvg.common.errors import ModelError, SettingsError
from cvg.common.sizes import Grid

__all__ = ["MODELS", "Backbone", "build"]

MODELS: dict[str, str] = {
    "clip": "clip.ClipBackbone",
    "xclip": "xclip.XClipBackbone",
    "siglip": "siglip.SiglipBackbone",
    "siglip2": "siglip2.Siglip2Backbone",
    "videoprism": "videoprism.VideoPrismBackbone",
    "vjepa2": "vjepa2.Vjepa2Backbone",
    "qwen2_5_vl": "qwen.Qwen25Backbone",
    "qwen3_vl": "qwen.Qwen3Backbone",
    "smolvlm": "smolvlm.SmolVlmBackbone",
    "internvl": "internvl.InternVlBackbone",
}
"""``model_type`` of a config.json -> module of this package and class in it."""


def build(spec: dict[str, Any], slots: int, grid: Grid) -> Backbone:
    """The backbone of a specification.

    Args:
        spec: ``{"name": "none"}``, or ``{"name": "vlm", "path": ...}`` with any of the options in `docs/backbones.md`.
            The model is found from its own config.json. With ``none``, a path is that of a model whose text tower alone
            is used, for an anchored head. Classifiers of earlier versions say ``clip`` for ``vlm``.
        slots: entity slots K.
        grid: the volume's (F, H, W).

    Raises:
        UserError: an unknown name or option, or a model that cannot be used.
    """
    options = {key: value for key, value in spec.items() if key not in ("name", "path")}
    name, path = spec.get("name"), spec.get("path")
    if name == "none" and set(spec) == {"name"}:
        return NoBackbone(slots, grid)
    if name not in ("none", "vlm", "clip") or not path or (name == "none" and options):
        raise SettingsError(f"backbone {spec}: expected none, or vlm with a path (a model's folder or Hub id)")
    from cvg.classifier.backbones import loading  # transformers takes seconds to import
    from cvg.classifier.backbones.dual import DualBackbone

    path = str(hub.path(path))
    config = loading.config(path)
    kind = config.model_type
    if kind not in MODELS:
        raise ModelError(f"backbone {path}: its model type is {kind!r}; known: {', '.join(MODELS)}")
    module, cls = MODELS[kind].split(".")
    found: type[Backbone] = getattr(importlib.import_module(f"cvg.classifier.backbones.{module}"), cls)
    if name == "none":
        if not issubclass(found, DualBackbone):
            raise ModelError(f"backbone none: {path} has no text tower; those that have one: {', '.join(WITH_TEXT)}")
        return NoBackbone(slots, grid, functools.partial(found.embed_text, path), found.width(config))
    return found(path, slots, grid, **options)  # type: ignore[call-arg]
