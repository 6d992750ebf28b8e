"""Classifiers that a benchmark trains, by the public commands; what is there already is not made again."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

from data_prep.steps import Step, run_step

LOG = Path("train", "log")
"""Where, in a classifier's folder of work, its training is: metrics.json, checkpoints."""


def trained(
    out: Path, shards: Sequence[str], configs: Sequence[str], options: Sequence[str], after: bool = False
) -> tuple[Path, bool]:
    """Train and export one classifier, unless that was done before with the same command.

    Args:
        out: its folder of work.
        shards: folders of shards.
        configs: names of files in lightning_configs, each laid over those before it.
        options: of ``cvg.train fit`` besides.
        after: what it is trained on was made just now, so that it must be trained again.

    Returns:
        The exported folder, and whether it is new.
    """
    log = out / LOG
    command = ["cvg.train", "fit", *(f"--config=lightning_configs/{name}.yaml" for name in configs)]
    command += ["--data.shards", json.dumps(list(shards)), "--trainer.logger.init_args.save_dir", str(out)]
    command += ["--trainer.logger.init_args.name", log.parent.name, "--trainer.logger.init_args.version", log.name]
    command += ["--trainer.enable_progress_bar", "false", *options]
    checkpoint, folder = log / "checkpoints" / "best.ckpt", out / "classifier"
    ran = run_step(Step("train", command, checkpoint, fresh=log.parent), out, after)
    export = ["cvg.export", "--checkpoint", str(checkpoint), "--out", str(folder)]
    return folder, run_step(Step("export", export, folder / "config.json"), out, after=ran)
