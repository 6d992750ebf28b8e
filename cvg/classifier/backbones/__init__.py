"""Backbones: what stands between the volume and the head, by the name that a configuration gives them.

Axes, in the names of tensors here:

    B  volumes of one guided step          T  frames that a model is shown
    K  entity slots of a relation          C  colour channels, or those of a convolution
    F H W  a volume's frames, rows and columns; H W in (B, T, C, H, W) are those of pixels
    P  patches of a frame                  D  size of a token or of a feature
    M  frames of all videos: B * T         E  size of the space that pictures and texts share
    N  phrases                             L  tokens of a language model's prompt
    V  visual tokens that a language model is given
"""

from __future__ import annotations

import functools
import pkgutil

from cvg.classifier.backbones.base import WITH_TEXT, Backbone
from cvg.classifier.backbones.convolution import ConvolutionBackbone
from cvg.classifier.backbones.none import NoBackbone
from cvg.classifier.config import BackboneSettings
from cvg.common import hub
from cvg.common.errors import ModelError
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


def build(settings: BackboneSettings, slots: int, grid: Grid) -> Backbone:
    """The backbone of these settings.

    Args:
        settings: none, a convolution, or a model, whose kind its own config.json says, and its options; see
            docs/backbones.md.
        slots: entity slots K.
        grid: the volume's (F, H, W).

    Raises:
        UserError: an unknown option, or a model that cannot be used.
    """
    if settings.name == "convolution":
        return ConvolutionBackbone(slots, grid, **settings.options)
    if not settings.path:
        return NoBackbone(slots, grid)
    from cvg.classifier.backbones import loading  # transformers takes seconds to import
    from cvg.classifier.backbones.dual import DualBackbone

    path = str(hub.path(settings.path))
    config = loading.config(path, MODELS)
    found: type[Backbone] = pkgutil.resolve_name(f"cvg.classifier.backbones.{MODELS[config.model_type]}")
    if settings.name == "none":
        if not issubclass(found, DualBackbone):
            raise ModelError(f"backbone none: {path} has no text tower; those that have one: {', '.join(WITH_TEXT)}")
        return NoBackbone(slots, grid, functools.partial(found.embed_text, path), found.joint_size(config))
    return found(path, slots, grid, **settings.options)  # type: ignore[call-arg]
