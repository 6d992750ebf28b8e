"""Label sets that ship name rules that there are."""

from __future__ import annotations

import pytest

from cvg.composition import LabelSet
from cvg.judging.showing import rule_of


@pytest.mark.parametrize("name", ["shapes", "world"])
def test_every_rule_is_one(name: str) -> None:
    named = [label for label in LabelSet.load(name).labels if label.rule is not None]
    assert named and all(rule_of(label) == label.rule for label in named)
