"""Adaptive steps: each sample's guidance ends where its verdicts say so, instead of with the last guided step.

Not an option of guidance, since it is no better than fewer steps for all (docs/results.md): here for the comparison.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from typing_extensions import override

from cvg.classifier import CompositionClassifier
from cvg.common.sizes import Size
from cvg.composition import Composition
from cvg.generators import Generator
from cvg.generators.conditioning import Conditioning
from cvg.guidance.config import GuidanceConfig
from cvg.guidance.guide import NOT_JUDGED, Guide
from cvg.guidance.sampler import GuidedSampler, GuidedSteps


class AdaptiveGuide(Guide):
    """Guided steps that a sample takes part in until its verdict is good enough, or stands still.

    The first step's verdict is on little more than noise, and ends nothing.

    Args:
        given: as of :class:`cvg.guidance.guide.Guide`.
        sure: a sample's guidance ends with the step at which all its relations had this target probability.
        still: and where, from one guided step to the next, that of its least probable one has gained less than this.

    Attributes:
        open: samples that the next guided step looks at.
    """

    def __init__(self, *given: Any, sure: float, still: float) -> None:
        super().__init__(*given)
        self.sure, self.still = sure, still
        self.open = list(range(max(self.relations.prompt_R) + 1))
        self._probability_R = torch.full((len(self.relations),), NOT_JUDGED)
        self._before_B: list[float] | None = None

    @override
    def edit(self, latents: Tensor, timestep: Tensor, guided_step: int) -> tuple[Tensor, list[Tensor]]:
        edited, trail = super().edit(latents, timestep, guided_step)
        self._probability_R = trail[-1]
        self.saw(self.relations.least(trail[-1].tolist()))
        return edited, trail

    def saw(self, least_B: Sequence[float]) -> None:
        """Decide, after a guided step, who is looked at in the next one.

        Args:
            least_B: target probability of each sample's least probable relation, as it was last seen in this step.
        """
        before_B, self._before_B = self._before_B, list(least_B)
        if before_B is not None:
            gained = {sample: least_B[sample] - before_B[sample] for sample in self.open}
            self.open = [sample for sample in self.open if least_B[sample] < self.sure and gained[sample] >= self.still]

    @override
    def _recheck(self, latents: Tensor, timestep: Tensor, guided_step: int) -> Tensor:
        kept_R = self._probability_R.clone()
        kept_R[self.relations.rows(self.open)] = NOT_JUDGED
        pending = [sample for sample in self.satisfied if sample in self.open]
        if not pending:
            return kept_R
        return self.verdict(latents[pending].float(), timestep, pending, guided_step).update(kept_R)

    @override
    def _below(self, bound: float | None, probability_R: Tensor) -> list[int]:
        return [sample for sample in super()._below(bound, probability_R) if sample in self.open]


class AdaptiveSampler(GuidedSampler):
    """A sampler whose guided steps are adaptive ones; arguments as of ``GuidedSampler`` and :class:`AdaptiveGuide`."""

    def __init__(
        self,
        generator: Generator,
        classifier: CompositionClassifier,
        config: GuidanceConfig,
        sure: float,
        still: float = 0.0,
    ) -> None:
        super().__init__(generator, classifier, config)
        self.sure, self.still = sure, still

    @override
    def guiding(
        self, compositions: Sequence[Composition], steps: int, size: Size, conditioning: Conditioning | None = None
    ) -> GuidedSteps:
        given = (self.generator, self.classifier, compositions, self.config, self.terms, conditioning)
        guide = AdaptiveGuide(*given, sure=self.sure, still=self.still)
        timesteps = self.generator.schedule(steps, size).timesteps
        return GuidedSteps(guide, timesteps, self.guided_steps(steps, size), moves=bool(self.config.step_size))
