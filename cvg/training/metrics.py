"""What validation and test measure, and the picture of a confusion matrix."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torchmetrics import Accuracy, ConfusionMatrix, MeanMetric, Metric
from torchmetrics.classification import MulticlassConfusionMatrix

from cvg.common.files import atomic
from cvg.composition import LabelSet

SIDES = ("positive", "negative")  # p+ and p-


class CalibrationError(Metric):
    """Expected calibration error: mean distance between confidence and accuracy, over bins of confidence.

    Naeini et al., AAAI 2015. The states are sums per bin, so that synchronising ranks costs the same at any size.

    Args:
        bins: number of equal bins in [0, 1].
    """

    confidence: Tensor
    correct: Tensor
    count: Tensor

    def __init__(self, bins: int = 15) -> None:
        super().__init__()
        self.bins = bins
        for name in ("confidence", "correct", "count"):
            self.add_state(name, torch.zeros(bins), dist_reduce_fx="sum")

    def update(self, probabilities_BY: Tensor, labels_B: Tensor) -> None:
        """Add predictions (rows sum to 1) and their true classes."""
        confidence, predicted = probabilities_BY.max(-1)
        bins = (confidence * self.bins).long().clamp_max(self.bins - 1)
        self.confidence.index_add_(0, bins, confidence.to(self.confidence))
        self.correct.index_add_(0, bins, (predicted == labels_B).to(self.correct))
        self.count.index_add_(0, bins, torch.ones_like(confidence).to(self.count))

    def compute(self) -> Tensor:
        """The error in [0, 1]."""
        return (self.confidence - self.correct).abs().sum() / self.count.sum().clamp_min(1)


class StageMetrics(nn.Module):
    """The metrics of one stage, for p+ and p- apart; all states are of fixed size.

    Args:
        labels: the label set.
        steps: guided steps S.
        hold_out: labels that training does not see; their accuracy is measured apart.
        reworded: measure a second accuracy, ``accuracy_SIDE/reworded``, with some labels put in other words. A head
            anchored in text compares phi with the embedding of each label's wordings ("to the left of"). Where the
            option ``head_without`` keeps some wordings out of training, this is the accuracy on these labels with the
            embeddings of those wordings instead: does the head follow what words mean, or has it learned these words?
    """

    def __init__(self, labels: LabelSet, steps: int, hold_out: Sequence[str] = (), reworded: bool = False) -> None:
        super().__init__()
        self.labels, self.steps = labels, steps
        self.parts = {group: [label.name for label in members] for group, members in labels.groups.items()}
        if hold_out:
            self.parts["seen"] = [name for name in labels.names if name not in hold_out]
            self.parts["held_out"] = list(hold_out)
        classes = len(labels)
        self.loss = MeanMetric()
        self.confusion = nn.ModuleDict({side: ConfusionMatrix("multiclass", num_classes=classes) for side in SIDES})
        self.calibration = nn.ModuleDict({side: CalibrationError() for side in SIDES})
        self.reworded = nn.ModuleDict(
            {side: ConfusionMatrix("multiclass", num_classes=classes) for side in SIDES if reworded}
        )
        self.alone = nn.ModuleDict(
            {
                f"{side}{step}": Accuracy("multiclass", num_classes=classes, average="micro")
                for side in SIDES
                for step in range(steps)
            }
        )

    def update(self, side: str, logits_BY: Tensor, labels_B: Tensor) -> None:
        """Add predictions from all guided steps together."""
        confusion: Any = self.confusion[side]
        calibration: Any = self.calibration[side]
        confusion.update(logits_BY.argmax(-1), labels_B)
        calibration.update(logits_BY.softmax(-1), labels_B)

    def update_step(self, side: str, step: int, logits_BY: Tensor, labels_B: Tensor) -> None:
        """Add predictions from one guided step alone."""
        accuracy: Any = self.alone[f"{side}{step}"]
        accuracy.update(logits_BY.argmax(-1), labels_B)

    def update_reworded(self, side: str, logits_BY: Tensor, labels_B: Tensor) -> None:
        """Add predictions that were made with the wordings kept out of training; see ``reworded`` of the class."""
        confusion: Any = self.reworded[side]
        confusion.update(logits_BY.argmax(-1), labels_B)

    def compute(self) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
        """All values by name, and the confusion matrix of each side (rows are true labels)."""
        values: dict[str, Tensor] = {"loss": self.loss.compute()}
        confusions: dict[str, Tensor] = {}
        for side in SIDES:
            confusion: Any = self.confusion[side]
            calibration: Any = self.calibration[side]
            counts = confusions[side] = confusion.compute()
            hits, totals = counts.diagonal(), counts.sum(1)
            values[f"accuracy_{side}"] = values[f"accuracy_{side}/all"] = hits.sum() / totals.sum()
            for part, names in self.parts.items():
                index = [self.labels.index(name) for name in names]
                if totals[index].sum():
                    values[f"accuracy_{side}/{part}"] = hits[index].sum() / totals[index].sum()
            if side in self.reworded:
                reworded: Any = self.reworded[side]
                counts = reworded.compute()
                if counts.sum():
                    values[f"accuracy_{side}/reworded"] = counts.diagonal().sum() / counts.sum()
            for step in range(self.steps):
                alone: Any = self.alone[f"{side}{step}"]
                values[f"accuracy_{side}/step{step}"] = alone.compute()
            values[f"accuracy_{side}/first"] = values[f"accuracy_{side}/step0"]
            values[f"calibration_error_{side}"] = calibration.compute()
        values["leakage_gap"] = values["accuracy_positive"] - values["accuracy_negative"]
        return values, confusions

    def reset(self) -> None:
        """Start over."""
        for module in self.modules():
            if isinstance(module, Metric):
                module.reset()


MOST_SHOWN = 32
"""Labels in a picture of a confusion matrix: every cell is a number, and a label set may have hundreds of labels."""


def plot_confusion(path: Path, matrices: dict[str, Tensor], names: list[str]) -> None:
    """Save confusion matrices side by side as a PNG picture.

    Of more labels than `MOST_SHOWN` those are left out that are neither true nor predicted, and then the rarest ones.

    Args:
        path: the file to write.
        matrices: counts (Y, Y) by title; rows are true labels.
        names: the labels.
    """
    from matplotlib.figure import Figure  # the figure alone, no window system

    if len(names) > MOST_SHOWN:
        often_Y = torch.stack([counts.sum(0) + counts.sum(1) for counts in matrices.values()]).sum(0)
        kept = sorted(often_Y.argsort(descending=True, stable=True)[:MOST_SHOWN].tolist())
        occur = [index for index in kept if often_Y[index]]
        kept = occur if len(occur) > 1 else kept[:2]
        names = [names[index] for index in kept]
        matrices = {title: counts[kept][:, kept] for title, counts in matrices.items()}
    size = 2.0 + 0.45 * len(names)
    figure = Figure(figsize=(size * len(matrices) + 0.5, size), layout="constrained")
    panels = figure.subplots(1, len(matrices), squeeze=False)[0]
    plain = MulticlassConfusionMatrix(len(names))
    for panel, (title, counts) in zip(panels, matrices.items(), strict=True):
        plain.plot(counts, ax=panel, labels=names, cmap="Blues")
        panel.set_title(title)
    with atomic(path) as temporary:
        figure.savefig(temporary, dpi=120, metadata={"Software": None})
