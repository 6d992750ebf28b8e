"""The table of docs/reliability.md has the numbers of the collection."""

from __future__ import annotations

import importlib
import math
import re
from pathlib import Path
from typing import Any

import pytest

from tests.hostile import test_kills, test_manifests, test_shards

ROOT = Path(__file__).parents[2]
ROWS = re.findall(
    r"^\| (.+?) \| `(test_\w+)\.py` \| (\d+) \|", (ROOT / "docs/reliability.md").read_text(), re.MULTILINE
)
WITHIN = {
    "flipped bits of a tar": test_shards.FLIPS,
    "lines of a manifest that are no good row": len(test_manifests.BAD),
    "kills of inversion, sampling and evaluation, at random moments (slow)": 3 * test_kills.KILLS,
}
"""Cases that lie within one test."""
ASKED = {"test_shards": 30, "test_manifests": 40, "test_classifiers": 40, "test_videos": 60}


def cases(module: str) -> int:
    """How many cases the tests of a module have."""
    found = vars(importlib.import_module(f"tests.hostile.{module}")).items()
    tests = [value for name, value in found if name.startswith("test_") and callable(value)]
    return sum(math.prod(_values(test)) for test in tests)


def _values(test: Any) -> list[int]:
    return [len(mark.args[1]) for mark in getattr(test, "pytestmark", []) if mark.name == "parametrize"]


@pytest.mark.parametrize(("kind", "module", "count"), ROWS)
def test_the_table_is_true(kind: str, module: str, count: str) -> None:
    assert int(count) == WITHIN.get(kind, cases(module))


def test_the_table_is_whole() -> None:
    files = {path.stem for path in Path(__file__).parent.glob("test_*.py")} - {"test_reliability"}
    assert {module for _, module, _ in ROWS} == files and WITHIN.keys() <= {kind for kind, _, _ in ROWS}
    assert all(cases(module) >= least for module, least in ASKED.items())
