"""``python -m cvg.report``: one HTML file with the tables and figures of an evaluation. It needs no network."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import replace
from pathlib import Path

from cvg.classifier import CompositionClassifier
from cvg.common.cli import run
from cvg.common.errors import PromptError, SettingsError, require
from cvg.common.files import require_writable
from cvg.composition import Composition, LabelSet, parse
from cvg.evaluation.rows import Evaluation, read_evaluation
from cvg.evaluation.suites import Suite, SuiteSettings, load_suite
from cvg.generators import Loading
from cvg.guidance import rules
from cvg.guidance.config import RULES, GuidanceConfig
from cvg.guidance.sampler import GuidedSampler
from cvg.guidance.stated import stated_part
from cvg.reporting import page
from cvg.reporting.clips import clip_section
from cvg.reporting.inspection import inspection_sections
from cvg.reporting.overlays import overlay_section
from cvg.reporting.page import Section
from cvg.reporting.sections import evaluation_sections, prompt_rows, settings_section, training_section
from cvg.reporting.table import interval, number


def asked_labels(result: Evaluation) -> LabelSet | None:
    """The label set that an evaluation asked for instead of the suite's."""
    labels = result.settings["labels"]
    return LabelSet(labels) if labels else None


def asked_suite(result: Evaluation, device: str) -> Suite:
    """The suite of an evaluation, as it was asked for, with its judge on a device."""
    return load_suite(result.suite, asked_labels(result), device, SuiteSettings.of(result.settings["asking"]))


def sampled_again(result: Evaluation, count: int, loading: Loading) -> Section:
    """Entity maps of an evaluation's first prompts; runs its generator on them again."""
    settings, labels = result.settings, asked_labels(result)
    classifier = rules.load_classifier(result.classifier["name"], labels)
    if classifier is not None:
        labels = classifier.labels
    labels, own = labels or asked_suite(result, loading.device).labels, replace(loading, dtype=settings["dtype"])
    name, size = result.generator["name"], settings["size"]
    guiding = GuidanceConfig(**settings["guiding"])
    generator, reader = rules.with_generator(classifier, labels, name, size, own, guiding)
    sampler = GuidedSampler(generator, reader, guiding, size=size)
    found: dict[tuple[str, int], Composition] = {}
    for row in result.rows:
        if len(found) >= count:
            break
        with suppress(PromptError):  # said by hand, or read with another label set
            asked: Composition | None = parse(row.prompt, labels)
            if classifier is None and asked is not None:
                asked, _ = stated_part(asked, labels)
            found |= {} if asked is None else {(row.prompt, row.seed): asked}
    compositions, seeds = list(found.values()), [seed for _, seed in found]
    return overlay_section(sampler, compositions, seeds, settings["steps"], settings["guidance_scale"])


def main(
    evaluation: Path = Path("runs/evaluation.json"),
    out: Path = Path("runs/report.html"),
    training: Path | None = None,
    samples: Path | None = None,
    shards: Path | None = None,
    clips: int = 8,
    maps: int = 3,
    loading: Loading = Loading(),  # noqa: B008  (frozen)
) -> Path:
    """Write the report of an evaluation as one HTML file.

    Args:
        evaluation: JSON file of ``python -m cvg.evaluate``.
        out: HTML file to write.
        training: log folder of the classifier's training (with metrics.csv), for curves and confusion matrices.
        samples: folder written by ``python -m cvg.sample``, for side-by-side clips.
        shards: the shards that the classifier was trained on, for what it sees in them (as ``python -m cvg.inspect``
            shows it): a linear probe of their training records, and a validation record of each label group.
        clips: clips to show, at most.
        maps: prompts whose entity maps are shown; they are sampled again with the evaluation's generator and
            classifier. 0 shows none and loads neither.
        loading: where and how the generator is computed for the entity maps, and where the judge is; the generator's
            dtype is the evaluation's.
    """
    require(0, clips=clips, maps=maps)
    if out.suffix not in (".html", ".htm"):
        raise SettingsError(f"out {out}: give a file name that ends in .html")
    require_writable(out)
    result = read_evaluation(evaluation)
    if shards is not None and result.classifier["name"] == RULES:
        raise SettingsError(f"shards {shards}: rules were trained on none; leave --shards out")
    found = evaluation_sections(result)
    if samples is not None:
        found.insert(1, clip_section(samples, asked_suite(result, loading.device), clips))
    if maps > 0:
        found.append(sampled_again(result, maps, loading))
    key = [
        ("unguided accuracy", number(result.unguided["accuracy"])),
        ("guided accuracy", number(result.guided["accuracy"])),
        ("gain (95%)", interval(result.gain, "value", signed=True)),
        ("time, guided / unguided", number(result.time_ratio)),
    ]
    if training is not None:
        found.append(training_section(training))
    if shards is not None:
        found += inspection_sections(shards, CompositionClassifier.from_pretrained(result.classifier["name"]))
    found.append(settings_section(result))
    settings = result.settings
    subtitle = (
        f"{settings['prompts']} held-out prompts, {settings['steps']} steps, seed {settings['seed']}; "
        f"generator {result.generator['name']}, classifier {result.classifier['name']}. "
        "Unguided and guided videos start from the same noise."
    )
    title = f"Compositional video guidance: {result.suite}"
    page.write(out, title, subtitle, key, found, prompt_rows(result))
    print(f"wrote {out}")
    return out


if __name__ == "__main__":
    run(main, prog="python -m cvg.report")
