"""Unguided runs that keep the early latents, and what the classifier makes of them.

The plain pipeline is called with a step callback that only looks, so its video is the unguided one bit for bit.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from cvg.composition import Composition
from cvg.guidance import Guide
from cvg.sampler import SIGMA_TOLERANCE, GuidedSampler
from cvg.trajectory import nearest_steps


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
    guided = {slot: step for step, slot in sampler.slots(steps).items()}
    wanted = sampler.classifier.config.sigmas
    _, sigmas = sampler.generator.timesteps(steps)
    for slot, step in enumerate(nearest_steps(sigmas, wanted)):
        if abs(float(sigmas[step]) - wanted[slot]) <= SIGMA_TOLERANCE and step not in guided.values():
            guided.setdefault(slot, step)
    return dict(sorted(guided.items()))


def run_plain(
    sampler: GuidedSampler,
    compositions: Sequence[Composition],
    seeds: Sequence[int],
    steps: int,
    guidance_scale: float | None = None,
) -> PlainRun:
    """Run the unguided pipeline as ``sampler(..., guided=False)`` does, and keep z_t of the classifier's slots."""
    slots = reachable_slots(sampler, steps)
    at = {step: slot for slot, step in slots.items()}
    last = max(sampler.slots(steps), default=0)
    generator = sampler.generator
    latents: dict[int, Tensor] = {}
    began = time.perf_counter()
    marks = {0: began}
    size = generator.pixel_size(sampler.classifier.config.grid)
    noise = [torch.Generator().manual_seed(seed) for seed in seeds]
    initial = generator.initial_latents(noise, size)
    if 0 in at:
        latents[at[0]] = initial.clone()

    def look(pipeline: object, step: int, timestep: Tensor, tensors: dict[str, Tensor]) -> dict[str, Tensor]:
        if step + 1 in at:
            latents[at[step + 1]] = tensors["latents"].clone()
        if step + 1 == last:
            if generator.device.type == "cuda":
                torch.cuda.synchronize(generator.device)
            marks[last] = time.perf_counter()
        return tensors

    prompts = [composition.prompt for composition in compositions]
    final = generator.sample(prompts, initial, steps, guidance_scale, size, look)
    video = generator.decode_latents(final).cpu()
    return PlainRun(video, latents, time.perf_counter() - began, marks[last] - began)


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
    timesteps, _ = sampler.generator.timesteps(steps)
    at = reachable_slots(sampler, steps)
    samples, relations = range(len(compositions)), range(len(guide.sample_R))
    volumes: dict[int, Tensor] = {}
    verdicts = []
    for slot, z in sorted(latents.items()):
        volumes[slot] = guide.volume(z.float(), timesteps[at[slot]], slot, samples, relations)
        log_probability_RY = guide.verdict(volumes, slot, relations)
        verdicts.append(EarlyVerdict(slot, at[slot], log_probability_RY.cpu(), volumes[slot].cpu()))
    return verdicts
