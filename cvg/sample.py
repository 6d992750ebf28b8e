"""``python -m cvg.sample``: guided videos from prompts, beside the unguided ones."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from tqdm import tqdm

from cvg.classifier.model import CompositionClassifier
from cvg.common.cli import run
from cvg.common.errors import PromptError, SettingsError, require
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
    place: Path

    def file(self, suffix: str) -> Path:
        """One of the job's files."""
        return self.place.with_name(self.place.name + suffix)


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
    require(1, fps=fps, scale=scale, batch_size=batch_size)
    model = _with_new_labels(CompositionClassifier.from_pretrained(classifier), label, entities, label_group)
    prompts, seeds = [prompt] if isinstance(prompt, str) else prompt, [seed] if isinstance(seed, int) else seed
    jobs = _plan([parse(text, model.labels, entities, label) for text in prompts], seeds, out)
    sampler = GuidedSampler(load_generator(generator or model.config.generator["name"], loading), model, guiding)
    options: dict[str, Any] = {"steps": steps, "guidance_scale": guidance_scale, "size": size}
    settings = {"guidance": guidance, "generator": sampler.generator.identity(), "classifier": classifier}
    for start in tqdm(range(0, len(jobs), batch_size), desc="sample", disable=len(jobs) <= batch_size):
        batch = jobs[start : start + batch_size]
        results = {"unguided": _sample(sampler, batch, guided=False, **options)}
        if guidance == "on":
            results["guided"] = _sample(sampler, batch, guided=True, **options)
        shown = results.get("guided", results["unguided"])
        relations = traces(shown, model.labels)
        seconds = {side: result.seconds / len(batch) for side, result in reversed(results.items())}
        for index, job in enumerate(batch):
            _write_videos(job, [to_frames(result.video_BCFHW[index]) for result in results.values()], fps, scale)
            told = {"prompt": job.composition.prompt, "seed": job.seed, **settings, "steps": steps}
            write_json(job.file(".json"), told | {"relations": relations[index], "seconds": seconds})
            print(job.file(".mp4"))
    return [job.file(".mp4") for job in jobs]


def _plan(compositions: Sequence[Composition], seeds: Sequence[int], out: Path) -> list[_Job]:
    """Every prompt with every seed. Raises SettingsError where two would be written to one place."""
    jobs = [
        _Job(composition, seed, out / f"{slug(composition.prompt)}_seed{seed}")
        for composition in compositions
        for seed in seeds
    ]
    twice = [place for place, count in Counter(job.place for job in jobs).items() if count > 1]
    if twice:
        raise SettingsError(f"two videos would be written to {min(twice)}; give each prompt and seed once")
    return jobs


def _write_videos(job: _Job, videos_FHWC: Sequence[NDArray[np.uint8]], fps: int, scale: int) -> None:
    """The last video of a job, and where there are two, unguided and guided, both side by side."""
    write_video(job.file(".mp4"), videos_FHWC[-1], fps=fps, scale=scale)
    if len(videos_FHWC) > 1:
        both = np.concatenate(videos_FHWC, axis=2)
        write_video(job.file(".side-by-side.mp4"), both, fps=fps, scale=scale)
        write_gif(job.file(".side-by-side.gif"), both, fps=fps, scale=scale)


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
