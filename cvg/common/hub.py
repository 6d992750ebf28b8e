"""Names of the small models that ship inside the package; every embedded world brings some."""

from __future__ import annotations

import importlib.util
import re
from pathlib import Path

from cvg.common.errors import ModelError

WORLDS: dict[str, str] = {"shapes-": "cvg.shapes"}
"""What a shipped model's name begins with -> the package in whose folder ``weights`` it lies."""

_HUB_ID = re.compile(r"[A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*")


def weights(package: str) -> Path:
    """The folder of an embedded world's models. The world itself is not imported."""
    spec = importlib.util.find_spec(package)
    assert spec is not None and spec.origin is not None
    return Path(spec.origin).parent / "weights"


def is_shipped_name(name: str) -> bool:
    """Whether a name begins like that of a shipped model, and is no path."""
    return name.startswith(tuple(WORLDS)) and "/" not in name


def shipped() -> list[str]:
    """The names of all models that ship."""
    return sorted(
        folder.name
        for prefix, package in WORLDS.items()
        for folder in weights(package).glob(f"{prefix}*")
        if folder.is_dir()
    )


def path(name: str) -> str | Path:
    """Where a model lives: a shipped name stands for a folder inside the package, anything else for itself.

    Args:
        name: a shipped name (``shapes-wan``, ``shapes-clip``, ...), a local folder or a Hub id.

    Raises:
        ModelError: it is neither: no such model ships, no such folder exists here, and it has not the form of a Hub id
            (``owner/name``), so that the Hub is not asked.
    """
    if is_shipped_name(name):
        package = next(package for prefix, package in WORLDS.items() if name.startswith(prefix))
        if (found := weights(package) / name).is_dir():
            return found
    if Path(name).expanduser().exists() or _HUB_ID.fullmatch(name):
        return name
    raise ModelError(
        f"model {name!r}: no such model ships with CVG, and no such folder is here; shipped: "
        f"{', '.join(shipped()) or 'none'}. Hub ids have the form owner/name"
    )
