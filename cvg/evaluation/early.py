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
from cvg.guidance.sampler import GuidedSampler


@dataclass
class PlainRun:
    """An unguided batch.

    Attributes:
        video_BCFHW: in [-1, 1], on the CPU.
        latents: z_t before the step of each of the classifier's slots, {slot: (B, C, F, H', W')}.
        seconds: wall time, decoding included.
        early_seconds: wall time until the last guided slot's z_t was there.
    """

    video_BCFHW: Tensor
    latents: dict[int, Tensor]
    seconds: float
    early_seconds: float


@dataclass
class EarlyVerdict:
    """The classifier on z_t, with the volumes of the slots up to this one, as guidance sees them.

    Attributes:
        slot: index among the classifier's sigmas.
        step: denoising step.
        log_probability_RY: within each relation's group; relations of the batch in order, minus infinity elsewhere.
        volume_RKFHW: this slot's volume.
    """

    slot: int
    step: int
    log_probability_RY: Tensor
    volume_RKFHW: Tensor


def reachable_slots(sampler: GuidedSampler, steps: int) -> dict[int, int]:
    """All of the classifier's slots that the schedule has a step for: {slot: step}; the guided ones are among them."""
    guided = {slot: step for step, slot in sampler.guided_steps(steps).items()}
    wanted = sampler.classifier.config.sigmas
    levels = sampler.generator.schedule(steps, sampler.size).levels[:-1]
    for slot, step in enumerate(nearest_steps(levels, wanted)):
        if step is not None and step not in guided.values():
            guided.setdefault(slot, step)
    return dict(sorted(guided.items()))


def run_plain(
    sampler: GuidedSampler,
    compositions: Sequence[Composition],
    seeds: Sequence[int],
    steps: int,
    guidance_scale: float | None = None,
) -> PlainRun:
    """Sample without guidance and keep z_t of the classifier's slots."""
    at = {step: slot for slot, step in reachable_slots(sampler, steps).items()}
    last = max(sampler.guided_steps(steps), default=0)
    latents: dict[int, Tensor] = {}
    began = wall_clock(sampler.generator.device)
    early_seconds = 0.0

    def look(step: int, z: Tensor) -> None:
        nonlocal early_seconds
        if step in at:
            latents[at[step]] = z.clone()
        if step == last > 0:
            early_seconds = wall_clock(z.device) - began

    prompts = [composition.prompt for composition in compositions]
    result = sampler(
        prompts, seeds, compositions, guided=False, steps=steps, guidance_scale=guidance_scale, observe=look
    )
    return PlainRun(result.video_BCFHW, latents, result.seconds, early_seconds)


@torch.no_grad()
def early_verdicts(
    sampler: GuidedSampler, compositions: Sequence[Composition], latents: Mapping[int, Tensor], steps: int
) -> list[EarlyVerdict]:
    """What the classifier makes of z_t, slot after slot.

    Args:
        sampler: generator, classifier and the guidance settings that say how its verdict is smoothed.
        compositions: what the prompts ask for.
        latents: z_t by slot, as :func:`run_plain` keeps them.
        steps: denoising steps of the run.
    """
    guide = Guide(sampler.generator, sampler.classifier, compositions, sampler.config)
    timesteps = sampler.generator.schedule(steps, sampler.size).timesteps
    at = reachable_slots(sampler, steps)
    verdicts = []
    for slot, z in sorted(latents.items()):
        verdict = guide.verdict(z.float(), timesteps[at[slot]], range(len(compositions)), slot)
        verdicts.append(EarlyVerdict(slot, at[slot], verdict.log_probability_RY.cpu(), verdict.volume_RKFHW.cpu()))
    return verdicts
