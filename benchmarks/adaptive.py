"""Adaptive steps: each sample's guidance ends where its verdicts say so, instead of with the last guided step.

Not an option of guidance, since it is no better than fewer steps for all (docs/results.md): here for the comparison.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from torch import Tensor
from typing_extensions import override

from cvg.classifier import CompositionClassifier
from cvg.common.sizes import Size
from cvg.composition import Composition
from cvg.generators import Generator
from cvg.generators.conditioning import Conditioning
from cvg.guidance.config import GuidanceConfig
from cvg.guidance.guide import Guide
from cvg.guidance.guided_steps import GuidedSteps
from cvg.guidance.sampler import GuidedSampler


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
        self._before_B: list[float] | None = None

    @override
    def guided_at(self, guided_step: int) -> list[int]:
        return self.open

    @override
    def edit(self, latents: Tensor, timestep: Tensor, guided_step: int) -> tuple[Tensor, list[Tensor]]:
        edited, trail = super().edit(latents, timestep, guided_step)
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
