"""One guided denoising step: the latents move so that the classifier sees the asked composition in the entity maps.

    z_t' = z_t - eta_t * grad_z L,   L = sum of the terms in cvg.guidance.terms        (paper, inference (a) to (d))

:meth:`Guide.edit` is the paper's algorithm. What is added to it: edits are the longer the less a sample has of what is
asked, and repeated where it has little; samples that have it already are left alone.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from cvg.classifier import CompositionClassifier
from cvg.composition import Composition, RelationBatch
from cvg.generators import Conditioning, Generator
from cvg.generators.obstacles import check_gradients
from cvg.guidance.checks import gradient_of
from cvg.guidance.config import GuidanceConfig
from cvg.guidance.rules import Rules, StepRules
from cvg.guidance.step import move
from cvg.guidance.terms.base import EntityMaps, Taps, Term, union
from cvg.guidance.terms.label import LabelTerm
from cvg.guidance.terms.rules import RulesTerm
from cvg.guidance.terms.spread import SpreadTerm
from cvg.guidance.turns import turns
from cvg.guidance.verdict import StepClassifier, Verdict

NOT_JUDGED = -1.0
"""In place of a target probability that is not known yet: below every threshold."""


def reader_of(
    classifier: CompositionClassifier | Rules, relations: RelationBatch, smoothing: int
) -> StepClassifier | StepRules:
    """What gives verdicts on a batch's maps, guided step after guided step; arguments as of :class:`StepClassifier`."""
    if not isinstance(classifier, Rules):
        return StepClassifier(classifier, relations, smoothing)
    rules = StepRules(classifier.labels, relations)
    rules.require_all()
    return rules


class Guide:
    """The guided steps of one batch of prompts.

    Args:
        generator: the frozen generator.
        classifier: trained on this generator's maps, or rules.
        compositions: what each prompt asks for; the labels of its relations are the targets.
        config: see :class:`GuidanceConfig`.
        terms: further terms of the loss, beside the label's and the entities' spread.
        conditioning: the prompts as the generator sees them; made of the compositions' when None.

    Raises:
        PromptError: a label the classifier does not know.
        ModelError: the generator is set so that gradients cannot reach its latents.
    """

    def __init__(
        self,
        generator: Generator,
        classifier: CompositionClassifier | Rules,
        compositions: Sequence[Composition],
        config: GuidanceConfig,
        terms: Sequence[Term] = (),
        conditioning: Conditioning | None = None,
    ) -> None:
        self.generator, self.config = generator, config.preferred(classifier.config.sampling)
        generator.freeze()
        check_gradients(generator)
        self.conditioning = conditioning or generator.encode(compositions)
        self.relations = RelationBatch.of(compositions, classifier.labels)
        self.classify = reader_of(classifier, self.relations, self.config.smoothing)
        self.read = Taps.of(classifier.config.layers, classifier.config.heads)
        self.terms: list[Term] = [LabelTerm(self.read)]
        if config.spread:
            self.terms.append(SpreadTerm(config.spread, self.read))
        if config.rules:
            self.terms.append(RulesTerm(config.rules, StepRules(classifier.labels, self.relations), self.read))
        self.terms += terms
        self.turns = turns(classifier, self.relations, self.config)
        """The noise levels at which each sample is guided, as indices."""
        self.satisfied: list[int] = []
        """Samples that were guided at the last guided step and needed no more there."""
        self.wanting: list[int] = []
        """Samples that were guided there too and wanted more when last looked at; they were moved after that."""

    def guided_at(self, guided_step: int) -> list[int]:
        """The samples that are guided at a step."""
        return [sample for sample, turn in enumerate(self.turns) if guided_step in turn]

    def edit(self, latents: Tensor, timestep: Tensor, guided_step: int) -> tuple[Tensor, list[Tensor]]:
        """Guide one denoising step.

        Args:
            latents: z_t of the batch, (B, C, F, H', W').
            timestep: the scheduler's timestep of this step.
            guided_step: its index among the classifier's noise levels.

        Returns:
            z_t', in the dtype of ``latents``; samples that need nothing keep theirs bit for bit. And the target
            probabilities s_t[y] (R,) before each move; those of relations that were not looked at again stay, those
            of samples that are not guided at this step are NaN.

        Raises:
            ModelError: a verdict or a gradient is not finite, or a sample has no gradient at its first guided step.
        """
        assert self.config.iterations is not None
        guided = self.guided_at(guided_step)
        edited, probability_R = latents.float().clone(), self._recheck(latents, timestep, guided_step, guided)
        active = self._below(self.config.threshold, probability_R, guided)
        first = [sample for sample in guided if guided_step == min(self.turns[sample])]
        trail = [] if active else [probability_R]
        for _ in range(self.config.iterations if active else 0):
            with torch.enable_grad():
                z = edited[active].requires_grad_()
                maps = self.maps(z, timestep, active, guided_step)  # (a) A of the entities K(p), gradients reach z
                verdict = self.classify(maps.of(self.read), active, guided_step)  # (b) s_t = C(phi(z_t, p))
                loss = self.loss(maps, verdict, guided_step)  # (c) L = -log s_t[y] + ...
            probability_R = verdict.update(probability_R)
            trail.append(probability_R)
            moving = self._below(self.config.threshold, probability_R, active)
            if not moving:
                break
            gradient = gradient_of(loss, z, active, moving, first)
            eta_B = self._step_sizes(probability_R)
            free = slice(self.generator.given_frames, None)
            for sample in moving:  # (d) z_t' = z_t - eta_t grad L
                direction = gradient[active.index(sample)][:, free].float()
                edited[sample][:, free] = move(edited[sample][:, free], direction, eta_B[sample])
            # By the verdict before this move: one after it would cost samples that need no more a pass.
            active = self._below(self.config.repeat_bound, probability_R, active)
            if not active:
                break
        self.wanting = self._below(self.config.threshold, probability_R, guided)
        self.satisfied = [sample for sample in guided if sample not in self.wanting]
        return edited.to(latents.dtype), trail

    def maps(self, z: Tensor, timestep: Tensor, samples: Sequence[int], guided_step: int) -> EntityMaps:
        """Entity maps of some samples, of what the classifier and this step's terms read; differentiable in z.

        Args:
            z: their latents, (B', C, F, H', W').
            timestep: the scheduler's timestep of this step.
            samples: their indices in the batch.
            guided_step: index of the step among the classifier's noise levels.
        """
        taps = union([self.read, *(term.taps for term in self.terms_at(guided_step))])
        prompts = self.conditioning.rows(samples)
        maps_BLAEFHW = self.generator.entity_maps(z, timestep, prompts, taps.layers, taps.heads)
        return EntityMaps(maps_BLAEFHW, taps)

    def terms_at(self, guided_step: int) -> list[Term]:
        """The terms that count at a guided step."""
        return [term for term in self.terms if guided_step >= term.first_guided_step]

    def loss(self, maps: EntityMaps, verdict: Verdict, guided_step: int) -> Tensor:
        """L, summed over samples: each sample's part depends on its own latents alone."""
        values = [term(maps, verdict) for term in self.terms_at(guided_step)]
        return torch.stack(values).sum()

    def verdict(self, z: Tensor, timestep: Tensor, samples: Sequence[int], guided_step: int) -> Verdict:
        """(a) and (b) alone: what the classifier makes of some samples; arguments as of :meth:`maps`."""
        return self.classify(self.maps(z, timestep, samples, guided_step).of(self.read), samples, guided_step)

    @torch.no_grad()
    def judge(
        self,
        latents: Tensor,
        timestep: Tensor,
        guided_step: int,
        samples: Sequence[int] | None = None,
        before_R: Tensor | None = None,
    ) -> Tensor:
        """Target probabilities s_t[y] (R,) of latents; arguments as of :meth:`edit`.

        Args:
            latents: z_t or z_t' of the batch, (B, C, F, H', W').
            timestep: the scheduler's timestep of this step.
            guided_step: its index among the classifier's noise levels.
            samples: those that are looked at; all when None.
            before_R: the probabilities of the others.
        """
        probability_R = torch.zeros(len(self.relations)) if before_R is None else before_R
        looked_at = range(len(latents)) if samples is None else samples
        if not looked_at:
            return probability_R.clone()
        return self.verdict(latents[list(looked_at)].float(), timestep, looked_at, guided_step).update(probability_R)

    def _recheck(self, latents: Tensor, timestep: Tensor, guided_step: int, guided: Sequence[int]) -> Tensor:
        """Target probabilities (R,) of samples that were satisfied a guided step ago; of others they are not known.

        Most of them still are, and their verdict without gradients will do.
        """
        probability_R = torch.full((len(self.relations),), math.nan)
        probability_R[self.relations.rows(guided)] = NOT_JUDGED
        again = [sample for sample in self.satisfied if sample in guided]
        return self.judge(latents, timestep, guided_step, again, probability_R)

    def _below(self, bound: float | None, probability_R: Tensor, samples: Sequence[int]) -> list[int]:
        """Those samples of which a relation's target probability is not known to reach the bound; all for None."""
        least_B = self.relations.least(probability_R.tolist())
        return [sample for sample in samples if bound is None or not least_B[sample] >= bound]

    def _step_sizes(self, probability_R: Tensor) -> list[float]:
        """eta_t of each sample, by its least probable relation.

        One length for all is too short for entities that must change sides, and too long for those nearly in place.
        """
        assert self.config.step_size is not None and self.config.fade is not None
        least_B = self.relations.least(probability_R.tolist())
        eta_B = [self.config.step_size * (1 - self.config.fade * p) for p in least_B]
        return [self.classify.pace(sample) * eta for sample, eta in enumerate(eta_B)]
