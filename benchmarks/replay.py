"""What an inversion costs and how well its replay returns: replay error and PSNR against network calls.

python -m data_prep.render --out runs/clips --clips 24
python -m benchmarks.replay --data runs/clips --json runs/inversion.json
"""

from __future__ import annotations

import itertools
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from cvg.cli import run
from cvg.files import write_json
from cvg.generators import load_generator
from cvg.pixels import to_video
from cvg.schedule import Schedule
from cvg.shapes.world import LABELS
from cvg.trajectory import Predict, invert, psnr, replay
from cvg.video import read_video
from data_prep import manifest


def invert_from_prediction(clean: Tensor, schedule: Schedule, predict: Predict, iterations: int) -> Tensor:
    """`cvg.trajectory.invert`, but a step's fixed point is looked for from where the last step's prediction leads."""
    z, prediction = clean, None
    for i in reversed(range(len(schedule.timesteps))):
        noisier = z if prediction is None else schedule.back(z, prediction, i)
        for _ in range(iterations + 1):
            prediction = predict(noisier, i)
            noisier = schedule.back(z, prediction, i)
        z = noisier
    return z


STARTS: dict[str, Callable[[Tensor, Schedule, Predict, int], Tensor]] = {
    "cleaner latents": invert,
    "last prediction": invert_from_prediction,
}


@torch.no_grad()
def main(
    data: Path,
    json: Path = Path("runs/inversion.json"),
    generator: str = "shapes-wan",
    steps: list[int] = [6, 8, 12, 24],  # noqa: B006  (never changed)
    iterations: list[int] = [0, 1, 2, 3],  # noqa: B006  (never changed)
    size: tuple[int, int, int] = (13, 64, 64),
    limit: int = 24,
    device: str = "cpu",
    dtype: str = "float32",
) -> None:
    """Invert and replay videos under their right prompts.

    Args:
        data: manifest (JSON Lines) of the shapes world, or a folder with a manifest.jsonl.
        json: file to write.
        generator: pipeline folder, hub id, or shipped name.
        steps: numbers of steps of the schedule.
        iterations: fixed-point corrections per inversion step.
        size: frames, height, width to which videos are resampled and cropped.
        limit: use only the first rows, in one batch.
        device: torch device.
        dtype: weights' dtype of the generator.
    """
    rows = manifest.load(data, LABELS)[:limit]
    model = load_generator(generator, device, dtype)
    video = torch.cat([to_video(read_video(row.video, *size, start=row.start, end=row.end))[None] for row in rows])
    clean = model.encode_video(video.to(model.device))
    states = model.encode([row.composition(LABELS, random.Random(row.id)) for row in rows]).states
    best = psnr(model.decode_latents(clean).cpu(), video)
    print(f"{len(rows)} videos; encoded and decoded without inversion: {best.mean():.2f} dB, least {best.min():.2f}")
    print("steps  iterations  calls  start            latents' error  PSNR   least")
    results: list[dict[str, Any]] = []
    for count, corrections, (start, inversion) in itertools.product(steps, iterations, STARTS.items()):
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
                "start": start,
                "calls": calls,
                "error": error,
                "psnr": float(quality.mean()),
                "least_psnr": float(quality.min()),
            }
        )
        print(
            f"{count:5d}  {corrections:10d}  {calls:5d}  {start:15s}  {error:14.5f}  {quality.mean():5.2f}  "
            f"{quality.min():5.2f}",
            flush=True,
        )
    write_json(
        json,
        {
            "generator": model.identity(),
            "videos": len(rows),
            "ceiling": {"psnr": float(best.mean()), "least_psnr": float(best.min())},
            "rows": results,
        },
    )
    print(f"wrote {json}")


if __name__ == "__main__":
    run(main, prog="python -m benchmarks.replay")
