"""Names of the small models that ship inside the package."""

from __future__ import annotations

from pathlib import Path

from cvg.common.errors import UserError

PREFIX = "shapes-"
WEIGHTS = Path(__file__).parent / "weights"


def path(name: str) -> str | Path:
    """Where a model lives: ``shapes-...`` is a folder shipped with CVG, anything else is returned as given.

    Args:
        name: a shipped name (``shapes-wan``, ``shapes-clip``, ...), a local folder or a Hub id.

    Raises:
        UserError: the name begins like a shipped one but no such folder ships, nor exists here.
    """
    shipped = WEIGHTS / name
    if not name.startswith(PREFIX) or "/" in name:
        return name
    if shipped.is_dir():
        return shipped
    if Path(name).is_dir():
        return name
    known = sorted(p.name for p in WEIGHTS.glob(f"{PREFIX}*")) or ["none"]
    raise UserError(f"model {name!r}: no such model ships with CVG; shipped: {', '.join(known)}")
