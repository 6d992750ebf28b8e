"""Training checkpoint -> classifier folder (``python -m cvg.export``)."""

from __future__ import annotations

from pathlib import Path

import torch

from cvg.classifier.config import config_from_dict
from cvg.classifier.model import CompositionClassifier
from cvg.common.cli import run
from cvg.common.errors import UserError

_PREFIX = "classifier."


def load_checkpoint(path: str | Path) -> CompositionClassifier:
    """The classifier of a training checkpoint, in evaluation mode, on the CPU; shards are not needed.

    Raises:
        UserError: the file is missing, unsafe to read or not a checkpoint of `cvg.train`.
    """
    try:
        checkpoint = torch.load(path, map_location="cpu", weights_only=True)
        state = checkpoint["state_dict"]
    except Exception as error:  # bytes that are no checkpoint make the unpickler raise nearly anything
        reason = getattr(error, "strerror", None) or f"not a checkpoint ({type(error).__name__})"
        raise UserError(f"checkpoint {path}: {reason}; give a .ckpt written by `python -m cvg.train fit`") from error
    classifier = CompositionClassifier(config_from_dict(checkpoint.get("classifier"), f"checkpoint {path}"))
    weights = {name.removeprefix(_PREFIX): value for name, value in state.items() if name.startswith(_PREFIX)}
    try:
        classifier.load_state_dict(weights)
    except RuntimeError as error:
        raise UserError(f"checkpoint {path}: its weights do not fit its own config; train again") from error
    return classifier.eval()


def export(checkpoint: str, out: str, step_size: float | None = None, guidance_scale: float | None = None) -> None:
    """Write the classifier of a training checkpoint as a folder that sampling loads.

    Args:
        checkpoint: a .ckpt file written by ``python -m cvg.train fit``.
        out: folder to write: config.json, model.safetensors and a model card.
        step_size: length of an edit that suits this generator and classifier, for the commands that are given none.
        guidance_scale: of classifier-free guidance, likewise.
    """
    classifier = load_checkpoint(checkpoint)
    given = {"step_size": step_size, "guidance_scale": guidance_scale}
    if negative := [name for name, value in given.items() if value is not None and value < 0]:
        raise UserError(f"export: {negative[0]} is {given[negative[0]]}; it cannot be negative")
    classifier.config.sampling = {name: value for name, value in given.items() if value is not None}
    classifier.save_pretrained(out)
    print(f"wrote {out}")


if __name__ == "__main__":
    run(export, "python -m cvg.export")
