"""Which labels a sample's label competes with, in training and in evaluation."""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from cvg.composition import LabelSet


class Competition(nn.Module):
    """Softmax within the label's group, as in guidance, or over all labels; in training, without held-out labels.

    A held-out label that was a rival in training would be learned as what samples are not.

    Args:
        labels: the label set.
        within_group: labels compete within their own group only.
        hold_out: labels that training does not see.
    """

    rivals_YY: Tensor
    trained_Y: Tensor

    def __init__(self, labels: LabelSet, within_group: bool, hold_out: Sequence[str] = ()) -> None:
        super().__init__()
        rivals = [[a.group == b.group or not within_group for b in labels.labels] for a in labels.labels]
        self.register_buffer("rivals_YY", torch.tensor(rivals), persistent=False)
        self.register_buffer("trained_Y", torch.tensor([n not in hold_out for n in labels.names]), persistent=False)

    def forward(self, logits_BY: Tensor, labels_B: Tensor) -> Tensor:
        """The logits, minus infinity for labels that are no rivals of the sample's label."""
        return logits_BY.masked_fill(~self.rivals_YY[labels_B], -torch.inf)

    def loss(self, logits_BY: Tensor, labels_B: Tensor) -> Tensor:
        """Cross-entropy of each sample (B,) among its trained rivals; infinite for a held-out label."""
        logits_BY = self(logits_BY, labels_B).masked_fill(~self.trained_Y, -torch.inf)
        return F.cross_entropy(logits_BY, labels_B, reduction="none")


def group_log_probs(logits_BY: Tensor, label_indices: list[int]) -> Tensor:
    """Log-probabilities with the softmax restricted to a group of labels.

    Args:
        logits_BY: logits over the whole label set.
        label_indices: class indices of the group (`LabelSet.group_indices`).

    Returns:
        (B, Y), indexed by class as before; minus infinity outside the group (with zero gradient).
    """
    outside = torch.ones(logits_BY.shape[-1], dtype=torch.bool, device=logits_BY.device)
    outside[label_indices] = False
    return logits_BY.masked_fill(outside, -torch.inf).log_softmax(-1)
