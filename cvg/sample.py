"""``python -m cvg.sample``: guided videos from prompts, beside the unguided ones."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import asdict, replace
from itertools import chain
from pathlib import Path
from typing import Any, Literal

from cvg.common import quiet
from cvg.common.cli import run
from cvg.common.errors import DifferenceError, NothingToGuide, PromptError, SettingsError
from cvg.common.files import alone, require_writable, sweep
from cvg.common.sizes import Size
from cvg.common.typed import to_dict
from cvg.composition import Composition, LabelSet, parse
from cvg.composition.asking import PromptLine, read_prompts, understand
from cvg.generators import Loading
from cvg.guidance.config import RULES, GuidanceConfig
from cvg.guidance.jobs import asked, check_values, fitting_size, job_places, jobs_of
from cvg.guidance.pictures import Pictures, given, pictures_of

# What computes is imported by the functions that use it: help and wrong options need no PyTorch. For the type checker
# alone, and not under `TYPE_CHECKING`, whose blocks jsonargparse runs.
MYPY = False
if MYPY:
    from cvg.classifier import CompositionClassifier
    from cvg.guidance.sampler import GuidedSampler

REMEDIES: dict[type[Exception], str] = {
    PromptError: "--entities and --label say by hand what a prompt asks for",
    DifferenceError: "without --strict it is a warning",
}
_LABELS = "world"
"""The label set of rules where none is given."""


def main(
    prompt: str | list[str] | None = None,
    seed: int | list[int] = 0,
    out: Path = Path("runs/sample"),
    prompts_file: Path | None = None,
    image: Path | None = None,
    last_image: Path | None = None,
    classifier: str = "shapes-classifier",
    labels: str | None = None,
    generator: str | None = None,
    entities: list[str] | None = None,
    label: str | list[str] | None = None,
    label_group: str | None = None,
    guidance: Literal["on", "off", "score"] = "on",
    compare: bool = True,
    candidates: int = 4,
    guiding: GuidanceConfig = GuidanceConfig(),  # noqa: B008  (frozen)
    steps: int = 50,
    guidance_scale: float | None = None,
    pipeline: dict[str, Any] = {},  # noqa: B006  (never changed)
    size: Size | None = None,
    fps: int = 8,
    scale: int = 4,
    batch_size: int = 8,
    strict: bool = False,
    loading: Loading = Loading(),  # noqa: B008  (frozen)
) -> list[Path]:
    """Generate videos that obey the composition of their prompts.

    Each video becomes NAME.mp4 with NAME.json beside it (prompt, seed, all settings, probabilities and losses per
    iteration, seconds); with guidance on, NAME.side-by-side.mp4 and .gif show unguided and guided of the same seed.
    Batches whose files are there, made with the same settings, are not made again.

    Args:
        prompt: a text prompt, or a list of them: '["one", "another"]'.
        prompts_file: prompts in place of it: one a line (.txt), or with entities, labels and pictures of their own
            (.jsonl, .csv). Those that ask for nothing that can be guided are sampled plainly, and it is said which.
        seed: a seed, or a list of them; every prompt is sampled with every seed.
        out: output folder.
        image: picture (PNG, JPEG, WebP, BMP, TIFF) that an image-to-video generator makes the videos of, but for
            prompts of a file that have one of their own; the pipeline brings it to their size.
        last_image: picture that they end with likewise, for models that take one: Wan 2.1 for first and last frames,
            and Wan 2.2 A14B.
        classifier: exported classifier folder, hub id, or shipped name; or "rules", which need no training: formulas on
            the attention maps of any generator, which is then to be named, and the size of its videos.
        labels: label set of the rules: a YAML file, or a shipped one; world when left out.
        generator: pipeline folder, hub id, or shipped name; the one the classifier was trained on when left out.
        entities: entity phrases of the prompt, when it cannot be parsed: subject, object of each relation in turn.
        label: labels of the relations, when they cannot be parsed. A classifier with an anchored head also takes
            phrases that it was not trained on (docs/new_labels.md).
        label_group: the group whose labels such a phrase competes against, where its entities do not tell.
        guidance: off runs the plain pipeline, on any prompt. score moves nothing and needs no gradients: every video is
            begun with several seeds, and after the last guided step the one goes on that the classifier prefers.
        compare: sample guided videos unguided too, to show both side by side; false takes half the time.
        candidates: seeds of a video with guidance score: its own, and others that follow from it.
        guiding: how guided steps are taken.
        steps: denoising steps.
        guidance_scale: of classifier-free guidance; the classifier's, else the pipeline's default, when left out.
        pipeline: further arguments of the pipeline's own call, such as --pipeline.negative_prompt "blurry".
        size: frames, height, width in pixels; what the classifier was trained for when left out.
        fps: frames per second of the files.
        scale: enlargement of the files, by whole pixels.
        batch_size: videos at a time.
        strict: end with an error where the generator is loaded or called otherwise than in the classifier's training
            (another LoRA, precision, scheduler, guidance scale, size or few steps), in place of a warning.
        loading: where and how the generator is computed.
    """
    lines, seeds = _lines(prompt, prompts_file, entities, label), [seed] if isinstance(seed, int) else seed
    prompts = [line.prompt for line in lines]
    numbers = {"steps": steps, "fps": fps, "scale": scale, "batch_size": batch_size}
    check_values(prompts, seeds, guidance_scale, size, numbers | {"candidates": candidates})
    places = job_places(lines, seeds, out)
    require_writable(*chain(*places))
    from cvg.guidance.making import make_all, settings_of, surroundings
    from cvg.guidance.rules import with_generator
    from cvg.guidance.sampler import GuidedSampler

    quiet.silence()  # again, of what these have imported
    pictures = pictures_of(lines, image, last_image)
    with alone(out):  # two would make the same files, and take each other's temporary ones for a killed run's
        sweep(out, older=0)
        trained = _trained(classifier, labels, generator, size)
        if trained is not None and guidance != "off":
            trained = _with_new_labels(trained, label, entities, label_group)
        known = LabelSet.load(labels or _LABELS) if trained is None else trained.labels
        needed, ruled = guidance != "off" and prompts_file is None, trained is None and guidance != "off"
        jobs = jobs_of(prompts, [_understood(line, known, needed, ruled) for line in lines], pictures, seeds, places)
        frozen = with_generator(trained, known, generator, size, loading, guiding, *given(pictures))
        sampler = GuidedSampler(*frozen, guiding)
        size = _fitted(sampler, size, scale, pipeline, pictures[0])
        if guidance != "off":
            _warn(sampler, asked(jobs), guidance == "on", strict, (steps, size, guidance_scale))
        settings = {
            **settings_of(sampler, classifier, guidance, guidance_scale, size),
            **{"candidates": candidates if guidance == "score" else None, "compare": compare, "pipeline": pipeline},
            "by_hand": {"entities": entities, "label": label, "label_group": label_group} | _said(lines, prompts_file),
            **{**numbers, "loading": asdict(loading), **surroundings()},
        }
        make_all(sampler, jobs, settings)
    return [job.file(".mp4") for job in jobs]


def _trained(
    classifier: str, labels: str | None, generator: str | None, size: Size | None
) -> CompositionClassifier | None:
    """The classifier; None where rules are to guide.

    Raises:
        SettingsError: rules miss what a classifier brings, or a classifier is given what rules have.
    """
    if classifier != RULES:
        from cvg.classifier import CompositionClassifier

        if labels is not None:
            raise SettingsError(
                f"labels {labels}: a classifier has a label set of its own; leave --labels out, or give --classifier "
                "rules"
            )
        return CompositionClassifier.from_pretrained(classifier)
    from cvg.guidance import rules

    rules.require_named(generator=generator, size=size)
    return None


def _warn(
    sampler: GuidedSampler,
    asked: Sequence[Composition],
    moved: bool,
    strict: bool,
    call: tuple[int, Size, float | None],
) -> None:
    """Tell of what is doubtful, one line each, once it is known that the steps can be guided.

    Args:
        sampler: generator and what reads its maps.
        asked: what prompts ask for.
        moved: latents are: where rules are added to the classifier, labels that they say nothing of are told too.
        strict: see :func:`main`.
        call: steps, size and guidance scale.

    Raises:
        ModelError: something is otherwise than in the classifier's training, and that is not to be.
        SettingsError: the schedule does not fit the classifier.
    """
    from cvg.guidance.cautions import cautions, require_as_trained

    sampler.guided_steps(*call[:2], sampler.levels(asked))
    if strict:
        require_as_trained(sampler, *call)
    warnings = cautions(sampler, asked, moved and bool(sampler.config.rules), *call)
    sys.stderr.writelines(f"warning: {line}\n" for line in warnings)


def _lines(
    prompt: str | list[str] | None, path: Path | None, entities: list[str] | None, label: str | list[str] | None
) -> list[PromptLine]:
    """The prompts, each with what is said of it by hand."""
    if (prompt is None) == (path is None):
        raise SettingsError("give --prompt or --prompts_file" + ("" if prompt is None else ", not both"))
    if path is not None:
        if entities is not None or label is not None:
            raise SettingsError("--entities and --label go with --prompt; a file says them beside each prompt")
        return read_prompts(path, pictures=True)
    texts = [prompt] if isinstance(prompt, str) else prompt or []
    labels = [label] if isinstance(label, str) else label
    return [PromptLine(prompt=text, entities=entities, labels=labels) for text in texts]


def _fitted(
    sampler: GuidedSampler, size: Size | None, scale: int, pipeline: dict[str, Any], pictures: Pictures
) -> Size:
    """The size of the videos; the pipeline's call has further arguments and the first pictures, and can be tried."""
    from cvg.generators.call_options import checked_call

    size = fitting_size(sampler, size, scale)
    pictures.show(sampler.generator)
    sampler.generator.call = checked_call(sampler.generator, size, pipeline)
    return size


def _said(lines: Sequence[PromptLine], path: Path | None) -> dict[str, Any]:
    """What a file of prompts says by hand, for the record."""
    if path is None:
        return {}
    told = [to_dict(replace(line, image=None, last_image=None)) for line in lines if line.entities or line.labels]
    return {"lines": told}


def _understood(line: PromptLine, labels: LabelSet, needed: bool, ruled: bool) -> Composition | None:
    """What the prompt asks for, which is printed; None where it is not ``needed`` and cannot be read.

    Where rules guide (``ruled``), it is what they know of that. What they do not know is told; what is ``needed`` and
    wholly unknown to them is refused.
    """
    from cvg.guidance.stated import stated_of, stated_part, unstated
    from cvg.guidance.traces import in_words

    if needed:
        try:
            composition = parse(line.prompt, labels, line.entities, line.labels)
        except NothingToGuide as nothing:
            by_rules = [] if ruled or line.entities or line.labels else stated_of(line.prompt, LabelSet.load(_LABELS))
            if not by_rules:
                raise
            raise NothingToGuide(f"{nothing}; rules guide {', '.join(by_rules)}: --classifier rules") from nothing
    else:
        found = understand(line, labels)
        if found.composition is None:
            print(f"{line.prompt!r} is sampled plainly ({found.reason})")
            return None
        composition = found.composition
    left_out: list[str] = []
    if ruled:
        mine, left_out = stated_part(composition, labels)
        if mine is None:
            error = unstated(labels, left_out[0])
            if needed:
                raise error
            print(f"{line.prompt!r} is sampled plainly ({error})")
            return None
        composition = mine
    relations = [in_words(each.label, [entity.phrase for entity in each.entities]) for each in composition.relations]
    print(f"{line.prompt!r} was understood as: {'; '.join(relations)}")
    reasons = [*composition.left_out, *(f"{label!r}: no rule on attention maps states it" for label in left_out)]
    print("".join(f"left out: {reason}\n" for reason in reasons), end="")
    return composition


def _with_new_labels(
    model: CompositionClassifier, label: str | list[str] | None, entities: list[str] | None, group: str | None
) -> CompositionClassifier:
    """The classifier, with the labels it does not know added."""
    given = [label] if isinstance(label, str) else label or []
    new = [name for name in dict.fromkeys(given) if name not in model.labels]
    if group is not None and not new:
        raise SettingsError(f"--label_group {group}: there is no new label to take into it; leave it out")
    count = None
    if entities is not None and len(new) == 1:
        rest = len(entities) - sum(model.labels[name].entities for name in given if name in model.labels)
        count = rest // given.count(new[0])
    for name in new:
        model = model.with_label(name, group=group, entities=count)
        nearest, cosine = model.nearest_label(name)
        print(f"new label {name!r} of group {model.labels[name].group!r}; nearest there: {nearest!r} ({cosine:.3f})")
    return model


if __name__ == "__main__":
    run(main, prog="python -m cvg.sample", remedies=REMEDIES)
