"""What videos show of every relation asked for: right, its opposite, another label, nothing that can be told."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Any, Final

from cvg.common.statistics import independent, wilson
from cvg.composition import LabelSet
from cvg.evaluation.rows import PlainRow, Row
from cvg.evaluation.suites import Score

OUTCOMES: Final = ("right", "opposite", "wrong", "cannot tell", "not found")
"""What is shown: the label asked for, its opposite, another of its group; or nothing, since the judge could not tell or
did not find the entities."""
TOLD: Final = OUTCOMES[:3]
"""Those of which the judge could tell what is shown."""
OPPOSING: Final = ("horizontal", "vertical", "time")
"""Mirrors whose image of a label is its opposite."""


def outcome(wanted: str, seen: str | None, found: bool, labels: LabelSet) -> str:
    """One of :data:`OUTCOMES`.

    Args:
        wanted: the label asked for.
        seen: the one that the judge read, if any.
        found: whether it found all entities of the relation.
        labels: of the suite.
    """
    if not found:
        return "not found"
    if seen is None:
        return "cannot tell"
    if seen == wanted:
        return "right"
    mirrors = labels[wanted].mirrors
    return "opposite" if seen in {mirrors[axis] for axis in OPPOSING if axis in mirrors} else "wrong"


def _entry(outcomes: Sequence[tuple[str, str]]) -> dict[str, Any]:
    """Outcomes, each with the prompt that it is of."""
    counts = Counter(name for name, _ in outcomes)
    decided = [(name == "right", prompt) for name, prompt in outcomes if name in TOLD]
    told = len(decided)
    part = independent([hit for hit, _ in decided], [prompt for _, prompt in decided]) / told if told else 0.0
    return {
        "n": len(outcomes),
        "counts": {name: counts[name] for name in OUTCOMES},
        "accuracy": counts["right"] / told if told else None,
        "ci95": list(wilson(counts["right"] * part, told * part)),
        "told": told,
    }


def directions(rows: Sequence[Row], groups: Sequence[str], labels: LabelSet) -> dict[str, Any]:
    """Per side, over all and per group of the suite: how many relations had which outcome.

    ``accuracy`` is the share of those right among those of which the judge could tell anything (``told``), with its
    interval, in which the relations of one prompt count together.

    Args:
        rows: one per case.
        groups: of the suite.
        labels: of the suite.
    """

    def of(score: Score, row: Row) -> list[str]:
        seen = zip(row.labels, score.labels, score.found, strict=True)
        return [outcome(wanted, label, found, labels) for wanted, label, found in seen]

    sides: dict[str, list[tuple[str, str, str]]] = {
        side: [(row.group, name, row.prompt) for row in rows for name in of(getattr(row, side), row)]
        for side in ("unguided", "guided")
    }
    return {
        side: _entry([(name, prompt) for _, name, prompt in found])
        | {
            "groups": {
                group: _entry([(name, prompt) for of_group, name, prompt in found if of_group == group])
                for group in groups
            }
        }
        for side, found in sides.items()
    }


def plainly(rows: Sequence[PlainRow], groups: Sequence[str], guided: Sequence[Row]) -> dict[str, Any]:
    """How many prompts ask for nothing that can be guided, by reason and by group; and of others, for something more.

    Args:
        rows: of these prompts.
        groups: of the suite.
        guided: those of the others.
    """
    unknown = [row.unknown for row in guided if row.unknown]
    return {
        "n": len(rows),
        "of": len(rows) + len(guided),
        "in_part": len(unknown),
        "unknown": dict(Counter(label for labels in unknown for label in labels)),
        "reasons": dict(Counter(row.reason for row in rows)),
        "groups": {group: sum(row.group == group for row in rows) for group in groups},
    }
