"""What a classifier is, except its weights: its config.json."""

from __future__ import annotations

from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any

from cvg.common.errors import ModelError
from cvg.common.files import read_json

SCHEMA = 1


@dataclass
class ClassifierConfig:
    """Everything a classifier is, except its weights; JSON-able.

    Attributes:
        labels: the label set, as `LabelSet.to_dict` gives it.
        generator: name, class and fingerprint of the video generator whose maps it reads.
        layers: indices of the tapped layers.
        heads: indices of the attention heads.
        sigmas: noise levels of the guided steps, noisiest first.
        grid: [F, H, W] of the maps in training; others are resampled to it.
        slots: entity slots K.
        volume_grid: [F, H, W] of the volume.
        backbone: see `cvg.classifier.backbones.build`.
        aggregator: ``dim``, ``depth``, ``attention_heads`` and ``dropout`` of `Aggregator`.
        noise: deviation of the smooth noise it was trained with, in units of the volume.
        schema: version of this format.
        token_grid: the generator's latent tokens [F, H, W] in training, of which the maps held averages; the same as
            ``grid`` when left out.
        head: see `cvg.classifier.head.build_head`; linear when left out.
        sampling: what suits generator and classifier best, where not the defaults: ``step_size`` of
            `cvg.guidance.config.GuidanceConfig`, ``guidance_scale`` of classifier-free guidance.
    """

    labels: dict[str, Any]
    generator: dict[str, Any]
    layers: list[int]
    heads: list[int]
    sigmas: list[float]
    grid: list[int]
    slots: int
    volume_grid: list[int]
    backbone: dict[str, Any] = field(default_factory=lambda: {"name": "none"})
    aggregator: dict[str, Any] = field(default_factory=dict)
    noise: float = 0.0
    schema: int = SCHEMA
    token_grid: list[int] = field(default_factory=list)
    head: dict[str, Any] = field(default_factory=lambda: {"name": "linear"})
    sampling: dict[str, float] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.token_grid = self.token_grid or self.grid


def config_from_dict(data: Any, where: str) -> ClassifierConfig:
    """A config read from JSON or a checkpoint. Raises ModelError naming ``where`` when it does not fit."""
    known = {f.name for f in fields(ClassifierConfig)}
    later = {"token_grid", "head", "sampling"}  # older ones do not have these
    if not isinstance(data, dict) or set(data) | later != known:
        wrong = ", ".join(sorted(known ^ set(data))) if isinstance(data, dict) else "all"
        raise ModelError(f"{where}: not a classifier's config (missing or unknown: {wrong}); export it again")
    if data["schema"] != SCHEMA:
        raise ModelError(f"{where}: schema {data['schema']}, this version reads {SCHEMA}; export it again")
    return ClassifierConfig(**data)


def check_config(path: Path) -> None:
    """Raise ModelError when this file is not there or not a classifier's config."""
    if not path.is_file():
        raise ModelError(
            f"classifier {path.parent}: no config.json there; give a folder written by `python -m cvg.export`"
        )
    config_from_dict(read_json(path), str(path))
