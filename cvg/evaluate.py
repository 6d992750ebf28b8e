"""``python -m cvg.evaluate``: composition accuracy, guided against unguided from the same noise, with controls."""

from __future__ import annotations

import json
import sys
from collections import Counter
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from cvg.common.cli import run
from cvg.common.errors import DataError, DifferenceError, SettingsError, require
from cvg.common.files import alone, require_writable, sweep
from cvg.common.sizes import Size
from cvg.common.versions import versions
from cvg.composition import LabelSet
from cvg.evaluation.batches import check_names, within
from cvg.evaluation.comparison import Comparison
from cvg.evaluation.journal import Journal
from cvg.evaluation.official import Official, Quality, official_scores, quality, quality_scores
from cvg.evaluation.official import official as benchmark
from cvg.evaluation.processes import Processes, processes
from cvg.evaluation.rows import SCHEMA, Evaluation, PlainRow, read_evaluation, write_evaluation
from cvg.evaluation.runner import Kept
from cvg.evaluation.suites import Case, Suite, SuiteSettings, load_suite
from cvg.evaluation.suites.free import FreeSuite
from cvg.evaluation.summary import summarise
from cvg.generators import Loading
from cvg.guidance import rules
from cvg.guidance.cautions import cautions, require_as_trained
from cvg.guidance.config import RULES, GuidanceConfig
from cvg.guidance.sampler import GuidedSampler
from cvg.guidance.stated import stated
from cvg.reporting.table import columns, render, score_rows

REMEDIES: dict[type[Exception], str] = {DifferenceError: "without --strict it is a warning"}


def main(
    suite: str = "shapes",
    prompts: int | None = None,
    seed: int = 0,
    out: Path = Path("runs/evaluation.json"),
    videos: Path | None = None,
    fps: int = 8,
    classifier: str = "shapes-classifier",
    labels: Path | None = None,
    generator: str | None = None,
    size: Size | None = None,
    steps: int = 50,
    guidance_scale: float | None = None,
    guiding: GuidanceConfig = GuidanceConfig(),  # noqa: B008  (frozen)
    batch_size: int = 16,
    controls: bool = True,
    control_prompts: int | None = None,
    asking: SuiteSettings = SuiteSettings(),  # noqa: B008  (frozen)
    official: Path | None = None,
    python: Path | None = None,
    vbench: Path | None = None,
    strict: bool = False,
    loading: Loading = Loading(),  # noqa: B008  (frozen)
) -> Evaluation | None:
    """Measure guidance on held-out prompts.

    Every prompt is sampled unguided and guided from the same initial noise, and the suite's judge looks at both videos.
    The figures go to a JSON file, with a row per prompt, and in short to the terminal. Until it is there, the rows that
    are done lie beside it in OUT.rows.jsonl; the same command goes on with them. Under `torchrun --nproc_per_node N -m
    cvg.evaluate` N processes share the prompts, each on its own accelerator; the rows are the same whatever N.

    Args:
        suite: prompts and their judge: shapes; t2v-compbench or vbench, from a checkout (--suite_dir); or prompts of
            any file (--prompts_file).
        prompts: how many prompts; fewer are a prefix of more. When left out 200 of shapes, and all of others.
        seed: of prompts and initial noise.
        out: JSON file to write.
        videos: folder to keep every case's videos in, under unguided/ and guided/, named as the suite names them; they
            are not kept when left out. Prompts that ask for nothing that can be guided are sampled only for it: their
            one video is in both.
        fps: frames per second of the kept videos.
        classifier: exported classifier folder, hub id, or shipped name; or "rules", which need no training: formulas on
            the attention maps of any generator, which is then to be named, and the size of its videos. Relations
            without a formula are not guided, and that is counted.
        labels: label set (YAML, or one that ships) that the prompts are made of or read with, instead of the suite's
            own. A classifier with an anchored head is guided towards labels and wordings that it was never trained on.
            When left out, it guides those of the suite's that it knows.
        generator: pipeline folder, hub id, or shipped name; the one the classifier was trained on when left out.
        size: frames, height, width in pixels; those that the classifier was trained for when left out.
        steps: denoising steps.
        guidance_scale: of classifier-free guidance; the classifier's, else the pipeline's default, when left out.
        guiding: how guided steps are taken.
        batch_size: videos at a time. Rounding differs between batch shapes, so compare runs of one batch size.
        controls: also run zero step, untrained classifier (not with rules), wrong target and best-of-n: four times the
            videos.
        control_prompts: how many prompts the controls use, rounded up to whole batches; all when left out.
        asking: what the suite takes besides.
        official: checkout of the benchmark, whose own scripts then score the videos too. An evaluation that is there
            with the same settings is not run again, but gets these scores.
        python: the environment that the benchmark's requirements are installed in: its folder, or its Python. Scripts
            that need another one fail, and the same command with that scores what is missing.
        vbench: environment with the package vbench, whose own tool then says of all videos what VBench says of quality
            where no prompt is asked for.
        strict: end with an error where the generator is loaded or called otherwise than in the classifier's training
            (another LoRA, precision, scheduler, guidance scale, size or few steps), in place of a warning.
        loading: where and how the generator is computed.

    Returns:
        The evaluation; None in processes other than the first.
    """
    require(1, prompts=prompts, steps=steps, batch_size=batch_size, fps=fps, control_prompts=control_prompts)
    _check(classifier, generator, size, guiding, seed)
    journal_path = out.with_name(f"{out.name}.rows.jsonl")
    with processes() as crew, ExitStack() as held:
        if crew.first:
            _hold(out, journal_path, videos, asking.judge_cache, held)
        crew.meet()
        own = replace(loading, device=crew.device(loading.device))
        world = load_suite(suite, LabelSet.load(labels) if labels else None, own.device, asking)
        trained = rules.load_classifier(classifier, world.labels if labels else None)
        known = stated(world.labels) if trained is None else trained.labels.names
        cases = within(world.cases(prompts, seed), known)
        if videos:
            check_names(world, cases)
        tools, tool = _tools(world, official, python, videos), quality(vbench, videos) if vbench else None
        frozen, guide = rules.with_generator(trained, world.labels, generator, size, own, guiding)
        sampler = GuidedSampler(frozen, guide, guiding, size=size)
        scale = _checked_scale(sampler, cases, steps, guidance_scale, strict)
        controlled = 0 if not controls else len(cases) if control_prompts is None else control_prompts
        kept = Kept(videos, fps) if videos else None
        whole = Comparison(world, cases, sampler, steps, scale, seed, batch_size, controlled, kept)
        own_labels = {"labels": world.labels.to_dict() if labels else None, "size": size and list(size)}
        setup: dict[str, Any] = {
            "suite": suite,
            "settings": {**whole.settings(), **own_labels, "asking": asking.to_dict(), **asdict(loading)},
            "generator": sampler.generator.identity(),
            **{"classifier": sampler.classifier.identity(classifier), "versions": versions()},
        }
        result = _finished(out, setup, cases) if tools or tool else None
        if result is None:
            where = {"videos": videos and str(videos), "fps": videos and fps}
            others = {"controlled": controlled, **where, "the prompts": whole.asked_for}
            result = _compare(whole, Journal(journal_path, setup | others, crew.rank), crew, out, setup)
        if result is None or not (tools or tool):
            return result
        return _with_scores(out, result, tools, tool, world) if crew.first else None


def _check(classifier: str, generator: str | None, size: Size | None, guiding: GuidanceConfig, seed: int) -> None:
    """Raise SettingsError where rules miss what a classifier brings, or nothing is guided."""
    require(0, seed=seed)
    if classifier == RULES:
        rules.require_named(generator=generator, size=size)
    if guiding.guided_steps == 0:
        raise SettingsError("guiding: guided_steps must be at least 1 for a comparison with unguided")


def _checked_scale(
    sampler: GuidedSampler, cases: Sequence[Case], steps: int, guidance_scale: float | None, strict: bool
) -> float | None:
    """The guidance scale: the classifier's where none is given.

    Raises:
        UserError: steps that cannot be guided; where strict, what is otherwise than in training.
    """
    scale = sampler.classifier.config.sampling.guidance_scale if guidance_scale is None else guidance_scale
    sampler.guided_steps(steps, levels=sampler.levels([case.composition for case in cases if case.composition]))
    if strict:
        require_as_trained(sampler, steps, sampler.size, scale)
    return scale


def _hold(out: Path, journal: Path, videos: Path | None, cache: Path | None, held: ExitStack) -> None:
    """Check the places, keep other runs from them, and remove what killed ones left half written."""
    require_writable(out, journal, videos and videos / "guided" / "video.mp4", cache and cache / "entry")
    held.enter_context(alone(out.parent, out.name))
    sweep(out.parent, older=0, name=out.name)
    if videos:
        held.enter_context(alone(videos))
        for folder in (path for path in (videos, *videos.rglob("*")) if path.is_dir()):
            sweep(folder, older=0)


def _compare(
    whole: Comparison, journal: Journal, crew: Processes, out: Path, setup: dict[str, Any]
) -> Evaluation | None:
    """Run what is not done yet, and write and show what all rows come to; None in processes other than the first."""
    crew.meet()  # nobody writes before all have read
    if crew.first:
        guide = whole.sampler
        ruled = bool(guide.config.rules)
        warnings = cautions(guide, whole.asked, ruled, whole.steps, guide.size, whole.guidance_scale)
        sys.stderr.writelines(f"warning: {line}\n" for line in warnings)
        if journal.done:
            print(
                f"going on with a run that was stopped: {len(journal.rows)} of {len(whole.asked)} prompts are in "
                f"{journal.path}"
            )
    whole.run(journal, crew)
    if not crew.first:
        return None
    rows, suite = journal.rows, whole.suite
    others = [
        PlainRow(prompt=case.prompt, seed=case.seeds[0], group=case.group, reason=case.reason, why=case.why)
        for case in whole.cases
        if case.composition is None
    ]
    satisfied = whole.sampler.config.threshold or 1.0
    figures = summarise(rows, journal.timing, suite.groups, suite.labels, satisfied, others, suite.drawn)
    result = Evaluation(schema=SCHEMA, **setup, **vars(figures), rows=rows, plain_rows=others)
    write_evaluation(out, result)
    journal.close()
    print(render(result))
    print(f"\nwrote {out}")
    return result


def _tools(suite: Suite, repo: Path | None, python: Path | None, videos: Path | None) -> Official | None:
    """The benchmark's scripts, where they are asked for."""
    if repo is None and python is None:
        return None
    if repo is None or python is None:
        raise SettingsError("--official and --python go together: the benchmark's checkout and its own environment")
    return benchmark(suite.name, suite.lines if isinstance(suite, FreeSuite) else {}, repo, python, videos)


def _finished(out: Path, setup: dict[str, Any], cases: Sequence[Case]) -> Evaluation | None:
    """The evaluation that is there already, if it is of this setup and these prompts."""
    if not out.exists():
        return None
    found = read_evaluation(out)
    same = all(getattr(found, name) == value for name, value in json.loads(json.dumps(setup)).items())
    prompts = [row.prompt for row in found.rows] + [row.prompt for row in found.plain_rows]
    return found if same and Counter(prompts) == Counter(case.prompt for case in cases) else None


def _with_scores(
    out: Path, result: Evaluation, tools: Official | None, tool: Quality | None, suite: Suite
) -> Evaluation:
    """The evaluation with what other programs say of its videos, written and shown."""
    problems: list[str] = []
    if tools is not None:
        scores = official_scores(tools, suite.groups)
        result, problems = replace(result, official=scores.found), [*problems, *scores.problems]
    if tool is not None:
        scores = quality_scores(tool)
        result, problems = replace(result, vbench=scores.found), [*problems, *scores.problems]
    write_evaluation(out, result)
    for title, found in (("the benchmark's own score", result.official), ("VBench's quality", result.vbench)):
        if found is not None:
            print(columns(score_rows(title, found)))
    for problem in problems:
        print(f"no score: {problem}")
    if problems:
        raise DataError(f"{len(problems)} scores could not be had, the first: {problems[0]}")
    return result


if __name__ == "__main__":
    run(main, prog="python -m cvg.evaluate", remedies=REMEDIES)
