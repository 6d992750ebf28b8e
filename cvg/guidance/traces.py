"""What guidance did to each relation of a sampled batch, for the record."""

from __future__ import annotations

from typing import Any

import numpy as np

from cvg.composition import LabelSet, RelationBatch
from cvg.guidance.sampler import SampleResult


def traces(result: SampleResult, labels: LabelSet) -> list[list[dict[str, Any]]]:
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
