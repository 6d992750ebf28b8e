"""What the classifier sees: the entity maps of early latents, unguided and guided, over the frames they turn into."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from cvg.composition import Composition, RelationBatch
from cvg.evaluation.early import PlainRun, early_verdicts, run_plain
from cvg.guidance.sampler import GuidedSampler, SampleResult
from cvg.media.pixels import to_frames
from cvg.reporting.page import Section, image
from cvg.reporting.strips import blend, colour_key, nearest_frames, strips


@dataclass
class Overlay:
    """One relation of one sample.

    Attributes:
        prompt: the prompt.
        label: the relation's label.
        entities: phrase of each present entity slot.
        levels: noise level of each guided step.
        unguided_SKFHW: the volumes of the unguided z_t, per guided step.
        guided_SKFHW: those of the guided z_t', after its edits.
        unguided_frames: the finished videos, (F, H, W, 3) uint8.
        guided_frames: the same, guided.
        unguided_probability: that of the label, by the verdict on the unguided latents of each guided step.
    """

    prompt: str
    label: str
    entities: tuple[str, ...]
    levels: list[float]
    unguided_SKFHW: Tensor
    guided_SKFHW: Tensor
    unguided_frames: NDArray[np.uint8]
    guided_frames: NDArray[np.uint8]
    unguided_probability: list[float]


class EditedLatents:
    """Keeps the latents of a guided run's guided steps, after their edits: its ``observe``.

    Args:
        guided_steps: of the run, as :meth:`GuidedSampler.level_steps` gives them.
    """

    def __init__(self, guided_steps: Mapping[int, int]) -> None:
        self.guided_steps = guided_steps
        self.latents: dict[int, Tensor] = {}

    def __call__(self, step: int, z: Tensor) -> None:
        """Look at the latents of a step."""
        if step in self.guided_steps:
            self.latents[self.guided_steps[step]] = z.clone()


def compute(
    sampler: GuidedSampler,
    compositions: Sequence[Composition],
    seeds: Sequence[int],
    steps: int,
    guidance_scale: float | None = None,
) -> list[Overlay]:
    """Sample prompts unguided and guided and keep the volumes of the guided steps: one overlay per relation.

    Args:
        sampler: generator, classifier and guidance settings.
        compositions: what the prompts ask for.
        seeds: of the initial noise, one per prompt.
        steps: denoising steps.
        guidance_scale: of classifier-free guidance; the pipeline's default when None.
    """
    edited = EditedLatents(sampler.level_steps(steps, levels=sampler.levels(compositions)))
    plain = run_plain(sampler, compositions, seeds, steps, guidance_scale)
    prompts = [composition.prompt for composition in compositions]
    guided = sampler(prompts, seeds, compositions, steps=steps, guidance_scale=guidance_scale, observe=edited)
    return overlays(sampler, compositions, plain, guided, edited)


def overlays(
    sampler: GuidedSampler,
    compositions: Sequence[Composition],
    plain: PlainRun,
    guided: SampleResult,
    edited: EditedLatents,
) -> list[Overlay]:
    """The overlays of a batch that was sampled both ways: one per relation.

    Args:
        sampler: generator, classifier and guidance settings.
        compositions: what the prompts ask for.
        plain: the unguided run.
        guided: the guided one.
        edited: what was kept of it.
    """
    moved = [
        replace(found, z=edited.latents[found.guided_step])
        for found in plain.early
        if found.guided_step in edited.latents
    ]
    before, after = (
        {verdict.guided_step: verdict for verdict in early_verdicts(sampler, compositions, early)}
        for early in (plain.early, moved)
    )
    order = sorted(edited.guided_steps.values())
    relations = RelationBatch.of(compositions, sampler.classifier.labels)
    return [
        Overlay(
            prompt=compositions[prompt].prompt,
            label=relation.label,
            entities=tuple(entity.phrase for entity in relation.entities),
            levels=[sampler.classifier.config.sigmas[guided_step] for guided_step in order],
            unguided_SKFHW=torch.stack([before[guided_step].volume_RKFHW[row] for guided_step in order]),
            guided_SKFHW=torch.stack([after[guided_step].volume_RKFHW[row] for guided_step in order]),
            unguided_frames=to_frames(plain.video_BCFHW[prompt]),
            guided_frames=to_frames(guided.video_BCFHW[prompt]),
            unguided_probability=[
                float(before[guided_step].log_probability_RY[row, relations.target_R[row]].exp())
                for guided_step in order
            ],
        )
        for row, (prompt, relation) in enumerate(zip(relations.prompt_R, relations.relation_R, strict=True))
    ]


def draw(overlay: Overlay) -> bytes:
    """A PNG picture: rows are guided steps, unguided above guided; columns are latent frames."""
    sides = (
        ("unguided", overlay.unguided_frames, overlay.unguided_SKFHW),
        ("guided", overlay.guided_frames, overlay.guided_SKFHW),
    )
    rows = [
        (f"noise {level:.2f}\n{side}", [blend(frames, volumes[index], len(overlay.entities))])
        for index, level in enumerate(overlay.levels)
        for side, frames, volumes in sides
    ]
    latent_frames = overlay.unguided_SKFHW.shape[2]
    rows += [(f"video\n{side}", [nearest_frames(frames, latent_frames) / 255]) for side, frames, _ in sides]
    return strips(rows)


def overlay_section(
    sampler: GuidedSampler,
    compositions: Sequence[Composition],
    seeds: Sequence[int],
    steps: int,
    guidance_scale: float | None = None,
) -> Section:
    """The overlays of some prompts as a section of the page; arguments as of :func:`compute`."""
    maps = []
    for overlay in compute(sampler, compositions, seeds, steps, guidance_scale):
        caption = f"{overlay.prompt} — {overlay.label} ({colour_key(overlay.entities)})"
        maps.append(image(draw(overlay), caption))
    note = (
        "Where each entity of the prompt is, as the classifier reads it off the generator's attention at each guided "
        "step: colour laid over the finished video's frames in grey, one column a latent frame. From the unguided "
        "latents, and from the guided ones after their edits. Rows tell the noise level: the share of the latents that "
        "is noise, which falls from 1 as the video forms."
    )
    return {"title": "Entity maps", "note": note, "maps": maps}
