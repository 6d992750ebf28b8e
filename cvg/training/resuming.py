"""What a checkpoint has to have in common with the run that goes on from it, or tests it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import fields
from typing import Any

from torch import Tensor

from cvg.classifier.config import ClassifierConfig
from cvg.common.errors import DataError
from cvg.common.fingerprint import first_difference


def check_options(checkpoint: Mapping[str, Any], options: Mapping[str, Any]) -> None:
    """Raise DataError naming the first of the module's options that the checkpoint's training had otherwise.

    A resumed training takes the optimiser's state from the checkpoint, and with it options such as the learning rate:
    other ones that are given could not hold.
    """
    stored = checkpoint.get("hyper_parameters", {})
    for name, value in options.items():
        begun = name == "warm_start" and value is None  # was of use to the first run only
        if not name.startswith("_") and not begun and stored.get(name, value) != value:
            raise DataError(
                f"checkpoint: its training had model.{name} {stored[name]!r}, this one has {value!r}; resume with the "
                "options of that training, or start a new one from its classifier (model.warm_start)"
            )


def check_classifier(checkpoint: Mapping[str, Any], ours: ClassifierConfig, weights: Mapping[str, Tensor]) -> None:
    """Raise DataError unless a checkpoint's classifier, and its weights by their names and shapes, are as ours."""
    stored = ClassifierConfig.from_dict(checkpoint.get("classifier"), "checkpoint")
    if name := first_difference(ours, stored, (field.name for field in fields(ours))):
        raise DataError(
            f"checkpoint: its classifier has {name} {getattr(stored, name)!r}, shards and options here say "
            f"{getattr(ours, name)!r}; use the shards and options it was trained with"
        )
    here = {name: tensor.shape for name, tensor in weights.items()}
    there = {name: getattr(tensor, "shape", None) for name, tensor in checkpoint["state_dict"].items()}
    if odd := [name for name in {**here, **there} if here.get(name) != there.get(name)]:
        raise DataError(f"checkpoint: its weights do not fit its own config ({odd[0]}); train again")
