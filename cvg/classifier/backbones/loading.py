"""Reading a frozen model, and the numbers of its processor, from a folder or the Hub.

Errors begin with what the model is to its user: ``what``, a backbone or a judge.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor

from cvg.common.errors import ModelError, UserError
from cvg.common.files import MOST_CONFIG, read_json


@contextmanager
def readable(path: str, what: str = "backbone") -> Iterator[None]:
    """Turns what reading a model folder may raise into one ModelError that names it."""
    try:
        yield
    except UserError:
        raise
    except Exception as error:  # a damaged folder makes transformers raise nearly anything
        reason = (str(error).strip() or type(error).__name__).split("\n")[0]
        raise ModelError(
            f"{what} {path}: cannot be loaded ({reason}); give a folder, or a Hub id, with config.json, "
            "model.safetensors, preprocessor_config.json and, for text, the tokenizer"
        ) from error


def config(path: str, known: Collection[str], what: str = "backbone") -> Any:
    """The model's config.json; code that comes with a model is never run.

    Args:
        path: the model.
        known: types of models that can be used. With any other, nothing of the folder is loaded.
        what: see above.

    Raises:
        ModelError: it is missing or damaged, of a type that is not known, or has sizes of no real model.
    """
    from transformers import AutoConfig

    values = _json(path, what, "config.json")
    kind = values.get("model_type")
    if kind not in known:
        raise ModelError(f"{what} {path}: its model type is {kind!r}; known: {', '.join(known)}")
    if name := _out_of_bounds(values):
        raise ModelError(f"{what} {path}: {name} in its config.json is of no real model; give the complete model")
    with readable(path, what):
        return AutoConfig.from_pretrained(path, trust_remote_code=False)


def _out_of_bounds(values: Any) -> str | None:
    """The name of a number of layers or a size that would build for ever."""
    for name, value in values.items():
        if isinstance(value, dict):
            if found := _out_of_bounds(value):
                return found
        elif isinstance(value, int | float) and not isinstance(value, bool):
            most = 1000 if "layers" in name or name == "depth" else 1 << 24
            if ("size" in name or "dim" in name or most == 1000) and abs(value) > most:
                return str(name)
    return None


def load(path: str, dtype: torch.dtype, what: str = "backbone", auto: str = "AutoModel") -> Any:
    """The model, on the CPU. Raises ModelError, also when weights are missing.

    Args:
        path: the model.
        dtype: of its weights.
        what: see above.
        auto: transformers' class that finds the model's own: with the head of a task, or none.
    """
    import transformers

    with readable(path, what):
        model, found = getattr(transformers, auto).from_pretrained(
            path, use_safetensors=True, dtype=dtype, output_loading_info=True, trust_remote_code=False
        )
    if found["missing_keys"]:  # transformers would leave them random
        raise ModelError(
            f"{what} {path}: its weights lack {sorted(found['missing_keys'])[0]} and "
            f"{len(found['missing_keys']) - 1} more; give the complete model"
        )
    return model


def tokenizer(path: str, what: str = "backbone") -> Any:
    """The folder's tokenizer. Raises ModelError when there is none."""
    from transformers import AutoTokenizer

    with readable(path, what):
        found = AutoTokenizer.from_pretrained(path, trust_remote_code=False)
        # Without files transformers makes a tokenizer that knows no word, and says nothing.
        if len(found) <= len(found.all_special_ids):
            raise OSError("it has no tokenizer")
    return found


def normalisation(path: str, what: str = "backbone") -> tuple[Tensor, Tensor]:
    """The processor's mean and deviation (3,) of pixels in [0, 1].

    The processors themselves are not differentiable, and those of videos need torchvision; what is wanted of them
    is in their JSON.

    Raises:
        ModelError: there is no such file, or it scales pixels in another way.
    """
    values = processor(path, what)
    if not values.get("do_rescale", True) or abs(255 * values.get("rescale_factor", 1 / 255) - 1) > 1e-3:
        raise ModelError(f"{what} {path}: its processor does not bring pixels into [0, 1]; use another model")
    if not values.get("do_normalize", True):
        return torch.zeros(3), torch.ones(3)
    with readable(path, what):
        mean, deviation = (torch.tensor(values[name], dtype=torch.float32) for name in ("image_mean", "image_std"))
        return mean, deviation


def processor(path: str, what: str = "backbone") -> dict[str, Any]:
    """Settings of the image processor, else of the video processor, in the files that transformers keeps them in."""
    values = _json(path, what, "preprocessor_config.json", "video_preprocessor_config.json", "processor_config.json")
    found: dict[str, Any] = values.get("image_processor") or values.get("video_processor") or values
    return found


def _json(path: str, what: str, *names: str) -> dict[str, Any]:
    """The first of some JSON files that a model has. Raises ModelError where it has none, or it is damaged."""
    from transformers.utils import cached_file

    with readable(path, what):
        for name in names:
            found = cached_file(path, name, _raise_exceptions_for_missing_entries=False)
            if found is not None:
                values = read_json(found, MOST_CONFIG)
                if not isinstance(values, dict):
                    raise TypeError(f"{name} is a {type(values).__name__}, not an object")
                return values
        raise KeyError(f"none of {', '.join(names)}")
