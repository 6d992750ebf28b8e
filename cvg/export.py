"""Training checkpoint -> classifier folder (``python -m cvg.export``)."""

from __future__ import annotations

from pathlib import Path

from cvg.classifier.checkpoint import load_checkpoint
from cvg.classifier.config import SamplingSettings
from cvg.common.cli import run
from cvg.common.files import require_writable


def export(checkpoint: str, out: str, step_size: float | None = None, guidance_scale: float | None = None) -> None:
    """Write the classifier of a training checkpoint as a folder that sampling loads.

    Args:
        checkpoint: a .ckpt file written by ``python -m cvg.train fit``.
        out: folder to write: config.json, model.safetensors and a model card.
        step_size: length of an edit that suits this generator and classifier, for the commands that are given none.
        guidance_scale: of classifier-free guidance, likewise.
    """
    sampling = SamplingSettings(step_size=step_size, guidance_scale=guidance_scale)
    require_writable(Path(out) / "config.json")
    classifier = load_checkpoint(checkpoint)
    classifier.config.sampling = sampling
    classifier.save_pretrained(out)
    print(f"wrote {out}")


if __name__ == "__main__":
    run(export, "python -m cvg.export")
