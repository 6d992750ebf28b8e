"""The clips that the transformers are trained on, as latents, and the captions they are trained with."""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import asdict, replace
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors.torch import load_file, save_file
from torch import Tensor
from tqdm import tqdm

from cvg.common.files import atomic, write_json
from cvg.common.fingerprint import fingerprint
from cvg.generators import Generator
from cvg.media.pixels import to_video
from cvg.shapes.renderer import render
from cvg.shapes.world import ALL_KINDS, LABELS, RelationSpec, Spec, sample_scene, sample_spec, turns
from data_prep.pretrain.loop import drawn
from data_prep.pretrain.token_classifier import coverage

AT_ONCE = 32
"""Clips that are rendered and encoded together."""
SCRAMBLED: dict[str, float] = {
    "motion": 0.55,
    "spatial": 0.55,
    "relative_motion": 0.75,
    "two_relations": 0.32,
    "depth": 0.75,
    "action": 0.45,
    "path": 0.45,
    "interaction": 0.45,
    "attribute": 0.4,
    "change": 0.4,
    "three_relations": 0.22,
}
"""Per kind, how often a relation of a caption is not what the clip shows but drawn: six captions in ten are right.

Colours of ``attribute`` are exchanged and not drawn: above one half, the model learns to exchange them.
"""
MIXED, FAINTER = 0.5, 0.5
"""Share of clips that a fainter one is mixed into, and how much of it at most."""


def encode_clips(
    out: Path, generator: Generator, count: int, kinds: Sequence[str] = ALL_KINDS, workers: int = 0
) -> tuple[dict[str, Tensor], list[Spec]]:
    """Normalised latents (N, C, F, H, W) of rendered clips and what their tokens show, kept in OUT; and the specs.

    What OUT has is used again if it is of as many clips, of the same kinds, encoded by the same VAE.

    Args:
        out: working folder.
        generator: whose VAE encodes.
        count: clips, of the kinds in turn.
        kinds: of composition.
        workers: processes that render.
    """
    path, specs_path = out / "latents.safetensors", out / "latents.json"
    made_of = {"clips": count, "kinds": list(kinds), "vae": fingerprint([(generator.pipeline.vae, {})])}
    kept = json.loads(specs_path.read_text()) if path.exists() and specs_path.exists() else {}
    if kept.get("made_of") != made_of:

        def draw(index: int) -> tuple[list[Spec], Tensor, Tensor]:
            rng = np.random.default_rng([index, 3])
            specs = [sample_spec(rng, kinds[(index * AT_ONCE + i) % len(kinds)]) for i in range(AT_ONCE)]
            scenes = [sample_scene(spec, rng) for spec in specs]
            shares = torch.from_numpy(np.stack([coverage(scene) for scene in scenes])).half()
            return specs, torch.from_numpy(np.stack([render(scene) for scene in scenes])), shares

        chunks: list[Tensor] = []
        shares: list[Tensor] = []
        specs: list[Spec] = []
        batches = drawn(draw, range(-(-count // AT_ONCE)), workers)
        for batch, frames, share in tqdm(batches, desc="encode clips", mininterval=5):
            chunks.append(generator.encode_video(to_video(frames.numpy())).cpu().half())
            shares.append(share)
            specs += batch
        specs_path.unlink(missing_ok=True)  # or a run that ends here leaves the specs of other latents
        with atomic(path) as temporary:
            save_file({"latents": torch.cat(chunks), "coverage": torch.cat(shares)}, temporary)
        kept = {"made_of": made_of, "specs": [asdict(spec) for spec in specs]}
        write_json(specs_path, kept)
    specs = [
        Spec(
            row["kind"],
            row["template"],
            tuple(row["entities"]),
            tuple(RelationSpec(r["label"], tuple(r["entities"])) for r in row["relations"]),
            tuple(row["wordings"]),
        )
        for row in kept["specs"]
    ]
    return load_file(path), specs


def partners(specs: Sequence[Spec]) -> list[list[int]]:
    """For each clip, those that show the same entities (itself among them)."""
    shown = [tuple(sorted(spec.shown)) for spec in specs]
    alike: dict[tuple[str, ...], list[int]] = defaultdict(list)
    for index, entities in enumerate(shown):
        alike[entities].append(index)
    return [alike[entities] for entities in shown]


def noised(
    latents_NCFHW: Tensor, chosen: NDArray[np.int64], alike: Sequence[Sequence[int]], rng: np.random.Generator
) -> dict[str, Tensor]:
    """What a step of training is made of, on the CPU.

    Args:
        latents_NCFHW: of all clips.
        chosen: the clips of the step, (B,).
        alike: their :func:`partners`.
        rng: source of randomness.

    Returns:
        ``clean``, the chosen latents (B, C, F, H, W); ``mixed``, these with fainter clips in them; ``noise`` of the
        same shape; ``level``, uniform draws (B,) of how much of it there is to be.
    """
    random = torch.Generator().manual_seed(int(rng.integers(2**63)))
    clean = latents_NCFHW[chosen].float()
    other = latents_NCFHW[[rng.choice(alike[i]) for i in chosen]].float()
    mixed = with_fainter_clips(clean, other, rng)
    level, noise = torch.rand(len(chosen), generator=random), torch.randn(clean.shape, generator=random)
    return {"clean": clean, "mixed": mixed, "level": level, "noise": noise}


def with_fainter_clips(clean: Tensor, other: Tensor, rng: np.random.Generator) -> Tensor:
    """Clips (B, C, F, H, W) of which a share has another clip of the same entities mixed in, more faintly.

    An edited or half-decided latent has evidence of an entity in two places. Trained to denoise towards the stronger
    alone, the model learns to settle on one of them; else it draws the entity twice.
    """
    share = FAINTER * rng.random(len(clean)) * (rng.random(len(clean)) < MIXED)
    return torch.lerp(clean, other, torch.from_numpy(share).to(clean).view(-1, 1, 1, 1, 1))


def caption(spec: Spec, scrambled: float, dropped: float, rng: np.random.Generator) -> str:
    """A caption of the clip, in wordings drawn anew, in which relations may not be what it shows.

    Each is drawn at random within its group with probability ``scrambled``. Colours that relations say of two entities
    are exchanged instead; what an entity turns into is another colour, and not the one that it has.

    Args:
        spec: what the clip shows.
        scrambled: the probability; of :data:`SCRAMBLED`.
        dropped: probability of an empty caption.
        rng: source of randomness.
    """
    if rng.random() < dropped:
        return ""
    names = [relation.label for relation in spec.relations]
    if spec.kind == "attribute" and rng.random() < scrambled:
        names.reverse()
    wordings = []
    for name in names:
        label = LABELS[name]
        if spec.kind != "attribute" and rng.random() < scrambled:
            group = LABELS.groups[label.group]
            if spec.kind == "change":
                group = [other for other in group if other != label and turns(spec.entities[0], other.name)]
            label = group[rng.integers(len(group))]
        wordings.append(label.wordings[rng.integers(len(label.wordings))])
    return replace(spec, wordings=tuple(wordings)).prompt
