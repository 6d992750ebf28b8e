"""``make demo``: the whole method in minutes, each step by its public command.

render clips -> dual inversion (-> the generator's own videos) -> training -> export -> evaluation -> samples -> report.
A step that is finished and whose command is the same is not run again.
"""

from __future__ import annotations

import json
from pathlib import Path

from cvg.common import hub
from cvg.common.cli import run
from cvg.common.errors import require
from cvg.common.files import read_json, require_writable
from cvg.reporting.table import columns, interval, number
from data_prep.steps import Step, run_step

CONFIGS = [Path("lightning_configs/shapes.yaml"), Path("lightning_configs/demo.yaml")]
"""In a checkout, or as they ship (:func:`cvg.common.configs.located`)."""


def preparation(out: Path, generator: str, configs: list[Path], clips: int, synthetic: int, device: str) -> list[Step]:
    """The steps up to the trained classifier."""
    log, rendered = out / "train", out / "shards"
    folders = [str(rendered)]
    common = ["--generator", generator, "--device", device]
    steps = [
        Step(
            "render",
            ["data_prep.render", "--out", str(out / "clips"), "--clips", str(clips)],
            out / "clips" / "manifest.jsonl",
        ),
        Step(
            "invert",
            ["data_prep.invert", "--data", str(out / "clips"), "--out", str(rendered), *common],
            rendered / "shards.json",
        ),
    ]
    if synthetic:
        videos, made = out / "synthetic", out / "synthetic-shards"
        folders.append(str(made))
        synthesize = ["data_prep.synthesize", "--out", str(videos), "--clips", str(synthetic), *common]
        record = ["data_prep.invert", "--data", str(videos), "--out", str(made), "--method", "trajectory", *common]
        steps += [
            Step("synthesize", synthesize, videos / "manifest.jsonl"),
            Step("record", record, made / "shards.json"),
        ]
    train = ["cvg.train", "fit"] + [part for config in configs for part in ("--config", str(config))]
    train += ["--data.shards", json.dumps(folders)]
    train += ["--trainer.accelerator", "cpu" if device == "cpu" else "auto"]
    train += ["--trainer.logger.init_args.save_dir", str(out)]
    train += ["--trainer.logger.init_args.name", "train", "--trainer.logger.init_args.version", "log"]
    checkpoint, classifier = log / "log" / "checkpoints" / "best.ckpt", out / "classifier"
    export = ["cvg.export", "--checkpoint", str(checkpoint), "--out", str(classifier)]
    return [
        *steps,
        Step("train", train, checkpoint, fresh=log),
        Step("export", export, classifier / "config.json"),
    ]


def evaluation(out: Path, options: list[str], prompts: int, control_prompts: int) -> Step:
    """Evaluation of the trained classifier on held-out prompts."""
    controls = ["--control_prompts", str(control_prompts)] if control_prompts else ["--controls", "false"]
    command = ["cvg.evaluate", "--out", str(out / "evaluation.json"), "--prompts", str(prompts), *options, *controls]
    return Step("evaluate", command, out / "evaluation.json")


def presentation(out: Path, options: list[str], clips: int, device: str) -> list[Step]:
    """Clips of the first evaluated prompts, and the report."""
    prompts = list(dict.fromkeys(row["prompt"] for row in read_json(out / "evaluation.json")["rows"]))[:clips]
    sample = ["cvg.sample", "--prompt", json.dumps(prompts), "--out", str(out / "samples"), *options]
    report = ["cvg.report", "--evaluation", str(out / "evaluation.json"), "--samples", str(out / "samples")]
    report += ["--training", str(out / "train" / "log"), "--shards", str(out / "shards")]
    report += ["--out", str(out / "report.html"), "--device", device]
    return [
        Step("sample", sample, out / "samples", fresh=out / "samples"),
        Step("report", report, out / "report.html"),
    ]


def summary(out: Path) -> str:
    """The figures to look at first, and what each step took."""
    result, training = read_json(out / "evaluation.json"), read_json(out / "train" / "log" / "metrics.json")
    seconds = {name: entry["seconds"] for name, entry in read_json(out / "steps.json").items()}
    rows = [
        [f"{result['unguided']['n']} held-out prompts", "(95%)"],
        ["unguided accuracy", interval(result["unguided"], "accuracy")],
        ["guided accuracy", interval(result["guided"], "accuracy")],
        ["gain", interval(result["gain"], "value", signed=True)],
        ["leakage gap (p+ minus p-)", number(training["val/leakage_gap"], signed=True)],
        ["time, guided / unguided", number(result["time_ratio"])],
        ["seconds in all", f"{sum(seconds.values()):.0f}"],
    ]
    return columns(rows)


def main(
    out: Path = Path("runs/demo"),
    generator: str = "shapes-wan",
    configs: list[Path] = CONFIGS,
    clips: int = 120,
    synthetic: int = 0,
    prompts: int = 24,
    control_prompts: int = 8,
    samples: int = 8,
    steps: int = 20,
    batch_size: int = 8,
    device: str = "cpu",
) -> None:
    """Train a small classifier on the shipped generator, guide with it, and report.

    Args:
        out: working folder; run again to go on where it stopped.
        generator: pipeline folder, hub id, or shipped name.
        configs: training configurations, each laid over those before it.
        clips: rendered clips to invert.
        synthetic: videos of the generator's own to train on besides, with the latents they were sampled through.
        prompts: held-out prompts to evaluate.
        control_prompts: prompts for the evaluation's controls; 0 skips them.
        samples: side-by-side clips in the report.
        steps: denoising steps of evaluation and samples.
        batch_size: videos at a time.
        device: torch device.
    """
    require(1, clips=clips, prompts=prompts, samples=samples, steps=steps, batch_size=batch_size)
    require(0, synthetic=synthetic, control_prompts=control_prompts)
    hub.path(generator)
    require_writable(out / "steps.json")
    options = ["--classifier", str(out / "classifier"), "--generator", generator, "--steps", str(steps)]
    options += ["--batch_size", str(batch_size), "--device", device]
    ran = False
    for step in preparation(out, generator, configs, clips, synthetic, device):
        ran |= run_step(step, out, ran)
    ran |= run_step(evaluation(out, options, prompts, control_prompts), out, ran)
    for step in presentation(out, options, samples, device):
        ran |= run_step(step, out, ran)
    print(f"\n{summary(out)}\n\nreport: {out / 'report.html'}")


if __name__ == "__main__":
    run(main, prog="python -m data_prep.demo")
