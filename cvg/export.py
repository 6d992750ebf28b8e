"""Training checkpoint -> classifier folder, here and on the Hub (``python -m cvg.export``)."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from cvg.classifier import CompositionClassifier
from cvg.classifier.card import MOST_EXAMPLE
from cvg.classifier.checkpoint import load_checkpoint
from cvg.classifier.config import SamplingSettings
from cvg.common import hub
from cvg.common.cli import run
from cvg.common.errors import DataError, SettingsError
from cvg.common.files import require_writable
from cvg.common.fingerprint import whole_fingerprint
from cvg.common.typed import to_dict
from cvg.evaluation.card import evaluated, example
from cvg.evaluation.rows import read_evaluation


def export(
    checkpoint: str | None = None,
    out: Path | None = None,
    classifier: str | None = None,
    sampling: SamplingSettings = SamplingSettings(),  # noqa: B008  (never changed)
    evaluation: Path | None = None,
    videos: Path | None = None,
    push_to: str | None = None,
    private: bool = False,
) -> None:
    """Write the classifier of a training checkpoint as a folder that sampling loads, and upload it to the Hub.

    Args:
        checkpoint: a .ckpt file written by ``python -m cvg.train fit``.
        out: folder to write: config.json, model.safetensors, a model card, and what that tells of an evaluation.
        classifier: instead of a checkpoint, an exported classifier's folder, hub id, or shipped name.
        sampling: how to guide with it, for the commands that are given none.
        evaluation: what ``python -m cvg.evaluate`` wrote of just this classifier; its figures go onto the card.
        videos: the folder that evaluation kept its videos in; one pair of them moves on the card.
        push_to: Hub repository (owner/name) to upload the same to; it is made where it is not there.
        private: make that repository one that nobody else sees.
    """
    _check(checkpoint, classifier, out, evaluation, videos, push_to)
    found = read_evaluation(evaluation) if evaluation else None
    if checkpoint is not None:
        model = load_checkpoint(checkpoint)
    else:
        model = CompositionClassifier.from_pretrained(str(classifier))
    preferred = replace(model.config.sampling, **to_dict(sampling))
    model.config = replace(model.config, sampling=preferred)  # checked anew
    if found is not None:
        model.evaluated, model.example = evaluated(found, whole_fingerprint(model.state_dict()), str(evaluation)), None
        if videos is not None:
            prompt, picture = example(found, videos)
            if len(picture) > MOST_EXAMPLE:
                raise DataError(f"videos {videos}: a moving picture of {len(picture)} bytes; leave --videos out")
            model.evaluated, model.example = replace(model.evaluated, example=prompt), picture
    if out is not None:
        model.save_pretrained(out)
        print(f"wrote {out}")
    if push_to is not None:
        print(f"pushed to {model.push_to_hub(push_to, private=private or None)}")


def _check(
    checkpoint: str | None,
    classifier: str | None,
    out: Path | None,
    evaluation: Path | None,
    videos: Path | None,
    push_to: str | None,
) -> None:
    """Raise a UserError for options that do not go together, before anything is read."""
    if (checkpoint is None) == (classifier is None):
        raise SettingsError("give either --checkpoint or --classifier: one of them says what is exported")
    if out is None and push_to is None:
        raise SettingsError("give --out or --push_to: where the classifier is to be written")
    if videos is not None and evaluation is None:
        raise SettingsError(f"videos {videos}: give the --evaluation that kept them too")
    if push_to is not None:
        hub.check_id(push_to)
    if out is not None:
        require_writable(out / "config.json")


if __name__ == "__main__":
    run(export, "python -m cvg.export")
