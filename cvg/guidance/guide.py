"""One guided denoising step: the latents move so that the classifier sees the asked composition in the entity maps.

    z_t' = z_t - eta_t * g,   g = grad_z L, normalised per sample                      (paper, inference (c), (d))
    L = sum_relations -log s_t[y] + lambda_t * sum_entities log spread

The paper's loss is the first sum; :mod:`cvg.guidance.terms.spread` says what the second is for. The first guided step
decides where entities go, and a penalty on being in two places would hold them where they are: lambda_0 is zero. The
less a sample has of what is asked, the longer its edits (:meth:`Guide.edit_length`) and the more of them in a step.
Then each channel is given back the mean and deviation it had (:func:`move`).

Shapes: B prompts, E entities, R relations of all prompts together, N noisy copies (smoothing), S steps of the
classifier, D features; others as in :mod:`cvg.generators.base`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from typing import NamedTuple

import torch
from torch import Tensor

from cvg.classifier.model import CompositionClassifier, group_log_probs
from cvg.classifier.smoothing import smooth_noise
from cvg.common.errors import UserError
from cvg.composition import Composition
from cvg.generators.base import Generator
from cvg.grounding.slots import slot_maps
from cvg.guidance.terms.spread import log_spread

STEP_SIZE = 0.17
"""Of classifiers that name none."""


@dataclass(frozen=True)
class GuidanceConfig:
    """How guided steps are taken.

    Attributes:
        step_size: eta, the root mean square per latent element (the latents of the first step have 1) of an edit of a
            sample that has nothing of what is asked, before :func:`move` restores the channels' statistics. The
            classifier's own (``sampling`` in its config.json), else 0.17, when left out.
        fade: share of the step size that is left out when a sample has all of it.
        iterations: gradient steps per guided denoising step, at most.
        insist_below: all of them are for samples with a relation below this probability, one is for the others.
        threshold: a sample is left alone once every relation of it has this probability.
        smoothing: noisy evaluations of the classifier averaged per gradient.
        guided_steps: how many of the classifier's steps are guided, noisiest first.
        spread: lambda, the weight of the entities' spread beside the paper's loss, from the second guided step on.
    """

    step_size: float | None = None
    fade: float = 0.667
    iterations: int = 2
    insist_below: float = 0.5
    threshold: float = 0.95
    smoothing: int = 1
    guided_steps: int = 4
    spread: float = 0.3

    def __post_init__(self) -> None:
        for name, value in asdict(self).items():
            if value is not None and value < 0:
                raise UserError(f"guidance {name} is {value}; it cannot be negative")
        if self.iterations < 1:
            raise UserError("guidance iterations is 0; give at least 1, or guide no steps")
        if self.fade > 1:
            raise UserError(f"guidance fade is {self.fade}; it is a share of the step size, at most 1")

    def of(self, classifier: CompositionClassifier) -> GuidanceConfig:
        """These settings with the step size that goes with this classifier, unless one was given."""
        if self.step_size is not None:
            return self
        return replace(self, step_size=classifier.config.sampling.get("step_size", STEP_SIZE))


class Verdict(NamedTuple):
    """What the classifier makes of z_t, and what it was shown.

    Attributes:
        relations: indices, among those of the batch, of the relations that were looked at.
        log_probability_RY: log s_t of every label, the softmax restricted to each relation's group; minus infinity
            elsewhere.
        volume_RKFHW: the relations' volumes of this step.
        maps_BLAEFHW: the entity maps they were made of.
    """

    relations: list[int]
    log_probability_RY: Tensor
    volume_RKFHW: Tensor
    maps_BLAEFHW: Tensor


class Guide:
    """The guided steps of one batch of prompts; keeps what the backbone made of earlier guided steps.

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
        self.generator, self.classifier, self.config = generator, classifier, config.of(classifier)
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
        # One noise for all relations, iterations and steps: the objective stays fixed, and a verdict does not depend on
        # what a sample is batched with.
        copies = max(1, config.smoothing) if classifier.config.noise else 1
        shape = (copies, 1, *classifier.absent_SKFHW.shape)
        drawn = smooth_noise(shape, torch.Generator().manual_seed(0)).to(classifier.absent_SKFHW)
        self.noise_N1SKFHW = classifier.config.noise * drawn
        self.satisfied: set[int] = set()
        with torch.no_grad():
            absent_RSD = classifier.absent_features(self.present_RK)
        self.features_NRSD = absent_RSD.expand(copies, *absent_RSD.shape).clone()

    def edit(self, latents: Tensor, timestep: Tensor, slot: int) -> tuple[Tensor, list[Tensor]]:
        """Guide one denoising step.

        Args:
            latents: z_t of the batch, (B, C, F, H', W').
            timestep: the scheduler's timestep of this step.
            slot: index of the step among the classifier's sigmas.

        Returns:
            z_t', in the dtype of ``latents``; samples that already satisfy the classifier keep theirs bit for bit. And
            the target probabilities (R,) before each move.
        """
        edited = latents.float().clone()
        probability_R = torch.full((len(self.sample_R),), -1.0)  # not judged yet: below any threshold
        # Most samples that were satisfied a guided step ago still are: their verdict, without gradients, will do.
        calm = sorted(self.satisfied)
        if calm:
            with torch.no_grad():
                self.note(self.look(edited[calm], timestep, slot, calm), probability_R)
        active = below(self.config.threshold, self.least(probability_R))
        if not active:
            return edited.to(latents.dtype), [probability_R]
        verdicts = []
        for _ in range(self.config.iterations):
            with torch.enable_grad():
                z = edited[active].requires_grad_()
                loss = self.loss(z, timestep, slot, active, probability_R)
            verdicts.append(probability_R.clone())
            least_B = self.least(probability_R)
            unsatisfied = below(self.config.threshold, least_B)
            self.satisfied = set(range(len(latents))).difference(unsatisfied)
            moving = set(active).intersection(unsatisfied)
            if not moving:
                break
            (gradient,) = torch.autograd.grad(loss, z)
            for sample, gradient_CFHW in zip(active, gradient.float(), strict=True):
                if sample in moving:
                    edited[sample] = move(edited[sample], gradient_CFHW, self.edit_length(least_B[sample]))
            # By the verdicts before this move: those after it would cost samples that need no more a pass.
            active = below(min(self.config.insist_below, self.config.threshold), least_B)
            if not active:
                break
        return edited.to(latents.dtype), verdicts

    def least(self, probability_R: Tensor) -> list[float]:
        """Of each sample, the probability of its least satisfied relation."""
        samples = torch.tensor(self.sample_R)
        least_B = torch.full((max(self.sample_R) + 1,), torch.inf).scatter_reduce(0, samples, probability_R, "amin")
        found: list[float] = least_B.tolist()
        return found

    def edit_length(self, least: float) -> float:
        """eta_t of a sample whose least satisfied relation has this probability.

        One length for all is too short for entities that must change sides, and too long for those nearly in place.
        """
        assert self.config.step_size is not None
        return self.config.step_size * (1 - self.config.fade * least)

    @torch.no_grad()
    def judge(self, latents: Tensor, timestep: Tensor, slot: int, verdict_R: Tensor | None = None) -> Tensor:
        """The target probability (R,) of each relation, within its group; arguments as for :meth:`edit`.

        Args:
            latents: z_t of the batch, (B, C, F, H', W').
            timestep: the scheduler's timestep of this step.
            slot: index of the step among the classifier's sigmas.
            verdict_R: the last of :meth:`edit`; that of a sample it found satisfied, and left alone, is kept.
        """
        probability_R = torch.zeros(len(self.sample_R)) if verdict_R is None else verdict_R.clone()
        settled = set() if verdict_R is None else self.satisfied
        pending = [sample for sample in range(len(latents)) if sample not in settled]
        if pending:
            self.note(self.look(latents[pending].float(), timestep, slot, pending), probability_R)
        return probability_R

    def loss(
        self, z: Tensor, timestep: Tensor, slot: int, active: Sequence[int], probability_R: Tensor | None = None
    ) -> Tensor:
        """L, summed over samples: each sample's part depends on its own latents alone.

        Args:
            z: latents of the active samples, (B', C, F, H', W').
            timestep: the scheduler's timestep of this step.
            slot: index of the step among the classifier's sigmas.
            active: indices of the samples.
            probability_R: takes, in place, the target probabilities of the active samples' relations.
        """
        verdict = self.look(z, timestep, slot, active)
        loss = -self.note(verdict, probability_R).sum()
        return loss + self.config.spread * log_spread(verdict.maps_BLAEFHW).sum() if slot > 0 else loss

    def note(self, verdict: Verdict, probability_R: Tensor | None) -> Tensor:
        """log s_t[y] of the relations that were looked at (R',); ``probability_R`` as for :meth:`loss`."""
        targets = [self.targets_R[r] for r in verdict.relations]
        log_probability_R = verdict.log_probability_RY[range(len(targets)), targets]
        if probability_R is not None:
            probability_R[verdict.relations] = log_probability_R.detach().exp().cpu()
        return log_probability_R

    def look(self, z: Tensor, timestep: Tensor, slot: int, active: Sequence[int]) -> Verdict:
        """The verdict on the active samples' latents, differentiable in them; arguments as for :meth:`loss`."""
        relations = [r for r, sample in enumerate(self.sample_R) if sample in active]
        maps_BLAEFHW = self.maps(z, timestep, active)
        volume_RKFHW = self.volume(maps_BLAEFHW, slot, active, relations)
        log_probability_RY = self.verdict(self.features(volume_RKFHW, slot, relations), slot, relations)
        return Verdict(relations, log_probability_RY, volume_RKFHW, maps_BLAEFHW)

    def maps(self, z: Tensor, timestep: Tensor, active: Sequence[int]) -> Tensor:
        """Entity maps (B', L, A, E, F, H, W) of the active samples at this step, differentiable in z."""
        config = self.classifier.config
        prompts = self.conditioning.rows(active)
        maps_BLAEFHW, _ = self.generator.entity_maps(z, timestep, prompts, config.layers, config.heads)
        return maps_BLAEFHW

    def volume(self, maps_BLAEFHW: Tensor, slot: int, active: Sequence[int], relations: Sequence[int]) -> Tensor:
        """Volumes (R', K, F, H, W) of the active samples' relations at this step, from their entity maps."""
        rows = [active.index(self.sample_R[r]) for r in relations]
        maps_RLAKFHW = slot_maps(maps_BLAEFHW, rows, [self.slots_R[r] for r in relations])
        return self.classifier.step_volume(maps_RLAKFHW, self.present_RK[relations], slot)

    def features(self, volume_RKFHW: Tensor, slot: int, relations: Sequence[int]) -> Tensor:
        """What the backbone makes of noisy copies of this slot's volumes: (N, R', D)."""
        present = self.present_RK[relations]
        noisy = volume_RKFHW + self.noise_N1SKFHW[:, :, slot]  # the backbone ignores absent entity slots
        backbone = self.classifier.backbone
        return backbone(noisy.flatten(0, 1), present.repeat(len(noisy), 1)).unflatten(0, noisy.shape[:2])

    def verdict(self, features_NRD: Tensor, slot: int, relations: Sequence[int]) -> Tensor:
        """log s_t of every label, the softmax restricted to each relation's group: (R', Y), minus infinity elsewhere.

        The features are remembered: verdicts of later slots see them too.

        Args:
            features_NRD: of these relations, of this slot.
            slot: the present slot.
            relations: indices of the relations.
        """
        self.features_NRSD[:, relations, slot] = features_NRD.detach()
        before, after = self.features_NRSD[:, relations, :slot], self.features_NRSD[:, relations, slot + 1 :]
        features_NRSD = torch.cat([before, features_NRD[:, :, None], after], dim=2)
        logits = self.classifier.head(features_NRSD.flatten(2)).mean(0)
        return torch.cat([group_log_probs(logits[i : i + 1], self.groups_R[r]) for i, r in enumerate(relations)])


def below(bound: float, least_B: Sequence[float]) -> list[int]:
    """Samples whose least satisfied relation has a target probability below the bound."""
    return [sample for sample, least in enumerate(least_B) if least < bound]


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
