"""The paper's Transformer over layers and heads against their weighted mean, by what guidance makes of each.

Each depth of the aggregator (0 is the weighted mean) is trained on more and more records, with mirrored maps and
without, for the same number of optimiser steps, at several learning rates; the one with the least validation loss is
exported and guides the same held-out prompts from the same noise.

    python -m benchmarks.aggregators --shards '[runs/demo/shards]'
    python -m benchmarks.aggregators --shards '[runs/demo/shards]' --configs '[shapes, shapes_none]'    # no VLM
    python -m benchmarks.aggregators --shards '[runs/500, runs/1500-more, runs/6000-more]' --prompts 200 --seed 7
"""

from __future__ import annotations

import csv
import itertools
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from benchmarks.figures import aligned
from benchmarks.trained import LOG, trained
from cvg.common.cli import run
from cvg.common.errors import SettingsError, require
from cvg.common.files import atomic, read_json, require_writable, write_json
from cvg.reporting.table import interval, number
from cvg.shards.shards import ShardInfo
from data_prep.steps import Step, run_step

HEADER = ["depth", "records", "mirrored", "learning rate", "validation loss", "guided", "time", "leakage gap"]


def validation(folder: Path) -> tuple[float, dict[str, float]]:
    """The least validation loss of a training, which its best checkpoint has, and all figures of the same epoch."""
    with (folder / LOG / "metrics.csv").open(newline="") as file:
        epochs = [row for row in csv.DictReader(file) if row.get("val/loss")]
    best = min(epochs, key=lambda row: float(row["val/loss"]))
    return float(best["val/loss"]), {name: float(value) for name, value in best.items() if value}


def chosen(
    out: Path,
    shards: Sequence[str],
    configs: Sequence[str],
    depth: int,
    mirrored: bool,
    rates: Sequence[float],
    steps: int,
) -> tuple[Path, dict[str, Any], bool]:
    """One classifier per learning rate; the folder of the one that reads the validation records best.

    Args:
        out: their folder of work.
        shards: folders of shards.
        configs: names of the configurations in lightning_configs that lie under all of this, one over the other.
        depth: of the aggregator.
        mirrored: whether maps are mirrored at random, as the configurations say.
        rates: learning rates.
        steps: optimiser steps of each.

    Returns:
        The exported classifier, what is known of its training, and whether any training is new.
    """
    found, new = [], False
    for rate in rates:
        folder = out / f"lr-{rate:g}"
        given = ["--model.depth", str(depth), "--model.lr", str(rate)]
        given += ["--trainer.max_epochs", "-1", "--trainer.max_steps", str(steps)]
        given += [] if mirrored else ["--data.mirror", "null"]
        classifier, ran = trained(folder, shards, configs, given)
        new |= ran
        loss, figures = validation(folder)
        gap = figures.get("val/leakage_gap")
        found.append((loss, classifier, {"lr": rate, "loss": loss, "leakage_gap": gap}))
    _, classifier, told = min(found, key=lambda each: each[0])
    return classifier, told, new


def table(rows: Sequence[dict[str, Any]]) -> str:
    """The rows in Markdown."""
    cells = [
        [
            str(row["depth"]),
            str(row["records"]),
            "yes" if row["mirrored"] else "no",
            f"{row['lr']:g}",
            number(row["loss"]),
            interval(row["guided"], "accuracy"),
            f"{number(row['time_ratio'])} x",
            number(row["leakage_gap"], signed=True),
        ]
        for row in rows
    ]
    return aligned([HEADER, *cells])


def main(
    shards: list[str],
    out: Path = Path("runs/aggregators"),
    configs: list[str] = ["shapes"],  # noqa: B006  (never changed)
    depths: list[int] = [0, 1, 2, 4],  # noqa: B006  (never changed)
    mirrored: list[bool] = [True, False],  # noqa: B006  (never changed)
    rates: list[float] = [1e-1, 3e-2, 1e-2, 3e-3],  # noqa: B006  (never changed)
    training_steps: int = 300,
    prompts: int = 96,
    seed: int = 0,
    steps: int = 50,
    batch_size: int = 8,
    device: str = "cpu",
) -> None:
    """Train, guide, and write OUT/aggregators.json and OUT/aggregators.md; what is done is not done again.

    Args:
        shards: folders of shards of one generator. Trainings take the first, the first two, and so on, to all.
        out: working folder.
        configs: names of the configurations in lightning_configs that the trainings share, one over the other.
        depths: of the aggregator: Transformer layers; 0 is the weighted mean.
        mirrored: with mirrored maps, without, or both.
        rates: learning rates, of which each classifier has the one with the least validation loss.
        training_steps: optimiser steps of each training.
        prompts: held-out prompts that each classifier guides.
        seed: of prompts and initial noise.
        steps: denoising steps.
        batch_size: videos at a time.
        device: torch device of sampling.

    Raises:
        SettingsError: nothing to compare.
    """
    if not (shards and configs and depths and mirrored and rates):
        raise SettingsError("shards, configs, depths, mirrored, rates: give at least one of each")
    require(0, **{f"depths[{index}]": depth for index, depth in enumerate(depths)})
    require(1, training_steps=training_steps, prompts=prompts, steps=steps, batch_size=batch_size)
    counts = [ShardInfo.load(folder).count("train") for folder in shards]
    require_writable(out / "aggregators.json")
    asked = ["--prompts", str(prompts), "--seed", str(seed), "--steps", str(steps), "--controls", "false"]
    asked += ["--batch_size", str(batch_size), "--device", device]
    settings = {"shards": shards, "configs": configs, "rates": rates, "training_steps": training_steps}
    settings |= {"prompts": prompts, "seed": seed, "steps": steps}
    rows: list[dict[str, Any]] = []
    for used, mirror, depth in itertools.product(range(1, len(shards) + 1), mirrored, depths):
        folder = out / f"{sum(counts[:used])}-records" / ("mirrored" if mirror else "as-they-are") / f"depth-{depth}"
        folder.mkdir(parents=True, exist_ok=True)
        classifier, told, new = chosen(folder, shards[:used], configs, depth, mirror, rates, training_steps)
        result = folder / "evaluation.json"
        command = ["cvg.evaluate", "--classifier", str(classifier), "--out", str(result), *asked]
        run_step(Step("evaluate", command, result), folder, after=new)
        figures = read_json(result)
        taken = {name: figures[name] for name in ("unguided", "guided", "time_ratio")}
        rows.append({"depth": depth, "records": sum(counts[:used]), "mirrored": mirror, **told, **taken})
        write_json(out / "aggregators.json", {"settings": settings, "rows": rows})
    unguided = interval(rows[0]["unguided"], "accuracy")
    with atomic(out / "aggregators.md") as path:
        path.write_text(f"# Aggregators\n\nUnguided: {unguided}.\n\n{table(rows)}\n", encoding="utf-8")
    print(f"\nunguided {unguided}\n\n{table(rows)}\n\nwrote {out / 'aggregators.json'} and {out / 'aggregators.md'}")


if __name__ == "__main__":
    run(main, prog="python -m benchmarks.aggregators")
