"""The labels' formulas beside the classifier: what is known of a label without training counts as well."""

from __future__ import annotations

from torch import Tensor

from cvg.guidance.rules import StepRules
from cvg.guidance.terms.base import EntityMaps, Taps
from cvg.guidance.verdict import Verdict


class RulesTerm:
    """-weight * log of each target's probability by the rules, summed over the relations that rules know.

    Args:
        weight: beside the classifier's own term, which has 1.
        rules: of the batch.
        taps: layers and heads that they read.
    """

    first_guided_step = 0

    def __init__(self, weight: float, rules: StepRules, taps: Taps) -> None:
        self.weight, self.rules, self.taps = weight, rules, taps

    def __call__(self, maps: EntityMaps, verdict: Verdict) -> Tensor:
        """See :class:`cvg.guidance.terms.base.Term`."""
        relations = self.rules.relations
        samples = sorted({relations.prompt_R[row] for row in verdict.rows})
        log_target_R = self.rules(maps.of(self.taps), samples, 0).log_target_R
        # Minus infinity, with no gradient, is what a label without a formula has; a lone one has zero.
        known = [i for i, row in enumerate(verdict.rows) if self.rules.knows(relations.target_R[row])]
        return -self.weight * log_target_R[known].sum()
