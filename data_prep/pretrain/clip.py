"""shapes-clip: a small video-language model, an ``XCLIPModel`` trained contrastively on rendered clips and captions.

It is the frozen VLM of the default classifier and has never seen an attention map. Half of its clips are blurred down
to a few pixels, half are put on black, so that coarse, plain pictures are no surprise to it. Readers that are thrown
away (:mod:`data_prep.pretrain.describing`) get it off chance.

    python -m data_prep.pretrain.clip --out runs/pretrain
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor
from transformers import XCLIPConfig, XCLIPModel

from cvg.common.cli import run
from cvg.common.files import write_json
from cvg.shapes.renderer import SIZE
from cvg.shapes.world import ALL_KINDS, KINDS, sample_scene
from data_prep.pretrain.captioned import MEAN, NUM_FRAMES, STD, WORDINGS, Scenes, clip, sampled, variants
from data_prep.pretrain.describing import Described, answers
from data_prep.pretrain.family import MAX_TOKENS
from data_prep.pretrain.loop import train
from data_prep.pretrain.text import build_tokenizer

PATCH = 8
READ = {"what": 4.0, "places": 4.0, "present": 20.0, "where": 4.0, "caption": 1.0}
"""Weights of the readers' losses, beside the contrast's 1."""


def build(vocabulary: int, eos: int) -> XCLIPModel:
    """The true X-CLIP classes: a 4-layer vision tower of 8-pixel patches, a 3-layer text tower, width 128."""
    config = XCLIPConfig(
        text_config={
            "vocab_size": vocabulary,
            "hidden_size": 128,
            "intermediate_size": 384,
            "num_hidden_layers": 3,
            "num_attention_heads": 4,
            "max_position_embeddings": MAX_TOKENS,
            "eos_token_id": eos,
            "pad_token_id": 0,
            "bos_token_id": eos,
        },
        vision_config={
            "hidden_size": 128,
            "intermediate_size": 384,
            "num_hidden_layers": 4,
            "num_attention_heads": 4,
            "mit_hidden_size": 128,
            "mit_intermediate_size": 384,
            "mit_num_hidden_layers": 1,
            "mit_num_attention_heads": 4,
            "image_size": SIZE,
            "patch_size": PATCH,
            "num_frames": NUM_FRAMES,
        },
        projection_dim=128,
        prompt_layers=1,
        prompt_num_attention_heads=4,
        prompt_attention_dropout=0.0,
    )
    model = XCLIPModel(config)
    with torch.no_grad():
        # transformers draws positions of patches with deviation 0.02, beside contents of 1: training never finds them,
        # and a tower that does not know where patches are has nothing to say of relations. Those of frames it draws
        # with deviation 1, which drown what differs between two clips, and training stays at chance.
        model.vision_model.embeddings.position_embedding.weight.normal_(std=0.5)
        model.mit.position_embedding.mul_(0.3)
        model.prompts_visual_projection.mul_(config.vision_config.hidden_size**-0.5)
    return model


@torch.no_grad()
def zero_shot(model: Any, tokenizer: Any, clips: int = 64, kinds: Sequence[str] = KINDS) -> dict[str, float]:
    """Share of held-out clips, by kind, whose own caption beats those that differ from it in the relation alone.

    Chance is 1/4, and 1/2 for relative motion and depth, which have two labels.
    """
    right: dict[str, float] = {}
    for kind in kinds:
        rng = np.random.default_rng([ALL_KINDS.index(kind), 6])
        hits = 0
        for _ in range(clips):
            specs = variants(rng, kind, held_out=True)
            captions = [spec.prompt for spec in specs]
            tokens = tokenizer(captions, padding="max_length", max_length=MAX_TOKENS, return_tensors="pt")
            tokens = tokens.to(model.device)
            video = clip(sampled(sample_scene(specs[0], rng)), rng)[None].to(model.device)
            output = model(input_ids=tokens.input_ids, attention_mask=tokens.attention_mask, pixel_values=video)
            hits += int(output.logits_per_video.argmax()) == 0
        right[kind] = hits / clips
    return right


def main(
    out: Path = Path("runs/pretrain"),
    steps: int = 2200,
    batch_size: int = 48,
    groups: int = 1000,
    device: str = "cpu",
    minutes: float | None = None,
    workers: int = 0,
) -> None:
    """Train the model and write the folder OUT/shapes-clip (model, tokenizer, processor settings).

    Args:
        out: working folder.
        steps: optimiser steps.
        batch_size: clips per step.
        groups: sets of scenes that differ in the relation alone.
        device: torch device.
        minutes: end by then, with fewer steps if need be; what an earlier run took is not counted.
        workers: processes that draw clips, for a GPU that would wait for them.
    """
    torch.manual_seed(0)
    # `XCLIPTextModel` takes the state at the highest id for that of the whole caption, whatever its config says.
    tokenizer = build_tokenizer(end_last=True, labels=WORDINGS)
    model: Any = build(len(tokenizer), tokenizer.eos_token_id).to(device)
    scenes = Scenes(groups)
    described = Described(model)

    def draw(index: int) -> dict[str, Any]:
        video, specs, drawn = scenes.batch(index, batch_size)
        captions = [spec.prompt for spec in specs]
        tokens = tokenizer(captions, padding="max_length", max_length=MAX_TOKENS, return_tensors="pt")
        # Two clips may have the same caption: any of them is right.
        same_BB = torch.tensor([[a == b for b in captions] for a in captions]).float()
        return {"video": video, "tokens": tokens, "same_BB": same_BB, "answers": answers(drawn, specs, PATCH)}

    def losses(batch: dict[str, Any]) -> dict[str, Tensor]:
        video, tokens, same_BB = (batch[name].to(device) for name in ("video", "tokens", "same_BB"))
        output = model(input_ids=tokens.input_ids, attention_mask=tokens.attention_mask, pixel_values=video)
        logits_BB = output.logits_per_video
        target_BB = same_BB / same_BB.sum(1, keepdim=True)
        contrast = F.cross_entropy(logits_BB, target_BB) + F.cross_entropy(logits_BB.T, target_BB)
        right = same_BB.gather(1, logits_BB.argmax(1, keepdim=True)).mean()
        read = described(output, batch["answers"].to(device))
        loss = contrast + sum(READ[name] * value for name, value in read.items())
        return {"loss": loss, "contrast": contrast, "accuracy": right, **read}

    trained: Any = train(
        described.to(device),
        draw,
        losses,
        out / "clip.training",
        steps,
        lr=2e-3,
        muon_lr=3e-3,
        hidden="layers.",
        ema=0.995,
        minutes=minutes,
        workers=workers,
    )
    average = trained.model
    average.save_pretrained(out / "shapes-clip")
    tokenizer.save_pretrained(out / "shapes-clip")
    write_json(
        out / "shapes-clip" / "preprocessor_config.json",
        {
            "image_processor_type": "VideoMAEImageProcessor",
            "do_resize": True,
            "size": {"shortest_edge": SIZE},
            "do_center_crop": True,
            "crop_size": {"height": SIZE, "width": SIZE},
            "do_rescale": True,
            "rescale_factor": 1 / 255,
            "do_normalize": True,
            "image_mean": MEAN,
            "image_std": STD,
        },
    )
    parameters = sum(p.numel() for p in average.parameters())
    print(json.dumps({"parameters": parameters, "zero_shot": zero_shot(average.eval(), tokenizer, kinds=ALL_KINDS)}))


if __name__ == "__main__":
    run(main, prog="python -m data_prep.pretrain.clip")
