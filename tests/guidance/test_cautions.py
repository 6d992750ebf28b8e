"""What is doubtful of a prompt before it is guided."""

from __future__ import annotations

import pytest

from cvg.composition import LabelSet, parse
from cvg.guidance.cautions import namesakes


@pytest.mark.parametrize(
    ("prompt", "name"),
    [
        ("a red circle to the left of a red circle", "red circle"),
        ("a dog runs left and a dog runs right", "dog"),
        ("a Dog to the left of another dog", "dog"),
        ("a black dog to the left of a black dog", "black dog"),
        ("a red circle to the left of a blue circle", None),
        ("a red circle and a blue circle", None),
        ("a black dog and a white dog run", None),
        ("a big dog to the left of a small dog", None),
        ("a dog runs left", None),  # one entity of two relations
    ],
)
def test_entities_of_one_name_are_warned_of(prompt: str, name: str | None) -> None:
    composition = parse(prompt, LabelSet.load("world"))
    told = namesakes([composition, composition])
    assert len(told) == (name is not None)
    assert name is None or f"called '{name}'" in told[0]
