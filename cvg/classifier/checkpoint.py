"""The classifier inside a training checkpoint."""

from __future__ import annotations

from pathlib import Path

import torch

from cvg.classifier.config import ClassifierConfig
from cvg.classifier.model import CompositionClassifier
from cvg.common.errors import DataError

_PREFIX = "classifier."


def load_checkpoint(path: str | Path) -> CompositionClassifier:
    """The classifier of a training checkpoint, in evaluation mode, on the CPU; shards are not needed.

    Raises:
        DataError: the file is missing, unsafe to read or not a checkpoint of `cvg.train`.
    """
    try:
        checkpoint = torch.load(path, map_location="cpu", weights_only=True)
        state = checkpoint["state_dict"]
    except Exception as error:  # bytes that are no checkpoint make the unpickler raise nearly anything
        reason = getattr(error, "strerror", None) or f"not a checkpoint ({type(error).__name__})"
        raise DataError(f"checkpoint {path}: {reason}; give a .ckpt written by `python -m cvg.train fit`") from error
    classifier = CompositionClassifier(ClassifierConfig.from_dict(checkpoint.get("classifier"), f"checkpoint {path}"))
    weights = {name.removeprefix(_PREFIX): value for name, value in state.items() if name.startswith(_PREFIX)}
    try:
        classifier.load_state_dict(weights)
    except RuntimeError as error:
        raise DataError(f"checkpoint {path}: its weights do not fit its own config; train again") from error
    return classifier.eval()
