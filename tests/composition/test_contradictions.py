"""Relations that cannot hold together, whoever wrote them down."""

from __future__ import annotations

import pytest

from cvg.common.errors import PromptError
from cvg.composition import LabelSet, build, parse
from cvg.composition.contradictions import refuse_swapped
from tests.helpers.labels import LABELS

BOTH_WAYS = LabelSet(
    {"contact": {"entities": 2, "labels": {"next to": ["next to", "beside"], "chasing": ["chasing", "running after"]}}}
)


@pytest.mark.parametrize(
    "prompt",
    [
        "a dog above a cat, the cat above the dog",
        "a red circle to the left of a blue square and the blue square to the left of the red circle",
        "Tom above Anna, Anna above Tom",
        "a dog above a cat, the cat over the dog",
    ],
)
def test_an_order_cannot_hold_both_ways_round(prompt: str) -> None:
    with pytest.raises(PromptError, match="the other way round, and only one can hold"):
        parse(prompt, LABELS)


@pytest.mark.parametrize(
    "prompt",
    [
        "a dog above a cat, the cat below the dog",
        "a dog above a cat, a cat above a dog",
        "a dog above a cat, the cat above a bird",
        "a dog above a cat, the dog above a bird",
        "a dog approaching a cat, the cat approaching the dog",
    ],
)
def test_what_can_hold_is_read(prompt: str) -> None:
    assert len(parse(prompt, LABELS).relations) == 2


@pytest.mark.parametrize("label", ["next to", "chasing"])
def test_what_holds_both_ways_round_is_no_order(label: str) -> None:
    wording = BOTH_WAYS[label].wordings[0]
    template, entities = "a {e0} {r0} a {e1}, {r1}", ["dog", "cat"]
    both = build(template, entities, [(label, (0, 1)), (label, (1, 0))], [wording, wording])
    refuse_swapped(both, BOTH_WAYS)
