"""Names of the small models that ship inside the package; every embedded world brings some."""

from __future__ import annotations

import importlib.util
from pathlib import Path

from cvg.common.errors import ModelError

WORLDS: dict[str, str] = {"shapes-": "cvg.shapes"}
"""What a shipped model's name begins with -> the package in whose folder ``weights`` it lies."""


def weights(package: str) -> Path:
    """The folder of an embedded world's models. The world itself is not imported."""
    spec = importlib.util.find_spec(package)
    assert spec is not None and spec.origin is not None
    return Path(spec.origin).parent / "weights"


def is_shipped_name(name: str) -> bool:
    """Whether a name begins like that of a shipped model, and is no path."""
    return name.startswith(tuple(WORLDS)) and "/" not in name


def path(name: str) -> str | Path:
    """Where a model lives: a shipped name stands for a folder inside the package, anything else for itself.

    Args:
        name: a shipped name (``shapes-wan``, ``shapes-clip``, ...), a local folder or a Hub id.

    Raises:
        ModelError: the name begins like a shipped one but no such folder ships, nor exists here.
    """
    if not is_shipped_name(name):
        return name
    prefix, package = next((prefix, package) for prefix, package in WORLDS.items() if name.startswith(prefix))
    shipped = weights(package) / name
    if shipped.is_dir():
        return shipped
    if Path(name).is_dir():
        return name
    known = sorted(folder.name for folder in weights(package).glob(f"{prefix}*")) or ["none"]
    raise ModelError(f"model {name!r}: no such model ships with CVG; shipped: {', '.join(known)}")
