from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from transformers import AutoModelForImageTextToText, AutoProcessor

from cvg.common.errors import UserError
from cvg.composition import Composition, LabelSet, build
from cvg.judging import Frames, load_judge
from cvg.judging.frames import grid, spread
from cvg.judging.vlm import MISSING, SAID, THERE, VlmJudge
from tests.helpers import vlms

LABELS = LabelSet(
    {
        "pose": {
            "entities": 1,
            "labels": {
                "sitting": {"wordings": ["sitting"], "question": "Is the {subject} sitting?"},
                "standing": {"wordings": ["standing"], "question": "Is the {subject} standing?"},
                "running": {"wordings": ["running"], "question": "Is the {subject} running?"},
            },
        },
        "gaze": {
            "entities": 2,
            "labels": {
                "looking at": {"wordings": ["looking at"], "question": "Is the {subject} looking at the {object}?"},
                "on": {"wordings": ["on"], "rule": "on"},
            },
        },
        "motion": {"entities": 1, "labels": {"left": ["moving left"], "right": ["moving right"]}},
    }
)
SITTING = build("a {e0} {r0}", ["dog"], [("sitting", (0,))], ["sitting"])
MODELS = {"llava": vlms.llava, "idefics3": vlms.idefics3}


def video(seed: int, frames: int = 5) -> Frames:
    return np.random.default_rng(seed).integers(0, 256, (frames, 40, 48, 3), dtype=np.uint8)


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    return {name: make(tmp_path_factory.mktemp(name)) for name, make in MODELS.items()}


@pytest.mark.parametrize("name", MODELS)
@pytest.mark.parametrize("layout", ["frames", "grid"])
def test_the_chance_of_a_yes_is_the_model_s_own(name: str, layout: str, folders: dict[str, str]) -> None:
    """Of one question at a time, without padding, by transformers' own classes, from the words and pictures alone."""
    judge = VlmJudge(LABELS, model=folders[name], frames=3, layout=layout, batch_size=4)  # type: ignore[arg-type]
    questions = ["is the dog sitting?", "is the cat running on a dog, or looking at the dog?", "is the dog running?"]
    videos = [video(seed) for seed in range(3)]
    found = judge.chances(videos, questions)
    processor = AutoProcessor.from_pretrained(folders[name])
    model = AutoModelForImageTextToText.from_pretrained(folders[name]).eval()
    for frames, question, chance in zip(videos, questions, found, strict=True):
        pictures = [Image.fromarray(frame) for frame in frames[[0, 2, 4]]]
        if layout == "grid":
            sheet = np.zeros((80, 96, 3), np.uint8)
            sheet[:40, :48], sheet[:40, 48:], sheet[40:, :48] = frames[[0, 2, 4]]
            pictures = [Image.fromarray(sheet)]
        said = SAID[layout].format(frames=3, question=question)
        seen = "<image>" * len(pictures)
        text = (
            f"USER: {seen} {said} ASSISTANT:" if name == "llava" else f"User:{seen}{said}<end_of_utterance>Assistant:"
        )
        with torch.no_grad():
            logits = model(**processor(text=[text], images=[pictures], return_tensors="pt")).logits[0, -1]
        ids = processor.tokenizer.convert_tokens_to_ids(["yes", "Yes", "no", "No"])
        yes, no = logits.softmax(-1)[ids].view(2, 2).sum(1)
        assert chance == pytest.approx(float(yes / (yes + no)), abs=1e-4)
    assert len({round(chance, 6) for chance in found}) == 3


class Answering(VlmJudge):
    """One whose model answers by a table: question -> chance of a yes; who is in no table is there."""

    def __init__(self, chance: dict[str, float], margin: float = 0.2) -> None:
        there = {THERE.format(entity=name): 0.9 for name in ("dog", "cat")}
        missing = {MISSING.format(entity=name): 0.6 for name in ("dog", "cat")}
        self.labels, self.margin, self.batch_size, self.chance = LABELS, margin, 2, there | missing | chance
        self.asked: list[str] = []

    def chances(self, videos: Sequence[Frames], questions: Sequence[str]) -> list[float]:
        assert len(videos) == len(questions) <= 2
        self.asked += questions
        return [self.chance[question] for question in questions]


POSES = ("Is the dog sitting?", "Is the dog standing?", "Is the dog running?")


def test_a_yes_counts_by_its_lead_over_the_rivals() -> None:
    """The model says yes to nearly everything: what a single question would have confirmed is told apart, or left."""
    for chances, label, sure in (
        ((0.9, 0.6, 0.5), "sitting", 0.3),
        ((0.6, 0.55, 0.95), "running", 0.35),
        ((0.99, 0.9, 0.95), None, 0.0),
        ((0.4, 0.1, 0.1), "sitting", 0.3),
        ((0.5, 0.5, 0.5), None, 0.0),
    ):
        judge = Answering(dict(zip(POSES, chances, strict=True)))
        (reading,) = judge([video(0)], [SITTING])
        assert reading.labels == (label,) and reading.confidence == pytest.approx((sure,))
        presence = [THERE.format(entity="dog"), MISSING.format(entity="dog")]
        assert sorted(judge.asked) == sorted([*POSES, *presence]) and reading.found == (True,)


def test_who_is_not_there_is_a_class_of_its_own() -> None:
    """Absence counts by its lead over presence, too: of a model that says yes to both nothing is concluded."""
    poses = dict(zip(POSES, (0.9, 0.1, 0.1), strict=True))
    for there, missing, found in ((0.9, 0.1, True), (0.9, 0.85, True), (0.6, 0.75, True), (0.5, 0.8, False)):
        said = {THERE.format(entity="dog"): there, MISSING.format(entity="dog"): missing}
        (reading,) = Answering(poses | said)([video(0)], [SITTING])
        assert reading.found == (found,) and reading.labels == (("sitting",) if found else (None,))
        assert reading.problems == (() if found else ("dog: not there",)) and reading.entities_right == found
    # Only relations of the one that is missing, and nobody is sought for a label that has no question.
    both = build(
        "a {e0} {r0} and a {e1} {r1}", ["dog", "cat"], [("sitting", (0,)), ("left", (1,))], ["sitting", "left"]
    )
    gone = {MISSING.format(entity="dog"): 1.0, THERE.format(entity="dog"): 0.0}
    judge = Answering(poses | gone)
    (reading,) = judge([video(0)], [both])
    assert reading.found == (False, True) and reading.labels == (None, None)
    assert not any("cat" in question for question in judge.asked)


@pytest.mark.parametrize("name", MODELS)
def test_presence_is_the_true_model_s_own_word(name: str, folders: dict[str, str]) -> None:
    judge = VlmJudge(LABELS, model=folders[name], frames=2, margin=0.0)
    videos = [video(seed) for seed in range(6)]
    questions = [THERE.format(entity="dog"), MISSING.format(entity="dog")]
    there, missing = (judge.chances(videos, [question] * len(videos)) for question in questions)
    readings = judge(videos, [SITTING] * len(videos))
    assert [reading.found for reading in readings] == [(t >= m,) for t, m in zip(there, missing, strict=True)]
    assert all(t != m for t, m in zip(there, missing, strict=True))


def test_relations_keep_their_places_and_what_has_no_question_is_left_open() -> None:
    both = build(
        "a {e0} {r0} and a {e1} {r1} {r2}",
        ["dog", "cat"],
        [("sitting", (0,)), ("left", (1,)), ("running", (1,))],
        ["sitting", "moving left", "running"],
    )
    cat = {question.replace("dog", "cat"): chance for question, chance in zip(POSES, (0.1, 0.2, 0.9), strict=True)}
    judge = Answering(dict(zip(POSES, (0.9, 0.1, 0.1), strict=True)) | cat)
    first, second = judge([video(0), video(1)], [SITTING, both])
    assert first.labels == ("sitting",) and second.labels == ("sitting", None, "running")
    looking = build("a {e0} {r0} a {e1}", ["dog", "cat"], [("looking at", (0, 1))], ["looking at"])
    alone = Answering({"Is the dog looking at the cat?": 1.0})
    assert alone([video(0)], [looking])[0].labels == (None,)  # a yes without a rival


def test_a_judge_by_name_reads_videos_with_a_true_model(folders: dict[str, str]) -> None:
    judge = load_judge(f"vlm:{folders['idefics3']}", LABELS)
    assert isinstance(judge, VlmJudge) and not any(p.requires_grad for p in judge.model.parameters())
    (reading,) = judge([video(3)], [SITTING])
    assert reading.labels == (None,)  # of random weights no answer leads


def test_frames_are_evenly_spaced_and_a_grid_goes_row_by_row() -> None:
    frames = np.arange(9, dtype=np.uint8)[:, None, None, None].repeat(2, 1).repeat(3, 2).repeat(3, 3)
    assert spread(frames, 3)[:, 0, 0, 0].tolist() == [0, 4, 8] and len(spread(frames[:2], 5)) == 5
    sheet = np.asarray(grid(frames, 5))[..., 0]
    assert sheet.shape == (4, 9) and sheet[::2, ::3].tolist() == [[0, 2, 4], [6, 8, 0]]


def test_errors(tmp_path: Path, folders: dict[str, str]) -> None:
    with pytest.raises(UserError, match="judge vlm: no model; name one"):
        load_judge("vlm", LABELS)
    with pytest.raises(UserError, match="margin 3"):
        VlmJudge(LABELS, model=folders["llava"], margin=3)
    (tmp_path / "empty").mkdir()
    with pytest.raises(UserError, match="judge vlm .*empty: "):
        load_judge(f"vlm:{tmp_path / 'empty'}", LABELS)
    with pytest.raises(UserError, match="no words for yes and no"):
        load_judge(f"vlm:{vlms.llava(tmp_path / 'mute', words=['dog', 'yes'])}", LABELS)
    unknown: Composition = build("a {e0} {r0}", ["dog"], [("flying", (0,))], ["flying"])
    with pytest.raises(UserError, match="label 'flying' is not in the label set"):
        Answering({})([video(0)], [unknown])
    with pytest.raises(UserError, match="clip: "):
        Answering({})([video(0)[:1]], [SITTING])


def test_half_precision_is_for_pixels_and_weights_alone(folders: dict[str, str]) -> None:
    full = VlmJudge(LABELS, model=folders["llava"], frames=2)
    half = VlmJudge(LABELS, model=folders["llava"], frames=2, dtype=torch.bfloat16)
    questions = ["is the dog sitting?", "is the cat on the dog?"]
    videos = [video(1), video(2)]
    assert half.model.dtype == torch.bfloat16
    assert half.chances(videos, questions) == pytest.approx(full.chances(videos, questions), abs=0.02)
