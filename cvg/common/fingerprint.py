"""Telling models apart by their weights, whatever folder they come in."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping
from typing import Any

from torch import Tensor, nn


def fingerprint(parts: Iterable[tuple[nn.Module, Mapping[str, Any]]]) -> str:
    """Sixteen hexadecimal digits that a frozen model's weights and settings determine.

    Args:
        parts: modules, of whose weights a sample counts, each with the settings that count besides.
    """
    digest = hashlib.sha256()
    for module, settings in parts:
        digest.update(json.dumps(dict(settings), sort_keys=True, default=str).encode())
        for name, parameter in sorted(module.named_parameters()):
            sample = parameter.detach().flatten()[:: max(1, parameter.numel() // 16)][:16]
            # As coarse as the coarsest dtype, so that a model is the same in all of them.
            digest.update(name.encode() + sample.bfloat16().float().cpu().numpy().tobytes())
    return digest.hexdigest()[:16]


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

    def counts(owner: Any, name: str) -> Any:
        value = getattr(owner, name)
        return {key: part for key, part in value.items() if key != "name"} if name == "generator" else value

    return next((name for name in fields if counts(ours, name) != counts(theirs, name)), None)
