"""The card of a classifier: the README.md of its folder."""

from __future__ import annotations

from collections.abc import Mapping

CARD = """---
{{ card_data }}
---

# Composition classifier

Trained with CVG (Compositional Video Generation via Inference-Time Guidance, {{ paper_url }}) on the cross-attention
maps of one frozen text-to-video model. `config.json` names that model, the tapped layers and heads, the noise levels,
the label set and the frozen backbone.

    from cvg.classifier import CompositionClassifier
    from cvg.guidance.sampler import GuidedSampler

    sampler = GuidedSampler(pipeline, CompositionClassifier.from_pretrained("THIS FOLDER"))
{{ terms }}"""
"""Its template, which the Hub mixin fills in."""

_TERMS = """
## Videos it was trained on

Their terms are their owners'; whether weights trained on them may be used for a purpose is for who uses them to know.

| licence | data set | records |
|---|---|---|
"""


def terms(licences: Mapping[str, Mapping[str, int]] | None) -> str:
    """The part of the card on the licences of the training videos; empty where none is known.

    Args:
        licences: records by licence and data set.
    """
    if not licences:
        return ""
    rows = [(licence, dataset, count) for licence, sets in licences.items() for dataset, count in sets.items()]
    return _TERMS + "\n".join(f"| {_cell(licence)} | {_cell(dataset)} | {count} |" for licence, dataset, count in rows)


def _cell(text: str) -> str:
    """A text that leaves a table of Markdown whole."""
    return " ".join(text.split()).replace("|", "\\|").replace("<", "&lt;")
