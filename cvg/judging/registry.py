"""Finds a judge by its name."""

from __future__ import annotations

import pkgutil

from cvg.common.errors import SettingsError
from cvg.composition import LabelSet
from cvg.judging.base import Judge

JUDGES: dict[str, str] = {"shapes": "cvg.shapes.oracle.ShapesOracle"}
"""Name -> module and class, imported when it is asked for. The class takes ``labels`` and ``device``."""


def load_judge(name: str, labels: LabelSet | None = None, device: str = "cpu") -> Judge:
    """The judge of that name.

    Args:
        name: a key of :data:`JUDGES`.
        labels: the label set that it tells apart; its own when None.
        device: torch device of the models that it looks with, if it has any.

    Raises:
        SettingsError: an unknown name (the known ones are listed), or labels that this judge cannot tell apart.
    """
    if name not in JUDGES:
        raise SettingsError(f"judge {name!r}: unknown; known: {', '.join(JUDGES)}")
    found: Judge = pkgutil.resolve_name(JUDGES[name])(labels=labels, device=device)
    return found
