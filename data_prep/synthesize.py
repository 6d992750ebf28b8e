"""Videos that the frozen generator makes itself, labelled by what they show, not by what their prompts asked.

    python -m data_prep.synthesize --out runs/synthetic --clips 400
    python -m data_prep.synthesize --suite prompts --prompts_file prompts.txt --labels world --judge detector:MODEL

Each video keeps the latents it was sampled through, for ``data_prep.invert --method trajectory``.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save
from torch import Tensor
from tqdm import tqdm

from cvg.common.cli import run
from cvg.common.errors import DataError, check_guidance_scale, require
from cvg.common.files import alone, atomic, read_json, require_writable, sweep, write_json
from cvg.common.sizes import Size
from cvg.composition import LabelSet, template_of
from cvg.evaluation.suites import Case, Suite, SuiteSettings, load_suite
from cvg.generators import Generator, Loading, load_generator
from cvg.judging import Reading
from cvg.media.pixels import to_frames
from cvg.media.video import write_video
from data_prep import manifest, splits

RUN = "run.json"
LEAST_SIGMA = 0.6
"""Latents are kept down to this noise level: classifiers look at early steps only."""


@dataclass(frozen=True)
class _Job:
    index: int
    case: Case
    folder: Path

    @property
    def name(self) -> str:
        return f"{self.index:06d}"

    @property
    def outcome(self) -> Path:
        return self.folder / "outcomes" / f"{self.name}.json"

    @property
    def video(self) -> Path:
        return self.folder / "videos" / f"{self.name}.mp4"

    @property
    def latents(self) -> Path:
        return self.folder / "latents" / f"{self.name}.safetensors"

    def done(self) -> bool:
        """Whether it was made, judged and kept whole; one whose files are damaged or gone is made again."""
        try:
            found = read_json(self.outcome)
        except DataError:
            return False
        if not isinstance(found, dict) or not {"labels", "reason"} <= found.keys():
            return False
        return found["labels"] is None or all(
            path.is_file() and path.stat().st_size > 0 for path in (self.video, self.latents)
        )


def sample_with_trajectory(
    generator: Generator,
    prompts: list[str],
    seeds: list[int],
    steps: int,
    size: Size,
    guidance_scale: float | None = None,
) -> tuple[Tensor, Tensor, Tensor]:
    """Sample plainly and keep the early latents.

    Returns:
        Videos (B, 3, F, H, W) in [-1, 1]; latents (B, S, C, F, H', W') before each early step; their sigmas (S,).
    """
    levels = generator.schedule(steps, size).levels.float()
    early = int((levels[:-1] >= LEAST_SIGMA).sum())
    noise = [torch.Generator().manual_seed(seed) for seed in seeds]
    latents = generator.initial_latents(noise, size)
    kept: list[Tensor] = []

    def keep(step: int, z: Tensor) -> Tensor:
        if step < early:
            kept.append(z.clone())
        return z

    final = generator.sample(prompts, latents, steps, guidance_scale, size, keep, noise)
    return generator.decode_latents(final), torch.stack(kept, dim=1), levels[:early]


def shown(reading: Reading) -> tuple[tuple[str, ...] | None, str]:
    """The label that a video shows of each relation asked, or None and the reason why the video cannot be used."""
    if not reading.entities_right:
        return None, "entities"
    labels = tuple(label for label in reading.labels if label is not None)
    return (labels, "") if len(labels) == len(reading.labels) else (None, "cannot tell")


def make_batch(
    generator: Generator,
    suite: Suite,
    jobs: Sequence[_Job],
    steps: int,
    size: Size,
    fps: float,
    guidance_scale: float | None,
) -> None:
    """Sample videos, have them judged, and write those that can be labelled, with their latents; and all outcomes."""
    asked = [job.case.asked for job in jobs]
    seeds = [job.case.seeds[0] for job in jobs]
    prompts = [composition.prompt for composition in asked]
    video_BCFHW, latents, sigmas = sample_with_trajectory(generator, prompts, seeds, steps, size, guidance_scale)
    videos = [to_frames(video_CFHW) for video_CFHW in video_BCFHW]
    for i, (job, reading) in enumerate(zip(jobs, suite.judge(videos, asked), strict=True)):
        labels, reason = shown(reading)
        if labels is not None:
            write_video(job.video, videos[i], fps=fps)
            with atomic(job.latents) as path:
                kept = {"latents": latents[i].half().cpu().contiguous(), "sigmas": sigmas.float().cpu()}
                path.write_bytes(save(kept))
        write_json(job.outcome, {"labels": labels, "reason": reason})


def row(job: _Job, labels: Sequence[str]) -> manifest.Row:
    """The manifest's row of a video that shows these labels."""
    composition = job.case.asked
    return manifest.Row(
        id=job.name,
        video=job.video,
        template=template_of(composition),
        entities=tuple(entity.phrase for entity in composition.entities),
        relations=tuple(
            (label, tuple(composition.entities.index(entity) for entity in relation.entities))
            for label, relation in zip(labels, composition.relations, strict=True)
        ),
        split=splits.split_of(f"videos/{job.name}.mp4", None, None),
        source="generator",
        trajectory=job.latents,
    )


def main(
    out: Path = Path("runs/synthetic"),
    clips: int = 400,
    generator: str = "shapes-wan",
    suite: str = "shapes",
    prompts_file: Path | None = None,
    labels: str | None = None,
    judge: str | None = None,
    steps: int = 50,
    seed: int = 0,
    size: Size = Size(13, 64, 64),
    fps: int = 8,
    batch_size: int = 16,
    guidance_scale: float | None = None,
    loading: Loading = Loading(),  # noqa: B008  (frozen)
) -> None:
    """Generate videos, label them with a suite's judge, and write OUT/manifest.jsonl.

    Args:
        out: folder of videos, latents and the manifest; a run that was stopped goes on.
        clips: videos to generate; those that the judge cannot label are left out and counted.
        generator: a generator of what the suite asks for: folder, hub id, or shipped name.
        suite: whose training prompts are asked and whose judge labels the videos: shapes, or prompts, which are those
            of a file.
        prompts_file: the file, where that is the suite: a prompt a line (.txt), or with entities and labels by hand
            (.jsonl, .csv). Those that ask for no label are left out, the others asked in turn, each time with other
            noise.
        labels: label set of the prompts, a YAML file or the name of one that ships; the suite's own when left out
            (world, for a file's).
        judge: who labels the videos in place of the suite's judge: a judge's name, with a model after a colon where it
            takes one.
        steps: denoising steps.
        seed: of prompts and noise.
        size: frames, height, width in pixels.
        fps: frames per second of the files.
        batch_size: videos at a time.
        guidance_scale: of classifier-free guidance, 1 for models of few steps; the pipeline's default when left out.
        loading: where and how the generator is computed.
    """
    require(1, clips=clips, steps=steps, batch_size=batch_size, fps=fps, **Size(*size)._asdict())
    check_guidance_scale(guidance_scale)
    require_writable(out / RUN)
    label_set = None if labels is None else LabelSet.load(labels)
    asking = load_suite(suite, label_set, loading.device, SuiteSettings(judge=judge, prompts_file=prompts_file))
    asking.training_cases(1, seed)  # before a generator is loaded
    model = load_generator(generator, loading)
    model.check_size(size)
    settings = {
        **{"generator": model.identity(), "suite": suite, "steps": steps, "seed": seed, "size": list(size), "fps": fps},
        **{"batch_size": batch_size, "dtype": loading.dtype, "judge": judge, "guidance_scale": guidance_scale},
        "labels": label_set and label_set.to_dict(),
        "prompts": prompts_file and hashlib.sha256(prompts_file.read_bytes()).hexdigest(),
    }
    with alone(out):
        _begin(out, settings)
        rows, left_out = _synthesize(model, asking, out, clips, seed, batch_size, steps, size, fps, guidance_scale)
    print(f"{len(rows)} videos in {out / manifest.NAME}; left out: {dict(left_out) or 'none'}")


def _begin(out: Path, settings: dict[str, Any]) -> None:
    """Note in ``run.json`` what the videos are made with, or see that those that are there were made with the same.

    How many are wanted is none of it: the first are the same whatever follows.

    Raises:
        DataError: they were made with others, or it is not known with what.
    """
    noted, made = out / RUN, any((out / "outcomes").glob("*.json"))
    try:
        found = read_json(noted) if made else settings
    except DataError as error:
        raise DataError(
            f"out {out}: holds videos of settings that are not known ({error}); choose another folder or remove it"
        ) from error
    if name := next(
        (name for name in settings if not isinstance(found, dict) or found.get(name) != settings[name]), ""
    ):
        before = found.get(name) if isinstance(found, dict) else None
        raise DataError(
            f"out {out}: holds videos made with {name} {before!r}, this run has {settings[name]!r}; choose another "
            "folder, or go on with the same"
        )
    if not made:
        write_json(noted, settings)


def _synthesize(
    model: Generator,
    asking: Suite,
    out: Path,
    clips: int,
    seed: int,
    batch_size: int,
    steps: int,
    size: Size,
    fps: float,
    guidance_scale: float | None,
) -> tuple[list[manifest.Row], Counter[str]]:
    """Make what is not there yet, and the manifest. Returns its rows, and the number of others by reason."""
    for folder in ("outcomes", "videos", "latents"):
        sweep(out / folder, older=0)
    jobs = [_Job(index, case, out) for index, case in enumerate(asking.training_cases(clips, seed))]
    batches = [jobs[start : start + batch_size] for start in range(0, clips, batch_size)]
    for batch in tqdm(batches, desc="synthesize", unit="batch"):
        if not all(job.done() for job in batch):
            make_batch(model, asking, batch, steps, size, fps, guidance_scale)
    rows: list[manifest.Row] = []
    left_out: Counter[str] = Counter()
    for job in jobs:
        outcome = read_json(job.outcome)
        if outcome["labels"] is None:
            left_out[outcome["reason"]] += 1
        else:
            rows.append(row(job, outcome["labels"]))
    manifest.write(out / manifest.NAME, rows)
    return rows, left_out


if __name__ == "__main__":
    run(main, prog="python -m data_prep.synthesize")
