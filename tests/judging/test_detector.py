"""The detector judge: what it makes of detections, its cache, its models, and agreement with the oracle."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest

from cvg import LabelSet, parse
from cvg.common.errors import DataError, ModelError, PromptError, SettingsError, UserError
from cvg.composition import Composition
from cvg.evaluation.suites import SuiteSettings, load_suite
from cvg.judging import Frames, load_judge
from cvg.judging import detector as module
from cvg.judging.cache import DetectionCache
from cvg.judging.detection import Detections
from cvg.judging.detector import DetectorJudge
from cvg.shapes.renderer import render
from cvg.shapes.world import KINDS, sample_scene, sample_spec
from tests.helpers.detectors import make_depth, make_owlv2

SHAPES = LabelSet.load("shapes")
COLOURS = {"dog": (200, 0, 0), "cat": (0, 0, 200)}
SIDE = 16


class ByColour:
    """Stands for a detector: a phrase's things are of its colour."""

    threshold = 0.3
    identity = "colours"

    def __init__(self) -> None:
        self.calls = 0

    def __call__(self, videos: Sequence[Frames], phrases: Sequence[Sequence[str]]) -> list[list[Detections]]:
        self.calls += len(videos)
        return [[self.one(image, named) for image in video] for video, named in zip(videos, phrases, strict=True)]

    def one(self, image: np.ndarray, phrases: Sequence[str]) -> Detections:
        boxes, scores = [], []
        height, width = image.shape[:2]
        for kind, colour in COLOURS.items():
            corners = np.argwhere((image == colour).all(-1))
            while len(corners):
                top, left = corners[0]
                boxes.append([left / width, top / height, (left + SIDE) / width, (top + SIDE) / height])
                scores.append([0.8 if phrase.split()[-1] == kind else 0.05 for phrase in phrases])
                far = np.abs(corners - corners[0]).max(1) >= SIDE
                corners = corners[far]
        return Detections(
            np.array(boxes, np.float32).reshape(-1, 4), np.array(scores, np.float32).reshape(-1, len(phrases))
        )


@pytest.fixture
def eye(monkeypatch: pytest.MonkeyPatch) -> ByColour:
    found = ByColour()
    monkeypatch.setattr(module, "load_detector", lambda name, device: found)
    return found


def clip(*things: tuple[str, tuple[float, float], tuple[float, float]], frames: int = 9, width: int = 128) -> Frames:
    """Squares on grey; each of a kind, from and to a place."""
    video = np.full((frames, 96, width, 3), 90, np.uint8)
    for kind, start, end in things:
        for image, (x, y) in zip(video, np.linspace(start, end, frames), strict=True):
            left, top = int(x * (width - SIDE)), int(y * (96 - SIDE))
            image[top : top + SIDE, left : left + SIDE] = COLOURS[kind]
    return video


def asked(prompt: str) -> Composition:
    return parse(prompt, SHAPES)


def still(kind: str, x: float, y: float) -> tuple[str, tuple[float, float], tuple[float, float]]:
    return kind, (x, y), (x, y)


@pytest.mark.usefixtures("eye")
def test_what_is_shown_is_read_by_the_rules() -> None:
    judge = DetectorJudge()
    videos = [
        clip(("dog", (0.1, 0.5), (0.8, 0.5))),
        clip(still("dog", 0.1, 0.5), still("cat", 0.9, 0.5)),
        clip(("dog", (0.1, 0.5), (0.8, 0.5)), still("cat", 0.95, 0.5)),
    ]
    prompts = ["a dog moving left", "a dog to the right of a cat", "a dog moving towards a cat"]
    readings = judge(videos, [asked(prompt) for prompt in prompts])
    assert [reading.labels for reading in readings] == [("right",), ("left of",), ("towards",)]
    assert all(reading.found == (True,) and not reading.problems for reading in readings)
    assert all(0.5 <= reading.confidence[0] <= 1 for reading in readings)
    tracks = readings[1].tracks
    assert tracks is not None and set(tracks.entities) == {"dog", "cat"} and tracks.aspect == pytest.approx(128 / 96)
    assert tracks.entities["dog"].centres[0, 0] < 0.3


@pytest.mark.usefixtures("eye")
def test_what_is_not_there_is_not_found() -> None:
    (reading,) = DetectorJudge()([clip(still("cat", 0.2, 0.5))], [asked("a dog to the left of a cat")])
    assert reading.labels == (None,) and reading.found == (False,) and reading.confidence == (0.0,)
    assert reading.problems == ("dog: not there",) and not reading.entities_right


@pytest.mark.usefixtures("eye")
def test_two_of_a_phrase_are_read_where_it_does_not_matter_which_is_which() -> None:
    judge = DetectorJudge()
    both = clip(("dog", (0.1, 0.1), (0.7, 0.1)), ("dog", (0.2, 0.8), (0.9, 0.8)))
    apart = clip(("dog", (0.1, 0.1), (0.7, 0.1)), ("dog", (0.9, 0.8), (0.2, 0.8)))
    prompt = asked("a dog moving right and a dog moving left")
    same, other = judge([both, apart], [prompt, prompt])
    assert same.labels == ("right", "right") and same.found == (True, True)
    assert other.labels == (None, None) and other.found == (True, True)
    assert same.tracks is not None and set(same.tracks.entities) == {"dog", "dog#2"}
    (side,) = judge([clip(still("dog", 0.1, 0.5), still("dog", 0.9, 0.5))], [asked("a dog to the left of a dog")])
    assert side.labels == (None,) and side.found == (True,)


@pytest.mark.usefixtures("eye")
def test_more_than_was_asked_for_is_a_problem_and_decides_nothing() -> None:
    judge = DetectorJudge()
    (reading,) = judge(
        [clip(("dog", (0.1, 0.1), (0.7, 0.1)), ("dog", (0.9, 0.8), (0.2, 0.8)))], [asked("a dog moving right")]
    )
    assert reading.problems == ("dog: several there",) and reading.labels == (None,) and reading.found == (True,)


@pytest.mark.usefixtures("eye")
def test_long_videos_are_looked_at_here_and_there() -> None:
    (reading,) = DetectorJudge()([clip(("dog", (0.1, 0.5), (0.8, 0.5)), frames=121)], [asked("a dog moving right")])
    assert reading.labels == ("right",)
    assert reading.tracks is not None and len(reading.tracks.entities["dog"].boxes_F4) == 121
    assert len(module._spread(121)) == module.MOST_FRAMES and module._spread(121)[-1] == 120
    assert module._spread(5) == [0, 1, 2, 3, 4]


def test_a_video_is_looked_at_once(eye: ByColour, tmp_path: Path) -> None:
    judge = DetectorJudge(cache=tmp_path / "cache")
    video, prompt = clip(still("dog", 0.1, 0.5), still("cat", 0.9, 0.5)), asked("a dog to the right of a cat")
    first = judge([video], [prompt])
    assert eye.calls == 1
    again = judge([video, clip(still("dog", 0.9, 0.5), still("cat", 0.1, 0.5))], [prompt, prompt])
    assert eye.calls == 2 and again[0] == first[0] and again[1].labels == ("right of",)
    judge([video], [asked("a cat to the right of a dog")])  # its scores are in another order
    assert eye.calls == 3
    for path in (tmp_path / "cache").rglob("*.safetensors"):
        path.write_bytes(path.read_bytes()[:-7])
    assert judge([video], [prompt]) == first and eye.calls == 4
    assert judge([video], [prompt]) == first and eye.calls == 4


def test_a_cache_is_asked_for_by_folder(eye: ByColour, tmp_path: Path) -> None:
    for name in ("detector", "detector+contrastive:shapes-clip"):
        judge = load_judge(name, cache=tmp_path / "cache")
        judge([clip(still("dog", 0.1, 0.5), still("cat", 0.9, 0.5))], [asked("a dog to the right of a cat")])
    assert eye.calls == 1
    asking = SuiteSettings(judge="detector", judge_cache=tmp_path / "cache")
    suite = load_suite("shapes", settings=asking)
    assert isinstance(suite.judge, DetectorJudge) and suite.judge.cache is not None
    assert SuiteSettings(judge="detector").to_dict() == asking.to_dict()  # a run goes on with or without it
    with pytest.raises(UserError, match="cache .*: judge shapes keeps nothing; leave it out"):
        load_judge("shapes", cache=tmp_path)


def test_a_cache_is_of_its_model_and_frames() -> None:
    video = clip(still("dog", 0.1, 0.5))
    key = DetectionCache.key(video, "a", ["dog"])
    assert key == DetectionCache.key(video.copy(), "a", ["dog"])
    others = [(video, "b", ["dog"]), (video, "a", ["dogs"]), (video[:-1], "a", ["dog"]), (video + 1, "a", ["dog"])]
    assert key not in {DetectionCache.key(*other) for other in others}


@pytest.mark.usefixtures("eye")
def test_bad_input_is_named() -> None:
    judge = DetectorJudge()
    video = clip(still("dog", 0.1, 0.5))
    with pytest.raises(DataError, match="uint8"):
        judge([video.astype(np.float32)], [asked("a dog moving left")])
    with pytest.raises(DataError, match="frames"):
        judge([video[:2]], [asked("a dog moving left")])
    few = LabelSet({"motion": {"entities": 1, "labels": {"left": ["moving left"], "right": ["moving right"]}}})
    with pytest.raises(PromptError, match="above"):
        DetectorJudge(few)([video], [asked("a dog above a cat")])
    vague = {"act": {"entities": 1, "labels": {n: {"wordings": [n], "question": "Is {subject}?"} for n in ("a", "b")}}}
    with pytest.raises(SettingsError, match="rule"):
        DetectorJudge(LabelSet(vague))
    with pytest.raises(SettingsError, match="device nowhere"):
        DetectorJudge(device="nowhere")


def test_judges_are_named_with_their_models(tmp_path: Path) -> None:
    folder = make_owlv2(tmp_path / "owl:v2")
    judge = load_judge(f"detector:{folder}", SHAPES)
    assert isinstance(judge, DetectorJudge) and judge.detector.name == str(folder) and judge.depth is None
    deep = load_judge(f"detector:{folder}+{make_depth(tmp_path / 'depth')}", SHAPES)
    assert isinstance(deep, DetectorJudge) and deep.depth is not None
    with pytest.raises(SettingsError, match="looks with no model"):
        load_judge(f"shapes:{folder}", SHAPES)
    with pytest.raises(ModelError, match="depth_anything"):
        load_judge(f"detector:{tmp_path / 'depth'}", SHAPES)
    with pytest.raises(ModelError, match="owlv2"):
        load_judge(f"detector:{folder}+{folder}", SHAPES)
    with pytest.raises(ModelError, match="no such folder"):
        load_judge("detector:nowhere", SHAPES)
    (folder / "model.safetensors").unlink()
    with pytest.raises(ModelError, match="cannot be loaded"):
        load_judge(f"detector:{folder}", SHAPES)


def test_the_shipped_detector_sees_what_the_oracle_sees() -> None:
    videos, prompts = [], []
    for index in range(8):
        rng = np.random.default_rng([index, 12])
        spec = sample_spec(rng, KINDS[index % len(KINDS)], False)
        videos.append(render(sample_scene(spec, rng)))
        prompts.append(spec.composition)
    readings = [load_judge(name, SHAPES)(videos, prompts) for name in ("detector", "shapes")]
    assert readings[0] == readings[1] and all(reading.entities_right for reading in readings[0])
    (reading,) = load_judge("detector", SHAPES)(videos[:1], [parse("a dog moving left", SHAPES)])
    assert reading.found == (False,) and reading.labels == (None,)


def test_depth_tells_what_is_in_front(eye: ByColour, monkeypatch: pytest.MonkeyPatch) -> None:
    class ByRow:
        def __call__(self, frames_FHWC: Frames) -> np.ndarray:
            frames, height, width = frames_FHWC.shape[:3]
            rows = np.linspace(1, 0, height, dtype=np.float32)
            return np.broadcast_to(rows[None, :, None], (frames, height, width))

    monkeypatch.setattr(module, "DepthModel", lambda name, device: ByRow())
    words = {"in front of": ["in front of"], "behind": ["behind"]}
    labels = LabelSet({"place": {"entities": 2, "labels": {n: {"wordings": w, "rule": n} for n, w in words.items()}}})
    video = clip(still("dog", 0.5, 0.5), still("cat", 0.52, 0.66))
    prompt = parse("a dog in front of a cat", labels)
    (flat,) = DetectorJudge(labels)([video], [prompt])
    (deep,) = DetectorJudge(labels, model="any+depth")([video], [prompt])
    assert flat.labels == (None,) and deep.labels == ("behind",)
    assert eye.calls == 2
