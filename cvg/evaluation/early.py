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
from cvg.diffusion.trajectory import nearest_steps
from cvg.guidance.guide import Guide
from cvg.guidance.sampler import GuidedSampler, Observe


@dataclass
class PlainRun:
    """An unguided batch.

    Attributes:
        video_BCFHW: in [-1, 1], on the CPU.
        latents: z_t before the denoising step of each guided step, {guided step: (B, C, F, H', W')}.
        seconds: wall time, decoding included.
        early_seconds: wall time until z_t of the last guided step in use was there.
    """

    video_BCFHW: Tensor
    latents: dict[int, Tensor]
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


def reachable_guided_steps(sampler: GuidedSampler, steps: int) -> dict[int, int]:
    """All steps of T that the schedule has a denoising step for, in use or not: {guided step: denoising step}."""
    reachable = {guided_step: step for step, guided_step in sampler.guided_steps(steps).items()}
    wanted = sampler.classifier.config.sigmas
    levels = sampler.generator.schedule(steps, sampler.size).levels[:-1]
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
    at = {step: guided_step for guided_step, step in reachable_guided_steps(sampler, steps).items()}
    last = max(sampler.guided_steps(steps), default=0)
    latents: dict[int, Tensor] = {}
    began = wall_clock(sampler.generator.device)
    early_seconds = 0.0

    def keep(step: int, z: Tensor) -> None:
        nonlocal early_seconds
        if step in at:
            latents[at[step]] = z.clone()
        if step == last > 0:
            early_seconds = wall_clock(z.device) - began
        if observe is not None:
            observe(step, z)

    prompts = [composition.prompt for composition in compositions]
    result = sampler(
        prompts, seeds, compositions, guided=False, steps=steps, guidance_scale=guidance_scale, observe=keep
    )
    return PlainRun(result.video_BCFHW, latents, result.seconds, early_seconds)


@torch.no_grad()
def early_verdicts(
    sampler: GuidedSampler, compositions: Sequence[Composition], latents: Mapping[int, Tensor], steps: int
) -> list[EarlyVerdict]:
    """What the classifier makes of z_t, guided step after guided step.

    Args:
        sampler: generator, classifier and the guidance settings that say how its verdict is smoothed.
        compositions: what the prompts ask for.
        latents: z_t by guided step, as :func:`run_plain` keeps them.
        steps: denoising steps of the run.
    """
    guide = Guide(sampler.generator, sampler.classifier, compositions, sampler.config)
    timesteps = sampler.generator.schedule(steps, sampler.size).timesteps
    at = reachable_guided_steps(sampler, steps)
    verdicts = []
    for guided_step, z in sorted(latents.items()):
        step = at[guided_step]
        verdict = guide.verdict(z.float(), timesteps[step], range(len(compositions)), guided_step)
        verdicts.append(EarlyVerdict(guided_step, step, verdict.log_probability_RY.cpu(), verdict.volume_RKFHW.cpu()))
    return verdicts
