"""One video -> its records: decode, VAE-encode, make {z_t} under p+ and p-, capture the entity maps."""

from __future__ import annotations

import random
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Literal

import torch
from torch import Tensor

from cvg.common.errors import DataError, PromptError, SettingsError
from cvg.common.sizes import Grid, Size
from cvg.composition import LabelSet, RelationBatch, contradict
from cvg.diffusion.trajectory import psnr
from cvg.generators import Generator
from cvg.grounding.maps import resample
from cvg.grounding.slots import slot_maps
from cvg.media.pixels import to_video
from cvg.media.video import VideoError, read_video
from cvg.shards.records import Record
from data_prep.latents import Settings, latents_at
from data_prep.manifest import Row

Reason = Literal["malformed", "prompt", "unreadable", "trajectory", "not finite", "replay", "maps", "model"]
"""Why a row gives no record: its line is none; its words do not fit the generator; its video, or its saved trajectory,
cannot be read or does not fit; its latents or maps overflow; its replay misses the video; its maps are none that a
record may hold; the generator fails on it alone."""


class Rejected(Exception):
    """A row that gives no record, with the reason that is counted and the detail that is listed."""

    def __init__(self, reason: Reason, detail: str) -> None:
        super().__init__(detail)
        self.reason, self.detail = reason, detail


def make_records(row: Row, generator: Generator, labels: LabelSet, settings: Settings) -> list[Record]:
    """The records of one video, one per relation.

    Raises:
        Rejected: the row is at fault: its prompts, its video, its saved trajectory, or what becomes of them. Faults of
            the settings and of the generator, which all rows share, are other errors.
    """
    if row.fault:
        raise Rejected("malformed", row.fault)
    rng = random.Random(f"{settings.seed}:{row.id}")
    with _rejecting("prompt", PromptError):
        positive = row.composition(labels, rng)
        negative = contradict(positive, labels, rng)
    with _rejecting("unreadable", VideoError, OSError):
        pixels = read_video(row.video, *settings.size, start=row.start, end=row.end, fit=settings.fit)
    video = to_video(pixels)[None]
    clean = generator.encode_video(video.to(generator.device))
    _require_finite("the video's latents", clean)
    with _rejecting("prompt", PromptError):
        conditioning = generator.encode([positive, negative])
    with _rejecting("trajectory", DataError):
        taken, replayed = latents_at(settings, row, generator, clean, conditioning)
    quality = None
    if replayed is not None:
        _require_finite("the replayed latents", replayed)
        decoded = generator.decode_latents(replayed).cpu()
        _require_finite("the frames of the replay", decoded)
        quality = psnr(decoded, video.expand_as(decoded)).tolist()
        if min(quality) < settings.min_psnr:
            raise Rejected("replay", f"replay PSNR {min(quality):.1f} dB is below {settings.min_psnr:g} dB")
    schedule = generator.schedule(settings.steps, settings.size)
    steps = []
    for index, latents in zip(settings.at, taken, strict=True):
        timestep = schedule.timesteps[index]
        _require_finite(f"the latents of step {index}", latents)
        maps = generator.entity_maps(latents, timestep, conditioning, settings.layers, settings.heads)
        _require_finite(f"the entity maps of step {index}", maps)
        steps.append((maps if settings.grid is None else resample(maps, settings.grid)).cpu())
    maps_2SLAEFHW = torch.stack(steps, dim=1)
    both = RelationBatch.of([positive, negative], labels)
    maps_2RSLAKFHW = slot_maps(maps_2SLAEFHW.flatten(1, 2), both.prompt_R, both.slots_RK)
    maps_2RSLAKFHW = maps_2RSLAKFHW.unflatten(1, maps_2SLAEFHW.shape[1:3]).unflatten(0, (2, -1)).half()
    records = []
    for number, relation in enumerate(positive.relations):
        meta = {
            "group": labels[relation.label].group,
            "prompt_positive": positive.prompt,
            "prompt_negative": negative.prompt,
            "negative_label": negative.relations[number].label,
            "entities_positive": [asdict(entity) for entity in relation.entities],
            "entities_negative": [asdict(entity) for entity in negative.relations[number].entities],
            "video": Path(row.video).name,
            "source": row.source,
            "method": settings.method,
            "sigmas": [float(schedule.levels[i]) for i in settings.at],
            "psnr": None if quality is None else [round(value, 3) for value in quality],
        }
        meta |= {name: term for name, term in (("dataset", row.dataset), ("licence", row.licence)) if term}
        present, (right, wrong) = tuple(both.present_RK[number]), maps_2RSLAKFHW[:, number]
        records.append(Record(row.keys[number], right, wrong, present, relation.label, meta))
    return records


def _require_finite(what: str, values: Tensor) -> None:
    if not values.isfinite().all():
        raise Rejected("not finite", f"{what} are not finite")


@contextmanager
def _rejecting(reason: Reason, *errors: type[Exception]) -> Iterator[None]:
    """Within it these errors are the row's fault."""
    try:
        yield
    except errors as error:
        raise Rejected(reason, str(error)) from error


def token_grid(generator: Generator, size: Size) -> Grid:
    """Frames, rows and columns of the video tokens of a video of a size."""
    return generator.token_grid(generator.encode_video(torch.zeros(1, 3, *size, device=generator.device)))


def check_grid(generator: Generator, settings: Settings) -> list[int]:
    """The video's latent tokens [F, H, W].

    Raises:
        SettingsError: the generator's videos have no such size, or maps are to be stored on a finer grid.
    """
    generator.check_size(settings.size)
    tokens = token_grid(generator, settings.size)
    if settings.grid and not all(1 <= side <= most for side, most in zip(settings.grid, tokens, strict=True)):
        raise SettingsError(
            f"grid {list(settings.grid)}: a video of size {list(settings.size)} has {list(tokens)} latent frames, rows "
            "and columns; give at most as many of each"
        )
    return list(tokens)


def taps(model: Generator, layers: list[int] | None, heads: list[int] | None) -> tuple[list[int], list[int]]:
    """Tapped layers and recorded heads; all of the generator's for None. SettingsError where it has no such ones."""
    layers = layers if layers is not None else list(range(len(model.blocks)))
    model.check_layers(layers)
    heads = heads if heads is not None else list(range(model.num_heads))
    if not heads or heads != sorted(set(heads)) or not 0 <= heads[0] <= heads[-1] < model.num_heads:
        raise SettingsError(
            f"heads {heads}: expected ascending numbers from 0 to {model.num_heads - 1}, the heads of {model.name}"
        )
    return layers, heads


def check_steps(at: list[int], steps: int) -> None:
    """Raise SettingsError unless ``at`` are ascending steps of a schedule of ``steps``."""
    if not at or any(not 0 <= index < steps for index in at) or at != sorted(set(at)):
        raise SettingsError(f"at {at}: expected ascending step indices below steps={steps}")
