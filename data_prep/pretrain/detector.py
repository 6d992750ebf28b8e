"""shapes-detector: a small ``Owlv2ForObjectDetection``, trained on rendered frames to find what a phrase names.

It is what a judge looks with where a large open-vocabulary detector would be of no use: at videos of 64 x 64 pixels.
Boxes are matched to entities by the Hungarian algorithm, as DETR and OWL-ViT are trained.

    python -m data_prep.pretrain.detector --out runs/pretrain --device cuda
"""

from __future__ import annotations

import copy
import json
import time
from collections import defaultdict
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor
from transformers import Owlv2Config, Owlv2ForObjectDetection

from cvg.common.cli import run
from cvg.common.files import write_json
from cvg.shapes.renderer import FRAMES
from cvg.shapes.world import ENTITIES
from data_prep.pretrain.family import MAX_TOKENS
from data_prep.pretrain.loop import train
from data_prep.pretrain.matching import PHRASES, generalised_iou, losses
from data_prep.pretrain.scattered import CHUNK, Pool, cores
from data_prep.pretrain.text import build_tokenizer

IMAGE = 96
PATCH = 8
MEAN, STD = [0.3, 0.3, 0.3], [0.25, 0.25, 0.25]


def build(vocabulary: int, eos: int) -> Owlv2ForObjectDetection:
    """The true OWLv2 classes: a 6-layer vision tower of 8-pixel patches, a 2-layer text tower, width 128."""
    tower = {"hidden_size": 128, "intermediate_size": 384, "num_attention_heads": 4}
    config = Owlv2Config(
        text_config={
            **tower,
            "vocab_size": vocabulary,
            "num_hidden_layers": 2,
            "max_position_embeddings": MAX_TOKENS,
            "eos_token_id": eos,
            "bos_token_id": eos,
            "pad_token_id": 0,
        },
        vision_config={**tower, "num_hidden_layers": 6, "image_size": IMAGE, "patch_size": PATCH},
        projection_dim=128,
    )
    model = Owlv2ForObjectDetection(config)
    with torch.no_grad():
        # As transformers draws them, positions are lost beside contents, and heads begin with numbers in the hundreds.
        model.owlv2.vision_model.embeddings.position_embedding.weight.normal_(std=0.2)
        for head in (model.class_head, model.box_head, model.objectness_head):
            for weight in head.parameters():
                if weight.ndim == 2:
                    weight.normal_(std=0.1 * weight.shape[1] ** -0.5 if len(weight) <= 4 else weight.shape[1] ** -0.5)
        # At first nothing is anywhere: else what is absent, nearly all, has all of the loss.
        model.objectness_head.dense2.bias.fill_(-4.0)
        model.class_head.logit_scale.bias.fill_(9.0)
        model.class_head.logit_shift.bias.fill_(-0.5)
    return model


def normalised(images_BCHW: Tensor) -> Tensor:
    """Images in [0, 1] as the model takes them, as its processor makes them."""
    larger = F.interpolate(images_BCHW, (IMAGE, IMAGE), mode="bilinear")
    mean, std = (torch.tensor(value, device=larger.device).view(3, 1, 1) for value in (MEAN, STD))
    return (larger - mean) / std


def detect(model: Any, tokenizer: Any, pixels: Tensor, phrases: list[str]) -> tuple[Tensor, Tensor, Tensor]:
    """Logits (B, P, phrases), boxes (B, P, 4) as corners in frame sides, and objectness logits (B, P).

    The phrases are embedded once for all images. On a GPU the towers compute in bfloat16; the heads never do, as boxes
    would be a quarter of a pixel off.
    """
    tokens = tokenizer(phrases, padding="max_length", max_length=MAX_TOKENS, return_tensors="pt").to(pixels.device)
    with torch.autocast(pixels.device.type, torch.bfloat16, enabled=pixels.is_cuda):
        text = model.owlv2.text_model(input_ids=tokens.input_ids, attention_mask=tokens.attention_mask)
        grid = model.image_embedder(pixels)[0].float()
    queries = model.owlv2.text_projection(text.pooler_output.float())
    features = grid.flatten(1, 2)
    logits, _ = model.class_predictor(features, queries.expand(len(pixels), -1, -1))
    centre, size = model.box_predictor(features, grid).split(2, -1)
    return logits, torch.cat([centre - size / 2, centre + size / 2], -1), model.objectness_predictor(features)


@torch.no_grad()
def evaluate(model: Any, tokenizer: Any, pool: Pool, threshold: float = 0.3) -> dict[str, dict[str, float]]:
    """How often an entity's phrase has its best box on it, and how often a phrase of nothing is found, per source.

    Args:
        model: the detector.
        tokenizer: its tokenizer.
        pool: clips that it was not trained on.
        threshold: score from which something counts as found.
    """
    totals: dict[str, dict[str, list[float]]] = defaultdict(lambda: defaultdict(list))
    for chunk, source in enumerate(pool.source):
        for step in range(0, FRAMES, 4):
            rows = slice(chunk * CHUNK, (chunk + 1) * CHUNK)
            images = pool.frames_BFHWC[rows, step].permute(0, 3, 1, 2).float() / 255
            logits, boxes, _ = (part.cpu() for part in detect(model, tokenizer, normalised(images), list(ENTITIES)))
            score, place = logits.sigmoid().max(1)
            for row, (found, kinds) in enumerate(zip(pool.boxes[rows, :, step], pool.kinds[rows], strict=True)):
                there = ~np.isnan(found[:, 0])
                for index in range(len(ENTITIES)):
                    seen = score[row, index].item() >= threshold
                    mine = torch.from_numpy(found[there & (kinds == index)])
                    if len(mine):
                        overlap = generalised_iou(boxes[row, place[row, index]], mine).max().item()
                        totals[source]["found"].append(seen and overlap > 0.5)
                        totals[source]["overlap"].append(overlap)
                    elif index not in kinds:
                        totals[source]["invented"].append(seen)
    return {s: {name: round(float(np.mean(v)), 4) for name, v in values.items()} for s, values in totals.items()}


def save(model: Any, tokenizer: Any, folder: Path) -> None:
    """Write the model in float16, the tokenizer and the processor's settings: all that ``AutoProcessor`` reads."""
    half = copy.deepcopy(model).half()
    half.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    image = {
        "image_processor_type": "Owlv2ImageProcessor",
        "do_pad": True,
        "do_resize": True,
        "size": {"height": IMAGE, "width": IMAGE},
        "resample": 2,
        "do_rescale": True,
        "rescale_factor": 1 / 255,
        "do_normalize": True,
        "image_mean": MEAN,
        "image_std": STD,
    }
    write_json(folder / "preprocessor_config.json", {"processor_class": "Owlv2Processor", **image})


def main(
    out: Path = Path("runs/pretrain"),
    steps: int = 12000,
    minutes: float = 4.2,
    batch_size: int = 256,
    clips: int = 24000,
    workers: int | None = None,
    device: str = "cpu",
) -> None:
    """Train the detector and write the folder OUT/shapes-detector (model, tokenizer, processor's settings).

    A run that was stopped goes on from the state in OUT/detector.training, where the log is too.

    Args:
        out: working folder.
        steps: most optimiser steps.
        minutes: most minutes, of which clips are drawn for a third at most. The learning rate falls to nothing either
            way.
        batch_size: frames per step.
        clips: most rendered clips, in the device's memory: 160 kB each.
        workers: processes that draw clips; as many as there are cores when left out, 0 for none.
        device: torch device.
    """
    torch.manual_seed(0)
    torch.set_float32_matmul_precision("high")
    began = time.monotonic()
    folder = out / "shapes-detector"
    # OWLv2 takes the state at the highest id for that of the whole phrase.
    tokenizer = build_tokenizer(end_last=True)
    model: Any = build(len(tokenizer), tokenizer.eos_token_id).to(device)
    workers = cores() if workers is None else workers
    pool = Pool(clips, device, workers, seconds=20 * minutes)
    unseen = Pool(max(4 * CHUNK, clips // 40), device, workers, first=10**6)
    print(f"{time.monotonic() - began:.0f} s: {len(pool.boxes)} clips drawn", flush=True)

    def draw(index: int) -> tuple[int, Any]:
        return index, pool.batch(index, batch_size)

    def losses_of(batch: tuple[int, Any]) -> dict[str, Tensor]:
        index, (images, boxes, kinds) = batch
        article = ("", "a ", "the ")[index % 3]
        return losses(detect(model, tokenizer, normalised(images), [article + p for p in PHRASES]), boxes, kinds)

    average = train(
        model,
        draw,
        losses_of,
        out / "detector.training",
        steps,
        lr=2e-3,
        muon_lr=3e-3,
        hidden="layers.",
        ema=0.998,
        minutes=max(0.02, minutes - (time.monotonic() - began) / 60),
    )
    save(average, tokenizer, folder)
    scores = evaluate(average.eval(), tokenizer, unseen)
    parameters = sum(p.numel() for p in average.parameters())
    print(json.dumps({"parameters": parameters, "unseen": scores}), flush=True)


if __name__ == "__main__":
    run(main, prog="python -m data_prep.pretrain.detector")
