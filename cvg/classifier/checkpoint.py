"""The classifier inside a training checkpoint."""

from __future__ import annotations

import pickle
from pathlib import Path
from typing import Any

import torch

from cvg.classifier.config import ClassifierConfig
from cvg.classifier.folder import not_finite
from cvg.classifier.model import CompositionClassifier
from cvg.common.errors import DataError

_PREFIX = "classifier."


def read_checkpoint(path: str | Path) -> dict[str, Any]:
    """A training checkpoint on the CPU: tensors and plain values; nothing that it holds is executed.

    Raises:
        DataError: the file is missing, no local one, unsafe to read or not a checkpoint of `cvg.train`.
    """

    def refused(reason: str) -> DataError:
        return DataError(f"checkpoint {path}: {reason}; give a .ckpt written by `python -m cvg.train fit`")

    if "://" in str(path):
        raise refused("not a file of this machine; download it first")
    if Path(path).exists() and not Path(path).is_file():
        raise refused("not a regular file")
    try:
        checkpoint = torch.load(path, map_location="cpu", weights_only=True)
    except OSError as error:
        raise refused(error.strerror or f"not a checkpoint ({type(error).__name__})") from error
    except pickle.UnpicklingError as error:
        # torch's message advises to load it all the same, which would run what the file says.
        raise refused("holds more than tensors and plain values, or is damaged, and was not loaded") from error
    except Exception as error:  # bytes that are no checkpoint make the unpickler raise nearly anything
        raise refused(f"not a checkpoint ({type(error).__name__})") from error
    if not isinstance(checkpoint, dict) or not isinstance(checkpoint.get("state_dict"), dict):
        raise refused("not a checkpoint (no state_dict)")
    return checkpoint


def load_checkpoint(path: str | Path) -> CompositionClassifier:
    """The classifier of a training checkpoint, in evaluation mode, on the CPU; shards are not needed.

    Raises:
        DataError: the file is missing, unsafe to read or not a checkpoint of `cvg.train`.
    """
    checkpoint = read_checkpoint(path)
    state = {str(name): value for name, value in checkpoint["state_dict"].items()}
    classifier = CompositionClassifier(ClassifierConfig.from_dict(checkpoint.get("classifier"), f"checkpoint {path}"))
    weights = {name.removeprefix(_PREFIX): value for name, value in state.items() if name.startswith(_PREFIX)}
    try:
        classifier.load_state_dict(weights)
    except RuntimeError as error:
        raise DataError(f"checkpoint {path}: its weights do not fit its own config; train again") from error
    if name := not_finite(classifier):
        raise DataError(f"checkpoint {path}: its weights are not finite ({name}); take an earlier one, or train again")
    return classifier.eval()
