"""Which labels rules can guide towards, and what they say of a prompt that asks for others too."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace

from cvg.common.errors import PromptError
from cvg.composition import Composition, LabelSet, RelationBatch, parse
from cvg.composition.labels import Label
from cvg.guidance.formulas import FORMULAS, Formula


def formula_of(label: Label) -> Formula | None:
    """The formula of a label's rule; None where it has none."""
    return FORMULAS[label.entities - 1].get(label.rule or "")


def stated(labels: LabelSet) -> list[str]:
    """The labels that rules can guide towards, in order.

    These are attributes that entities are bound to, and labels with a formula where another one of their group has one
    too, to be told from.
    """
    groups = [[label.name for label in group if formula_of(label)] for group in labels.groups.values()]
    told = {name for names in groups if len(names) > 1 for name in names}
    return [label.name for label in labels.labels if label.bound or label.name in told]


def stated_part(composition: Composition, labels: LabelSet) -> tuple[Composition | None, list[str]]:
    """What rules can guide of what a prompt asks for.

    Args:
        composition: of labels of the set.
        labels: the label set.

    Returns:
        The composition with the relations that rules know, None where it has none; and the labels of the others.
    """
    known, relations = stated(labels), composition.relations
    mine = tuple(relation for relation in relations if relation.label in known)
    left_out = [relation.label for relation in relations if relation.label not in known]
    return (replace(composition, relations=mine) if mine else None), left_out


def stated_of(prompt: str, labels: LabelSet) -> list[str]:
    """The labels that a prompt asks for and rules can guide towards; none where it cannot be read."""
    try:
        part, _ = stated_part(parse(prompt, labels), labels)
    except PromptError:
        return []
    return [relation.label for relation in part.relations] if part else []


def attributes_alone(labels: LabelSet, relations: RelationBatch) -> set[int]:
    """The prompts of a batch that ask for attributes which entities are bound to, and for nothing else."""
    bound_R = [labels.labels[target].bound for target in relations.target_R]
    others = {prompt for prompt, bound in zip(relations.prompt_R, bound_R, strict=True) if not bound}
    return set(relations.prompt_R) - others


def unstated(labels: LabelSet, name: str) -> PromptError:
    """What is raised where rules alone are to guide towards a label that :func:`stated` leaves out."""
    known = ", ".join(stated(labels)) or "none of this label set"
    return PromptError(
        f"label {name!r}: no rule on attention maps states it; rules know {known}; guide it with a trained classifier"
    )


def silent_about(labels: LabelSet, asked: Iterable[Composition]) -> list[str]:
    """What to tell of labels to whose guidance by a classifier rules add nothing, one line a label."""
    known = stated(labels)
    names = dict.fromkeys(relation.label for composition in asked for relation in composition.relations)
    return [
        f"rules add nothing to the guidance towards {name!r}: no rule on attention maps states it"
        for name in names
        if name not in known
    ]
