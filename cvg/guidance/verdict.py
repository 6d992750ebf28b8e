"""What the classifier makes of a batch's entity maps, guided step after guided step."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from cvg.classifier import CompositionClassifier, group_log_probs
from cvg.classifier.smoothing import smooth_noise
from cvg.composition import RelationBatch
from cvg.grounding.slots import slot_maps
from cvg.guidance.checks import REMEDY, NumbersError


@dataclass(frozen=True)
class Verdict:
    """What the classifier makes of z_t, for the relations of the samples that were looked at (R' of all R).

    Attributes:
        rows: which relations of the batch these are.
        log_probability_RY: log s_t of every label, the softmax restricted to each relation's group; minus infinity
            outside it.
        log_target_R: log s_t[y] of each relation's target.
        volume_RKFHW: the relations' volumes of this guided step.
    """

    rows: list[int]
    log_probability_RY: Tensor
    log_target_R: Tensor
    volume_RKFHW: Tensor

    def update(self, probability_R: Tensor) -> Tensor:
        """Target probabilities of all R relations with those of this verdict put in, as a new tensor on the CPU.

        Raises:
            NumbersError: one of these is not finite; no bound would tell it from a satisfied one.
        """
        updated = probability_R.clone()
        updated[self.rows] = self.log_target_R.detach().exp().cpu()
        wrong = [row for row in self.rows if not updated[row].isfinite()]
        if wrong:
            maps = "" if self.volume_RKFHW.isfinite().all() else ", as the generator's entity maps are not"
            named = ", ".join(map(str, wrong))
            raise NumbersError(f"the verdicts on relation {named} of the batch are not finite{maps}; {REMEDY}")
        return updated


class StepClassifier:
    """s_t = C(phi(z_t, p)) of a batch of prompts, guided step after guided step (paper, inference (b)).

    phi is the concatenation of the volumes of all guided steps. At one of them the earlier ones are what they were when
    they were last looked at, without gradients, and the later ones are absent. What the backbone makes of a volume is
    kept instead of the volume: it looks at one step at a time.

    Args:
        classifier: trained on the generator's maps.
        relations: of the batch.
        smoothing: noisy copies of a volume that are averaged, for classifiers trained with noise.
    """

    def __init__(self, classifier: CompositionClassifier, relations: RelationBatch, smoothing: int) -> None:
        self.classifier, self.relations = classifier, relations
        self.present_RK = torch.tensor(relations.present_RK, device=classifier.absent_SKFHW.device)
        # One noise for all relations, iterations and steps: the objective stays fixed, and a verdict does not depend on
        # what a sample is batched with.
        copies = max(1, smoothing) if classifier.config.noise else 1
        shape = (copies, 1, *classifier.absent_SKFHW.shape)
        drawn = smooth_noise(shape, torch.Generator().manual_seed(0)).to(classifier.absent_SKFHW)
        self.noise_N1SKFHW = classifier.config.noise * drawn
        with torch.no_grad():
            absent_RSD = classifier.absent_features(self.present_RK)
        self.features_NRSD = absent_RSD.expand(copies, *absent_RSD.shape).clone()

    def pace(self, sample: int) -> float:
        """Share of the usual length that a sample's edits have: all of it, whatever is asked for."""
        return 1.0

    def __call__(self, maps_BLAEFHW: Tensor, samples: Sequence[int], guided_step: int) -> Verdict:
        """The verdict on some samples, differentiable in their maps. Verdicts of other guided steps will see it too.

        Args:
            maps_BLAEFHW: entity maps of the samples, of the classifier's layers and heads.
            samples: their indices in the batch.
            guided_step: the present one.
        """
        rows = self.relations.rows(samples)
        volume_RKFHW = self.volume(maps_BLAEFHW, samples, guided_step)
        features_NRD = self.features(volume_RKFHW, rows, guided_step)
        self.features_NRSD[:, rows, guided_step] = features_NRD.detach()
        log_probability_RY = self.log_probability(features_NRD, rows, guided_step)
        targets = [self.relations.target_R[row] for row in rows]
        return Verdict(rows, log_probability_RY, log_probability_RY[range(len(rows)), targets], volume_RKFHW)

    def volume(self, maps_BLAEFHW: Tensor, samples: Sequence[int], guided_step: int) -> Tensor:
        """Volumes (R', K, F, H, W) of the samples' relations; arguments as of :meth:`__call__`."""
        rows = self.relations.rows(samples)
        owners = [list(samples).index(self.relations.prompt_R[row]) for row in rows]
        maps_RLAKFHW = slot_maps(maps_BLAEFHW, owners, [self.relations.slots_RK[row] for row in rows])
        return self.classifier.step_volume(maps_RLAKFHW, self.present_RK[rows], guided_step)

    def features(self, volume_RKFHW: Tensor, rows: Sequence[int], guided_step: int) -> Tensor:
        """What the backbone makes of noisy copies of these relations' volumes: (N, R', D)."""
        present = self.present_RK[rows]
        noisy = volume_RKFHW + self.noise_N1SKFHW[:, :, guided_step]  # the backbone ignores absent entity slots
        backbone = self.classifier.backbone
        return backbone(noisy.flatten(0, 1), present.repeat(len(noisy), 1)).unflatten(0, noisy.shape[:2])

    def log_probability(self, features_NRD: Tensor, rows: Sequence[int], guided_step: int) -> Tensor:
        """log s_t of every label: (R', Y); minus infinity outside each relation's group.

        Args:
            features_NRD: of these relations, of this guided step; those of the others are as they were kept.
            rows: indices of the relations.
            guided_step: the present one.
        """
        before, after = self.features_NRSD[:, rows, :guided_step], self.features_NRSD[:, rows, guided_step + 1 :]
        features_NRSD = torch.cat([before, features_NRD[:, :, None], after], dim=2)
        logits_RY = self.classifier.head(features_NRSD.flatten(2)).mean(0)
        groups = [list(self.relations.group_R[row]) for row in rows]
        return torch.cat([group_log_probs(logits_RY[i : i + 1], group) for i, group in enumerate(groups)])
