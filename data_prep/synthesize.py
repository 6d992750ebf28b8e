"""Videos that the frozen generator makes itself, labelled by what they show, not by what their prompts asked.

    python -m data_prep.synthesize --out runs/synthetic --clips 400

Each video keeps the latents it was sampled through, for ``data_prep.invert --method trajectory``.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import save_file
from torch import Tensor
from tqdm import tqdm

from cvg.common.cli import run
from cvg.common.files import atomic, read_json, write_json
from cvg.generators import Generator, Loading, load_generator
from cvg.media.pixels import to_frames
from cvg.media.video import write_video
from cvg.shapes.oracle import read
from cvg.shapes.renderer import FPS, FRAMES, SIZE
from cvg.shapes.world import KINDS, LABELS, Spec, sample_spec
from data_prep import manifest

LEAST_SIGMA = 0.6
"""Latents are kept down to this noise level: classifiers look at early steps only."""


@dataclass(frozen=True)
class _Job:
    index: int
    spec: Spec
    folder: Path

    @property
    def name(self) -> str:
        return f"{self.index:06d}"

    @property
    def outcome(self) -> Path:
        return self.folder / "outcomes" / f"{self.name}.json"


def sample_with_trajectory(
    generator: Generator, prompts: list[str], seeds: list[int], steps: int, size: tuple[int, int, int]
) -> tuple[Tensor, Tensor, Tensor]:
    """Sample plainly and keep the early latents.

    Returns:
        Videos (B, 3, F, H, W) in [-1, 1]; latents (B, S, C, F, H', W') before each early step; their sigmas (S,).
    """
    levels = generator.schedule(steps, size).levels.float()
    early = int((levels[:-1] >= LEAST_SIGMA).sum())
    noise = [torch.Generator().manual_seed(seed) for seed in seeds]
    latents = generator.initial_latents(noise, size)
    kept = [latents]

    def keep(step: int, z: Tensor) -> Tensor:
        if step < early:
            kept.append(z.clone())
        return z

    final = generator.sample(prompts, latents, steps, None, size, keep, noise)
    return generator.decode_latents(final), torch.stack(kept, dim=1), levels[:early]


def label(spec: Spec, frames: np.ndarray) -> tuple[tuple[str, ...] | None, str]:
    """What the video shows of each relation of the spec, or None and the reason why it cannot be used."""
    reading = read(frames)
    if reading.problems or set(reading.tracks) != set(spec.entities):
        return None, "entities"
    labels = []
    for relation in spec.relations:
        entities = [spec.entities[i] for i in relation.entities]
        found = reading.label(LABELS[relation.label].group, entities)
        if found is None:
            return None, "cannot tell"
        labels.append(found)
    return tuple(labels), ""


def main(
    out: Path = Path("runs/synthetic"),
    clips: int = 400,
    generator: str = "shapes-wan",
    steps: int = 50,
    seed: int = 0,
    batch_size: int = 16,
    loading: Loading = Loading(),  # noqa: B008  (frozen)
) -> None:
    """Generate videos, label them with the oracle, and write OUT/manifest.jsonl.

    Args:
        out: folder of videos, latents and the manifest; a run that was stopped goes on.
        clips: videos to generate; those that the oracle cannot label are left out and counted.
        generator: a generator of the shapes world: folder or shipped name.
        steps: denoising steps.
        seed: of prompts and noise.
        batch_size: videos at a time.
        loading: where and how the generator is computed.
    """
    model = load_generator(generator, loading)
    jobs = []
    for index in range(clips):
        rng = np.random.default_rng([seed, index, 6])
        jobs.append(_Job(index, sample_spec(rng, KINDS[index % len(KINDS)]), out))
    batches = [jobs[start : start + batch_size] for start in range(0, clips, batch_size)]
    for batch in tqdm(batches, desc="synthesize", unit="batch"):
        if all(job.outcome.exists() for job in batch):
            continue
        seeds = [seed * 10**6 + job.index for job in batch]
        prompts = [job.spec.prompt for job in batch]
        videos, latents, sigmas = sample_with_trajectory(model, prompts, seeds, steps, (FRAMES, SIZE, SIZE))
        for i, job in enumerate(batch):
            frames = to_frames(videos[i])
            labels, reason = label(job.spec, frames)
            if labels is not None:
                write_video(out / "videos" / f"{job.name}.mp4", frames, fps=FPS)
                with atomic(out / "latents" / f"{job.name}.safetensors") as path:
                    save_file({"latents": latents[i].half().cpu().contiguous(), "sigmas": sigmas.float().cpu()}, path)
            write_json(job.outcome, {"labels": labels, "reason": reason})
    rows: list[manifest.Row] = []
    left_out: Counter[str] = Counter()
    for job in jobs:
        outcome = read_json(job.outcome)
        if outcome["labels"] is None:
            left_out[outcome["reason"]] += 1
            continue
        rows.append(
            manifest.Row(
                id=job.name,
                video=out / "videos" / f"{job.name}.mp4",
                template=job.spec.template,
                entities=job.spec.entities,
                relations=tuple(
                    (name, relation.entities)
                    for name, relation in zip(outcome["labels"], job.spec.relations, strict=True)
                ),
                split=manifest.split_of(f"videos/{job.name}.mp4", None, None),
                source="generator",
                trajectory=out / "latents" / f"{job.name}.safetensors",
            )
        )
    manifest.write(out / "manifest.jsonl", rows)
    print(f"{len(rows)} videos in {out / 'manifest.jsonl'}; left out: {dict(left_out) or 'none'}")


if __name__ == "__main__":
    run(main, prog="python -m data_prep.synthesize")
