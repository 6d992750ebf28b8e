"""Stage 3 of shapes-wan: the ``WanTransformer3DModel``, trained by flow matching on captions of which many lie.

Web captions name entities well and relations badly. Here each relation of a caption is drawn at random within its
group with probability ``--scrambled`` (0.3: wrong in 22 % of captions of four-label groups, 15 % of two-label ones),
so the finished model draws what a prompt names and half obeys how it is to be composed, as large models do.

    python -m data_prep.pretrain.transformer --out runs/pretrain
"""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import asdict, replace
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from diffusers import AutoencoderKLWan, UniPCMultistepScheduler, WanPipeline, WanTransformer3DModel
from safetensors.torch import load_file, save_file
from torch import Tensor
from tqdm import trange
from transformers import AutoTokenizer, UMT5EncoderModel

from cvg.cli import run
from cvg.files import atomic
from cvg.pixels import to_video
from cvg.shapes import assets
from cvg.shapes.renderer import render
from cvg.shapes.world import KINDS, LABELS, RelationSpec, Spec, sample_scene, sample_spec
from data_prep.pretrain.grounding import Grounded, coverage, targets
from data_prep.pretrain.loop import train
from data_prep.pretrain.text import MAX_TOKENS, TEXT_DIM
from data_prep.pretrain.vae import LATENT_CHANNELS

SHIFT = 3.0
"""Timestep shift of the shipped scheduler."""
TRAINING_SHIFT = 5.0
"""That of the training distribution: what is drawn at all, and where, is settled at high noise."""
NAMING = 0.5
"""Weight of the reader's loss."""
TWO_RELATIONS = 3.0
"""How often a clip of two relations is drawn, others being 1: they are the hardest to draw whole."""
GHOSTED, GHOST = 0.5, 0.5
"""Share of clips that another one shines through, and how much of it at most."""


def build() -> WanTransformer3DModel:
    """The true Wan transformer class: 6 blocks of 4 heads of 32, one token per latent position."""
    return WanTransformer3DModel(
        patch_size=(1, 1, 1),
        num_attention_heads=4,
        attention_head_dim=32,
        in_channels=LATENT_CHANNELS,
        out_channels=LATENT_CHANNELS,
        text_dim=TEXT_DIM,
        freq_dim=64,
        ffn_dim=512,
        num_layers=6,
        cross_attn_norm=True,
        qk_norm="rms_norm_across_heads",
        rope_max_seq_len=64,
    )


def encode_clips(out: Path, vae: AutoencoderKLWan, count: int, device: str) -> tuple[dict[str, Tensor], list[Spec]]:
    """Normalised latents (N, C, F, H, W) of rendered clips and what their tokens show, kept in OUT; and the specs."""
    path, specs_path = out / "latents.safetensors", out / "latents.json"
    if not (path.exists() and specs_path.exists()):
        shape = (1, LATENT_CHANNELS, 1, 1, 1)
        mean = torch.tensor(vae.config.latents_mean).view(shape)
        std = torch.tensor(vae.config.latents_std).view(shape)
        rng = np.random.default_rng(3)
        chunks: list[Tensor] = []
        shares: list[Tensor] = []
        specs: list[Spec] = []
        for _ in trange(0, count, 32, desc="encode clips", mininterval=5):
            batch = [sample_spec(rng, KINDS[i % len(KINDS)]) for i in range(32)]
            scenes = [sample_scene(spec, rng) for spec in batch]
            video = to_video(np.stack([render(scene) for scene in scenes]))
            shares.append(torch.from_numpy(np.stack([coverage(scene) for scene in scenes])).half())
            with torch.no_grad():
                latent = vae.encode(video.to(device)).latent_dist.mode().cpu()
            chunks.append(((latent - mean) / std).half())
            specs += batch
        with atomic(specs_path) as temporary:
            temporary.write_text(json.dumps([asdict(spec) for spec in specs]))
        with atomic(path) as temporary:
            save_file({"latents": torch.cat(chunks), "coverage": torch.cat(shares)}, temporary)
    specs = [
        Spec(
            row["kind"],
            row["template"],
            tuple(row["entities"]),
            tuple(RelationSpec(r["label"], tuple(r["entities"])) for r in row["relations"]),
            tuple(row["wordings"]),
        )
        for row in json.loads(specs_path.read_text())
    ]
    return load_file(path), specs


def partners(specs: Sequence[Spec]) -> list[list[int]]:
    """For each clip, those that show the same entities (itself among them)."""
    alike: dict[tuple[str, ...], list[int]] = defaultdict(list)
    for index, spec in enumerate(specs):
        alike[tuple(sorted(spec.entities))].append(index)
    return [alike[tuple(sorted(spec.entities))] for spec in specs]


def haunted(clean: Tensor, other: Tensor, rng: np.random.Generator) -> Tensor:
    """Clips (B, C, F, H, W) of which a share carries a ghost of another clip of the same entities.

    An edited or half-decided latent has evidence of an entity in two places. Trained to denoise towards the stronger
    alone, the model learns to settle on one of them; else it draws the entity twice.
    """
    share = GHOST * rng.random(len(clean)) * (rng.random(len(clean)) < GHOSTED)
    return torch.lerp(clean, other, torch.from_numpy(share).to(clean).view(-1, 1, 1, 1, 1))


def caption(spec: Spec, scrambled: float, dropped: float, rng: np.random.Generator) -> str:
    """A caption of the clip: wordings drawn anew, each relation random with probability ``scrambled``, or empty."""
    if rng.random() < dropped:
        return ""
    wordings = []
    for relation in spec.relations:
        label = LABELS[relation.label]
        if rng.random() < scrambled:
            group = LABELS.groups[label.group]
            label = group[rng.integers(len(group))]
        wordings.append(label.wordings[rng.integers(len(label.wordings))])
    return replace(spec, wordings=tuple(wordings)).prompt


class Captioner:
    """Prompt states exactly as the Wan pipeline makes them: padded rows are zero."""

    def __init__(self, out: Path, device: str) -> None:
        self.tokenizer = AutoTokenizer.from_pretrained(out / "tokenizer")
        self.encoder = UMT5EncoderModel.from_pretrained(out / "text_encoder").eval().requires_grad_(False).to(device)

    def __call__(self, prompts: list[str]) -> Tensor:
        """States (B, 24, D) of the prompts."""
        encoded = self.tokenizer(prompts, padding="max_length", max_length=MAX_TOKENS, return_tensors="pt")
        mask = encoded.attention_mask.to(self.encoder.device)
        with torch.no_grad():
            states: Tensor = self.encoder(encoded.input_ids.to(mask.device), attention_mask=mask).last_hidden_state
        return states * mask[..., None]


def main(
    out: Path = Path("runs/pretrain"),
    steps: int = 5000,
    batch_size: int = 32,
    clips: int = 12800,
    scrambled: float = 0.3,
    dropped: float = 0.1,
    device: str = "cpu",
    bfloat16: bool = False,
    compile: bool = False,
    start: str | None = None,
    lr: float = 5e-3,
    stop_at: int | None = None,
) -> None:
    """Train the transformer and assemble the pipeline folder OUT/shapes-wan.

    Args:
        out: working folder with the finished stages 1 and 2.
        steps: optimiser steps.
        batch_size: clips per step.
        clips: rendered clips in all.
        scrambled: probability that a relation of a caption is drawn at random within its group.
        dropped: probability of an empty caption, for classifier-free guidance.
        device: torch device.
        bfloat16: compute in bfloat16, weights and optimiser in float32; slower on CPUs that emulate it.
        compile: compile the transformer; worth its minutes on a GPU.
        start: pipeline folder, or shipped name, whose transformer training starts from; from nothing when left out.
        lr: peak learning rate of Muon, 2.5 times that of AdamW; lower it to go on from trained weights.
        stop_at: stop at this step and keep the state; the folder is written all the same.
    """
    torch.manual_seed(0)
    vae = AutoencoderKLWan.from_pretrained(out / "vae").eval().to(device)
    captioner = Captioner(out, device)
    clip_data, specs = encode_clips(out, vae, clips, device)
    share = np.array([TWO_RELATIONS if spec.kind == "two_relations" else 1.0 for spec in specs])
    share /= share.sum()
    alike = partners(specs)
    transformer = build()
    if start is not None:
        begun = WanTransformer3DModel.from_pretrained(assets.path(start), subfolder="transformer")
        transformer.load_state_dict(begun.state_dict())
    model = Grounded(transformer).to(device)
    if compile:
        transformer.compile()

    def step(index: int) -> dict[str, Tensor]:
        rng = np.random.default_rng([index, 4])
        generator = torch.Generator().manual_seed(index)
        chosen = rng.choice(len(specs), size=batch_size, p=share)
        clean = clip_data["latents"][chosen].float().to(device)
        ghosts = [rng.choice(alike[i]) for i in chosen]
        other = clip_data["latents"][ghosts].float().to(device)
        named = targets(clip_data["coverage"][chosen], [specs[i] for i in chosen]).to(device)
        states = captioner([caption(specs[i], scrambled, dropped, rng) for i in chosen])
        uniform = torch.rand(batch_size, generator=generator)
        sigma = (TRAINING_SHIFT * uniform / (1 + (TRAINING_SHIFT - 1) * uniform)).to(device)
        noise = torch.randn(clean.shape, generator=generator).to(device)
        weight = sigma.view(-1, 1, 1, 1, 1)
        noisy = (1 - weight) * haunted(clean, other, rng) + weight * noise
        with torch.autocast(torch.device(device).type, torch.bfloat16, enabled=bfloat16):
            velocity, logits = model(noisy, sigma * 1000, states)
        error = (velocity.float() - (noise - clean)).pow(2).mean((1, 2, 3, 4))
        early = sigma > 0.8
        naming = F.cross_entropy(logits.float().transpose(1, 2), named.transpose(1, 2))
        return {
            "loss": error.mean() + NAMING * naming,
            "velocity": error.mean(),
            "early": error[early].sum() / early.sum().clamp(min=1),
            "naming": naming,
        }

    average = train(
        model,
        step,
        out / "transformer.training",
        steps,
        lr=lr / 2.5,
        muon_lr=lr,
        hidden="blocks.",
        ema=0.998,
        stop_at=stop_at,
    )
    assert isinstance(average, Grounded)
    scheduler = UniPCMultistepScheduler(prediction_type="flow_prediction", use_flow_sigmas=True, flow_shift=SHIFT)
    tokenizer = AutoTokenizer.from_pretrained(out / "tokenizer")  # afresh: calls change what a tokenizer saves
    vae.register_to_config(_name_or_path="")  # or this machine's path is written into the folder
    pipeline = WanPipeline(tokenizer, captioner.encoder, vae, scheduler, transformer=average.transformer.eval())
    pipeline.save_pretrained(out / "shapes-wan")


if __name__ == "__main__":
    run(main, prog="python -m data_prep.pretrain.transformer")
