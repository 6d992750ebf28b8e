from __future__ import annotations

from collections.abc import Sequence
from functools import cache

import numpy as np
import pytest

from cvg.common.errors import UserError
from cvg.composition import Composition, LabelSet, build, parse
from cvg.judging import Frames, Judge, Reading, load_judge
from cvg.judging.by_label import ByLabel
from cvg.judging.contrastive import ContrastiveJudge
from cvg.judging.frames import squares
from cvg.shapes.renderer import render
from cvg.shapes.world import KINDS, LABELS, sample_scene, sample_spec
from tests.judging.test_vlm import LABELS as ASKED
from tests.judging.test_vlm import video


@cache
def clips(count: int) -> tuple[list[Frames], list[Composition]]:
    videos, asked = [], []
    for seed in range(count):
        rng = np.random.default_rng([seed, 91])
        spec = sample_spec(rng, KINDS[seed % len(KINDS)], held_out=True)
        asked.append(spec.composition)
        videos.append(render(sample_scene(spec, rng)))
    return videos, asked


@cache
def judge() -> ContrastiveJudge:
    found = load_judge("contrastive:shapes-clip", LABELS)
    assert isinstance(found, ContrastiveJudge)
    return found


def agreement(count: int) -> tuple[int, int]:
    """Relations that both the oracle and the contrastive judge can tell, and those of them in which they agree."""
    videos, asked = clips(count)
    told = same = 0
    for one, two in zip(load_judge("shapes")(videos, asked), judge()(videos, asked), strict=True):
        for oracle, found in zip(one.labels, two.labels, strict=True):
            told += oracle is not None and found is not None
            same += oracle is not None and oracle == found
    print(f"both tell {told}, alike {same}")
    return told, same


def test_it_agrees_with_the_oracle_on_rendered_clips() -> None:
    told, same = agreement(60)
    assert told >= 70 and same >= 0.98 * told  # measured: all


@pytest.mark.slow
def test_it_agrees_with_the_oracle_on_five_hundred_rendered_clips() -> None:
    told, same = agreement(500)
    assert told >= 600 and same >= 0.99 * told


def test_mirrored_and_backwards_it_tells_the_other_label() -> None:
    """So it reads the video, and not its prompt."""
    videos, asked = clips(8)
    motion, place = asked[0], asked[1]
    (moved,) = judge()([videos[0][::-1]], [motion])
    (placed,) = judge()([videos[1][:, :, ::-1]], [place])
    assert moved.labels == (LABELS[motion.relations[0].label].mirrors.get("time"),)
    assert placed.labels == (LABELS[place.relations[0].label].mirror,)
    (both,) = judge()([videos[3]], [asked[3]])
    assert len(both.labels) == 2 == len(both.confidence) and min(both.confidence) > 0.6


def test_what_no_rival_stands_out_of_is_left_open() -> None:
    grey = np.full((13, 64, 64, 3), 90, np.uint8)
    sure = ContrastiveJudge(LABELS, least=0.999)
    asked = [parse("a red circle to the left of a blue square", LABELS)]
    reading = sure([grey], asked)[0]
    assert reading.labels == (None,) and reading.confidence == (0.0,)


def test_many_relations_are_read_one_after_the_other(monkeypatch: pytest.MonkeyPatch) -> None:
    videos, asked = clips(8)
    together = judge()(videos, asked)
    monkeypatch.setattr("cvg.judging.contrastive.TOGETHER", 1)
    assert [reading.labels for reading in judge()(videos, asked)] == [reading.labels for reading in together]


def test_frames_are_squeezed_whole() -> None:
    wide = np.zeros((3, 20, 80, 3), np.uint8)
    wide[:, :, :10] = 255
    (frames,) = squares([wide], 2, 16)
    assert frames.shape == (2, 3, 16, 16) and frames[..., :2].min() > 0.8 and frames[..., 3:].max() < 0.1


def test_errors() -> None:
    with pytest.raises(UserError, match="judge contrastive: least 2"):
        ContrastiveJudge(LABELS, least=2)
    with pytest.raises(UserError, match="no such model ships"):
        load_judge("contrastive:shapes-none", LABELS)
    by_hand = parse("a red circle", LABELS, ["red circle"], "up")
    with pytest.raises(UserError, match="'' is not a known wording"):
        judge()([clips(1)[0][0]], [by_hand])
    with pytest.raises(UserError, match="judge 'oracle': unknown; known: shapes"):
        load_judge("oracle")
    with pytest.raises(UserError, match="device meta9: cannot be used"):
        load_judge("contrastive:shapes-clip", LABELS, "meta9")
    with pytest.raises(UserError, match="judge shapes: it looks with no model"):
        load_judge("shapes:model")


class Saying(Judge):
    """Says of every relation the same, and remembers what it was asked."""

    def __init__(self, label: str, problem: str = "") -> None:
        self.label, self.problem, self.asked = label, problem, list[Composition]()

    def __call__(self, videos: Sequence[Frames], asked: Sequence[Composition]) -> list[Reading]:
        self.asked += asked
        problems = (self.problem,) if self.problem else ()
        return [
            Reading((self.label,) * len(each.relations), problems, (False,) * len(each.relations)) for each in asked
        ]


def test_each_label_is_read_by_the_first_judge_that_can() -> None:
    tracker, asker = Saying("tracked", "cat: not there"), Saying("asked")
    judge = ByLabel(
        [(tracker, lambda label: bool(label.rule)), (asker, lambda label: bool(label.question))], ASKED.__getitem__
    )
    both = build(
        "a {e0} {r0} {r1} a {e1} {r2}",
        ["dog", "cat"],
        [("sitting", (0,)), ("on", (0, 1)), ("left", (1,))],
        ["sitting", "on", "moving left"],
    )
    sitting = build("a {e0} {r0}", ["dog"], [("sitting", (0,))], ["sitting"])
    first, second = judge([video(0), video(1)], [both, sitting])
    assert first.labels == ("asked", "tracked", None) and second.labels == ("asked",)
    assert first.found == (False, False, True) and first.confidence == (1, 1, 0)
    assert first.problems == ("cat: not there",) and second.problems == ()
    assert [[r.label for r in each.relations] for each in tracker.asked] == [["on"]]
    assert [[r.label for r in each.relations] for each in asker.asked] == [["sitting"], ["sitting"]]
    assert all(each.prompt == both.prompt for each in tracker.asked)


def test_judges_are_joined_by_name() -> None:
    joined = load_judge("shapes+contrastive:shapes-clip", LABELS)
    videos, asked = clips(4)
    assert isinstance(joined, ByLabel) and [type(one).__name__ for one, _ in joined.judges] == [
        "ShapesOracle",
        "ContrastiveJudge",
    ]
    assert joined(videos, asked) == load_judge("shapes")(videos, asked)
    wordless = LabelSet({"motion": {"entities": 1, "labels": {"left": ["moving left"], "right": ["moving right"]}}})
    assert isinstance(load_judge("contrastive:shapes-clip", wordless), ContrastiveJudge)


def test_a_prompt_is_read_once(monkeypatch: pytest.MonkeyPatch) -> None:
    fresh = ContrastiveJudge(LABELS)
    videos, asked = clips(4)
    first = fresh(videos, asked)
    monkeypatch.setattr(fresh.backbone, "text_features", lambda prompts: pytest.fail(f"again: {prompts}"))
    assert fresh(videos, asked) == first
