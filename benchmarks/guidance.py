"""What guidance costs: ``make bench``. Every figure is a ratio of times measured in turn, in one run.

python -m benchmarks.guidance --json runs/bench.json
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import torch

from cvg.classifier.model import CompositionClassifier
from cvg.cli import run
from cvg.composition import parse
from cvg.files import write_json
from cvg.generators import load_generator
from cvg.guidance import GuidanceConfig
from cvg.sampler import GuidedSampler
from cvg.shapes.world import LABELS

PROMPTS = (
    "a red circle to the left of a blue square",
    "a green triangle moving up",
    "a cyan square approaching a purple circle",
    "a yellow circle moving right above a blue triangle",
)


def in_turn(work: dict[str, Callable[[], Any]], rounds: int, device: str) -> dict[str, list[float]]:
    """Seconds of each piece of work in each round, after one round that is not counted."""
    seconds: dict[str, list[float]] = {name: [] for name in work}
    for number in range(rounds + 1):
        for name, function in work.items():
            began = time.perf_counter()
            function()
            if device.startswith("cuda"):
                torch.cuda.synchronize()
            if number:
                seconds[name].append(time.perf_counter() - began)
    return seconds


def ratio(seconds: dict[str, list[float]], name: str, base: str) -> dict[str, float]:
    """Median, least and greatest ratio of two pieces of work, round by round."""
    ratios = [a / b for a, b in zip(seconds[name], seconds[base], strict=True)]
    return {"median": statistics.median(ratios), "min": min(ratios), "max": max(ratios)}


def main(
    json: Path = Path("runs/bench.json"),
    classifier: str = "shapes-classifier",
    generator: str | None = None,
    guiding: GuidanceConfig = GuidanceConfig(),  # noqa: B008  (frozen)
    steps: int = 50,
    rounds: int = 5,
    batch_size: int = 4,
    device: str = "cpu",
    dtype: str = "float32",
) -> None:
    """Time plain and guided sampling side by side, and what capture adds to a forward pass.

    Args:
        json: file to write.
        classifier: exported classifier folder or shipped name.
        generator: pipeline folder, hub id, or shipped name; the classifier's own when left out.
        guiding: how guided steps are taken.
        steps: denoising steps.
        rounds: counted repetitions.
        batch_size: videos at a time.
        device: torch device.
        dtype: weights' dtype of the generator.
    """
    model = CompositionClassifier.from_pretrained(classifier)
    frozen = load_generator(generator or model.config.generator["name"], device, dtype)
    prompts = [PROMPTS[i % len(PROMPTS)] for i in range(batch_size)]
    seeds = list(range(batch_size))
    stopping = GuidedSampler(frozen, model, guiding)
    # A threshold that is never reached: every iteration is paid for.
    full = {n: GuidedSampler(frozen, model, replace(guiding, iterations=n, threshold=2.0)) for n in (1, 3)}
    work: dict[str, Callable[[], Any]] = {
        "unguided": lambda: stopping(prompts, seeds, guided=False, steps=steps),
        "guided": lambda: stopping(prompts, seeds, steps=steps),
        "guided, 1 iteration": lambda: full[1](prompts, seeds, steps=steps),
        "guided, 3 iterations": lambda: full[3](prompts, seeds, steps=steps),
    }
    seconds = in_turn(work, rounds, device)

    conditioning = frozen.encode([parse(prompt, LABELS) for prompt in prompts])
    size = frozen.pixel_size(model.config.grid)
    latents = frozen.initial_latents([torch.Generator().manual_seed(seed) for seed in seeds], size)
    timestep = frozen.schedule(steps, size).timesteps[0]
    with torch.no_grad():
        forward = {
            "forward": lambda: frozen.predict(latents, timestep, conditioning.states),
            "forward with capture": lambda: frozen.entity_maps(
                latents, timestep, conditioning, model.config.layers, full=True
            ),
        }
        seconds |= in_turn(forward, 10 * rounds, device)
    depth, tapped = len(frozen.blocks), model.config.layers[-1] + 1
    result = {
        "settings": {
            "generator": frozen.identity(),
            "classifier": classifier,
            "steps": steps,
            "rounds": rounds,
            "batch_size": batch_size,
            "device": torch.cuda.get_device_name() if device.startswith("cuda") else device,
            "threads": torch.get_num_threads(),
            "guiding": asdict(guiding),
        },
        "seconds": {name: statistics.median(values) for name, values in seconds.items()},
        "ratios": {
            **{name: ratio(seconds, name, "unguided") for name in list(work)[1:]},
            "forward with capture": ratio(seconds, "forward with capture", "forward"),
        },
        # Forward and backward through the tapped layers, at every guided step, beside two forwards per step.
        "floor, 1 iteration": 1 + guiding.guided_steps * 2 * tapped / depth / (2 * steps),
    }
    write_json(json, result)
    for name, values in result["ratios"].items():
        print(f"{name:24s} {values['median']:6.3f}  ({values['min']:.3f} to {values['max']:.3f})")
    print(f"{'floor, 1 iteration':24s} {result['floor, 1 iteration']:6.3f}")
    print(f"wrote {json}")


if __name__ == "__main__":
    run(main, prog="python -m benchmarks.guidance")
