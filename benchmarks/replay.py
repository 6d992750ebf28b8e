"""What an inversion costs and how well its replay returns: replay error and PSNR against network calls.

python -m data_prep.render --out runs/clips --clips 24
python -m benchmarks.replay --data runs/clips --out runs/inversion.json
"""

from __future__ import annotations

import itertools
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from cvg.common.cli import run
from cvg.common.files import write_json
from cvg.common.sizes import Size
from cvg.composition import LabelSet
from cvg.diffusion.schedule import Schedule
from cvg.diffusion.trajectory import Predict, invert, psnr, replay
from cvg.generators import Loading, load_generator
from cvg.media.pixels import to_video
from cvg.media.video import read_video
from data_prep import manifest

LABELS = LabelSet.load("shapes")


def invert_plainly(clean: Tensor, schedule: Schedule, predict: Predict, iterations: int) -> Tensor:
    """The usual fixed-point iteration: from the cleaner latents, repeating the step's inverse."""
    z = clean
    for i in reversed(range(len(schedule.timesteps))):
        noisier = z
        for _ in range(iterations + 1):
            noisier = schedule.back(z, predict(noisier, i), i)
        z = noisier
    return z


WAYS: dict[str, Callable[[Tensor, Schedule, Predict, int], Tensor]] = {"plain": invert_plainly, "secant": invert}
"""`cvg.diffusion.trajectory.invert` beside what others do."""


@torch.no_grad()
def main(
    data: Path,
    out: Path = Path("runs/inversion.json"),
    generator: str = "shapes-wan",
    steps: list[int] = [8, 12, 24],  # noqa: B006  (never changed)
    iterations: list[int] = [0, 1, 2, 3],  # noqa: B006  (never changed)
    size: Size = Size(13, 64, 64),
    limit: int = 24,
    loading: Loading = Loading(),  # noqa: B008  (frozen)
) -> None:
    """Invert and replay videos under their right prompts.

    Args:
        data: manifest (JSON Lines) of the shapes world, or a folder with a manifest.jsonl.
        out: JSON file to write.
        generator: pipeline folder, hub id, or shipped name.
        steps: numbers of steps of the schedule.
        iterations: fixed-point corrections per inversion step.
        size: frames, height, width to which videos are resampled and cropped.
        limit: use only the first rows, in one batch.
        loading: where and how the generator is computed.
    """
    rows = manifest.load(data, LABELS)[:limit]
    model = load_generator(generator, loading)
    model.check_size(size)
    video = torch.cat([to_video(read_video(row.video, *size, start=row.start, end=row.end))[None] for row in rows])
    clean = model.encode_video(video.to(model.device))
    states = model.encode([row.composition(LABELS, random.Random(row.id)) for row in rows]).states
    best = psnr(model.decode_latents(clean).cpu(), video)
    print(f"{len(rows)} videos; encoded and decoded without inversion: {best.mean():.2f} dB, least {best.min():.2f}")
    print("steps  iterations  calls  way     latents' error  PSNR   least")
    results: list[dict[str, Any]] = []
    for count, corrections, (way, inversion) in itertools.product(steps, iterations, WAYS.items()):
        schedule = model.schedule(count, size)

        def predict(z: Tensor, i: int, schedule: Schedule = schedule) -> Tensor:
            return model.predict(z, schedule.timesteps[i], states).float()

        replayed, _ = replay(inversion(clean, schedule, predict, corrections), schedule, predict)
        error = float(((replayed - clean).square().mean() / clean.square().mean()).sqrt())
        quality = psnr(model.decode_latents(replayed).cpu(), video)
        calls = count * (corrections + 2)  # the replay's too
        results.append(
            {
                "steps": count,
                "iterations": corrections,
                "way": way,
                "calls": calls,
                "error": error,
                "psnr": float(quality.mean()),
                "least_psnr": float(quality.min()),
            }
        )
        print(
            f"{count:5d}  {corrections:10d}  {calls:5d}  {way:6s}  {error:14.5f}  {quality.mean():5.2f}  "
            f"{quality.min():5.2f}",
            flush=True,
        )
    write_json(
        out,
        {
            "generator": model.identity(),
            "videos": len(rows),
            "ceiling": {"psnr": float(best.mean()), "least_psnr": float(best.min())},
            "rows": results,
        },
    )
    print(f"wrote {out}")


if __name__ == "__main__":
    run(main, prog="python -m benchmarks.replay")
