"""What is shown of a finished video, as HTML."""

from __future__ import annotations

from typing import Any

from cvg.application import html
from cvg.application.making import Made
from cvg.guidance.traces import in_words
from cvg.reporting.charts import probability_lines
from cvg.reporting.overlays import Overlay, draw
from cvg.reporting.page import image
from cvg.reporting.strips import colour_key


def status(made: Made) -> str:
    """What came of each relation, and what makes it doubtful."""
    lines = [
        f"{in_words(relation['label'], relation['entities'])}: probability "
        f"{relation['probability_before']:.2f} before guidance, {relation['probability_after']:.2f} after"
        for relation in made.relations
        if relation["probability_after"] is not None
    ]
    return html.text(lines or ["Done."]) + html.text(made.warnings, warnings=True)


def sides(made: Made) -> str:
    """Both videos."""
    return html.sides({side: html.moving(frames) for side, frames in made.frames.items()}, {})


def chart(made: Made) -> str:
    """The probability of each relation over the guided steps; empty where nothing was guided."""
    pairs = zip(made.relations, made.overlays, strict=True)
    return html.pictures([_lines(relation, overlay) for relation, overlay in pairs]) if made.overlays else ""


def maps(made: Made) -> str:
    """Entity maps over the frames, a picture per relation; empty where nothing was guided."""
    found = [
        image(draw(overlay), f"Where each entity is, step by step: {overlay.label} ({colour_key(overlay.entities)})")
        for overlay in made.overlays
    ]
    return html.pictures(found) if found else ""


def _lines(relation: dict[str, Any], overlay: Overlay) -> dict[str, Any]:
    steps = relation["steps"]
    guided = [(step["step"], step["probability"]) for step in steps]
    unguided = [(step["step"], p) for step, p in zip(steps, overlay.unguided_probability, strict=False)]
    what = in_words(relation["label"], relation["entities"])
    caption = f"Probability of {what}, as guidance sees it; edits within a step side by side"
    return image(probability_lines(unguided, guided), caption)
