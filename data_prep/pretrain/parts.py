"""Trained parts of a generator, taken from a folder or the Hub once it is known that they are the family's own."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal

from diffusers import AutoModel

from cvg.common.errors import DataError, SettingsError
from data_prep.pretrain.family import Family

PartName = Literal["vae", "text_encoder", "transformer"]


def trained_part(source: str | Path, name: PartName, wanted: type[Any]) -> Any:
    """A part of a pipeline, with its trained weights.

    Args:
        source: the pipeline: a folder, or a Hub id.
        name: of the part.
        wanted: its class in the family that is trained.

    Raises:
        SettingsError: the pipeline has none that can be read, or one of another class; some classes of diffusers would
            load it all the same, with random weights in place of what it lacks.
    """
    try:
        config = AutoModel.load_config(source, subfolder=name)
    except OSError as error:
        why = str(error).strip().splitlines()[0].rstrip(".")
        raise SettingsError(f"{source}: no {name} can be read there ({why}); give a whole pipeline") from error
    found = config.get("_class_name") or next(iter(config.get("architectures") or ["unknown"]))
    if found != wanted.__name__:
        raise SettingsError(
            f"{source}: its {name} is {found}, and the family takes {wanted.__name__}; give another --family, or "
            "another pipeline"
        )
    return wanted.from_pretrained(source, subfolder=name)


def first_stages(out: Path, kind: Family) -> tuple[Any, Any]:
    """VAE and text encoder of stages 1 and 2, frozen.

    Args:
        out: their working folder.
        kind: the family.

    Raises:
        UserError: they are missing, or another family's.
    """
    classes: dict[PartName, type[Any]] = {"vae": kind.vae_class, "text_encoder": kind.text_encoder_class}
    for name in classes:
        if not (out / name / "config.json").exists():
            raise DataError(f"{out / name}: not there; train stages 1 and 2 with this --out")
    vae, encoder = (trained_part(out, name, wanted).eval().requires_grad_(False) for name, wanted in classes.items())
    return vae, encoder
