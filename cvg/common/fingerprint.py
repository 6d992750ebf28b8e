"""Telling models apart by their weights, whatever folder they come in."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, Final

import torch
from torch import Tensor, nn

from cvg.common.errors import ModelError
from cvg.common.quantised import StoredWeights, dequantised, kind_of

FUSED = ("to_qkv", "to_kv", "to_added_qkv", "to_added_kv")
"""What fused projections are called, which diffusers keeps beside those that they were made of."""
_LOOKED_AT: Final = 8
"""About how many quantised weights are compared with those in the files that they were made of."""
_NEAR: Final = 0.5
"""How far those may be from them, of their size: few bits are coarse, and the weights of another model are 1.4 away."""


def fingerprint(parts: Iterable[tuple[nn.Module, Mapping[str, Any]]]) -> str:
    """Sixteen hexadecimal digits that a frozen model's weights and settings determine, in float32 and in bfloat16.

    The weights are those of the model itself: without adapters (LoRA), whatever compiling calls them, whether
    projections are fused or not.

    Args:
        parts: modules, of whose weights a sample counts, each with the settings that count besides.

    Raises:
        ModelError: weights are quantised, so that they have no values of their own.
    """
    return fingerprints(parts)["fingerprint"]


def fingerprints(
    parts: Iterable[tuple[nn.Module, Mapping[str, Any]]], folders: Sequence[Path | None] = ()
) -> dict[str, str]:
    """``fingerprint``, and where loading the model in float16 changes it, as ``float16`` what it is then.

    Weights that were rounded to float16 are not always rounded to the same bfloat16 as those that were not.
    :func:`same_generator` compares.

    Args:
        parts: see :func:`fingerprint`.
        folders: where each of them was loaded from, as far as that is known: quantised weights, and those that adapters
            are merged into, count as they are there, if they are near to that.

    Raises:
        ModelError: weights are quantised or merged, and it is not known of what.
    """
    digests = {"fingerprint": hashlib.sha256(), "float16": hashlib.sha256()}
    for number, (module, settings) in enumerate(parts):
        told = json.dumps(dict(settings), sort_keys=True, default=str).encode()
        for digest in digests.values():
            digest.update(told)
        folder = folders[number] if number < len(folders) else None
        for name, value in sorted(_own_weights(module, folder).items()):
            for digest, sample in zip(digests.values(), _samples(value), strict=True):
                digest.update(name.encode() + sample)
    found = {name: digest.hexdigest()[:16] for name, digest in digests.items()}
    return found if len(set(found.values())) > 1 else {"fingerprint": found["fingerprint"]}


def same_generator(ours: Mapping[str, str], theirs: Mapping[str, str]) -> bool:
    """Whether two identities are of the same weights, in whatever precision, and with whatever adapters.

    With one exception: of a model whose files are in float32, loaded in float16 here and in bfloat16 there, either may
    have lost what the other kept. Those are not taken for the same. :func:`differences` has what else differs.
    """
    prints = [{each[name] for name in ("fingerprint", "float16") if name in each} for each in (ours, theirs)]
    return bool(prints[0] & prints[1])


def differences(ours: Mapping[str, str], theirs: Mapping[str, str]) -> list[str]:
    """In what two identities of the same weights differ, a phrase for each: adapters, precision, scheduler.

    What one of them does not tell of is no difference, except that without adapters (LoRA) or quantisation they tell of
    none.
    """
    found = []
    for name, (what, known) in _CIRCUMSTANCES.items():
        mine, other = (each.get(name, None if known else "none") for each in (ours, theirs))
        if mine is not None and other is not None and mine != other:
            found.append(f"{what} {mine} instead of {other}")
    return found


_CIRCUMSTANCES: Final = {
    "lora": ("LoRA", False),
    "quantisation": ("quantisation", False),
    "dtype": ("precision", True),
    "scheduler": ("scheduler", True),
}
"""Entries of an identity -> what they are called, and whether one that is missing is not known."""


def _samples(weight: Tensor) -> list[bytes]:
    """Sixteen of a weight's values, as coarse as bfloat16: as they are, and after rounding to float16."""
    sample = sixteen(weight)
    return [values.bfloat16().float().numpy().tobytes() for values in (sample, sample.half())]


def sixteen(weight: Tensor) -> Tensor:
    """Sixteen of a weight's values, evenly from all of them, in float32 on the CPU; all where it has fewer."""
    return weight.detach().flatten()[:: max(1, weight.numel() // 16)][:16].float().cpu()


def _own_weights(module: nn.Module, folder: Path | None) -> dict[str, Tensor]:
    """The weights that a module had when it was loaded, by their plain names, without adapters.

    Raises:
        ModelError: quantised weights, or those with adapters merged into them, are not in the folder, or are others.
    """
    plain: dict[str, str] = {}
    merged: dict[str, Tensor] = {}
    hidden: list[str] = []
    for path, part in module.named_modules():
        start = f"{path}." if path else ""
        if getattr(part, "fused_projections", False):
            hidden += [f"{start}{name}." for name in FUSED]
        if hasattr(part, "base_layer") and hasattr(part, "active_adapters"):  # of PEFT's
            plain[f"{start}base_layer."] = start
            hidden.append(start)
            for adapter in getattr(part, "merged_adapters", []):
                name = f"{start}weight".replace("_orig_mod.", "")
                merged[name] = merged.get(name, 0) + part.get_delta_weight(adapter).float().cpu()
    found: dict[str, Tensor] = {}
    for name, weight in module.named_parameters():
        base = next((prefix for prefix in plain if name.startswith(prefix)), None)
        if base is not None:
            name = plain[base] + name[len(base) :]
        elif name.startswith(tuple(hidden)):
            continue
        found[name.replace("_orig_mod.", "")] = weight
    return found | _as_stored(found, merged, folder)


def _as_stored(weights: Mapping[str, Tensor], merged: Mapping[str, Tensor], folder: Path | None) -> dict[str, Tensor]:
    """Those weights that are quantised, or that adapters are merged into, as they are in the module's folder."""
    kinds = {name: kind_of(weight) for name, weight in weights.items()}
    kinds = {name: kind for name, kind in kinds.items() if kind or name in merged}
    if not kinds:
        return {}
    stored = StoredWeights(folder) if folder is not None and folder.is_dir() else {}
    if missing := [name for name in kinds if name not in stored]:
        kind = kinds[missing[0]]
        changed = f"is quantised ({kind})" if kind else "has adapters merged into it"
        raise ModelError(
            f"generator: its weight {missing[0]} {changed}, and cannot be compared with that of the model that a "
            "classifier was trained on, as the files it was made of are not here; load it in bfloat16 or float32, or "
            "as a pipeline whose folder has its weights"
        )
    names = sorted(kinds)
    squares = torch.zeros(2)
    for name in names[:: max(1, len(names) // _LOOKED_AT)]:
        weight = weights[name]
        values = dequantised(weight) if kinds[name] else weight.detach().float().cpu()
        if values is not None:
            then, now = sixteen(stored[name]), sixteen(values.cpu() - merged.get(name, 0))
            squares += torch.stack([(now - then).square().sum(), then.square().sum()])
    if squares[0] > _NEAR**2 * squares[1]:
        raise ModelError(
            f"generator: its {'quantised' if not merged else 'merged'} weights are not those of {folder}, which it was "
            "loaded from; give the files of the same model"
        )
    return {name: stored[name] for name in kinds}


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
            changed = mine.get("lora") != other.get("lora")
            return changed or mine["class"] != other["class"] or not same_generator(mine, other)
        return bool(mine != other)

    return next((name for name in fields if differ(name)), None)
