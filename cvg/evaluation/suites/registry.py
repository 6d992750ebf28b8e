"""Finds a suite by its name."""

from __future__ import annotations

import pkgutil

from cvg.common.errors import SettingsError
from cvg.composition import LabelSet
from cvg.evaluation.suites.base import Suite

SUITES: dict[str, str] = {"shapes": "cvg.shapes.suite.ShapesSuite"}
"""Name -> module and class, imported when it is asked for. The class takes ``labels`` and ``device``."""


def load_suite(name: str, labels: LabelSet | None = None, device: str = "cpu") -> Suite:
    """The suite of that name.

    Args:
        name: a key of :data:`SUITES`.
        labels: what its prompts ask for, in these wordings; its own label set when None.
        device: torch device of its judge.

    Raises:
        SettingsError: an unknown name (the known ones are listed), or labels that the suite cannot ask for.
    """
    if name not in SUITES:
        raise SettingsError(f"suite {name!r}: unknown; known: {', '.join(SUITES)}")
    found: Suite = pkgutil.resolve_name(SUITES[name])(labels=labels, device=device)
    return found
