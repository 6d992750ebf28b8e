"""From a data set as it is downloaded to guided videos, on the default models, each step as its user types it.

    python -m benchmarks.real_world --out runs/real-world

Rendered videos in VidOR's form -> clips -> inversion by four processes, of which one is killed -> an S3 server on this
machine -> training by two processes that stream from it -> export -> a guided video, and how often guidance is right
beside none and beside rules. A step that is done is not done again. It takes half an hour on two cores, and a checkout
(`make setup`).
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

from benchmarks import rendered_set
from benchmarks.bucket import bucket
from cvg.common.cli import run
from cvg.common.errors import DataError, require
from cvg.common.files import read_json, write_json
from cvg.reporting.table import columns, interval, number
from cvg.shards.shards import SPLITS, ShardInfo
from data_prep.steps import Step, run_step

KINDS = ("motion", "spatial", "relative_motion")
PREDICATES = {"above": "above", "below": "beneath", "towards": "towards", "away from": "away"}
"""VidOR's, of labels; it has none of left and right, which are read off the boxes."""
CONFIGS = ("lightning_configs/shapes.yaml", "lightning_configs/demo.yaml")
SIZE = [13, 64, 64]
VALIDATION = 5
"""Every so many videos are of the validation split."""


def write_set(folder: Path, videos: int, seed: int) -> None:
    """Render videos, and write what is in them down as VidOR does."""
    if (folder / "annotation").exists():
        return
    (folder / "video").mkdir(parents=True, exist_ok=True)
    made = rendered_set.clips(folder / "video", KINDS, videos, seed)
    for index, clip in enumerate(made):
        split = "validation" if index % VALIDATION == 0 else "training"
        write_json(folder / "new" / split / f"{clip.name}.json", rendered_set.vidor(clip, PREDICATES))
    (folder / "new").rename(folder / "annotation")


def invert(data: Path, out: Path, processes: int, limit: int | None) -> dict[str, Any]:
    """Invert a manifest by some processes, and kill the last of them once a quarter of the rows is done.

    Args:
        data: the manifest.
        out: the folder of all.
        processes: how many.
        limit: of the rows.

    Returns:
        Seconds; the rows that were done when the process was killed; those that were there.
    """
    noted = out / "inversion.json"
    if noted.exists():
        return dict(read_json(noted))
    rows = len(data.read_text().splitlines()[:limit])
    command = ["cvg", "invert", "--data", str(data), "--out", str(out / "shards"), "--devices", str(processes)]
    command += ["--limit", str(rows)]
    print(f"\n== invert\n   python -m {' '.join(command)}", flush=True)
    began = time.perf_counter()
    first = subprocess.Popen([sys.executable, "-m", *command])
    while (done := _done(out / "shards")) * 4 < rows:
        if first.poll() is not None:
            raise DataError(f"the inversion ended with exit code {first.returncode} before a process was killed")
        time.sleep(0.2)
    started = map(int, Path(f"/proc/{first.pid}/task/{first.pid}/children").read_text().split())
    *_, last = [each for each in started if b"data_prep.invert" in Path(f"/proc/{each}/cmdline").read_bytes()]
    os.kill(last, signal.SIGKILL)
    print(f"   killed one of {processes} processes after {done} of {rows} rows", flush=True)
    if code := first.wait():
        raise DataError(f"the inversion ended with exit code {code}, although only another process was killed")
    found = {"rows": rows, "killed after": done, "seconds": round(time.perf_counter() - began, 1)}
    write_json(noted, found)
    return found


def _done(shards: Path) -> int:
    """Rows that are done, of an inversion that is under way."""
    return sum(path.read_bytes().count(b"\n") for path in shards.glob("parts/*.outcomes.jsonl"))


def training(out: Path, shards: str, processes: int, epochs: int) -> Step:
    """Training by several processes that stream shards from an address."""
    command = ["cvg.train", "fit"] + [part for config in CONFIGS for part in ("--config", config)]
    command += ["--data.shards", json.dumps([shards]), "--data.cache_gb", "0", "--data.disk", str(out / "cache")]
    command += ["--trainer.accelerator", "cpu", "--trainer.devices", str(processes), "--trainer.strategy", "ddp"]
    command += ["--trainer.max_epochs", str(epochs), "--trainer.logger.init_args.save_dir", str(out)]
    command += ["--trainer.logger.init_args.version", "log"]
    return Step("train", command, out / "train/log/checkpoints/last.ckpt", fresh=out / "train")


def guiding(out: Path, prompts: int, seed: int, steps: int) -> list[Step]:
    """Export of the last checkpoint, in whose choice no held-out record has a say; what it is worth in guidance."""
    classifier, common = out / "classifier", ["--steps", str(steps)]
    export = ["cvg.export", "--checkpoint", str(out / "train/log/checkpoints/last.ckpt"), "--out", str(classifier)]
    sample = ["cvg.sample", "--prompt", "a red circle to the left of a blue square", "--out", str(out / "sample")]
    sample += ["--classifier", str(classifier), *common]
    found = [
        Step("export", export, classifier / "config.json"),
        Step("sample", sample, out / "sample", fresh=out / "sample"),
    ]
    rules = ["rules", "--generator", "shapes-wan", "--size", json.dumps(SIZE)]
    for name, which in (("evaluate", [str(classifier)]), ("rules", rules)):
        command = ["cvg.evaluate", "--classifier", *which, "--out", str(out / f"{name}.json"), *common]
        command += ["--prompts", str(prompts), "--seed", str(seed), "--controls", "false"]
        found.append(Step(name, command, out / f"{name}.json"))
    return found


def figures(out: Path) -> dict[str, Any]:
    """What came of it."""
    measured, guided = read_json(out / "train/log/metrics.json"), read_json(out / "evaluate.json")
    info = ShardInfo.load(out / "shards")
    return {
        "inversion": read_json(out / "inversion.json"),
        "records": {split: info.count(split) for split in SPLITS if info.count(split)},
        "rejected": info.rejected,
        "held out": {side: measured[f"val/accuracy_{side}"] for side in ("positive", "negative")},
        "unguided": guided["unguided"],
        "guided": guided["guided"],
        "rules": read_json(out / "rules.json")["guided"],
        "seconds": {name: entry["seconds"] for name, entry in read_json(out / "steps.json").items()},
    }


def told(found: dict[str, Any]) -> str:
    """The figures, as a table."""
    made = found["inversion"]
    rows = [
        ["clips", str(made["rows"])],
        ["done when a process was killed", str(made["killed after"])],
        ["records", ", ".join(f"{split} {count}" for split, count in found["records"].items())],
        ["left out", json.dumps(found["rejected"])],
        ["held-out records read right", ", ".join(number(value, digits=3) for value in found["held out"].values())],
        *([name, interval(found[name], "accuracy", digits=3)] for name in ("unguided", "guided", "rules")),
        *([f"seconds of {name}", f"{value:.0f}"] for name, value in found["seconds"].items()),
    ]
    return columns([["", ""], *rows])


def main(
    out: Path = Path("runs/real-world"),
    videos: int = 240,
    per_label: int = 20,
    limit: int | None = None,
    processes: int = 4,
    ranks: int = 2,
    epochs: int = 30,
    prompts: int = 32,
    steps: int = 20,
    seed: int = 60913,
) -> dict[str, Any]:
    """Collect, invert, train and guide, and say what each part took and what came of it.

    Args:
        out: working folder; run again to go on where it stopped.
        videos: rendered videos of the data set.
        per_label: clips of each of the ten labels.
        limit: invert only the first of them.
        processes: of the inversion, of which one is killed.
        ranks: processes of the training.
        epochs: of the training.
        prompts: held-out prompts.
        steps: denoising steps.
        seed: of the prompts and their noise.

    Returns:
        The figures, as they are in OUT/figures.json.
    """
    require(
        1, videos=videos, per_label=per_label, limit=limit, ranks=ranks, epochs=epochs, prompts=prompts, steps=steps
    )
    require(2, processes=processes)
    write_set(out / "vidor", videos, seed=11)
    manifest = out / "manifest.jsonl"
    collect = ["data_prep.collect", "--source", "vidor", "--root", str(out / "vidor"), "--out", str(manifest)]
    collect += ["--labels", "shapes", "--per_label", str(per_label)]
    ran = run_step(Step("collect", collect, manifest), out, False)
    if ran:
        (out / "inversion.json").unlink(missing_ok=True)
    invert(manifest, out, processes, limit)
    with bucket(out / "shards") as address:
        ran = run_step(training(out, address, ranks, epochs), out, ran)
    for step in guiding(out, prompts, seed, steps):
        ran = run_step(step, out, ran)
    found = figures(out)
    write_json(out / "figures.json", found)
    print(f"\n{told(found)}")
    return found


if __name__ == "__main__":
    run(main, prog="python -m benchmarks.real_world")
