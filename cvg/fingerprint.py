"""Telling frozen models apart by their weights, whatever folder or dtype they come in."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping
from typing import Any

from torch import nn


def fingerprint(parts: Iterable[tuple[nn.Module, Mapping[str, Any]]]) -> str:
    """Sixteen hexadecimal digits that a model's weights and settings determine.

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


def unnamed(identity: Mapping[str, Any]) -> dict[str, Any]:
    """A generator's identity but for its name: the same model may be a Hub id here and a folder there."""
    return {key: value for key, value in identity.items() if key != "name"}
