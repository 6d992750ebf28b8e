"""What guidance, capture and inversion cost: ``make bench``.

python -m benchmarks.cost --out runs/bench
python -m benchmarks.cost --architecture '[wan-1.3b]' --device cuda --dtype bfloat16
"""

from __future__ import annotations

import gc
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from benchmarks import architecture as architectures
from benchmarks import guidance
from benchmarks.case import Case, random_case, shipped_case
from benchmarks.checks import checks
from benchmarks.figures import Figure, markdown
from benchmarks.inversion import inversion
from cvg.common.cli import run
from cvg.common.errors import SettingsError, require
from cvg.common.files import atomic, write_json
from cvg.common.sizes import Size
from cvg.generators import Dtype

SHIPPED = "shapes-wan"
NOTES = (
    "Ratios are medians over rounds in which the variants were measured in turn, with the least and greatest. ",
    "Time is wall time on a GPU and processor time elsewhere. Peak memory includes the weights of the transformer "
    "(guided: and of the classifier); on a GPU it is what PyTorch allocated, elsewhere the most bytes that tensors "
    "held at once, without what kernels take for themselves. Random models have neither text encoder nor VAE. ",
    "A floor counts passes through the blocks up to the last tapped one, with a backward pass as one forward pass.",
)


def figures_of(case: Case, rounds: int, long_rounds: int, inversion_steps: int) -> list[Figure]:
    """All figures of a case; says on stderr what is being measured."""
    parts: dict[str, Callable[[], list[Figure]]] = {
        "sampling": lambda: guidance.sampling(case, rounds),
        "whole videos": lambda: guidance.whole(case, long_rounds) if case.shipped else [],
        "checks": lambda: checks(case, 4 * rounds) if case.shipped else [],
        "memory": lambda: guidance.memory(guidance.peaks(case, guidance.edits(case))),
        "capture": lambda: guidance.capture_time(case, rounds) + guidance.capture_memory(case),
        "dual inversion": lambda: inversion(case, long_rounds, inversion_steps),
    }
    figures: list[Figure] = []
    for name, measure in parts.items():
        print(f"{case.name}: {name} ...", file=sys.stderr, flush=True)
        figures += measure()
    return figures


def main(
    out: Path = Path("runs/bench"),
    architecture: list[str] = [SHIPPED, "wan-1.3b-small"],  # noqa: B006  (never changed)
    layers: list[int] | None = None,
    depth: int | None = None,
    heads: int | None = None,
    size: Size | None = None,
    text_length: int | None = None,
    steps: int = 50,
    batch_size: int = 1,
    rounds: int = 5,
    long_rounds: int = 2,
    inversion_steps: int = 12,
    device: str = "cpu",
    dtype: Dtype = "float32",
) -> None:
    """Measure plain and guided sampling, capture, dual inversion and records, side by side.

    Args:
        out: folder for cost.json and cost.md.
        architecture: what to measure: shapes-wan, or random models of the architectures in benchmarks/architectures.
        layers: tapped layers of random models; every third of the first two thirds when left out.
        depth: blocks of random models, fewer than the true number.
        heads: their heads, fewer than the true number, and as much less width.
        size: their frames, height and width in pixels.
        text_length: their text keys.
        steps: denoising steps of one video.
        batch_size: videos at a time.
        rounds: counted repetitions.
        long_rounds: repetitions of what takes long: whole videos and dual inversion.
        inversion_steps: steps of the schedule on which a video is inverted.
        device: torch device.
        dtype: weights' dtype of the generators.
    """
    require(1, rounds=rounds, long_rounds=long_rounds, batch_size=batch_size)
    require(5, steps=steps, inversion_steps=inversion_steps)
    unknown = [name for name in architecture if name not in (SHIPPED, *architectures.names())]
    if unknown or not architecture:
        known = ", ".join([SHIPPED, *architectures.names()])
        raise SettingsError(f"architecture {', '.join(unknown) or 'none'}: unknown; give some of {known}")
    shrunk = {
        name: architectures.load(name).shrunk(depth, heads, size, text_length)
        for name in architecture
        if name != SHIPPED
    }
    for small in shrunk.values():
        architectures.check_size(small)
    cases, sections = [], []
    for name in architecture:
        began = time.perf_counter()
        if name == SHIPPED:
            case = shipped_case(batch_size, steps, device, dtype)
        else:
            case = random_case(shrunk[name], layers, batch_size, steps, device, dtype)
        figures = figures_of(case, rounds, long_rounds, inversion_steps)
        settings: dict[str, Any] = case.settings() | {"rounds": rounds, "inversion_steps": inversion_steps}
        settings["seconds"] = round(time.perf_counter() - began, 1)
        cases.append({"settings": settings, "figures": [figure.to_dict() for figure in figures]})
        described = ", ".join(f"{key} {value}" for key, value in settings.items() if key != "name")
        sections.append(f"## {name}\n\n{described}.\n\n{markdown(figures)}\n")
        print(f"\n{sections[-1]}", flush=True)
        del case
        gc.collect()
    write_json(out / "cost.json", {"notes": "".join(NOTES), "cases": cases})
    with atomic(out / "cost.md") as path:
        path.write_text("\n".join(["# Cost\n", "".join(NOTES) + "\n", *sections]), encoding="utf-8")
    print(f"wrote {out / 'cost.json'} and {out / 'cost.md'}")


if __name__ == "__main__":
    run(main, prog="python -m benchmarks.cost")
