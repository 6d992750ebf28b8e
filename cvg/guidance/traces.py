"""What guidance did to each relation of a sampled batch, for the record."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, Final, Protocol

import numpy as np
from torch import Tensor

from cvg.composition import Composition, LabelSet, RelationBatch

LOW: Final = 0.5
"""A target probability below this, after guidance, is warned of."""


class Traced(Protocol):
    """What a batch asked for and what the classifier thought of it; see :class:`cvg.guidance.sampler.SampleResult`."""

    compositions: list[Composition]
    probabilities: dict[int, list[Tensor]]


def traces(result: Traced, labels: LabelSet) -> list[list[dict[str, Any]]]:
    """Per prompt and relation, what guidance did: target probability and loss over the iterations of each step.

    Args:
        result: a guided batch; of an unguided one, the traces have no steps.
        labels: the label set of the classifier that guided it.

    Returns:
        For each prompt, its relations in order: ``label``, ``entities``, ``probability_before`` and
        ``probability_after`` all guidance (None without any), and ``steps``, each with its denoising ``step``,
        ``probability`` and ``loss``.
    """
    relations = RelationBatch.of(result.compositions, labels)
    rows: list[list[dict[str, Any]]] = [[] for _ in result.compositions]
    for r, (relation, prompt) in enumerate(zip(relations.relation_R, relations.prompt_R, strict=True)):
        steps: list[dict[str, Any]] = []
        for step, trail in result.probabilities.items():
            values = [float(probability_R[r]) for probability_R in trail]
            if math.isnan(values[0]):  # not guided at this step
                continue
            while len(values) > 1 and values[-1] == values[-2]:  # left alone while others went on
                values.pop()
            steps.append(
                {
                    "step": step,
                    "probability": values,
                    "loss": [-float(np.log(max(value, 1e-12))) for value in values],
                }
            )
        seen = [value for step in steps for value in step["probability"]]
        rows[prompt].append(
            {
                "label": relation.label,
                "entities": [entity.phrase for entity in relation.entities],
                "probability_before": seen[0] if seen else None,
                "probability_after": seen[-1] if seen else None,
                "steps": steps,
            }
        )
    return rows


def in_words(label: str, entities: Sequence[str]) -> str:
    """A relation, for a line of text."""
    return f"{label} ({', '.join(entities)})"


def low(video: str, relation: str, probability: float) -> str | None:
    """What to warn of where a relation's probability is low after all guidance; None where it is not."""
    if probability >= LOW:
        return None
    told = f"the probability of {relation} stayed at {probability:.2f}; look whether the video is what was asked"
    return f"{video}: {told}"
