"""Heat maps over layers and heads, and bars of what a classifier says."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
from matplotlib.figure import Figure
from numpy.typing import NDArray

from cvg.probing.probe import Score
from cvg.reporting.charts import BLUE, ORANGE, png

_MOST_NUMBERS = 500  # cells of a panel that are large enough to hold a number
_WIDTH = 11.0  # inches, at most, where there is more than one column of panels


def _cell(layers: int, heads: int) -> tuple[float, float]:
    """Width and height of a cell in inches."""
    return (0.32, 0.24) if layers * heads <= _MOST_NUMBERS else (0.16, 0.13)


def _write(panel: Any, row: int, column: int, text: str, dark: bool, **style: Any) -> None:
    panel.text(column, row, text, ha="center", va="center", fontsize=7, color="white" if dark else "black", **style)


def _axes(panel: Any, layers: Sequence[int], heads: Sequence[int]) -> None:
    every = 1 if len(layers) * len(heads) <= _MOST_NUMBERS else 5
    panel.set_xticks(range(0, len(heads), every), heads[::every], fontsize=7)
    panel.set_yticks(range(0, len(layers), every), layers[::every], fontsize=7)
    panel.tick_params(length=0)
    panel.set_xlabel("head", fontsize=8)
    panel.set_ylabel("layer", fontsize=8)


def probe_map(
    scores_SLA: Sequence[Sequence[Sequence[Score]]],
    sigmas: Sequence[float],
    layers: Sequence[int],
    heads: Sequence[int],
) -> bytes:
    """A PNG picture of probes' accuracies: a panel per step, a row per layer, a column per head.

    Colour runs from chance (white) to always right; numbers are percent, bold where clearly above chance.
    """
    chance = scores_SLA[0][0][0].chance
    values = [np.array([[score.accuracy for score in row] for row in scores]) for scores in scores_SLA]
    bold = [np.array([[score.above for score in row] for row in scores]) for scores in scores_SLA]
    ticks = {chance: f"{100 * chance:.0f}: chance", 1.0: "100: always"}
    return _panels(values, bold, sigmas, layers, heads, ticks, "Blues", "label read right, %")


def leak_map(
    scores_SLA: Sequence[Sequence[Sequence[Score]]],
    sigmas: Sequence[float],
    layers: Sequence[int],
    heads: Sequence[int],
) -> bytes:
    """A PNG picture, laid out as :func:`probe_map`, of how much better probes are under p+ than under p-, in points."""
    values = [np.array([[score.leak for score in row] for row in scores]) for scores in scores_SLA]
    bold = [np.zeros(value.shape, bool) for value in values]
    ticks = {0.0: "0: reads the video", 1.0: "100: reads the words"}
    return _panels(values, bold, sigmas, layers, heads, ticks, "Oranges", "right under p+ less under p-, points")


def _panels(
    values_SLA: Sequence[NDArray[np.float64]],
    bold_SLA: Sequence[NDArray[np.bool_]],
    sigmas: Sequence[float],
    layers: Sequence[int],
    heads: Sequence[int],
    ticks: dict[float, str],
    colours: str,
    title: str,
) -> bytes:
    """A panel of cells per step, in percent; ``ticks`` are the values at the two ends of the colour bar."""
    cell, line = _cell(len(layers), len(heads))
    width, height = cell * len(heads) + 0.7, line * len(layers) + 0.8
    columns = max(1, min(len(sigmas), int(_WIDTH / width)))
    lines = math.ceil(len(sigmas) / columns)
    figure = Figure(figsize=(max(4.0, columns * width + 0.9), lines * height), layout="constrained")
    panels = figure.subplots(lines, columns, squeeze=False).flatten()
    least, most = ticks
    for panel in panels[len(sigmas) :]:
        panel.set_visible(False)
    for panel, values_LA, bold_LA, sigma in zip(panels, values_SLA, bold_SLA, sigmas, strict=False):
        image = panel.imshow(100 * values_LA, vmin=100 * least, vmax=100 * most, cmap=colours, aspect="auto")
        panel.set_title(f"noise level {sigma:.2f}", fontsize=9)
        _axes(panel, layers, heads)
        if values_LA.size <= _MOST_NUMBERS:
            for (row, column), value in np.ndenumerate(values_LA):
                dark = bool(value > least + 0.6 * (most - least))
                weight = "bold" if bold_LA[row, column] else "normal"
                _write(panel, row, column, f"{100 * value:.0f}", dark, fontweight=weight)
    bar = figure.colorbar(image, ax=list(panels), shrink=min(1.0, 1.6 / height), aspect=12)
    bar.set_ticks([100 * value for value in ticks], labels=list(ticks.values()))
    bar.ax.tick_params(labelsize=7)
    bar.set_label(title, fontsize=8)
    return png(figure)


def weight_map(weight_LA: NDArray[np.float64], layers: Sequence[int], heads: Sequence[int]) -> bytes:
    """A PNG picture of signed weights, in percent of the sum of their sizes: teal adds a map, brown takes it off."""
    cell, line = _cell(len(layers), len(heads))
    size = max(4.0, 1.4 * cell * len(heads) + 2.0), max(1.8, line * len(layers) + 0.7)
    figure = Figure(figsize=size, layout="constrained")
    panel = figure.subplots()
    percent = 100 * weight_LA / max(np.abs(weight_LA).sum(), 1e-12)
    most = max(float(np.abs(percent).max()), 1e-6)
    image = panel.imshow(percent, vmin=-most, vmax=most, cmap="BrBG", aspect="auto")
    _axes(panel, layers, heads)
    if percent.size <= _MOST_NUMBERS:
        for (row, column), value in np.ndenumerate(percent):
            _write(panel, row, column, f"{round(value, 1) + 0.0:.1f}", abs(value) > 0.6 * most)
    bar = figure.colorbar(image, ax=panel)
    bar.ax.tick_params(labelsize=7)
    bar.set_label("weight, %", fontsize=8)
    return png(figure)


def verdict_bars(probabilities: dict[str, dict[str, float]], truth: str, said: str) -> bytes:
    """A PNG picture of the probabilities of a group's labels, under p+ and under p-.

    Args:
        probabilities: by side (``p+``, ``p-``), of each label.
        truth: the video's label, which p+ states.
        said: the wrong one that p- states.
    """
    names = list(next(iter(probabilities.values())))
    figure = Figure(figsize=(5.2, 0.42 * len(names) + 0.9), layout="constrained")
    panel = figure.subplots()
    for offset, (side, colour) in zip((-0.19, 0.19), (("p+", BLUE), ("p-", ORANGE)), strict=True):
        values = [probabilities[side][name] for name in names]
        bars = panel.barh(np.arange(len(names)) + offset, values, 0.36, color=colour, label=f"maps under {side}")
        panel.bar_label(bars, [f"{value:.2f}" for value in values], fontsize=7, padding=2)
    marks = {truth: " (true, in p+)", said: " (wrong, in p-)"}
    panel.set_yticks(range(len(names)), [name + marks.get(name, "") for name in names], fontsize=8)
    panel.invert_yaxis()
    panel.set(xlim=(0, 1.12), xticks=[0, 0.5, 1])
    panel.set_xlabel("classifier's probability", fontsize=8)
    panel.tick_params(labelsize=8)
    panel.legend(frameon=False, fontsize=8, loc="lower center", bbox_to_anchor=(0.5, 1.0), ncols=2)
    for side in ("top", "right"):
        panel.spines[side].set_visible(False)
    return png(figure)
