"""Stage 1 of a generator: the causal video VAE, trained on rendered clips.

python -m data_prep.pretrain.vae --out runs/pretrain
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from cvg.common import hub
from cvg.common.cli import run
from cvg.common.errors import SettingsError
from cvg.media.pixels import to_video
from cvg.shapes.renderer import FRAMES, render
from cvg.shapes.world import ALL_KINDS, LABELS, sample_scene, sample_spec
from data_prep.made_of import require_same
from data_prep.pretrain.drawing import require_weights
from data_prep.pretrain.family import FamilyName, find
from data_prep.pretrain.loop import train
from data_prep.pretrain.parts import trained_part


def clips(seed: int, count: int, frames: int = FRAMES, often: Mapping[str, float] | None = None) -> Tensor:
    """Rendered clips of training entities, or their first frames.

    Args:
        seed: of all that is drawn.
        count: clips.
        frames: of each.
        often: kinds of composition, or single labels, each with how often its clips are drawn; all kinds alike when
            None.

    Returns:
        (B, 3, F, H, W) in [-1, 1].
    """
    rng = np.random.default_rng([seed, 1])
    often = often or dict.fromkeys(ALL_KINDS, 1.0)
    share = np.array([*often.values()]) / sum(often.values())
    names = [str(name) for name in rng.choice([*often], count, p=share)]
    specs = [
        sample_spec(rng, name) if name in ALL_KINDS else sample_spec(rng, LABELS[name].group, labels=[name])
        for name in names
    ]
    return to_video(np.stack([render(sample_scene(spec, rng))[:frames] for spec in specs]))


def require_drawable(often: Mapping[str, float]) -> None:
    """Raise SettingsError for what is no kind and no label that all entities can show, and for weights not above 0."""
    alone = [label.name for label in LABELS.labels if label.group not in ("attribute", "change")]
    if unknown := [name for name in often if name not in (*ALL_KINDS, *alone)]:
        raise SettingsError(f"kinds {unknown[0]!r}: unknown; give some of {', '.join([*ALL_KINDS, *alone])}")
    require_weights(often)


def loss(vae: Any, video: Tensor, seed: int) -> dict[str, Tensor]:
    """Squared error of pixels and of their spatial differences, and a light KL term.

    Saturated pixels, the entities, weigh more: they are a twentieth of the picture, and absolute error would
    leave them out for long.
    """
    posterior = vae.encode(video).latent_dist
    random = torch.Generator(video.device).manual_seed(seed)
    noise = torch.randn(posterior.mean.shape, generator=random, device=video.device)
    decoded = vae.decode(posterior.mean + posterior.std * noise).sample
    error = decoded - video
    saturation = video.amax(1, keepdim=True) - video.amin(1, keepdim=True)
    pixels = ((1 + 3 * saturation) * error.pow(2)).mean()
    edges = error.diff(dim=-1).pow(2).mean() + error.diff(dim=-2).pow(2).mean()
    kl = 0.5 * (posterior.mean**2 + posterior.var - 1 - posterior.logvar).mean()
    return {"loss": pixels + edges + 1e-4 * kl, "pixels": pixels, "kl": kl, "mse": error.pow(2).mean()}


def main(
    out: Path = Path("runs/pretrain"),
    steps: int = 1750,
    batch_size: int = 4,
    lr: float = 4e-3,
    device: str = "cpu",
    start: str | None = None,
    decoder_only: bool = False,
    family: FamilyName = "wan",
    workers: int = 0,
    kinds: dict[str, float] | None = None,
) -> None:
    """Train the video VAE on rendered clips, and save it as OUT/vae with the statistics that standardise its latents.

    A run that was stopped goes on from the state in OUT/vae.training, where the log is too.

    Args:
        out: working folder of all stages of a generator.
        steps: optimiser steps.
        batch_size: clips per step. When training from nothing, the first 35 percent of the steps take twice as many
            clips, of their first 5 frames alone. What comes later in a clip is learned in the rest, so the number of
            steps is that of the whole training: there is no limit of time.
        lr: peak learning rate of Muon; that of AdamW is half of it. Lower it to go on from trained weights.
        device: torch device.
        start: pipeline folder, or shipped name, whose VAE training starts from; random weights when left out.
        decoder_only: keep the encoder of START, and the statistics of its latents, as they are. A transformer that was
            trained on these latents can then be used with the new VAE.
        family: generator family whose VAE class is trained.
        workers: processes that draw clips, for a GPU that would wait for them.
        kinds: kinds of composition, or single labels such as circling, each with how often its clips are drawn; what
            moves fast in a frame takes longest. All kinds alike when left out.

    Raises:
        SettingsError: ``decoder_only`` without ``start``, START has another family's VAE, kinds that cannot be drawn,
            or OUT has a training of other kinds, or that started otherwise.
    """
    if decoder_only and start is None:
        raise SettingsError("decoder_only: needs a VAE to keep the encoder of; name one with --start")
    require_drawable(kinds or {})
    torch.manual_seed(0)
    kind = find(family)
    vae = kind.vae()
    if start is not None:
        vae = trained_part(hub.path(start), "vae", type(vae))
    made_of = {"family": family, "start": start, "decoder_only": decoder_only, "kinds": kinds}
    require_same(out / "vae.training", made_of)
    vae = vae.to(device)
    if decoder_only:
        vae.encoder.requires_grad_(False)
        if vae.quant_conv is not None:
            vae.quant_conv.requires_grad_(False)
    short = 0.35 * steps if start is None else 0

    def draw(index: int) -> tuple[int, Tensor]:
        count, frames = (2 * batch_size, 5) if index < short else (batch_size, FRAMES)
        return index, clips(index, count, frames, kinds)

    def losses(batch: tuple[int, Tensor]) -> dict[str, Tensor]:
        index, video = batch
        return loss(vae, video.to(device), index)

    average: Any = train(
        vae,
        draw,
        losses,
        out / "vae.training",
        steps,
        lr=lr / 2,
        muon_lr=lr,
        hidden="coder.",
        save_every=100,
        workers=workers,
    )
    if not decoder_only:
        with torch.no_grad():
            latents = torch.cat([average.encode(clips(10**6 + i, 16).to(device)).latent_dist.mode() for i in range(16)])
        kind.standardise(average, latents)
    average.register_to_config(_name_or_path="")  # or the path of START is written into the folder
    average.save_pretrained(out / "vae")


if __name__ == "__main__":
    run(main, prog="python -m data_prep.pretrain.vae")
