"""Rules in the classifier's place: formulas on entity maps that need no training, so they guide any generator.

They are also the plainest thing that a trained classifier must be better than.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from cvg.classifier.config import SamplingSettings
from cvg.common.errors import PromptError, SettingsError
from cvg.common.sizes import Grid, Size
from cvg.composition import LabelSet, RelationBatch
from cvg.composition.labels import Label
from cvg.generators import Generator
from cvg.grounding.slots import slot_maps
from cvg.guidance.formulas import FORMULAS, Formula, seen
from cvg.guidance.places import place
from cvg.guidance.verdict import Verdict

NAME = "rules"
TEMPERATURE = 0.05
"""Of the softmax over a group's scores; lengths are in frame sides."""
SHARE = 2 / 3
"""Of the layers that are tapped where none are named: early and middle ones say where things will be."""
SCHEDULE, GUIDED = 12, (1, 2, 3, 4)
"""Noise levels where none are named: those of these steps of a schedule of so many, as classifiers are trained on."""


@dataclass(frozen=True)
class RulesConfig:
    """What the rules read, in the words of a classifier's config.

    Attributes:
        layers: tapped layers.
        heads: tapped heads.
        sigmas: noise levels T, noisiest first.
        token_grid: latent tokens of the generator's own size.
        sampling: rules have no preferences.
        generator: None: any.
        noise: never added to what they read.
    """

    layers: list[int]
    heads: list[int]
    sigmas: list[float]
    token_grid: Grid
    sampling: SamplingSettings = field(default_factory=SamplingSettings)
    generator: None = None
    noise: float = 0.0


class Rules(nn.Module):
    """The labels of a set that have a formula, told apart by geometry.

    Args:
        labels: the label set; labels whose rule has no formula are never asked for, nor seen.
        config: what is read.
    """

    def __init__(self, labels: LabelSet, config: RulesConfig) -> None:
        super().__init__()
        self.labels, self.config = labels, config

    @classmethod
    def of(
        cls,
        generator: Generator,
        labels: LabelSet,
        size: Size,
        layers: Sequence[int] | None = None,
        heads: Sequence[int] | None = None,
        sigmas: Sequence[float] | None = None,
    ) -> Rules:
        """Rules for a generator.

        Args:
            generator: whose maps are read.
            labels: the label set.
            size: of the videos, unless sampling is told another.
            layers: tapped layers; the first two thirds when None.
            heads: tapped heads; all when None.
            sigmas: noise levels at which steps are guided; four early ones of its schedule when None.

        Raises:
            SettingsError: layers or heads that the generator does not have, or noise levels that are none.
        """
        generator.check_size(size)
        count = generator.num_heads
        chosen = list(range(math.ceil(SHARE * len(generator.blocks)))) if layers is None else list(layers)
        generator.check_layers(chosen)
        if heads is not None and (not heads or any(head not in range(count) for head in heads)):
            known = f"numbers from 0 to {count - 1}, those of {generator.name}"
            raise SettingsError(f"heads {list(heads)}: expected {known}")
        if sigmas is None:
            levels = generator.schedule(SCHEDULE, size).levels
            sigmas = [float(levels[step]) for step in GUIDED]
        latents = generator.initial_latents([torch.Generator().manual_seed(0)], size)
        grid = generator.token_grid(latents)
        return cls(labels, RulesConfig(chosen, list(range(count) if heads is None else heads), list(sigmas), grid))

    def identity(self, name: str) -> dict[str, Any]:
        """What guided, for the record; as a classifier's."""
        config = self.config
        read = {"layers": config.layers, "heads": config.heads, "sigmas": config.sigmas}
        return {"name": name, **read, "temperature": TEMPERATURE, "labels": self.labels.names}


def formula_of(label: Label) -> Formula | None:
    """The formula of a label's rule; None where it has none."""
    return FORMULAS[label.entities - 1].get(label.rule or "")


class StepRules:
    """The rules' verdicts on a batch of prompts; see :class:`cvg.guidance.verdict.StepClassifier`.

    They look at one step alone: what a sample was like before does not count.

    Args:
        labels: the label set.
        relations: of the batch.
    """

    def __init__(self, labels: LabelSet, relations: RelationBatch) -> None:
        self.labels, self.relations = labels, relations

    def require_all(self) -> None:
        """Raise PromptError where a label is asked for that no formula states."""
        for target in sorted(set(self.relations.target_R)):
            if not self.knows(target):
                known = ", ".join(label.name for label in self.labels.labels if formula_of(label))
                raise PromptError(
                    f"label {self.labels.names[target]!r}: no rule on attention maps states it; rules know "
                    f"{known or 'none of this label set'}; guide it with a trained classifier"
                )

    def knows(self, label: int) -> bool:
        """Whether the label of this class index has a formula."""
        return formula_of(self.labels.labels[label]) is not None

    def __call__(self, maps_BLAEFHW: Tensor, samples: Sequence[int], guided_step: int) -> Verdict:
        """The verdict on some samples, differentiable in their maps; arguments as of ``StepClassifier``."""
        rows = self.relations.rows(samples)
        owners = [list(samples).index(self.relations.prompt_R[row]) for row in rows]
        place_B11EFHW = place(maps_BLAEFHW)[:, None, None]
        slots_RK = [self.relations.slots_RK[row] for row in rows]
        place_RKFHW = slot_maps(place_B11EFHW, owners, slots_RK)[:, 0, 0]
        score_RY = self._scores(place_RKFHW, rows)
        log_probability_RY = (score_RY / TEMPERATURE).log_softmax(-1)
        targets = [self.relations.target_R[row] for row in rows]
        return Verdict(rows, log_probability_RY, log_probability_RY[range(len(rows)), targets], place_RKFHW)

    def _scores(self, place_RKFHW: Tensor, rows: Sequence[int]) -> Tensor:
        """Score of every label of each relation's group; minus infinity outside it, and where there is no formula."""
        labels = self.labels.labels
        score_RY = place_RKFHW.new_full((len(rows), len(labels)), -math.inf)
        for group in sorted({self.relations.group_R[row] for row in rows}):
            mine = [i for i, row in enumerate(rows) if self.relations.group_R[row] == group]
            entities = [seen(place_RKFHW[mine, slot]) for slot in range(labels[group[0]].entities)]
            for index in group:
                if formula := formula_of(labels[index]):
                    found = torch.tensor(mine, device=score_RY.device), torch.tensor([index], device=score_RY.device)
                    score_RY = score_RY.index_put(found, formula(*entities))
        return score_RY
