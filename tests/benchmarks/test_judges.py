"""Comparison of judges with the oracle: what is counted."""

from __future__ import annotations

from benchmarks.judges import LABELS, compare, opposite
from cvg import parse
from cvg.judging import Reading


def test_opposites_are_other_directions() -> None:
    found = {label.name: opposite(label) for label in LABELS.labels}
    pairs = ("left", "right"), ("up", "down"), ("left of", "right of"), ("above", "below"), ("towards", "away from")
    assert found == {**dict(pairs), **{other: one for one, other in pairs}}


def test_relations_are_counted_by_what_both_can_tell() -> None:
    asked = [parse(prompt, LABELS) for prompt in ("a dog moving left and a cat moving up", "a dog above a cat")]
    oracle = [Reading(("left", "down")), Reading((None,), ("cat: not there",))]
    judge = [Reading(("right", None), ("cat: not there",), found=(True, False)), Reading(("above",))]
    found = compare(oracle, judge, asked)
    assert {name: found[name] for name in ("relations", "both", "agree", "swapped")} == {
        "relations": 3,
        "both": 1,
        "agree": 0,
        "swapped": 1,
    }
    assert (found["unclear"], found["not_found"], found["more"]) == (0, 1, 1)
    assert found["right"] == {"oracle": 0, "judge": 1} and found["videos"] == 2
