"""``python -m cvg.sample``: guided videos from prompts, beside the unguided ones."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
from tqdm import tqdm

from cvg.classifier.model import CompositionClassifier
from cvg.common.cli import run
from cvg.common.errors import PromptError, SettingsError
from cvg.common.files import slug, write_json
from cvg.common.sizes import Size
from cvg.composition import Composition, parse
from cvg.generators import Loading, load_generator
from cvg.guidance.config import GuidanceConfig
from cvg.guidance.sampler import GuidedSampler, SampleResult
from cvg.guidance.traces import traces
from cvg.media.pixels import to_frames
from cvg.media.video import write_gif, write_video

REMEDIES: dict[type[Exception], str] = {PromptError: "--entities and --label say by hand what a prompt asks for"}


@dataclass(frozen=True)
class _Job:
    composition: Composition
    seed: int
    path: Path


def main(
    prompt: str | list[str],
    seed: int | list[int] = 0,
    out: Path = Path("runs/sample"),
    classifier: str = "shapes-classifier",
    generator: str | None = None,
    entities: list[str] | None = None,
    label: str | list[str] | None = None,
    label_group: str | None = None,
    guidance: Literal["on", "off"] = "on",
    guiding: GuidanceConfig = GuidanceConfig(),  # noqa: B008  (frozen)
    steps: int = 50,
    guidance_scale: float | None = None,
    size: Size | None = None,
    fps: int = 8,
    scale: int = 4,
    batch_size: int = 8,
    loading: Loading = Loading(),  # noqa: B008  (frozen)
) -> list[Path]:
    """Generate videos that obey the composition of their prompts.

    Each video becomes NAME.mp4 with NAME.json beside it (prompt, seed, probabilities and losses per iteration,
    seconds); with guidance on, NAME.side-by-side.mp4 and .gif show unguided and guided of the same seed.

    Args:
        prompt: a text prompt, or a list of them: '["one", "another"]'.
        seed: a seed, or a list of them; every prompt is sampled with every seed.
        out: output folder.
        classifier: exported classifier folder, hub id, or shipped name.
        generator: pipeline folder, hub id, or shipped name; the one the classifier was trained on when left out.
        entities: entity phrases of the prompt, when it cannot be parsed: subject, object of each relation in turn.
        label: labels of the relations, when they cannot be parsed. A classifier with an anchored head also takes
            phrases that it was not trained on (docs/new_labels.md).
        label_group: the group whose labels such a phrase competes against, where its entities do not tell.
        guidance: off runs the plain pipeline.
        guiding: how guided steps are taken.
        steps: denoising steps.
        guidance_scale: of classifier-free guidance; the classifier's, else the pipeline's default, when left out.
        size: frames, height, width in pixels; what the classifier was trained for when left out.
        fps: frames per second of the files.
        scale: enlargement of the files, by whole pixels.
        batch_size: videos at a time.
        loading: where and how the generator is computed.
    """
    model = _with_new_labels(CompositionClassifier.from_pretrained(classifier), label, entities, label_group)
    prompts = [prompt] if isinstance(prompt, str) else prompt
    seeds = [seed] if isinstance(seed, int) else seed
    compositions = [parse(text, model.labels, entities, label) for text in prompts]
    jobs = [
        _Job(composition, value, out / f"{slug(composition.prompt)}_seed{value}")
        for composition in compositions
        for value in seeds
    ]
    repeated = {job.path for job in jobs if [other.path for other in jobs].count(job.path) > 1}
    if repeated:
        raise SettingsError(f"two videos would be written to {min(repeated)}; give each prompt and seed once")
    name = generator or model.config.generator["name"]
    frozen = load_generator(name, loading)
    sampler = GuidedSampler(frozen, model, guiding)
    written: list[Path] = []
    for start in tqdm(range(0, len(jobs), batch_size), desc="sample", disable=len(jobs) <= batch_size):
        batch = jobs[start : start + batch_size]
        options: dict[str, Any] = {"steps": steps, "guidance_scale": guidance_scale, "size": size}
        plain = _sample(sampler, batch, guided=False, **options)
        shown = _sample(sampler, batch, guided=True, **options) if guidance == "on" else plain
        details = traces(shown, model.labels)
        for index, job in enumerate(batch):
            video = to_frames(shown.video_BCFHW[index])
            path = job.path.with_name(job.path.name + ".mp4")
            write_video(path, video, fps=fps, scale=scale)
            if guidance == "on":
                both = np.concatenate([to_frames(plain.video_BCFHW[index]), video], axis=2)
                write_video(job.path.with_name(job.path.name + ".side-by-side.mp4"), both, fps=fps, scale=scale)
                write_gif(job.path.with_name(job.path.name + ".side-by-side.gif"), both, fps=fps, scale=scale)
            write_json(
                job.path.with_name(job.path.name + ".json"),
                {
                    "prompt": job.composition.prompt,
                    "seed": job.seed,
                    "guidance": guidance,
                    "generator": sampler.generator.identity(),
                    "classifier": classifier,
                    "steps": steps,
                    "relations": details[index],
                    "seconds": {"guided": shown.seconds / len(batch), "unguided": plain.seconds / len(batch)}
                    if guidance == "on"
                    else {"unguided": plain.seconds / len(batch)},
                },
            )
            print(path)
            written.append(path)
    return written


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


def _sample(sampler: GuidedSampler, batch: Sequence[_Job], guided: bool, **options: Any) -> SampleResult:
    compositions = [job.composition for job in batch]
    return sampler(
        [composition.prompt for composition in compositions],
        [job.seed for job in batch],
        compositions,
        guided=guided,
        **options,
    )


if __name__ == "__main__":
    run(main, prog="python -m cvg.sample", remedies=REMEDIES)
