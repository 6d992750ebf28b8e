"""Telling models apart by their weights, whatever folder they come in."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping
from typing import Any

import torch
from torch import Tensor, nn

from cvg.common.errors import ModelError

FUSED = ("to_qkv", "to_kv", "to_added_qkv", "to_added_kv")
"""What fused projections are called, which diffusers keeps beside those that they were made of."""


def fingerprint(parts: Iterable[tuple[nn.Module, Mapping[str, Any]]]) -> str:
    """Sixteen hexadecimal digits that a frozen model's weights and settings determine, in float32 and in bfloat16.

    The weights are those that act: adapters (LoRA) with their strengths while they are enabled; not what compiling
    calls them, nor whether projections are fused.

    Args:
        parts: modules, of whose weights a sample counts, each with the settings that count besides.

    Raises:
        ModelError: weights are quantised, so that they have no values of their own.
    """
    return fingerprints(parts)["fingerprint"]


def fingerprints(parts: Iterable[tuple[nn.Module, Mapping[str, Any]]]) -> dict[str, str]:
    """``fingerprint``, and where loading the model in float16 changes it, as ``float16`` what it is then.

    Weights that were rounded to float16 are not always rounded to the same bfloat16 as those that were not.
    :func:`same_generator` compares.

    Args:
        parts: see :func:`fingerprint`.

    Raises:
        ModelError: see there.
    """
    digests = {"fingerprint": hashlib.sha256(), "float16": hashlib.sha256()}
    for module, settings in parts:
        told = json.dumps(dict(settings), sort_keys=True, default=str).encode()
        for digest in digests.values():
            digest.update(told)
        for name, value in sorted(_acting(module).items()):
            samples = _samples(name, value) if isinstance(value, Tensor) else [repr(value).encode()] * len(digests)
            for digest, sample in zip(digests.values(), samples, strict=True):
                digest.update(name.encode() + sample)
    found = {name: digest.hexdigest()[:16] for name, digest in digests.items()}
    return found if len(set(found.values())) > 1 else {"fingerprint": found["fingerprint"]}


def same_generator(ours: Mapping[str, str], theirs: Mapping[str, str]) -> bool:
    """Whether two identities are of the same weights, in whatever precision they were loaded.

    With one exception: of a model whose files are in float32, loaded in float16 here and in bfloat16 there, either may
    have lost what the other kept. Those are not taken for the same.
    """
    prints = [{each[name] for name in ("fingerprint", "float16") if name in each} for each in (ours, theirs)]
    return bool(prints[0] & prints[1])


def _samples(name: str, weight: Tensor) -> list[bytes]:
    """Sixteen of a weight's values, as coarse as bfloat16: as they are, and after rounding to float16."""
    try:
        if weight.dtype not in (torch.float64, torch.float32, torch.bfloat16, torch.float16):
            raise TypeError(str(weight.dtype))
        sample = weight.detach().flatten()[:: max(1, weight.numel() // 16)][:16].float().cpu()
        return [values.bfloat16().float().numpy().tobytes() for values in (sample, sample.half())]
    except (NotImplementedError, RuntimeError, TypeError, AttributeError) as error:
        kind = str(weight.dtype) if type(weight) in (Tensor, nn.Parameter) else type(weight).__name__
        raise ModelError(
            f"generator: its weight {name} is quantised ({kind}), and cannot be compared with that of the model that "
            "a classifier was trained on; load it in bfloat16 or float32"
        ) from error


def _acting(module: nn.Module) -> dict[str, Tensor | float]:
    """The weights that a module computes with, by their plain names, and the strengths of adapters."""
    plain: dict[str, str] = {}
    found: dict[str, Tensor | float] = {}
    hidden: list[str] = []
    for path, part in module.named_modules():
        start = f"{path}." if path else ""
        if getattr(part, "fused_projections", False):
            hidden += [f"{start}{name}." for name in FUSED]
        if hasattr(part, "base_layer") and hasattr(part, "active_adapters"):
            plain[f"{start}base_layer."] = start
            hidden.append(start)
            found |= _adapters(part, start)
    for name, weight in module.named_parameters():
        base = next((prefix for prefix in plain if name.startswith(prefix)), None)
        if base is not None:
            name = plain[base] + name[len(base) :]
        elif name.startswith(tuple(hidden)):
            continue
        found[name] = weight
    return {name.replace("_orig_mod.", ""): value for name, value in found.items()}


def _adapters(layer: Any, start: str) -> dict[str, Tensor | float]:
    """What the active adapters of a layer (of PEFT's) add to it; nothing where they are off, or merged into it."""
    active = [] if layer.disable_adapters or layer.merged else list(layer.active_adapters)
    found: dict[str, Tensor | float] = {}
    for name, weight in layer.named_parameters():
        kind, adapter, *rest = name.split(".")
        if kind != "base_layer" and adapter in active and layer.scaling.get(adapter, 1.0):
            found[".".join([f"{start}{kind}", str(active.index(adapter)), *rest])] = weight
            found[f"{start}scaling.{active.index(adapter)}"] = float(layer.scaling.get(adapter, 1.0))
    return found


def whole_fingerprint(weights: Mapping[str, Tensor]) -> str:
    """Sixteen hexadecimal digits that every single weight determines: one training step makes other ones.

    Args:
        weights: by name, as ``state_dict`` gives them; in what order does not matter.
    """
    digest = hashlib.sha256()
    for name, weight in sorted(weights.items()):
        digest.update(name.encode() + weight.detach().float().cpu().contiguous().numpy().tobytes())
    return digest.hexdigest()[:16]


def first_difference(ours: Any, theirs: Any, fields: Iterable[str]) -> str | None:
    """The first of these fields in which two shard infos or classifier configs differ; None where all are the same.

    The generator's name is no difference: the same model may be a Hub id here and a folder there.
    """

    def differ(name: str) -> bool:
        mine, other = getattr(ours, name), getattr(theirs, name)
        if name == "generator":
            return mine["class"] != other["class"] or not same_generator(mine, other)
        return bool(mine != other)

    return next((name for name in fields if differ(name)), None)
