"""One video -> its records: decode, VAE-encode, make {z_t} under p+ and p-, capture the entity maps."""

from __future__ import annotations

import random
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Literal

import torch
from torch import Tensor

from cvg.common.errors import DataError, PromptError, SettingsError
from cvg.common.sizes import Grid, Size
from cvg.composition import Composition, LabelSet, RelationBatch, contradict
from cvg.diffusion.trajectory import psnr
from cvg.generators import Conditioning, Generator
from cvg.grounding.maps import resample
from cvg.grounding.slots import slot_maps
from cvg.media.pixels import to_video
from cvg.media.video import VideoError, read_video
from cvg.shards.records import Record
from data_prep.inversion.latents import Settings, drawn, inverted
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
    recorder = Recorder(generator, labels, settings)
    (passed,) = recorder.run([recorder.prepare(row)])
    return recorder.finish(passed)


@dataclass(frozen=True, eq=False)
class Prepared:
    """A row whose video is read and encoded, as its prompts are.

    Attributes:
        row: of the manifest.
        positive: the composition of p+.
        negative: the composition of p-.
        video_BCFHW: the one video, in [-1, 1], in main memory.
        clean: its latents (1, C, F, H', W').
        conditioning: of p+ and p-.
        drawn: its noisy latents (1, ...) per step; None where it is to be inverted.
    """

    row: Row
    positive: Composition
    negative: Composition
    video_BCFHW: Tensor
    clean: Tensor
    conditioning: Conditioning
    drawn: list[Tensor] | None


@dataclass(frozen=True, eq=False)
class Passed:
    """A row that went through the network.

    Attributes:
        prepared: what went in.
        taken: its noisy latents (2, ...) under p+ and p- per step.
        replayed: the clean latents (2, ...) that its noise led back to; None where it was not inverted.
        maps: entity maps (2, L, A, E, F, H, W) per step, in main memory.
    """

    prepared: Prepared
    taken: list[Tensor]
    replayed: Tensor | None
    maps: list[Tensor]


class Recorder:
    """Videos -> records, in three parts: what comes before the network, the network, and what comes after it.

    ``prepare`` and ``finish`` may run in another thread than ``run``, one at a time: they use the VAE and the text
    encoder alone.

    Args:
        generator: the frozen generator.
        labels: the label set.
        settings: how videos become records.
    """

    def __init__(self, generator: Generator, labels: LabelSet, settings: Settings) -> None:
        self.generator, self.labels, self.settings = generator, labels, settings
        self._reading = threading.Lock()  # encoding prompts looks at the network, which reading maps changes

    def prepare(self, row: Row) -> Prepared:
        """Read and encode a row's video and prompts. Raises Rejected."""
        if row.fault:
            raise Rejected("malformed", row.fault)
        generator, settings = self.generator, self.settings
        rng = random.Random(f"{settings.seed}:{row.id}")
        with _rejecting("prompt", PromptError):
            positive = row.composition(self.labels, rng)
            negative = contradict(positive, self.labels, rng)
        with _rejecting("unreadable", VideoError, OSError):
            pixels = read_video(row.video, *settings.size, start=row.start, end=row.end, fit=settings.fit)
        video = to_video(pixels)[None]
        clean = generator.encode_video(video.to(generator.device))
        _require_finite("the video's latents", clean)
        with _rejecting("prompt", PromptError):
            conditioning = self._encode([positive, negative])
        noisy = None
        if settings.method != "inversion":
            with _rejecting("trajectory", DataError):
                noisy = drawn(settings, row, generator, clean)
            for index, latents in zip(settings.at, noisy, strict=True):
                _require_finite(f"the latents of step {index}", latents)
        return Prepared(row, positive, negative, video, clean, conditioning, noisy)

    def _encode(self, compositions: list[Composition]) -> Conditioning:
        with self._reading:
            return self.generator.encode(compositions)

    def together(self, videos: Sequence[Prepared]) -> Conditioning:
        """p+ and p- of the first, p+ and p- of the second, and so on, as one batch."""
        if len(videos) == 1:
            return videos[0].conditioning
        return self._encode([side for video in videos for side in (video.positive, video.negative)])

    def run(self, videos: Sequence[Prepared], conditioning: Conditioning | None = None) -> list[Passed]:
        """Take videos through the network, all in one batch.

        Args:
            videos: N of them, prepared.
            conditioning: of all, as :meth:`together` makes it; made here when None.
        """
        conditioning = self.together(videos) if conditioning is None else conditioning
        settings, generator, replayed = self.settings, self.generator, None
        if settings.method == "inversion":
            clean = torch.cat([video.clean for video in videos])
            taken, replayed = inverted(settings, generator, clean, conditioning)
        else:
            steps = [torch.cat(list(step)) for step in zip(*(video.drawn or [] for video in videos), strict=True)]
            taken = [z.expand(2, *z.shape[1:]) if len(z) == 1 else z.repeat_interleave(2, dim=0) for z in steps]
        schedule = generator.schedule(settings.steps, settings.size)
        recorded = []
        for index, latents in zip(settings.at, taken, strict=True):
            with self._reading:
                maps = generator.entity_maps(
                    latents, schedule.timesteps[index], conditioning, settings.layers, settings.heads
                )
            recorded.append((maps if settings.grid is None else resample(maps, settings.grid)).cpu())
        return [
            Passed(
                video,
                [z[2 * i : 2 * i + 2] for z in taken],
                None if replayed is None else replayed[2 * i : 2 * i + 2],
                [maps[2 * i : 2 * i + 2] for maps in recorded],
            )
            for i, video in enumerate(videos)
        ]

    def finish(self, passed: Passed) -> list[Record]:
        """Judge a row's replay and make its records, one per relation. Raises Rejected."""
        quality = self._quality(passed)
        for index, latents, maps in zip(self.settings.at, passed.taken, passed.maps, strict=True):
            _require_finite(f"the latents of step {index}", latents)
            _require_finite(f"the entity maps of step {index}", maps)
        row, positive, negative = passed.prepared.row, passed.prepared.positive, passed.prepared.negative
        maps_2SLAEFHW = torch.stack(passed.maps, dim=1)
        both = RelationBatch.of([positive, negative], self.labels)
        maps_2RSLAKFHW = slot_maps(maps_2SLAEFHW.flatten(1, 2), both.prompt_R, both.slots_RK)
        maps_2RSLAKFHW = maps_2RSLAKFHW.unflatten(1, maps_2SLAEFHW.shape[1:3]).unflatten(0, (2, -1)).half()
        schedule = self.generator.schedule(self.settings.steps, self.settings.size)
        records = []
        for number, relation in enumerate(positive.relations):
            meta = {
                "group": self.labels[relation.label].group,
                "prompt_positive": positive.prompt,
                "prompt_negative": negative.prompt,
                "negative_label": negative.relations[number].label,
                "entities_positive": [asdict(entity) for entity in relation.entities],
                "entities_negative": [asdict(entity) for entity in negative.relations[number].entities],
                "video": Path(row.video).name,
                "source": row.source,
                "method": self.settings.method,
                "sigmas": [float(schedule.levels[i]) for i in self.settings.at],
                "psnr": quality,
            }
            meta |= {name: term for name, term in (("dataset", row.dataset), ("licence", row.licence)) if term}
            present, (right, wrong) = tuple(both.present_RK[number]), maps_2RSLAKFHW[:, number]
            records.append(Record(row.keys[number], right, wrong, present, relation.label, meta))
        return records

    def _quality(self, passed: Passed) -> list[float] | None:
        """PSNR (dB) of the replay under p+ and p-; None where nothing was replayed. Raises Rejected."""
        if passed.replayed is None:
            return None
        _require_finite("the replayed latents", passed.replayed)
        decoded = self.generator.decode_latents(passed.replayed).cpu()
        _require_finite("the frames of the replay", decoded)
        quality: list[float] = psnr(decoded, passed.prepared.video_BCFHW.expand_as(decoded)).tolist()
        if min(quality) < self.settings.min_psnr:
            raise Rejected("replay", f"replay PSNR {min(quality):.1f} dB is below {self.settings.min_psnr:g} dB")
        return [round(value, 3) for value in quality]


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
