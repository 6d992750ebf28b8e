"""The report's figures, as PNG bytes."""

from __future__ import annotations

import csv
import io
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.figure import Figure

from cvg.common.errors import DataError
from cvg.evaluation.rows import Figures

DPI = 144
"""Pixels of pictures to an inch; a page has 96."""
GREY, BLUE, ORANGE, GREEN = "#9aa3ad", "#2b6cb0", "#c2571a", "#3a7d44"


def png(figure: Figure) -> bytes:
    """The figure as a PNG file."""
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=DPI, metadata={"Software": None})
    return buffer.getvalue()


def _plain(panel: Any, axis: str = "y") -> None:
    for side in ("top", "right"):
        panel.spines[side].set_visible(False)
    panel.grid(axis=axis, color="#e4e7eb", linewidth=0.8)
    panel.set_axisbelow(True)


def accuracy_bars(result: Figures) -> bytes:
    """Unguided and guided accuracy, overall and per group, with 95% intervals."""
    unguided, guided = result.unguided, result.guided
    names = ["all", *unguided["groups"]]
    figure = Figure(figsize=(6.2, 0.62 * len(names) + 0.9), layout="constrained")  # not wide: telephones shrink it
    panel = figure.subplots()
    for offset, name, side, colour in ((-0.2, "unguided", unguided, GREY), (0.2, "guided", guided, BLUE)):
        entries = [side, *side["groups"].values()]
        values = np.array([entry["accuracy"] or 0.0 for entry in entries])
        bounds = np.array([entry["ci95"] for entry in entries])
        errors = np.clip(np.stack([values - bounds[:, 0], bounds[:, 1] - values]), 0, None)
        places = np.arange(len(names)) + offset
        panel.barh(places, values, 0.38, xerr=errors, color=colour, label=name, ecolor="#3c4043", capsize=3)
    panel.set_yticks(range(len(names)), [name.replace("_", " ") for name in names], fontsize=11)
    panel.invert_yaxis()
    panel.set(xlim=(0, 1.02))
    panel.set_xlabel("composition accuracy", fontsize=11)
    panel.tick_params(labelsize=11)
    panel.legend(frameon=False, ncols=2, loc="lower left", bbox_to_anchor=(0, 1.0), fontsize=11)
    _plain(panel, axis="x")
    return png(figure)


def read_curves(path: Path) -> dict[str, list[tuple[float, float]]]:
    """Every column of a Lightning CSV log as (step, value) points. Raises DataError when it is no such log."""
    try:
        with path.open(newline="") as file:
            rows = list(csv.DictReader(file))
    except OSError as error:
        raise DataError(
            f"training log {path}: cannot be read ({error.strerror}); give the folder that holds it"
        ) from error
    curves: dict[str, list[tuple[float, float]]] = {}
    for row in rows:
        if not row.get("step"):
            raise DataError(f"training log {path}: has no `step` column; give a log of `python -m cvg.train fit`")
        for name, value in row.items():
            if name not in ("step", "epoch") and value:
                curves.setdefault(name, []).append((float(row["step"]), float(value)))
    return curves


def probability_lines(unguided: Sequence[tuple[int, float]], guided: Sequence[tuple[int, Sequence[float]]]) -> bytes:
    """The probability of a relation's label over the denoising steps at which a classifier looked.

    Args:
        unguided: denoising step, and the probability of its latents.
        guided: denoising step, and the probabilities before each edit there; those after the last one at the end.
    """
    figure = Figure(figsize=(3.5, 2.6), layout="constrained")  # as wide as a telephone
    panel = figure.subplots()
    points = [
        (step + 0.8 * number / max(len(values), 2), value)  # edits of one step side by side, before the next step
        for step, values in guided
        for number, value in enumerate(values)
    ]
    panel.plot(*zip(*points, strict=True), "o-", color=BLUE, label="guided", linewidth=1.6)
    panel.plot(
        *zip(*unguided, strict=True), "o--", color=GREY, label="unguided", linewidth=1.6
    )  # in front: it may be one
    panel.set(ylim=(-0.04, 1.04), xticks=sorted({step for step, _ in [*unguided, *guided]}))
    panel.set_xlabel("denoising step")
    panel.set_ylabel("probability")
    panel.legend(frameon=False)
    _plain(panel)
    return png(figure)


CURVES = (
    ("loss", (("train/loss", "train", GREY), ("val/loss", "validation", BLUE))),
    (
        "validation accuracy",
        (("val/accuracy_positive", "p+", BLUE), ("val/accuracy_negative", "p-", ORANGE)),
    ),
    ("leakage gap (p+ minus p-)", (("val/leakage_gap", "gap", GREEN),)),
)


def training_curves(curves: dict[str, list[tuple[float, float]]]) -> bytes:
    """Losses, accuracies under p+ and p-, and their gap, over the training steps."""
    figure = Figure(figsize=(10.5, 2.9), layout="constrained")
    for panel, (title, lines) in zip(figure.subplots(1, len(CURVES)), CURVES, strict=True):
        for name, label, colour in lines:
            if name in curves:
                points = np.array(curves[name])
                panel.plot(points[:, 0], points[:, 1], color=colour, label=label, linewidth=1.6)
        panel.set_title(title, fontsize=10, loc="left")
        panel.set_xlabel("step")
        if len(lines) > 1 and panel.get_lines():
            panel.legend(frameon=False)
        _plain(panel)
    return png(figure)
