"""``python -m cvg.evaluate``: composition accuracy, guided against unguided from the same noise, with controls."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch

from cvg.classifier.model import CompositionClassifier
from cvg.common.bars import StepBar
from cvg.common.cli import run
from cvg.common.errors import SettingsError, require
from cvg.common.files import alone, require_writable
from cvg.common.versions import versions
from cvg.composition import LabelSet
from cvg.evaluation.journal import Journal
from cvg.evaluation.rows import SCHEMA, Evaluation, Row, write_evaluation
from cvg.evaluation.runner import BATCH_RUNS, CONTROL_RUNS, WARM_UP_RUNS, Kept, Runner
from cvg.evaluation.suites import Case, load_suite
from cvg.evaluation.summary import summarise
from cvg.generators import Loading, load_generator
from cvg.generators.vocabulary import vocabulary_warnings
from cvg.guidance.config import GuidanceConfig
from cvg.guidance.sampler import GuidedSampler
from cvg.reporting.table import render


def load_sampler(
    cases: Sequence[Case],
    classifier: str,
    labels: LabelSet | None,
    generator: str | None,
    guiding: GuidanceConfig,
    loading: Loading,
) -> GuidedSampler:
    """The generator with the classifier that is to guide it.

    Args:
        cases: what will be asked; a label that the classifier does not know is an error now, not in the last batch.
        classifier: exported classifier folder, hub id, or shipped name.
        labels: label set that the classifier is to tell apart instead of its own, if any.
        generator: pipeline folder, hub id, or shipped name; the one the classifier was trained on when None.
        guiding: how guided steps are taken.
        loading: where and how the generator is computed.
    """
    model = CompositionClassifier.from_pretrained(classifier)
    if labels:
        model = model.with_labels(labels)
    for case in cases:
        for relation in case.composition.relations:
            model.labels.index(relation.label)
    frozen = load_generator(generator or model.config.generator["name"], loading)
    return GuidedSampler(frozen, model, guiding)


def run_cases(
    runner: Runner, cases: Sequence[Case], batch_size: int, controlled: int, journal: Journal | None = None
) -> list[Row]:
    """Run all cases, batch after batch, under a bar of denoising steps that shows how many are right so far.

    Args:
        runner: of the suite that the cases are from.
        cases: at least one.
        batch_size: cases at a time.
        controlled: the first so many cases get controls, rounded up to whole batches.
        journal: gets the rows of every batch as soon as it is done; those it has are not run again.
    """
    batches = [cases[start : start + batch_size] for start in range(0, len(cases), batch_size)]
    runs = [BATCH_RUNS + (CONTROL_RUNS if number * batch_size < controlled else 0) for number in range(len(batches))]
    done = journal.batches if journal is not None else 0
    rows = [] if journal is None else list(journal.rows)
    if journal is not None:
        runner.timing = journal.timing
    with StepBar("evaluate", WARM_UP_RUNS + sum(runs), runner.options["steps"]) as bar:
        runner.observe = bar
        if done < len(batches):
            runner.warm_up(cases[0])
        bar.skip(sum(runs[:done]))
        for number, batch in list(enumerate(batches))[done:]:
            new = runner.batch(batch, number * batch_size < controlled, guided_first=number % 2 == 1)
            rows += new
            if journal is not None:
                journal.add(new, runner.timing)
            unguided = sum(row.unguided.right for row in rows) / len(rows)
            guided = sum(row.guided.right for row in rows) / len(rows)
            bar.note(f"{len(rows)}/{len(cases)} prompts, right: unguided {unguided:.2f}, guided {guided:.2f}")
    return rows


def main(
    suite: str = "shapes",
    prompts: int = 200,
    seed: int = 0,
    out: Path = Path("runs/evaluation.json"),
    videos: Path | None = None,
    fps: int = 8,
    classifier: str = "shapes-classifier",
    labels: Path | None = None,
    generator: str | None = None,
    steps: int = 50,
    guidance_scale: float | None = None,
    guiding: GuidanceConfig = GuidanceConfig(),  # noqa: B008  (frozen)
    batch_size: int = 16,
    controls: bool = True,
    control_prompts: int | None = None,
    loading: Loading = Loading(),  # noqa: B008  (frozen)
) -> Evaluation:
    """Measure guidance on held-out prompts.

    Every prompt is sampled unguided and guided from the same initial noise, and the suite's judge looks at both videos.
    The figures go to a JSON file, with a row per prompt, and in short to the terminal. Until it is there, the rows that
    are done lie beside it in OUT.rows.jsonl; the same command goes on with them.

    Args:
        suite: prompts and their judge: shapes.
        prompts: how many prompts; fewer are a prefix of more.
        seed: of prompts and initial noise.
        out: JSON file to write.
        videos: folder to keep every case's videos in, under unguided/ and guided/, named as the suite names them; they
            are not kept when left out.
        fps: frames per second of the kept videos.
        classifier: exported classifier folder, hub id, or shipped name.
        labels: label set (YAML) that the prompts are made of, in its wordings, instead of the suite's own. A classifier
            with an anchored head is guided towards labels and wordings that it was never trained on.
        generator: pipeline folder, hub id, or shipped name; the one the classifier was trained on when left out.
        steps: denoising steps.
        guidance_scale: of classifier-free guidance; the classifier's, else the pipeline's default, when left out.
        guiding: how guided steps are taken.
        batch_size: videos at a time. Rounding differs between batch shapes, so compare runs of one batch size.
        controls: also run zero step, untrained classifier, wrong target and best-of-n: four times the videos.
        control_prompts: how many prompts the controls use, rounded up to whole batches; all when left out.
        loading: where and how the generator is computed.
    """
    require(1, prompts=prompts, steps=steps, batch_size=batch_size, fps=fps, control_prompts=control_prompts)
    require(0, seed=seed)
    if guiding.guided_steps < 1:
        raise SettingsError("guiding: guided_steps must be at least 1 for a comparison with unguided")
    require_writable(out)
    journal_path = out.with_name(f"{out.name}.rows.jsonl")
    require_writable(journal_path, videos and videos / "guided" / "video.mp4")
    with alone(out.parent, out.name):
        world = load_suite(suite, LabelSet.load(labels) if labels else None, loading.device)
        cases = world.cases(prompts, seed)
        sampler = load_sampler(cases, classifier, world.labels if labels else None, generator, guiding, loading)
        sampler.guided_steps(steps)
        for line in vocabulary_warnings(sampler.generator, [case.composition for case in cases]):
            print(f"warning: {line}", file=sys.stderr)
        if guidance_scale is None:
            guidance_scale = sampler.classifier.config.sampling.guidance_scale
        runner = Runner(world, sampler, steps, guidance_scale, seed, Kept(videos, fps) if videos else None)
        settings = {
            "prompts": prompts,
            "seed": seed,
            "steps": steps,
            "guidance_scale": guidance_scale,
            "labels": world.labels.to_dict() if labels else None,
            "guiding": asdict(sampler.config),
            "batch_size": batch_size,
            **asdict(loading),
            "threads": torch.get_num_threads(),
        }
        setup: dict[str, Any] = {
            "suite": suite,
            "settings": settings,
            "generator": sampler.generator.identity(),
            "classifier": sampler.classifier.identity(classifier),
            "versions": versions(),
        }
        controlled = 0 if not controls else prompts if control_prompts is None else control_prompts
        others = {"controlled": controlled, "videos": videos and str(videos), "fps": fps if videos else None}
        journal = Journal(journal_path, setup | others)
        if journal.batches:
            print(
                f"going on with a run that was stopped: {len(journal.rows)} of {prompts} prompts are in {journal_path}"
            )
        rows = run_cases(runner, cases, batch_size, controlled, journal)
        figures = summarise(rows, runner.timing, world.groups, world.labels, guiding.threshold or 1.0)
        result = Evaluation(schema=SCHEMA, **setup, **vars(figures), rows=rows)
        write_evaluation(out, result)
        journal.close()
        print(render(result))
        print(f"\nwrote {out}")
        return result


if __name__ == "__main__":
    run(main, prog="python -m cvg.evaluate")
