"""Reading a frozen model, and the numbers of its processor, from a folder or the Hub."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from torch import Tensor

from cvg.common.errors import ModelError


@contextmanager
def readable(path: str) -> Iterator[None]:
    """Turns what reading a model folder may raise into one ModelError that names it."""
    try:
        yield
    except (OSError, KeyError, ValueError, TypeError, ImportError, SafetensorError) as error:
        reason = str(error).strip().split("\n")[0]
        raise ModelError(
            f"backbone {path}: cannot be loaded ({reason}); give a folder, or a Hub id, with config.json, "
            "model.safetensors, preprocessor_config.json and, for text, the tokenizer"
        ) from error


def config(path: str) -> Any:
    """The model's config.json."""
    from transformers import AutoConfig

    with readable(path):
        return AutoConfig.from_pretrained(path)


def load(path: str, dtype: torch.dtype) -> Any:
    """The model without any task's head, on the CPU. Raises ModelError, also when weights are missing."""
    from transformers import AutoModel

    with readable(path):
        model, found = AutoModel.from_pretrained(path, use_safetensors=True, dtype=dtype, output_loading_info=True)
    if found["missing_keys"]:  # transformers would leave them random
        raise ModelError(
            f"backbone {path}: its weights lack {sorted(found['missing_keys'])[0]} and "
            f"{len(found['missing_keys']) - 1} more; give the complete model"
        )
    return model


def tokenizer(path: str) -> Any:
    """The folder's tokenizer. Raises ModelError when there is none."""
    from transformers import AutoTokenizer

    with readable(path):
        found = AutoTokenizer.from_pretrained(path)
        # Without files transformers makes a tokenizer that knows no word, and says nothing.
        if len(found) <= len(found.all_special_ids):
            raise OSError("it has no tokenizer")
    return found


def normalisation(path: str) -> tuple[Tensor, Tensor]:
    """The processor's mean and deviation (3,) of pixels in [0, 1].

    The processors themselves are not differentiable, and those of videos need torchvision; what is wanted of them
    is in their JSON.

    Raises:
        ModelError: there is no such file, or it scales pixels in another way.
    """
    values = _processor(path)
    if not values.get("do_rescale", True) or abs(255 * values.get("rescale_factor", 1 / 255) - 1) > 1e-3:
        raise ModelError(f"backbone {path}: its processor does not bring pixels into [0, 1]; use another model")
    if not values.get("do_normalize", True):
        return torch.zeros(3), torch.ones(3)
    with readable(path):
        mean, deviation = (torch.tensor(values[name], dtype=torch.float32) for name in ("image_mean", "image_std"))
        return mean, deviation


def _processor(path: str) -> dict[str, Any]:
    """Settings of the image processor, else of the video processor, in the files that transformers keeps them in."""
    from transformers.utils import cached_file

    names = ("preprocessor_config.json", "video_preprocessor_config.json", "processor_config.json")
    with readable(path):
        for name in names:
            found = cached_file(path, name, _raise_exceptions_for_missing_entries=False)
            if found is not None:
                values: dict[str, Any] = json.loads(Path(found).read_text(encoding="utf-8"))
                return values.get("image_processor") or values.get("video_processor") or values
        raise KeyError(f"none of {', '.join(names)}")
