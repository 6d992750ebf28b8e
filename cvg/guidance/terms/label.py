"""The paper's loss: the cross-entropy of each relation's target label (paper, inference (c))."""

from __future__ import annotations

from torch import Tensor

from cvg.guidance.terms.base import EntityMaps, Taps
from cvg.guidance.verdict import Verdict


class LabelTerm:
    """L_comp = -log s_t[y], summed over relations.

    Args:
        taps: what the classifier reads.
    """

    first_guided_step = 0

    def __init__(self, taps: Taps) -> None:
        self.taps = taps

    def __call__(self, maps: EntityMaps, verdict: Verdict) -> Tensor:
        """See :class:`cvg.guidance.terms.base.Term`."""
        return -verdict.log_target_R.sum()
