"""Backbones, by the name a configuration gives them."""

from __future__ import annotations

from typing import Any

from cvg.classifier.backbones.base import Backbone
from cvg.classifier.backbones.none import NoBackbone
from cvg.errors import UserError

__all__ = ["Backbone", "build"]


def build(spec: dict[str, Any], slots: int, grid: tuple[int, int, int]) -> Backbone:
    """The backbone of a specification.

    Args:
        spec: ``{"name": "none"}`` or ``{"name": "clip", "path": ..., "layer": -1, "pool": 1}``.
        slots: entity slots K.
        grid: the volume's (F, H, W).

    Raises:
        UserError: an unknown name or option, or a model that cannot be used.
    """
    options = {key: value for key, value in spec.items() if key != "name"}
    if spec.get("name") == "none" and not options:
        return NoBackbone(slots, grid)
    if spec.get("name") == "clip" and options.get("path") and set(options) <= {"path", "layer", "pool"}:
        from cvg.classifier.backbones.clip import ClipBackbone  # transformers takes seconds to import

        return ClipBackbone(slots=slots, grid=grid, **options)
    raise UserError(
        f"backbone {spec}: expected none, or clip with a path (a CLIPModel or XCLIPModel folder) and, optionally, "
        "layer and pool"
    )
