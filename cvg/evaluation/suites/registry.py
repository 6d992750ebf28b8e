"""Finds a suite by its name."""

from __future__ import annotations

import pkgutil

from cvg.common.errors import SettingsError
from cvg.composition import LabelSet
from cvg.evaluation.suites.base import Suite, SuiteSettings

SUITES: dict[str, str] = {
    "shapes": "cvg.shapes.suite.ShapesSuite",
    "prompts": "cvg.evaluation.suites.prompts.PromptsSuite",
    "t2v-compbench": "cvg.evaluation.suites.benchmarks.CompBenchSuite",
    "vbench": "cvg.evaluation.suites.benchmarks.VBenchSuite",
}
"""Name -> module and class, imported when it is asked for. The class takes ``labels``, ``device`` and ``settings``."""


def load_suite(
    name: str, labels: LabelSet | None = None, device: str = "cpu", settings: SuiteSettings | None = None
) -> Suite:
    """The suite of that name.

    Args:
        name: a key of :data:`SUITES`.
        labels: what its prompts ask for, in these wordings; its own label set when None.
        device: torch device of its judge.
        settings: what it takes besides.

    Raises:
        SettingsError: an unknown name (the known ones are listed), labels that the suite cannot ask for, or settings
            that it has no use for.
    """
    if name not in SUITES:
        raise SettingsError(f"suite {name!r}: unknown; known: {', '.join(SUITES)}")
    found: Suite = pkgutil.resolve_name(SUITES[name])(
        labels=labels, device=device, settings=settings or SuiteSettings()
    )
    return found
