"""Three ways from a video to its noisy latents z_t, t in T, under p+ and p-."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import safetensors.torch
import torch
from torch import Tensor

from cvg.common.errors import DataError
from cvg.common.sizes import Grid, Size
from cvg.diffusion.trajectory import invert, nearest_steps, replay
from cvg.generators import Conditioning, Generator
from cvg.media.video import Fit
from data_prep.manifest import Row

Method = Literal["inversion", "noising", "trajectory"]


@dataclass(frozen=True)
class Settings:
    """How the videos of a manifest become records.

    With generator, labels and manifest these settings fix every byte of the shards; a folder of shards keeps the ones
    it was begun with and is gone on with under no others.

    Attributes:
        method: where the noisy latents z_t of a video come from: ``inversion`` (the video is inverted to noise under
            each of its two prompts, and replayed from there), ``noising`` (random noise is mixed into its latents), or
            ``trajectory`` (the latents that were saved when the generator sampled the video).
        steps: denoising steps of the schedule, on which videos are inverted and replayed.
        at: the steps whose maps are recorded, as indices into the schedule; 0 is the noisiest.
        iterations: inversion: how often each step is corrected by fixed-point iteration.
        layers: indices of the generator's blocks whose attention is recorded.
        heads: indices of the attention heads that are recorded, the same in each layer.
        size: in pixels, to which videos are brought before they are encoded.
        min_psnr: inversion: a video is left out when its replay has a lower PSNR (dB) against it.
        seed: of the drawn wordings, wrong labels and noise.
        grid: to which maps are averaged before they are stored; None stores one value for each of the generator's
            latent tokens.
        fit: what becomes of pictures of another shape than ``size``.
        guidance_scale: of classifier-free guidance that videos are to be sampled with; shards and classifiers tell it.
            Each record is of one prompt alone, so that it changes those alone whose network is told the scale
            (HunyuanVideo's).
    """

    method: Method
    steps: int
    at: list[int]
    iterations: int
    layers: list[int]
    heads: list[int]
    size: Size
    min_psnr: float
    seed: int
    grid: Grid | None = None
    fit: Fit = "crop"
    guidance_scale: float | None = None


def inverted(
    settings: Settings, generator: Generator, clean: Tensor, conditioning: Conditioning
) -> tuple[list[Tensor], Tensor]:
    """z_t of N videos for each step in ``settings.at``, by inverting them under both of their prompts and replaying.

    Args:
        settings: schedule and T.
        generator: the frozen generator.
        clean: latents of the videos, (N, C, F, H', W').
        conditioning: of p+ and p- of the first, p+ and p- of the second, and so on.

    Returns:
        z_t (2N, C, F, H', W') per step, and the replayed clean latents (2N, ...), both in the prompts' order.
    """
    schedule = generator.schedule(settings.steps, settings.size)

    def predict(z: Tensor, i: int) -> Tensor:
        return generator.predict(z, schedule.timesteps[i], conditioning.states).float()

    twice = clean.expand(2, *clean.shape[1:]) if len(clean) == 1 else clean.repeat_interleave(2, dim=0)
    noise = invert(twice, schedule, predict, settings.iterations)
    replayed, kept = replay(noise, schedule, predict, settings.at)
    return [kept[i] for i in settings.at], replayed


def drawn(settings: Settings, row: Row, generator: Generator, clean: Tensor) -> list[Tensor]:
    """z_t of one video for each step in ``settings.at`` without an inversion: the same under p+ and p-.

    Args:
        settings: method, ``noising`` or ``trajectory``, schedule and T.
        row: the video's row; seeds the noise, and names the saved trajectory.
        generator: the frozen generator.
        clean: latents of the video, (1, C, F, H', W').

    Returns:
        z_t (1, C, F, H', W') per step.

    Raises:
        DataError: the row has no saved trajectory, or it cannot be read.
    """
    schedule = generator.schedule(settings.steps, settings.size)
    if settings.method == "trajectory":
        return saved_trajectory(row, [float(schedule.levels[i]) for i in settings.at], clean)
    source = torch.Generator().manual_seed(random.Random(f"{settings.seed}:{row.id}:noise").getrandbits(63))
    noise = torch.randn(clean.shape, generator=source).to(clean)
    return [schedule.noised(clean, noise, i) for i in settings.at]


def saved_trajectory(row: Row, wanted: Sequence[float], like: Tensor) -> list[Tensor]:
    """The latents that a video of the generator was sampled through, at the steps nearest to the wanted sigmas.

    Raises:
        DataError: the row has no saved trajectory, or it cannot be read.
    """
    if row.trajectory is None:
        raise DataError(
            f"manifest row {row.id}: has no saved trajectory; use method inversion or noising, or videos made by "
            "`python -m data_prep.synthesize`"
        )
    path = row.trajectory

    def bad(reason: str) -> DataError:
        return DataError(f"trajectory {path}: {reason}; synthesize the video again")

    try:
        if not path.is_file():
            raise bad("no such file")
        saved = safetensors.torch.load_file(path)
        kept, sigmas = saved["latents"], saved["sigmas"].float()
    except (OSError, ValueError, safetensors.SafetensorError) as error:
        raise bad(f"cannot be read ({error})") from error
    except KeyError as error:
        raise bad(f"has no {error}") from error
    if sigmas.ndim != 1 or kept.shape != (len(sigmas), *like.shape[1:]) or not kept.is_floating_point():
        raise bad(
            f"latents {tuple(kept.shape)} at noise levels {tuple(sigmas.shape)}; those of the video are "
            f"{tuple(like.shape[1:])}"
        )
    if not sigmas.isfinite().all():
        raise bad("its noise levels are not finite")
    latents = []
    for sigma, step in zip(wanted, nearest_steps(sigmas, wanted), strict=True):
        if step is None:
            raise DataError(
                f"trajectory {path}: no latents near noise level {sigma:.3f}; it holds "
                f"{[round(held, 3) for held in sigmas.tolist()]}: record other steps, or synthesize the "
                "video in more steps"
            )
        latents.append(kept[step][None].to(like))
    return latents
