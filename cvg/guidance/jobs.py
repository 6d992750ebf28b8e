"""Videos to sample and their files: names, videos, and whether they were made before."""

from __future__ import annotations

import itertools
import json
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cvg.common.errors import DataError, SettingsError, check_guidance_scale, require
from cvg.common.files import read_json, slug
from cvg.common.sizes import Size
from cvg.composition import Composition
from cvg.composition.asking import PromptLine
from cvg.guidance.pictures import Pictures
from cvg.media.video import write_gif, write_video

SIDE_BY_SIDE = (".side-by-side.mp4", ".side-by-side.gif")


@dataclass(frozen=True)
class Job:
    """A video to sample, and its files.

    Attributes:
        prompt: the prompt.
        composition: what it was understood to ask; None where nothing is guided and it was not.
        seed: of the initial noise.
        place: path of its files, without what tells them apart.
        pictures: what it is made of beside the prompt.
    """

    prompt: str
    composition: Composition | None
    seed: int
    place: Path
    pictures: Pictures

    def file(self, suffix: str) -> Path:
        """One of the job's files."""
        return self.place.with_name(self.place.name + suffix)

    def is_done(self, settings: dict[str, Any]) -> bool:
        """Whether all its files are there, made with these settings. The sidecar is written last."""
        both = settings["guidance"] == "on" and settings["compare"]
        names = (".mp4", *SIDE_BY_SIDE) if both else (".mp4",)
        if not all(self.file(name).exists() for name in (*names, ".json")):
            return False
        try:
            told = read_json(self.file(".json"))
        except DataError:  # damaged: made again
            return False
        mine = {"prompt": self.prompt, "seed": self.seed, **settings}
        return isinstance(told, dict) and all(
            told.get(name) == value for name, value in json.loads(json.dumps(mine)).items()
        )

    def write_videos(self, videos_FHWC: Sequence[NDArray[np.uint8]], fps: int, scale: int) -> None:
        """The last video of a job, and where there are two, unguided and guided, both side by side.

        The sidecar goes first: until it is written again, they are not those it tells of.
        """
        self.file(".json").unlink(missing_ok=True)
        write_video(self.file(".mp4"), videos_FHWC[-1], fps=fps, scale=scale)
        if len(videos_FHWC) > 1:
            both = np.concatenate(videos_FHWC, axis=2)
            write_video(self.file(".side-by-side.mp4"), both, fps=fps, scale=scale)
            write_gif(self.file(".side-by-side.gif"), both, fps=fps, scale=scale)


def job_places(lines: Sequence[PromptLine], seeds: Sequence[int], out: Path) -> list[list[Path]]:
    """Of every prompt, with every seed: the path of its files without suffix.

    Where a prompt has a picture of its own, the picture's name stands there too: a prompt may come with several.

    Raises:
        SettingsError: two videos would have the same path.
    """
    names = [slug(line.prompt) + (f"_{slug(line.image.stem)}" if line.image else "") for line in lines]
    places = [[out / f"{name}_seed{seed}" for seed in seeds] for name in names]
    twice = [place for place, count in Counter(itertools.chain(*places)).items() if count > 1]
    if twice:
        raise SettingsError(
            f"two videos would be written to {min(twice)}; give each prompt and seed once"
            + (", and its pictures different names" if any(line.image for line in lines) else "")
        )
    return places


def jobs_of(
    prompts: Sequence[str],
    compositions: Sequence[Composition | None],
    pictures: Sequence[Pictures],
    seeds: Sequence[int],
    places: Sequence[Sequence[Path]],
) -> list[Job]:
    """A job for every prompt with every seed; the places are those of :func:`job_places`."""
    rows = zip(prompts, compositions, pictures, places, strict=True)
    return [
        Job(prompt, composition, seed, place, shown)
        for prompt, composition, shown, row in rows
        for seed, place in zip(seeds, row, strict=True)
    ]


def check_values(
    prompts: Sequence[str], seeds: Sequence[int], guidance_scale: float | None, size: Size | None, least: dict[str, int]
) -> None:
    """Raise SettingsError for values that no run can have, before anything is loaded.

    Args:
        prompts: at least one.
        seeds: at least one, each a seed of PyTorch's.
        guidance_scale: of classifier-free guidance, if any is given.
        size: of the videos, if any is given.
        least: numbers of at least 1, by name.
    """
    for name, values in (("prompt", prompts), ("seed", seeds)):
        if not values:
            raise SettingsError(f"{name} []: there is nothing to sample; give at least one")
    for seed in seeds:
        if not 0 <= seed < 2**64:
            raise SettingsError(f"seed {seed}: give a number from 0 to 2**64 - 1")
    check_guidance_scale(guidance_scale)
    require(1, **least, **({} if size is None else Size(*size)._asdict()))


def fitting_size(sampler: Any, size: Size | None, scale: int) -> Size:
    """The size of the videos: the sampler's own when None. Raises SettingsError for one that no MP4 file can have.

    Args:
        sampler: a :class:`~cvg.guidance.sampler.GuidedSampler`.
        size: as it is asked for.
        scale: enlargement of the files.
    """
    size = Size(*(size or sampler.size))
    if size.height * scale % 2 or size.width * scale % 2:
        raise SettingsError(
            f"size {list(size)}, scale {scale}: files of {size.width * scale} x {size.height * scale} pixels, but "
            "H.264 needs even sides; give an even scale or size"
        )
    return size


def in_batches(jobs: Sequence[Job], settings: dict[str, Any]) -> list[tuple[Sequence[Job], dict[str, Any]]]:
    """Jobs that are sampled together, with their settings: those that can be guided first, the others plainly.

    Args:
        jobs: all of a run.
        settings: of the run; ``batch_size`` jobs go together, all of the same pictures.
    """
    guided = [job for job in jobs if job.composition is not None or settings["guidance"] == "off"]
    others = [job for job in jobs if job not in guided]
    plain = settings | {"guidance": "off", "guiding": None, "candidates": None}
    parts, size = ((guided, settings), (others, plain)), settings["batch_size"]
    batches: list[tuple[Sequence[Job], dict[str, Any]]] = []
    for part, of in parts:
        of_pictures: dict[Pictures, list[Job]] = {}
        for job in part:
            of_pictures.setdefault(job.pictures, []).append(job)
        for pictures, alike in of_pictures.items():
            batches += [(alike[at : at + size], of | {"image": pictures.told}) for at in range(0, len(alike), size)]
    return batches


def asked(batch: Sequence[Job]) -> list[Composition]:
    """What the jobs of a batch ask for that can be guided."""
    return [job.composition for job in batch if job.composition is not None]
