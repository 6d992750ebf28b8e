"""Training of the shipped detector: its clips and their boxes, its losses, and the folder that it writes."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from transformers import AutoProcessor, Owlv2ForObjectDetection

from cvg.shapes.renderer import FRAMES, SIZE, Background, Scene, Sprite, render
from cvg.shapes.world import ENTITIES
from data_prep.pretrain import detector, matching, scattered
from data_prep.pretrain.text import build_tokenizer


def still(shape: str, x: float, y: float, radius: float = 8.0) -> Sprite:
    return Sprite(shape, (225.0, 35.0, 35.0), radius, np.tile([x, y], (FRAMES, 1)))


def test_boxes_enclose_what_is_seen() -> None:
    scene = Scene((still("circle", 0.25, 0.5),), Background((8.0, 8.0, 8.0)))
    box = scattered.visible_boxes(scene)[0, 0]
    assert box == pytest.approx([0.125, 0.375, 0.375, 0.625], abs=1 / SIZE)
    red = render(scene)[0, :, :, 0] > 120
    rows, columns = np.nonzero(red)
    assert box * SIZE == pytest.approx([columns.min(), rows.min(), columns.max() + 1, rows.max() + 1], abs=1)


def test_what_is_covered_has_no_box() -> None:
    behind, before = still("square", 0.5, 0.5, 7.0), still("circle", 0.5, 0.5, 11.0)
    boxes = scattered.visible_boxes(Scene((behind, before), Background((8.0, 8.0, 8.0))))
    assert np.isnan(boxes[0]).all() and not np.isnan(boxes[1]).any()


def test_a_batch_mirrors_its_boxes_with_its_frames(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(scattered, "Decoders", lambda device: lambda part, index, random: part)
    pool = scattered.Pool(scattered.CHUNK, "cpu", workers=0)
    images, boxes, kinds = pool.batch(0, 48)
    assert images.shape == (48, 3, SIZE, SIZE) and images.min() >= 0 and images.max() <= 1
    seen = 0
    for image, found, named in zip(images, boxes, kinds, strict=True):
        if len(found) == 1 and ENTITIES[named[0]].endswith("circle"):
            chroma = image.amax(0) - image.amin(0)
            x0, y0, x1, y1 = (found[0] * SIZE).round().astype(int)
            outside = chroma.clone()
            outside[max(0, y0 - 3) : y1 + 3, max(0, x0 - 3) : x1 + 3] = 0
            assert chroma[y0:y1, x0:x1].mean() > 3 * outside.mean()
            seen += 1
    assert seen >= 2


def test_an_entity_has_two_phrases() -> None:
    named = matching.names(np.array([ENTITIES.index("blue square")]))
    assert [matching.PHRASES[i] for i in np.nonzero(named[0])[0]] == ["blue square", "square"]


def test_matching_takes_the_places_that_fit() -> None:
    wanted = torch.tensor([[[0.1, 0.1, 0.3, 0.3], [0.6, 0.6, 0.8, 0.8]], [[0.4, 0.4, 0.5, 0.5], [0.0, 0.0, 0.0, 0.0]]])
    boxes = torch.rand(2, 9, 4) * 0.05 + torch.tensor([0.9, 0.9, 0.95, 0.95])
    boxes[0, 4], boxes[0, 2], boxes[1, 7] = wanted[0, 0], wanted[0, 1], wanted[1, 0]
    named = torch.zeros(2, 2, len(matching.PHRASES))
    named[:, :, 3] = 1
    there = torch.tensor([[True, True], [True, False]])
    rows = matching.matched(torch.zeros(2, 9, len(matching.PHRASES)), boxes, wanted, named, there)
    assert sorted(map(tuple, rows.tolist())) == [(0, 0, 4), (0, 1, 2), (1, 0, 7)]


def test_losses_fall_where_the_answer_is_given() -> None:
    wanted, kinds = [np.array([[0.1, 0.2, 0.3, 0.4]], np.float32), np.empty((0, 4), np.float32)], [[0], []]
    logits = torch.full((2, 9, len(matching.PHRASES)), -9.0)
    boxes = torch.full((2, 9, 4), 0.5)
    wrong = matching.losses((logits, boxes, torch.full((2, 9), -9.0)), wanted, [np.array(k, int) for k in kinds])
    logits, boxes = logits.clone(), boxes.clone()
    logits[0, 5] = torch.from_numpy(matching.names(np.array([0]))[0]) * 18 - 9
    boxes[0, 5] = torch.tensor(wanted[0][0])
    right = matching.losses((logits, boxes, torch.full((2, 9), -9.0)), wanted, [np.array(k, int) for k in kinds])
    assert right["named"] < 0.01 < wrong["named"] and right["sides"] < 1e-6 < wrong["sides"]
    assert right["overlap"] < 1e-4 < wrong["overlap"]


@pytest.mark.slow
def test_training_writes_what_auto_classes_read(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    detector.main(tmp_path, steps=50, batch_size=4, clips=32, workers=0)
    *_, first, last, end = capsys.readouterr().out.strip().splitlines()
    falls = [json.loads(line.split(": ", 1)[1])["loss"] for line in (first, last)]
    assert falls[1] < falls[0]
    assert set(json.loads(end)["unseen"]) == {"rendered", *scattered.DECODERS}
    assert (tmp_path / "shapes-detector" / "model.safetensors").stat().st_size <= 4_000_000


def test_the_folder_computes_as_in_training(tmp_path: Path) -> None:
    torch.manual_seed(0)
    tokenizer = build_tokenizer(end_last=True)
    model: Any = detector.build(len(tokenizer), tokenizer.eos_token_id).eval()
    detector.save(model, tokenizer, tmp_path)
    frames = [render(Scene((still("circle", x, 0.5),), Background((60.0, 60.0, 60.0))))[0] for x in (0.3, 0.7)]
    images = torch.from_numpy(np.stack(frames)).permute(0, 3, 1, 2).float() / 255
    with torch.no_grad():
        logits, boxes, _ = detector.detect(model, tokenizer, detector.normalised(images), ["red circle", "a square"])
        read = Owlv2ForObjectDetection.from_pretrained(tmp_path, dtype=torch.float32)
        processor = AutoProcessor.from_pretrained(tmp_path)
        found = read(**processor(text=[["red circle", "a square"]] * 2, images=frames, return_tensors="pt"))
    torch.testing.assert_close(found.logits, logits, atol=0.05, rtol=0.01)  # stored in float16
    centre, size = found.pred_boxes.split(2, -1)
    torch.testing.assert_close(torch.cat([centre - size / 2, centre + size / 2], -1), boxes, atol=2e-3, rtol=0)
