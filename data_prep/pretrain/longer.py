"""A LoRA with which a generator draws longer videos than those that it was trained on.

Clips of the world are stretched in time, so that all that happens takes longer, and the network learns them as it
learned the short ones: with the same losses, and the same share of captions that lie about composition.

    python -m data_prep.pretrain.longer --out runs/longer
    python -m data_prep.pretrain.store --folder runs/longer/lora --out cvg/shapes/weights/shapes-wan-longer
"""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor
from tqdm import tqdm

from cvg.common.cli import run
from cvg.common.errors import SettingsError, require
from cvg.common.files import atomic
from cvg.common.sizes import Size
from cvg.generators import Generator, Loading, load_generator
from cvg.media.pixels import to_video
from cvg.shapes.renderer import SIZE, render
from cvg.shapes.world import KINDS, Spec, sample_scene, sample_spec
from data_prep.made_of import require_same
from data_prep.pretrain.clips import SCRAMBLED, caption, noised, partners
from data_prep.pretrain.family import FamilyName, find, noisy_and_wanted
from data_prep.pretrain.lora import add_lora, save_lora, train_lora

AT_ONCE = 16
"""Clips that are rendered and encoded together."""


def stretched_clips(out: Path, generator: Generator, frames: int, count: int) -> tuple[Tensor, list[Spec]]:
    """Normalised latents (N, C, F, H, W) of clips of so many frames, kept in OUT; and what they show.

    What OUT has is used again.

    Args:
        out: working folder.
        generator: whose VAE encodes.
        frames: of each clip.
        count: clips, of ``KINDS`` in turn.

    Raises:
        SettingsError: OUT has clips of another generator.
    """
    folder = out / f"clips-{frames}"
    require_same(folder, {"generator": generator.identity()})
    latents, specs = [], []
    for first in tqdm(range(0, count, AT_ONCE), desc=f"clips of {frames} frames", mininterval=5):
        rngs = [np.random.default_rng([i, 11]) for i in range(first, min(first + AT_ONCE, count))]
        drawn = [sample_spec(rng, KINDS[(first + i) % len(KINDS)]) for i, rng in enumerate(rngs)]
        path = folder / f"{first:06d}-{len(rngs)}.safetensors"
        if not path.exists():
            scenes = [sample_scene(spec, rng).lasting(frames) for spec, rng in zip(drawn, rngs, strict=True)]
            with torch.no_grad():
                encoded = generator.encode_video(to_video(np.stack([render(scene) for scene in scenes])))
            with atomic(path) as temporary:
                save_file({"latents": encoded.cpu().half().contiguous()}, temporary)
        latents.append(load_file(path)["latents"])
        specs += drawn
    return torch.cat(latents), specs


def main(
    out: Path = Path("runs/longer"),
    generator: str = "shapes-wan",
    family: FamilyName = "wan",
    frames: list[int] = [25, 49],  # noqa: B006  (never changed)
    clips: int = 1600,
    rank: int = 32,
    steps: int = 1000,
    tokens: int = 8192,
    dropped: float = 0.1,
    lr: float = 2e-3,
    device: str = "cpu",
    workers: int = 0,
) -> None:
    """Encode clips, train a LoRA on them, and save it in OUT/lora.

    A run that was stopped goes on from the latents in OUT and from the state in OUT/longer.training.

    Args:
        out: working folder.
        generator: shipped name, folder or Hub id of the pipeline that gets the LoRA.
        family: of the generator.
        frames: lengths that are learned, in turn.
        clips: rendered clips of each length.
        rank: of the LoRA.
        steps: optimiser steps.
        tokens: latent tokens of a step, as many clips as have no more; at least one clip.
        dropped: probability of an empty caption, for classifier-free guidance.
        lr: peak learning rate of AdamW.
        device: torch device.
        workers: processes that draw batches.

    Raises:
        UserError: a number is too small, a length that the generator cannot have, or OUT has clips or a training of
            other settings.
    """
    require(1, clips=clips, rank=rank, steps=steps, tokens=tokens, **{f"frames {i}": n for i, n in enumerate(frames)})
    if not frames:
        raise SettingsError("frames []: give at least one length")
    torch.manual_seed(0)
    kind, model = find(family), load_generator(generator, Loading(device=device))
    for length in frames:
        model.check_size(Size(length, SIZE, SIZE))
    require_same(out / "longer.training", {"rank": rank, "frames": frames})
    made = [stretched_clips(out, model, length, clips) for length in frames]
    alike = [partners(specs) for _, specs in made]
    sizes = [max(1, tokens // math.prod(model.token_grid(latents[:1]))) for latents, _ in made]
    transformer = add_lora(model.network, rank)

    def draw(index: int) -> dict[str, Any]:
        rng, turn = np.random.default_rng([index, 12]), index % len(frames)
        latents, specs = made[turn]
        chosen = rng.integers(len(specs), size=sizes[turn])
        captions = [caption(specs[i], SCRAMBLED[specs[i].kind], dropped, rng) for i in chosen]
        return {"captions": captions, **noised(latents, chosen, alike[turn], rng)}

    def losses(batch: dict[str, Any]) -> dict[str, Tensor]:
        with torch.no_grad():
            states = model.encode_prompts(batch["captions"])
        noisy, wanted, timestep, early = noisy_and_wanted(kind, batch, device)
        error = (model.predict(noisy, timestep, states) - wanted).pow(2).mean((1, 2, 3, 4))
        return {"loss": error.mean(), "early": (error * early).sum() / early.sum().clamp(min=1)}

    average = train_lora(transformer, draw, losses, out / "longer.training", steps, lr, workers)
    save_lora(average, model.pipeline, out / "lora")
    print(f"wrote {out / 'lora'}; sample with --lora {out / 'lora'} and a --size of {frames} frames")


if __name__ == "__main__":
    run(main, prog="python -m data_prep.pretrain.longer")
