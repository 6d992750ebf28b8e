"""Unguided runs that keep the early latents, and what the classifier makes of them.

The plain pipeline is only looked at, so its video is the unguided one bit for bit.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from cvg.common.clock import wall_clock
from cvg.composition import Composition
from cvg.diffusion.schedule import Schedule
from cvg.diffusion.trajectory import nearest_steps
from cvg.guidance.choice import looks
from cvg.guidance.guide import Guide
from cvg.guidance.sampler import GuidedSampler, Observe


@dataclass(frozen=True)
class EarlyLatents:
    """What the denoising step of a guided step starts from.

    Attributes:
        guided_step: index of the step in T, the classifier's sigmas.
        step: denoising step.
        timestep: the scheduler's, of that step.
        z: z_t, (B, C, F, H', W').
    """

    guided_step: int
    step: int
    timestep: Tensor
    z: Tensor


@dataclass
class PlainRun:
    """An unguided batch.

    Attributes:
        video_BCFHW: in [-1, 1], on the CPU.
        early: what it went through, guided step after guided step.
        seconds: wall time, decoding included.
        early_seconds: wall time until z_t of the last guided step in use was there.
    """

    video_BCFHW: Tensor
    early: list[EarlyLatents]
    seconds: float
    early_seconds: float


@dataclass
class EarlyVerdict:
    """The classifier on z_t, with the volumes of the guided steps up to this one, as guidance sees them.

    Attributes:
        guided_step: index of the step in T, the classifier's sigmas.
        step: denoising step.
        log_probability_RY: within each relation's group; relations of the batch in order, minus infinity elsewhere.
        volume_RKFHW: this step's volume.
    """

    guided_step: int
    step: int
    log_probability_RY: Tensor
    volume_RKFHW: Tensor


def reachable_guided_steps(sampler: GuidedSampler, in_use: Mapping[int, int], schedule: Schedule) -> dict[int, int]:
    """All steps of T that the schedule has a denoising step for, in use or not: {guided step: denoising step}.

    Args:
        sampler: whose classifier names the noise levels.
        in_use: the guided ones, as :meth:`GuidedSampler.level_steps` gives them: {denoising step: guided step}.
        schedule: of the run.
    """
    reachable = {guided_step: step for step, guided_step in in_use.items()}
    wanted = sampler.classifier.config.sigmas
    levels = schedule.levels[:-1]
    for guided_step, step in enumerate(nearest_steps(levels, wanted)):
        if step is not None and step not in reachable.values():
            reachable.setdefault(guided_step, step)
    return dict(sorted(reachable.items()))


def run_plain(
    sampler: GuidedSampler,
    compositions: Sequence[Composition],
    seeds: Sequence[int],
    steps: int,
    guidance_scale: float | None = None,
    observe: Observe | None = None,
) -> PlainRun:
    """Sample without guidance and keep z_t of the guided steps.

    Args:
        sampler: generator and classifier.
        compositions: what the prompts ask for.
        seeds: of the initial noise, one per prompt.
        steps: denoising steps.
        guidance_scale: of classifier-free guidance; the classifier's, else the pipeline's default, when None.
        observe: shown every denoising step too.
    """
    schedule = sampler.generator.schedule(steps, sampler.size)
    in_use = sampler.level_steps(steps, levels=sampler.levels(compositions))
    at = {step: guided_step for guided_step, step in reachable_guided_steps(sampler, in_use, schedule).items()}
    last = max((step for step, guided_step in at.items() if guided_step < looks(sampler)), default=0)
    early: list[EarlyLatents] = []
    began = wall_clock(sampler.generator.device)
    early_seconds = 0.0

    def keep(step: int, z: Tensor) -> None:
        nonlocal early_seconds
        if step in at:
            early.append(EarlyLatents(at[step], step, schedule.timesteps[step], z.clone()))
        if step == last > 0:
            early_seconds = wall_clock(z.device) - began
        if observe is not None:
            observe(step, z)

    prompts = [composition.prompt for composition in compositions]
    result = sampler(
        prompts, seeds, compositions, guided=False, steps=steps, guidance_scale=guidance_scale, observe=keep
    )
    early.sort(key=lambda found: found.guided_step)
    return PlainRun(result.video_BCFHW, early, result.seconds, early_seconds)


@torch.no_grad()
def early_verdicts(
    sampler: GuidedSampler, compositions: Sequence[Composition], early: Sequence[EarlyLatents]
) -> list[EarlyVerdict]:
    """What the classifier makes of z_t, guided step after guided step.

    Args:
        sampler: generator, classifier and the guidance settings that say how its verdict is smoothed.
        compositions: what the prompts ask for.
        early: what an unguided run of them went through, as :func:`run_plain` keeps it.
    """
    guide = Guide(sampler.generator, sampler.classifier, compositions, sampler.config)
    verdicts = []
    for found in early:
        verdict = guide.verdict(found.z.float(), found.timestep, range(len(compositions)), found.guided_step)
        log_probability_RY, volume_RKFHW = verdict.log_probability_RY.cpu(), verdict.volume_RKFHW.cpu()
        verdicts.append(EarlyVerdict(found.guided_step, found.step, log_probability_RY, volume_RKFHW))
    return verdicts
