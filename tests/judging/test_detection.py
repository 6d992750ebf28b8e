"""Detectors and the model of depth: what the judge is told is what the models and their processors say."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from transformers import (
    AutoTokenizer,
    DepthAnythingForDepthEstimation,
    DPTImageProcessorPil,
    GroundingDinoForObjectDetection,
    GroundingDinoImageProcessorPil,
    GroundingDinoProcessor,
    Owlv2ForObjectDetection,
    Owlv2ImageProcessorPil,
    Owlv2Processor,
)

from cvg.common.errors import PromptError
from cvg.judging.base import Frames
from cvg.judging.depth import DepthModel, depth_of
from cvg.judging.detection import Detector, GroundingDino, Owlv2, load_detector
from tests.helpers.detectors import make_depth, make_grounding_dino, make_owlv2

PHRASES = ["red circle", "blue square", "circle"]


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    root = tmp_path_factory.mktemp("detectors")
    return {
        "owlv2": make_owlv2(root / "owlv2"),
        "grounding-dino": make_grounding_dino(root / "dino"),
        "depth": make_depth(root / "depth"),
    }


@pytest.fixture(params=["owlv2", "grounding-dino"])
def detector(request: pytest.FixtureRequest, folders: dict[str, Path], monkeypatch: pytest.MonkeyPatch) -> Detector:
    found = load_detector(str(folders[request.param]), torch.device("cpu"), batch_size=5)
    assert type(found) is {"owlv2": Owlv2, "grounding-dino": GroundingDino}[request.param]
    # Untrained ones are not sure of anything: take the better half.
    logits = found.detect(torch.from_numpy(video(0)), [PHRASES] * 7)[1].amax(-1)
    monkeypatch.setattr(type(found), "threshold", 2 * float(logits.median()))
    return found


def video(seed: int, height: int = 40, width: int = 60, frames: int = 7) -> Frames:
    """Smooth noise, so that ways of resizing differ little."""
    coarse = np.random.default_rng(seed).integers(0, 256, (frames, 4, 6, 3), dtype=np.uint8)
    return np.stack([np.asarray(Image.fromarray(c).resize((width, height), Image.Resampling.BICUBIC)) for c in coarse])


def own(detector: Detector, path: str, frames: Frames) -> list[dict[str, Any]]:
    """What the model's own class, processor and post-processing make of frames: boxes in pixels."""
    tokenizer = AutoTokenizer.from_pretrained(path)
    images, sizes = list(frames), [frames.shape[1:3]] * len(frames)
    if isinstance(detector, Owlv2):
        read: Any = Owlv2ForObjectDetection.from_pretrained(path, dtype=torch.float32)
        both: Any = Owlv2Processor(Owlv2ImageProcessorPil.from_pretrained(path), tokenizer)
        inputs = both(text=[PHRASES] * len(frames), images=images, return_tensors="pt")
    else:
        read = GroundingDinoForObjectDetection.from_pretrained(path)
        both = GroundingDinoProcessor(GroundingDinoImageProcessorPil.from_pretrained(path), tokenizer)
        inputs = both(text=[PHRASES] * len(frames), images=images, return_tensors="pt")
    with torch.no_grad():
        out = read.eval()(**inputs)
    extra = {} if isinstance(detector, Owlv2) else {"text_threshold": 0.0}
    found: list[dict[str, Any]] = both.post_process_grounded_object_detection(
        out, threshold=detector.threshold / 2, target_sizes=sizes, **extra
    )
    return found


def test_boxes_are_those_of_the_models_own_post_processing(detector: Detector) -> None:
    frames = video(1)
    (ours,) = detector([frames], [PHRASES])
    height, width = frames.shape[1:3]
    compared = 0
    for mine, theirs in zip(ours, own(detector, detector.name, frames), strict=True):
        boxes = theirs["boxes"].numpy() / [width, height, width, height]
        for box, score in zip(mine.boxes_P4, mine.scores_PN.max(1), strict=True):
            away = np.abs(boxes.clip(0, 1) - box).max(1) + np.abs(theirs["scores"].numpy() - score)
            if isinstance(detector, GroundingDino):
                # Its processor's box has the score of any token, full stops included; ours that of phrases.
                away = np.abs(boxes.clip(0, 1) - box).max(1)
            assert away.min() < 0.02
            compared += 1
    assert compared > 10


def test_scores_of_phrases_are_the_models_own(folders: dict[str, Path]) -> None:
    """A box of Grounding DINO scores for a phrase what its best token does; padding changes nothing."""
    found = load_detector(str(folders["grounding-dino"]), torch.device("cpu"))
    frames = torch.from_numpy(video(2, frames=2))
    boxes, scores = found.detect(frames, [PHRASES, ["dog"]])
    tokens = found.tokenizer("red circle. blue square. circle.", return_tensors="pt")
    assert tokens.input_ids.tolist()[0] == [101, 1013, 1015, 1012, 1014, 1016, 1012, 1015, 1012, 102]
    pixels = found.pixels(frames[:1])  # type: ignore[attr-defined]
    with torch.no_grad():
        out = found.model(**tokens, pixel_values=pixels, pixel_mask=torch.ones(1, *pixels.shape[2:], dtype=torch.long))
    chance = out.logits.sigmoid()[0]
    expected = torch.stack([chance[:, 1:3].amax(1), chance[:, 4:6].amax(1), chance[:, 7]], dim=1)
    order = boxes[0].sum(-1).argsort()
    centre, size = out.pred_boxes[0].split(2, -1)
    theirs = torch.cat([centre - size / 2, centre + size / 2], -1)
    other = theirs.sum(-1).argsort()
    torch.testing.assert_close(boxes[0][order], theirs[other], atol=1e-4, rtol=0)
    torch.testing.assert_close(scores[0][order], expected[other], atol=1e-4, rtol=0)
    assert (scores[1][:, 1:] == 0).all()


def test_frames_and_videos_together_are_as_each_alone(detector: Detector) -> None:
    videos = [video(3), video(4, frames=4), video(5, 64, 64, 3)]
    phrases = [PHRASES, ["blue square"], ["circle", "red square"]]
    together = detector(videos, phrases)
    for frames, named, found in zip(videos, phrases, together, strict=True):
        assert [each.scores_PN.shape[1] for each in found] == [len(named)] * len(frames)
        for index, each in enumerate(found):
            (((alone),),) = detector([frames[index : index + 1]], [named])
            np.testing.assert_allclose(alone.scores_PN, each.scores_PN, atol=1e-4)
            np.testing.assert_allclose(alone.boxes_P4, each.boxes_P4, atol=1e-4)


def test_boxes_lie_in_the_frame(detector: Detector) -> None:
    (found,) = detector([video(6, 30, 90)], [PHRASES])
    for each in found:
        assert (each.boxes_P4 >= 0).all() and (each.boxes_P4 <= 1).all()
        assert (each.boxes_P4[:, 2:] > each.boxes_P4[:, :2]).all()
        assert (np.diff(each.scores_PN.max(1)) <= 0).all()


def test_a_phrase_that_is_too_long_is_named(detector: Detector) -> None:
    with pytest.raises(PromptError, match="tokens"):
        detector([video(0)], [["a red circle " * 20]])


@pytest.mark.parametrize("size", [(40, 60), (96, 54)])
def test_pixels_are_the_processors(detector: Detector, size: tuple[int, int]) -> None:
    frames = video(7, *size)
    kind = Owlv2ImageProcessorPil if isinstance(detector, Owlv2) else GroundingDinoImageProcessorPil
    processor: Any = kind.from_pretrained(detector.name)
    theirs = processor(images=list(frames), return_tensors="pt")["pixel_values"]
    mine = detector.pixels(torch.from_numpy(frames))  # type: ignore[attr-defined]
    assert mine.shape == theirs.shape
    assert (mine - theirs).abs().mean() < 0.02


@pytest.mark.parametrize("size", [(40, 60), (96, 54)])
def test_depth_is_the_models_own(folders: dict[str, Path], size: tuple[int, int]) -> None:
    path, frames = str(folders["depth"]), video(8, *size)
    model = DepthModel(path, torch.device("cpu"), batch_size=3)
    processor: Any = DPTImageProcessorPil.from_pretrained(path)
    inputs = processor(images=list(frames), return_tensors="pt")
    read: Any = DepthAnythingForDepthEstimation.from_pretrained(path).eval()
    with torch.no_grad():
        inverse = read(**inputs).predicted_depth.numpy()
    low, high = inverse.min((1, 2), keepdims=True), inverse.max((1, 2), keepdims=True)
    depth = model(frames)
    assert depth.shape == inverse.shape and depth.min() == 0 and depth.max() == 1
    np.testing.assert_allclose(depth, 1 - (inverse - low) / (high - low), atol=0.02)


def test_the_depth_of_a_box_is_that_of_its_middle() -> None:
    depth = np.ones((2, 40, 80), np.float32)
    depth[:, 15:25, 20:40] = 0.25
    boxes = np.array([[0.2, 0.3, 0.55, 0.7], [np.nan] * 4])
    found = depth_of(boxes, depth)
    assert found[0] == 0.25 and np.isnan(found[1])
