"""Figures: what a benchmark measured, a value with its spread beside what is aimed at; as JSON and as a table."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any


@dataclass(frozen=True)
class Figure:
    """One figure.

    Attributes:
        name: what was measured.
        value: the median over rounds, or the only measurement; None where a GPU had too little memory.
        unit: of the values; empty for a ratio.
        low: least over rounds, None for what has no spread.
        high: greatest over rounds.
        floor: what the arithmetic alone would cost.
        goal: what is aimed at, as ``<= 1.1`` or ``>= 10``.
    """

    name: str
    value: float | None
    unit: str = ""
    low: float | None = None
    high: float | None = None
    floor: float | None = None
    goal: str = ""

    @property
    def met(self) -> bool | None:
        """Whether the value meets the goal; None without either."""
        if self.value is None or not self.goal:
            return None
        relation, bound = self.goal.split()
        return self.value <= float(bound) if relation == "<=" else self.value >= float(bound)

    def to_dict(self) -> dict[str, Any]:
        """JSON-able."""
        return asdict(self) | {"met": self.met}

    @property
    def cells(self) -> list[str]:
        """Columns of the table; see :data:`HEADER`."""
        spread = "" if self.low is None or self.high is None else f"{_short(self.low)} to {_short(self.high)}"
        value = "out of memory" if self.value is None else f"{_short(self.value)} {self.unit}".strip()
        verdict = {None: "", True: "met", False: "missed"}[self.met]
        return [self.name, value, spread, "" if self.floor is None else _short(self.floor), self.goal, verdict]


HEADER = ["figure", "median", "min to max", "floor", "goal", ""]


def spread(name: str, values: Sequence[float] | None, **rest: Any) -> Figure:
    """The figure of a value per round; None stands for a piece that ran out of memory."""
    if values is None:
        return Figure(name, None, **rest)
    return Figure(name, statistics.median(values), low=min(values), high=max(values), **rest)


def markdown(figures: Sequence[Figure]) -> str:
    """Their table."""
    return aligned([HEADER, *(figure.cells for figure in figures)])


def aligned(rows: Sequence[Sequence[str]]) -> str:
    """A table of Markdown, the first row its heading, aligned so that it reads well as plain text too."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = [
        "| " + " | ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)) + " |" for row in rows
    ]
    lines.insert(1, "|" + "|".join("-" * (width + 2) for width in widths) + "|")
    return "\n".join(lines)


def _short(value: float) -> str:
    """Three significant digits or more, never an exponent."""
    if abs(value) >= 100:
        return f"{value:.0f}"
    return f"{value:.1f}" if abs(value) >= 10 else f"{value:.3f}"
