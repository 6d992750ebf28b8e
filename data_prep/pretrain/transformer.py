"""Stage 3 of a generator: the transformer, trained on captions of which many lie.

Web captions name entities well and relations badly. Here four captions in ten are wrong in how they compose the
entities (``data_prep.pretrain.clips.SCRAMBLED``), so the finished model draws what a prompt names and half obeys how it
is to be composed, as large models do.

    python -m data_prep.pretrain.transformer --out runs/pretrain
    python -m data_prep.pretrain.transformer --out runs/pretrain-cogvideox --family cogvideox
"""

from __future__ import annotations

import copy
import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor
from transformers import AutoTokenizer

from cvg.common import hub
from cvg.common.cli import run
from cvg.common.errors import DataError, SettingsError
from cvg.generators import wrap_pipeline
from cvg.shapes.world import known_kinds
from data_prep.made_of import require_same
from data_prep.pretrain.clips import SCRAMBLED, caption, encode_clips, noised, partners
from data_prep.pretrain.family import Family, FamilyName, find, noisy_and_wanted
from data_prep.pretrain.loop import train
from data_prep.pretrain.token_classifier import WithTokenClassifier, targets

NAMING = 0.5
"""Weight of the token classifier's loss."""
OFTENER = {"two_relations": 2.0, "three_relations": 2.0, "depth": 1.5, "interaction": 3.0, "action": 2.0}
"""How often clips of a kind are drawn, others being 1: of several relations or of many labels, they take longer."""


def load_parts(out: Path, kind: Family) -> tuple[Any, Any]:
    """VAE and text encoder of stages 1 and 2, frozen.

    Raises:
        UserError: they are missing, or another family's.
    """
    parts = []
    for folder, part in ((out / "vae", kind.vae_class), (out / "text_encoder", kind.text_encoder_class)):
        path = folder / "config.json"
        if not path.exists():
            raise DataError(f"{folder}: not there; train stages 1 and 2 with this --out")
        config = json.loads(path.read_text())
        found = config.get("_class_name") or config["architectures"][0]
        if found != part.__name__:
            raise SettingsError(
                f"{folder}: its class is {found}, and {kind.name} takes {part.__name__}; give the --family of stages 1 "
                "and 2, or another --out"
            )
        parts.append(part.from_pretrained(folder).eval().requires_grad_(False))
    vae, encoder = parts
    return vae, encoder


def often_drawn(kinds: Mapping[str, float] | None) -> dict[str, float]:
    """How often clips of each kind are drawn: of those that are named, else of all, as :data:`OFTENER` says.

    Raises:
        SettingsError: a kind that there is not, or a weight that is not above 0.
    """
    for kind, weight in (kinds or {}).items():
        if not (math.isfinite(weight) and weight > 0):
            raise SettingsError(f"kinds {kind!r}: its weight is {weight}; give more than 0, or leave it out")
    return {kind: (kinds or OFTENER).get(kind, 1.0) for kind in known_kinds([*(kinds or ())])}


def often_wrong(scrambled: float | Mapping[str, float] | None) -> dict[str, float]:
    """How often a relation of a caption is drawn, by kind: :data:`SCRAMBLED`, but where another probability is given.

    Raises:
        SettingsError: a kind that there is not, or no probability.
    """
    if scrambled is None:
        return SCRAMBLED
    given = scrambled if isinstance(scrambled, Mapping) else dict.fromkeys(SCRAMBLED, scrambled)
    known_kinds([*given])
    for kind, share in given.items():
        if not 0 <= share <= 1:
            raise SettingsError(f"scrambled {kind!r}: {share} is no probability; give 0 to 1")
    return {**SCRAMBLED, **given}


def main(
    out: Path = Path("runs/pretrain"),
    steps: int = 5000,
    batch_size: int = 32,
    clips: int = 12800,
    scrambled: float | dict[str, float] | None = None,
    dropped: float = 0.1,
    device: str = "cpu",
    bfloat16: bool = False,
    compile: bool = False,
    start: str | None = None,
    lr: float = 5e-3,
    stop_at: int | None = None,
    family: FamilyName = "wan",
    minutes: float | None = None,
    workers: int = 0,
    kinds: dict[str, float] | None = None,
) -> None:
    """Train the transformer and assemble the pipeline folder, OUT/shapes-wan or OUT/shapes-cogvideox.

    Args:
        out: working folder with the finished stages 1 and 2.
        steps: optimiser steps.
        batch_size: clips per step.
        clips: rendered clips in all.
        scrambled: probability that a relation of a caption is drawn at random within its group: one for all kinds, or
            one for each kind that is named; others have their own.
        dropped: probability of an empty caption, for classifier-free guidance.
        device: torch device.
        bfloat16: compute in bfloat16, weights and optimiser in float32; slower on CPUs that emulate it.
        compile: compile the transformer; worth its minutes on a GPU.
        start: pipeline folder, or shipped name, whose transformer training starts from; from nothing when left out.
        lr: peak learning rate of Muon, 2.5 times that of AdamW; lower it to go on from trained weights.
        stop_at: stop at this step and keep the state; the folder is written all the same.
        family: of generators; that of stages 1 and 2.
        minutes: end by then, with fewer steps if need be; what encoding the clips or an earlier run took is not
            counted.
        workers: processes that render clips and draw captions.
        kinds: kinds of composition, each with how often its clips are drawn; all of the world, those of several
            relations or of many labels oftener, where none are named.

    Raises:
        UserError: stages 1 and 2 in OUT are missing, or another family's; kinds that there are not, of no weight, or of
            no probability; or OUT has a training of other kinds, or that started otherwise.
    """
    torch.manual_seed(0)
    often, lies = often_drawn(kinds), often_wrong(scrambled)
    kind = find(family)
    vae, encoder = load_parts(out, kind)
    tokenizer = AutoTokenizer.from_pretrained(out / "tokenizer", trust_remote_code=False)
    transformer = kind.transformer()
    if start is not None:
        begun = type(transformer).from_pretrained(hub.path(start), subfolder="transformer")
        transformer.load_state_dict(begun.state_dict())
    # Only now: a START that cannot be is not noted, or the right one would be refused for it.
    require_same(out / "transformer.training", {"family": family, "start": start, "kinds": often})
    # The adapter's, so that all is as in sampling: latents, text states, and how the network is called.
    pipeline = kind.pipeline(tokenizer, encoder, vae, transformer)
    # Captions are read on the CPU, with the batch: a tokenizer takes longer than a GPU takes for a step.
    reader = wrap_pipeline(copy.deepcopy(pipeline), kind.name)
    generator = wrap_pipeline(pipeline.to(device), kind.name)
    clip_data, specs = encode_clips(out, generator, clips, list(often), workers)
    share = np.array([often[spec.kind] for spec in specs])
    share /= share.sum()
    alike = partners(specs)
    model = WithTokenClassifier(transformer.train().requires_grad_(True)).to(device)
    if compile:
        transformer.compile()

    def draw(index: int) -> dict[str, Any]:
        rng = np.random.default_rng([index, 4])
        chosen = rng.choice(len(specs), size=batch_size, p=share)
        named = targets(clip_data["coverage"][chosen], [specs[i] for i in chosen])
        captions = [caption(specs[i], lies[specs[i].kind], dropped, rng) for i in chosen]
        with torch.no_grad():
            states = reader.encode_prompts(captions)
        return {"states": states, "named": named, **noised(clip_data["latents"], chosen, alike, rng)}

    def losses(batch: dict[str, Any]) -> dict[str, Tensor]:
        noisy, wanted, timestep, early = noisy_and_wanted(kind, batch, device)
        states = {name: state.to(device) for name, state in batch["states"].items()}
        with torch.autocast(torch.device(device).type, torch.bfloat16, enabled=bfloat16):
            velocity, logits = model(generator, noisy, timestep, states)
        error = (velocity.float() - wanted).pow(2).mean((1, 2, 3, 4))
        naming = F.cross_entropy(logits.float().transpose(1, 2), batch["named"].to(device).transpose(1, 2))
        return {
            "loss": error.mean() + NAMING * naming,
            "velocity": error.mean(),
            "early": (error * early).sum() / early.sum().clamp(min=1),
            "naming": naming,
        }

    average = train(
        model,
        draw,
        losses,
        out / "transformer.training",
        steps,
        lr=lr / 2.5,
        muon_lr=lr,
        hidden="blocks.",
        ema=0.998,
        stop_at=stop_at,
        minutes=minutes,
        workers=workers,
    )
    assert isinstance(average, WithTokenClassifier)
    tokenizer = AutoTokenizer.from_pretrained(
        out / "tokenizer", trust_remote_code=False
    )  # afresh: calls change what a tokenizer saves
    vae.register_to_config(_name_or_path="")  # or this machine's path is written into the folder
    kind.pipeline(tokenizer, encoder, vae, average.transformer.eval()).save_pretrained(out / kind.name)


if __name__ == "__main__":
    run(main, prog="python -m data_prep.pretrain.transformer")
