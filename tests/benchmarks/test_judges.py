"""Comparison of judges with the oracle: what is counted."""

from __future__ import annotations

from benchmarks.judges import LABELS, compare, gain_row, gains, opposite
from cvg import parse
from cvg.evaluation.suites import load_suite
from cvg.judging import Reading


def test_opposites_are_other_directions() -> None:
    found = {label.name: opposite(label) for label in LABELS.labels}
    pairs = ("left", "right"), ("up", "down"), ("left of", "right of"), ("above", "below"), ("towards", "away from")
    wanted = {**dict(pairs), **{other: one for one, other in pairs}}
    assert {name: found[name] for name in wanted} == wanted and found["bouncing"] is None


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


def test_gains_are_of_each_judge_and_group() -> None:
    cases = load_suite("shapes").cases(8, 0)
    plain = {"shapes": [False] * 8 + [True], "detector": [True] + [False] * 8}  # one more was not guided
    found = gains(cases, {"unguided": plain, "guided": {"shapes": [True] * 8, "detector": [False, *[True] * 7]}})
    assert [(each["judge"], each["group"]) for each in found[:2]] == [("shapes", "all"), ("shapes", cases[0].group)]
    assert {each["gain"]["n"] for each in found} == {8, 2}
    both = {each["judge"]: each["gain"] for each in found if each["group"] == "all"}
    assert (both["shapes"]["value"], both["detector"]["value"]) == (1, 6 / 8) and both["detector"]["lost"] == 1
    assert gain_row(found[0]).startswith("| shapes | all | 8 | 0.000 | 1.000 | +1.00 [")
