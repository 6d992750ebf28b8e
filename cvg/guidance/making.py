"""Sampling jobs, a batch at a time, and writing their files; what came of them is said above the bar."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, replace
from typing import Any

import torch

from cvg.common.bars import StepBar
from cvg.common.files import write_json
from cvg.common.sizes import Size
from cvg.common.versions import versions
from cvg.guidance.choice import BestSeed, candidate_seeds, followed
from cvg.guidance.jobs import Job, asked, in_batches
from cvg.guidance.sampler import GuidedSampler, SampleResult
from cvg.guidance.traces import in_words, low, traces
from cvg.media.pixels import to_frames


def make_all(sampler: GuidedSampler, jobs: Sequence[Job], settings: dict[str, Any]) -> None:
    """Sample the jobs whose files are not there yet, made with the same settings, and write them.

    Args:
        sampler: generator and classifier.
        jobs: to be done; those that cannot be guided are sampled plainly.
        settings: of the run, as they stand in the sidecars: of them ``guidance`` ("on", "off" or "score"),
            ``compare`` (whether guided videos are made beside unguided ones), ``candidates``, ``steps``,
            ``guidance_scale``, ``size``, ``fps``, ``scale`` and ``batch_size`` are followed.
    """
    runs = {"on": 1 + settings["compare"], "off": 1, "score": settings["candidates"]}
    with_settings = in_batches(jobs, settings)
    with StepBar("sample", sum(runs[of["guidance"]] for _, of in with_settings), settings["steps"]) as bar:
        for batch, of in with_settings:
            # By whole batches: bytes depend on what a video is batched with.
            if all(job.is_done(of) for job in batch):
                bar.skip(runs[of["guidance"]])
                bar.say("\n".join(f"{job.file('.mp4')} (made before, with these settings)" for job in batch))
            else:
                batch[0].pictures.show(sampler.generator)
                (_choose if of["guidance"] == "score" else _make)(sampler, batch, of, bar)


def _make(sampler: GuidedSampler, batch: Sequence[Job], settings: dict[str, Any], bar: StepBar) -> None:
    """Sample a batch and write its files."""
    results = {}
    if settings["guidance"] == "off" or settings["compare"]:
        results["unguided"] = _sample(sampler, batch, settings, bar, guided=False)
    if settings["guidance"] == "on":
        results["guided"] = _sample(sampler, batch, settings, bar, guided=True)
    fps, scale = settings["fps"], settings["scale"]
    known = [index for index, job in enumerate(batch) if job.composition is not None]
    shown = [*results.values()][-1]
    found = traces(replace(shown, compositions=asked(batch)), sampler.classifier.labels)
    relations = dict(zip(known, found, strict=True))
    seconds = {side: result.seconds / len(batch) for side, result in reversed(results.items())}
    for index, job in enumerate(batch):
        job.write_videos([to_frames(result.video_BCFHW[index]) for result in results.values()], fps, scale)
        told = {"prompt": job.prompt, "seed": job.seed, **settings}
        write_json(job.file(".json"), told | {"relations": relations.get(index, []), "seconds": seconds})
        bar.say(str(job.file(".mp4")))
        for relation in relations.get(index, []):
            before, after = relation["probability_before"], relation["probability_after"]
            if after is not None:
                what = in_words(relation["label"], relation["entities"])
                bar.say(f"  {what}: probability {before:.2f} before guidance, {after:.2f} after")
                _warn_of_low(bar, job, what, after)


def _choose(sampler: GuidedSampler, batch: Sequence[Job], settings: dict[str, Any], bar: StepBar) -> None:
    """Sample the best seed of each job of a batch and write its files."""
    result = BestSeed(sampler)(
        [job.prompt for job in batch],
        [candidate_seeds(job.seed, settings["candidates"]) for job in batch],
        asked(batch),
        settings["steps"],
        settings["guidance_scale"],
        Size(**settings["size"]),
        bar,
    )
    relations = traces(result, sampler.classifier.labels)
    for index, job in enumerate(batch):
        job.write_videos([to_frames(result.video_BCFHW[index])], settings["fps"], settings["scale"])
        told = {"prompt": job.prompt, "seed": job.seed, **settings, "relations": relations[index]}
        told |= {"kept_seed": result.seeds[index], "tried": [asdict(one) for one in result.tried[index]]}
        write_json(job.file(".json"), told | {"seconds": {"score": result.seconds / len(batch)}})
        kept = next(one for one in result.tried[index] if one.seed == result.seeds[index])
        begun = ", ".join(str(one.seed) for one in result.tried[index])
        bar.say(f"{job.file('.mp4')}\n  kept seed {kept.seed} of {begun}")
        for number, relation in enumerate(relations[index]):
            what = in_words(relation["label"], relation["entities"])
            tried = ", ".join(f"{one.probabilities[number]:.2f}" for one in result.tried[index])
            bar.say(f"  {what}: probability {kept.probabilities[number]:.2f} (of all: {tried})")
            _warn_of_low(bar, job, what, kept.probabilities[number])


def _warn_of_low(bar: StepBar, job: Job, what: str, probability: float) -> None:
    if warning := low(f"{job.prompt!r}, seed {job.seed}", what, probability):
        bar.warn(warning)


def _sample(
    sampler: GuidedSampler, batch: Sequence[Job], settings: dict[str, Any], observe: StepBar, guided: bool
) -> SampleResult:
    return sampler(
        [job.prompt for job in batch],
        [job.seed for job in batch],
        asked(batch),
        guided=guided,
        steps=settings["steps"],
        guidance_scale=settings["guidance_scale"],
        size=Size(**settings["size"]),
        observe=observe,
    )


def settings_of(
    sampler: GuidedSampler,
    classifier: str,
    guidance: str,
    guidance_scale: float | None,
    size: Size,
) -> dict[str, Any]:
    """What videos are sampled with, for the record.

    Args:
        sampler: the generator and what guides it.
        classifier: the name of what guides.
        guidance: ``on``, ``off`` or ``score``.
        guidance_scale: of classifier-free guidance; the one that the classifier names when None.
        size: of the videos.
    """
    usual = sampler.classifier.config.sampling.guidance_scale
    guiding = {"on": asdict(sampler.config), "score": followed(sampler), "off": None}
    return {
        "guidance": guidance,
        "generator": sampler.generator.identity(),
        "classifier": sampler.classifier.identity(classifier),
        "guidance_scale": usual if guidance_scale is None else guidance_scale,
        "size": size._asdict(),
        "guiding": guiding[guidance],
    }


def surroundings() -> dict[str, Any]:
    """What bytes of a video depend on beside a command's options: threads, and versions of what computes."""
    return {"threads": torch.get_num_threads(), "versions": versions()}
