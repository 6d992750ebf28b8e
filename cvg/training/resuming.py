"""What a checkpoint has to have in common with the run that goes on from it, or tests it."""

from __future__ import annotations

import traceback
from collections.abc import Mapping
from dataclasses import fields
from pathlib import Path
from typing import Any

from torch import Tensor
from torch.optim import Optimizer

from cvg.classifier.config import ClassifierConfig
from cvg.common.errors import DataError
from cvg.common.fingerprint import first_difference

_AGAIN = "take another checkpoint, or start a new training from its classifier (model.warm_start)"


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
    if name := first_difference(
        ours, stored, (field.name for field in fields(ours) if field.name not in ("seen", "licences"))
    ):
        raise DataError(
            f"checkpoint: its classifier has {name} {getattr(stored, name)!r}, shards and options here say "
            f"{getattr(ours, name)!r}; use the shards and options it was trained with"
        )
    here = {name: tensor.shape for name, tensor in weights.items()}
    there = {name: getattr(tensor, "shape", None) for name, tensor in checkpoint["state_dict"].items()}
    if odd := [name for name in {**here, **there} if here.get(name) != there.get(name)]:
        raise DataError(f"checkpoint: its weights do not fit its own config ({odd[0]}); train again")
    if wrong := [name for name, tensor in checkpoint["state_dict"].items() if not tensor.isfinite().all()]:
        raise DataError(f"checkpoint: its weights are not finite ({wrong[0]}); take an earlier one, or train again")


def check_left(checkpoint: Mapping[str, Any], loop: Mapping[str, Any], epochs: int | None, steps: int) -> None:
    """See that a resumed training has something to do, before it is begun.

    Args:
        checkpoint: what it goes on from.
        loop: the state of a training that has not begun, in whose form the checkpoint has its own.
        epochs: how many it is to have in all; None or -1: any number.
        steps: the same of its steps, -1: any number.

    Raises:
        DataError: the checkpoint does not tell how far it is, or is as far as is asked.
    """
    try:
        state = checkpoint["loops"]["fit_loop"]
        _check_counts({"global_step": 0}, checkpoint)
        _check_counts(loop, state)
        done = {"epochs": state["epoch_progress"]["current"]["processed"], "steps": checkpoint["global_step"]}
        reached = [name for name, most in (("epochs", epochs), ("steps", steps)) if 0 <= (most or -1) <= done[name]]
    except (KeyError, TypeError, ValueError) as error:
        raise DataError(f"checkpoint: damaged where it tells how far its training is ({error}); {_AGAIN}") from error
    if reached:
        name, most = reached[0], {"epochs": epochs, "steps": steps}[reached[0]]
        raise DataError(
            f"trainer.max_{name} {most}: the checkpoint's training has done {done[name]} {name} already, so nothing is "
            "left to train; give more, or export the checkpoint as it is"
        )


def _check_counts(ours: Mapping[str, Any], theirs: Any) -> None:
    """Raise ValueError unless there is a count, or a flag, wherever there is one in ours; KeyError where one misses."""
    for name, value in ours.items():
        if isinstance(value, Mapping):
            _check_counts(value, theirs[name])
        elif isinstance(value, int) and (type(theirs[name]) is not type(value) or theirs[name] < 0):
            raise ValueError(f"{name} is {theirs[name]!r}")


def check_optimizer(checkpoint: Mapping[str, Any], optimizer: Optimizer) -> None:
    """Raise DataError unless an optimiser of the same weights can go on from a checkpoint's state of it.

    Args:
        checkpoint: what is gone on from.
        optimizer: a new one, which is changed.
    """

    def damaged(reason: object) -> DataError:
        return DataError(f"checkpoint: the state of its optimiser is damaged ({reason}); {_AGAIN}")

    try:
        (state,) = checkpoint["optimizer_states"]
        optimizer.load_state_dict(state)
        held = [(weight, optimizer.state[weight]) for group in optimizer.param_groups for weight in group["params"]]
        for weight, values in held:
            for name, value in values.items():
                if not isinstance(value, Tensor) or not value.isfinite().all():
                    raise damaged(f"its {name} is not finite")
                if value.shape != (() if name == "step" else weight.shape):
                    raise damaged(f"its {name} is of shape {tuple(value.shape)}")
    except (KeyError, TypeError, ValueError, AttributeError, IndexError, RuntimeError) as error:
        raise damaged((str(error) or type(error).__name__).splitlines()[0]) from error


def was_restoring(error: Exception) -> bool:
    """Whether Lightning came upon an error while it took over what a checkpoint holds."""
    frames = traceback.extract_tb(error.__traceback__)
    return any(Path(frame.filename).stem == "checkpoint_connector" and "restore" in frame.name for frame in frames)
