"""Stage 3 of a generator: the transformer, trained on captions of which many lie.

Web captions name entities well and relations badly. Here four captions in ten are wrong in how they compose the
entities (``data_prep.pretrain.clips.SCRAMBLED``), so the finished model draws what a prompt names and half obeys how it
is to be composed, as large models do.

    python -m data_prep.pretrain.transformer --out runs/pretrain
    python -m data_prep.pretrain.transformer --out runs/pretrain-cogvideox --family cogvideox
"""

from __future__ import annotations

import copy
import math
from functools import partial
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from transformers import AutoTokenizer

from cvg.common import hub
from cvg.common.cli import run
from cvg.common.errors import SettingsError
from cvg.generators import Generator, wrap_pipeline
from data_prep.made_of import require_same
from data_prep.pretrain.clips import encode_clips
from data_prep.pretrain.drawing import Drawing, often_drawn, often_wrong
from data_prep.pretrain.family import Family, FamilyName, find, noisy_and_wanted
from data_prep.pretrain.loop import train
from data_prep.pretrain.parts import first_stages, trained_part
from data_prep.pretrain.token_classifier import WithTokenClassifier, weights

NAMING = 0.5
"""Weight of the token classifier's loss."""


def losses(
    model: WithTokenClassifier,
    kind: Family,
    generator: Generator,
    entities_weigh: float,
    bfloat16: bool,
    batch: dict[str, Any],
) -> dict[str, Tensor]:
    """What a step minimises, ``loss``, and what it is made of.

    Args:
        model: the transformer and its token classifier, on their device.
        kind: the family.
        generator: the adapter that calls the transformer.
        entities_weigh: see :func:`main`.
        bfloat16: see :func:`main`.
        batch: of :class:`data_prep.pretrain.drawing.Drawing`.
    """
    device = str(generator.device)
    noisy, wanted, timestep, early = noisy_and_wanted(kind, batch, device)
    states = {name: state.to(device) for name, state in batch["states"].items()}
    named = batch["named"].to(device)
    with torch.autocast(generator.device.type, torch.bfloat16, enabled=bfloat16):
        velocity, logits = model(generator, noisy, timestep, states)
    error = (velocity.float() - wanted).pow(2)
    # Under much noise the question is where things are to be, to which the background's error answers as well.
    weight = torch.where(early.view(-1, 1, 1, 1, 1) > 0, 1.0, weights(named, noisy, entities_weigh))
    naming = F.cross_entropy(logits.float().transpose(1, 2), named.transpose(1, 2))
    each = error.mean((1, 2, 3, 4))
    return {
        "loss": (weight * error).mean() + NAMING * naming,
        "velocity": each.mean(),
        "early": (each * early).sum() / early.sum().clamp(min=1),
        "naming": naming,
    }


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
    entities_weigh: float = 1.0,
) -> None:
    """Train the transformer and assemble the pipeline folder, OUT/shapes-wan or OUT/shapes-cogvideox.

    Args:
        out: working folder with the finished stages 1 and 2.
        steps: optimiser steps.
        batch_size: clips per step.
        clips: rendered clips in all.
        scrambled: probability that a relation of a caption is drawn at random within its group: one for all kinds, or
            one for each kind that is named; others have their own. Colours of attribute are exchanged instead, in
            one half at most: above that the generator would learn to exchange them.
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
        entities_weigh: what the error of latents that show an entity counts, the background's being 1, where no more
            than 0.8 of the noisy latents is noise. In clips of two entities, these are a small part of the picture.

    Raises:
        UserError: stages 1 and 2 in OUT are missing, or they or START are another family's; kinds that there are not,
            of no weight, or of no probability; entities of no weight; or OUT has a training of other kinds, captions
            or weights, or that started otherwise.
    """
    torch.manual_seed(0)
    often = often_drawn(kinds)
    wrong = often_wrong(scrambled, [*often])
    if not 0 < entities_weigh < math.inf:
        raise SettingsError(f"entities_weigh: {entities_weigh} is no weight; give more than 0, 1 for all alike")
    kind = find(family)
    vae, encoder = first_stages(out, kind)
    tokenizer = AutoTokenizer.from_pretrained(out / "tokenizer", trust_remote_code=False)
    transformer = kind.transformer()
    if start is not None:
        begun = trained_part(hub.path(start), "transformer", type(transformer))
        transformer.load_state_dict(begun.state_dict())
    captions = {"kinds": often, "scrambled": wrong, "dropped": dropped}
    made_of = {"family": family, "start": start, **captions, "entities_weigh": entities_weigh}
    require_same(out / "transformer.training", made_of)
    # The adapter's, so that all is as in sampling: latents, text states, and how the network is called.
    pipeline = kind.pipeline(tokenizer, encoder, vae, transformer)
    reader = wrap_pipeline(copy.deepcopy(pipeline), kind.name)
    generator = wrap_pipeline(pipeline.to(device), kind.name)
    data, specs = encode_clips(out, generator, clips, list(often), workers)
    model = WithTokenClassifier(transformer.train().requires_grad_(True)).to(device)
    if compile:
        transformer.compile()

    average = train(
        model,
        Drawing(data, specs, often, wrong, dropped, batch_size, reader),
        partial(losses, model, kind, generator, entities_weigh, bfloat16),
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
    # Afresh: calls change what a tokenizer saves.
    tokenizer = AutoTokenizer.from_pretrained(out / "tokenizer", trust_remote_code=False)
    vae.register_to_config(_name_or_path="")  # or this machine's path is written into the folder
    kind.pipeline(tokenizer, encoder, vae, average.transformer.eval()).save_pretrained(out / kind.name)


if __name__ == "__main__":
    run(main, prog="python -m data_prep.pretrain.transformer")
