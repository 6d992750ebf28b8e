"""One guided denoising step: the latents move so that the classifier sees the asked composition in the entity maps.

    z_t' = z_t - eta_t * g,   g = grad_z sum_relations -log s_t[y], normalised per sample    (paper, inference (c), (d))

and then each channel is given back the mean and deviation it had.

Shapes: B prompts, R relations of all prompts together, others as in :mod:`cvg.generators.base`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from cvg.classifier.model import CompositionClassifier, group_log_probs
from cvg.composition import Composition
from cvg.errors import UserError
from cvg.generators.base import Conditioning, Generator, slot_maps


@dataclass(frozen=True)
class GuidanceConfig:
    """How guided steps are taken.

    Attributes:
        step_size: eta, the root mean square of one edit per latent element (the latents of the first step have 1),
            before :func:`move` restores the channels' statistics.
        iterations: gradient steps per guided denoising step, at most.
        threshold: a sample is left alone once every relation of it has this probability.
        smoothing: noisy evaluations of the classifier averaged per gradient.
        guided_steps: how many of the classifier's steps are guided, noisiest first.
    """

    step_size: float = 0.07
    iterations: int = 3
    threshold: float = 0.95
    smoothing: int = 4
    guided_steps: int = 2

    def __post_init__(self) -> None:
        for name in ("step_size", "iterations", "smoothing", "guided_steps", "threshold"):
            if getattr(self, name) < 0:
                raise UserError(f"guidance {name} is {getattr(self, name)}; it cannot be negative")


@dataclass(frozen=True)
class Evaluation:
    """The classifier's verdict on one iteration: probability of each relation's target, within its group, (R,)."""

    slot: int
    iteration: int
    probability_R: Tensor


class Guide:
    """The guided steps of one batch of prompts; keeps the volumes of earlier guided steps.

    Args:
        generator: the frozen generator.
        classifier: trained on this generator's maps.
        compositions: what each prompt asks for; the labels of its relations are the targets.
        config: see :class:`GuidanceConfig`.

    Raises:
        UserError: a label the classifier does not know.
    """

    def __init__(
        self,
        generator: Generator,
        classifier: CompositionClassifier,
        compositions: Sequence[Composition],
        config: GuidanceConfig,
    ) -> None:
        self.generator, self.classifier, self.config = generator, classifier, config
        self.conditioning = generator.encode(compositions)
        slots = classifier.config.slots
        self.sample_R: list[int] = []
        self.slots_R: list[list[int | None]] = []
        self.targets_R: list[int] = []
        self.groups_R: list[list[int]] = []
        for sample, composition in enumerate(compositions):
            for relation in composition.relations:
                indices: list[int | None] = [composition.entities.index(entity) for entity in relation.entities]
                self.sample_R.append(sample)
                self.slots_R.append(indices + [None] * (slots - len(indices)))
                self.targets_R.append(classifier.labels.index(relation.label))
                self.groups_R.append(classifier.labels.group_indices(relation.label))
        self.present_RK = torch.tensor([[e is not None for e in row] for row in self.slots_R], device=generator.device)
        self.volumes_RKFHW: dict[int, Tensor] = {}
        self.evaluations: list[Evaluation] = []

    def edit(self, latents: Tensor, timestep: Tensor, slot: int) -> Tensor:
        """Guide one denoising step.

        Args:
            latents: z_t of the batch, (B, C, F, H', W').
            timestep: the scheduler's timestep of this step.
            slot: index of the step among the classifier's sigmas.

        Returns:
            z_t', in the dtype of ``latents``; samples that already satisfy the classifier keep theirs bit for bit.
        """
        edited = latents.float().clone()
        active = list(range(len(latents)))
        probability_R = torch.zeros(len(self.sample_R))
        volumes: dict[int, Tensor] = {}
        for iteration in range(self.config.iterations + 1):
            relations = [r for r, sample in enumerate(self.sample_R) if sample in active]
            last = iteration == self.config.iterations
            with torch.set_grad_enabled(not last):
                z = edited[active].requires_grad_(not last)
                volume = self.volume(z, timestep, slot, active, relations)
                kept = {earlier: volume_R[relations] for earlier, volume_R in self.volumes_RKFHW.items()}
                verdict_RY = self.verdict(kept | {slot: volume}, slot, relations)
                log_probability = torch.stack([verdict_RY[i, self.targets_R[r]] for i, r in enumerate(relations)])
            for i, r in enumerate(relations):
                probability_R[r] = log_probability[i].detach().exp().cpu()
                volumes[r] = volume[i].detach()
            self.evaluations.append(Evaluation(slot, iteration, probability_R.clone()))
            unsatisfied = {self.sample_R[r] for r in relations if float(probability_R[r]) < self.config.threshold}
            remaining = [sample for sample in active if sample in unsatisfied]
            if last or not remaining:
                break
            moving = torch.tensor([self.sample_R[r] in unsatisfied for r in relations], device=log_probability.device)
            (gradient,) = torch.autograd.grad(log_probability, z, -moving.to(log_probability))
            for i, sample in enumerate(active):
                if sample in unsatisfied:
                    edited[sample] = move(edited[sample], gradient[i].float(), self.config.step_size)
            active = remaining
        self.volumes_RKFHW[slot] = torch.stack([volumes[r] for r in range(len(self.sample_R))])
        return edited.to(latents.dtype)

    def volume(self, z: Tensor, timestep: Tensor, slot: int, active: Sequence[int], relations: Sequence[int]) -> Tensor:
        """Volumes (R', K, F, H, W) of the active samples' relations at this step, differentiable in z."""
        config = self.classifier.config
        conditioning = Conditioning(self.conditioning.states[active], self.conditioning.columns_BTE[active])
        maps_BLAEFHW, _ = self.generator.entity_maps(z, timestep, conditioning, config.layers)
        rows = [active.index(self.sample_R[r]) for r in relations]
        maps_RLAKFHW = slot_maps(maps_BLAEFHW[:, :, config.heads], rows, [self.slots_R[r] for r in relations])
        return self.classifier.step_volume(maps_RLAKFHW, self.present_RK[relations], slot)

    def verdict(self, volumes_RKFHW: Mapping[int, Tensor], slot: int, relations: Sequence[int]) -> Tensor:
        """log s_t of every label, the softmax restricted to each relation's group: (R', Y), minus infinity elsewhere.

        Args:
            volumes_RKFHW: volumes of these relations, of this slot and of those before it.
            slot: the present slot; it also fixes the noise of smoothing, the same for every iteration, so that the
                objective is fixed and smooth.
            relations: indices of the relations.
        """
        present = self.present_RK[relations]
        phi = self.classifier.assemble(volumes_RKFHW, present)
        steps_RS = torch.zeros(len(relations), phi.shape[1], dtype=torch.bool, device=phi.device)
        steps_RS[:, list(volumes_RKFHW)] = True
        noise = torch.Generator().manual_seed(slot)
        logits = self.classifier.classify_smoothed(phi, present, steps_RS, max(1, self.config.smoothing), noise)
        return torch.cat([group_log_probs(logits[i : i + 1], self.groups_R[r]) for i, r in enumerate(relations)])


def move(z: Tensor, gradient: Tensor, step_size: float) -> Tensor:
    """One sample's step against the gradient that leaves each channel's mean and deviation what they were.

    The latents of early steps are almost all noise, and the generator knows noise of one mean and size. A plain step
    shifts and grows channels, which it takes for colour and texture: entities melt or double.

    Args:
        z: latents (C, F, H', W').
        gradient: of the loss, of the same shape.
        step_size: root mean square of the step before the correction.

    Returns:
        The moved latents; with a step size of zero, ``z`` bit for bit.
    """
    if step_size == 0:
        return z
    axes = (-3, -2, -1)
    moved = z - step_size * _unit(gradient)
    deviation, moved_deviation = z.std(axes, keepdim=True), moved.std(axes, keepdim=True)
    scale = torch.where(moved_deviation > 0, deviation / moved_deviation, 1.0)
    return (moved - moved.mean(axes, keepdim=True)) * scale + z.mean(axes, keepdim=True)


def _unit(gradient: Tensor) -> Tensor:
    """A sample's gradient scaled to root mean square 1; a zero gradient stays zero."""
    rms = gradient.square().mean().sqrt()
    return gradient / rms if rms > 0 else gradient
