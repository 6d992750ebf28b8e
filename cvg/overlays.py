"""What the classifier sees: the entity maps of early latents, unguided and guided, over the frames they turn into."""

from __future__ import annotations

import io
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn.functional import interpolate

from cvg.composition import Composition
from cvg.evaluation.early import early_verdicts, run_plain
from cvg.pixels import to_frames
from cvg.sampler import GuidedSampler

COLOURS = ((0.84, 0.19, 0.15), (0.13, 0.40, 0.67))
"""Of the entity slots in the pictures: subject red, object blue."""


@dataclass
class Overlay:
    """One relation of one sample.

    Attributes:
        prompt: the prompt.
        label: the relation's label.
        entities: phrase of each present entity slot.
        steps: denoising step of each guided slot.
        unguided_SKFHW: the volumes of the unguided z_t, per guided slot.
        guided_SKFHW: those of the guided z_t', after its edits.
        unguided_frames: the finished videos, (F, H, W, 3) uint8.
        guided_frames: the same, guided.
    """

    prompt: str
    label: str
    entities: tuple[str, ...]
    steps: list[int]
    unguided_SKFHW: Tensor
    guided_SKFHW: Tensor
    unguided_frames: NDArray[np.uint8]
    guided_frames: NDArray[np.uint8]


def compute(
    sampler: GuidedSampler,
    compositions: Sequence[Composition],
    seeds: Sequence[int],
    steps: int,
    guidance_scale: float | None = None,
) -> list[Overlay]:
    """Sample prompts unguided and guided and keep the volumes of the guided slots: one overlay per relation.

    Args:
        sampler: generator, classifier and guidance settings.
        compositions: what the prompts ask for.
        seeds: of the initial noise, one per prompt.
        steps: denoising steps.
        guidance_scale: of classifier-free guidance; the pipeline's default when None.
    """
    slots = sampler.slots(steps)
    plain = run_plain(sampler, compositions, seeds, steps, guidance_scale)
    edited: dict[int, Tensor] = {}

    def look(step: int, z: Tensor) -> None:
        if step in slots:
            edited[slots[step]] = z.clone()

    prompts = [composition.prompt for composition in compositions]
    guided = sampler(prompts, seeds, compositions, steps=steps, guidance_scale=guidance_scale, observe=look)
    before, after = (
        {verdict.slot: verdict.volume_RKFHW for verdict in early_verdicts(sampler, compositions, latents, steps)}
        for latents in (plain.latents, edited)
    )
    order = sorted(slots.values())
    owners = [(sample, relation) for sample, c in enumerate(compositions) for relation in c.relations]
    overlays = []
    for r, (sample, relation) in enumerate(owners):
        overlays.append(
            Overlay(
                prompt=compositions[sample].prompt,
                label=relation.label,
                entities=tuple(entity.phrase for entity in relation.entities),
                steps=sorted(slots),
                unguided_SKFHW=torch.stack([before[slot][r] for slot in order]),
                guided_SKFHW=torch.stack([after[slot][r] for slot in order]),
                unguided_frames=to_frames(plain.video_BCFHW[sample]),
                guided_frames=to_frames(guided.video_BCFHW[sample]),
            )
        )
    return overlays


def blend(frames_FHWC: NDArray[np.uint8], volume_KFHW: Tensor, entities: int) -> NDArray[np.float64]:
    """Frames in pale grey with each entity's map as colour on top.

    Each map is shown between its median and its 99th percentile over the whole clip.

    Args:
        frames_FHWC: the finished video; the frame nearest to each latent frame is taken.
        volume_KFHW: the maps.
        entities: how many slots are present.

    Returns:
        (latent frames, H, W, 3) in [0, 1].
    """
    count, height, width, _ = frames_FHWC.shape
    latent_frames = volume_KFHW.shape[1]
    chosen = np.linspace(0, count - 1, latent_frames).round().astype(int)
    grey = frames_FHWC[chosen].mean(axis=-1, keepdims=True) / 255
    picture = np.repeat(0.45 + 0.55 * grey, 3, axis=-1)
    large = interpolate(volume_KFHW.detach().float(), size=(height, width), mode="bilinear")
    for slot in range(entities):
        heat = large[slot].numpy()
        low, high = np.percentile(heat, [50, 99])
        alpha = 0.85 * np.clip((heat - low) / max(high - low, 1e-6), 0, 1)[..., None]
        picture = (1 - alpha) * picture + alpha * np.array(COLOURS[slot % len(COLOURS)])
    return picture


def draw(overlay: Overlay) -> bytes:
    """A PNG picture: rows are guided slots, unguided above guided; columns are latent frames."""
    from matplotlib.figure import Figure

    rows = [
        (f"step {step}\n{side}", blend(frames, volumes[index], len(overlay.entities)))
        for index, step in enumerate(overlay.steps)
        for side, frames, volumes in (
            ("unguided", overlay.unguided_frames, overlay.unguided_SKFHW),
            ("guided", overlay.guided_frames, overlay.guided_SKFHW),
        )
    ]
    rows += [
        (f"video\n{side}", frames[np.linspace(0, len(frames) - 1, rows[0][1].shape[0]).round().astype(int)] / 255)
        for side, frames in (("unguided", overlay.unguided_frames), ("guided", overlay.guided_frames))
    ]
    columns = rows[0][1].shape[0]
    figure = Figure(figsize=(1.15 * columns + 0.9, 1.15 * len(rows)), layout="constrained")
    panels = figure.subplots(len(rows), columns, squeeze=False)
    for (title, pictures), line in zip(rows, panels, strict=True):
        for frame, panel in enumerate(line):
            panel.imshow(np.clip(pictures[frame], 0, 1))
            panel.set_xticks([])
            panel.set_yticks([])
            if frame == 0:
                panel.set_ylabel(title, fontsize=8, rotation=0, ha="right", va="center")
            for spine in panel.spines.values():
                spine.set_visible(False)
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=120, metadata={"Software": None})
    return buffer.getvalue()
