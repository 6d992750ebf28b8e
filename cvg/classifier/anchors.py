"""Anchors: where the VLM's text tower puts a label, from the phrases that state it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import torch
import torch.nn.functional as F
from torch import Tensor

from cvg.classifier.backbones.base import Backbone
from cvg.common.errors import DataError, SettingsError
from cvg.composition import Label, compose
from cvg.composition.labels import COUNTS, SLOTS

CAPTIONS = ("an object {r0}", "an object {r0} another object")
"""Captions of a relation of one entity and of two. Text towers are trained on captions, not on bare relation words; the
entities in them are to mean as little as the tower's vocabulary allows."""

# Labels of a group with this cosine are one label to the text tower; less is more than float32's rounding.
_SAME = 0.99999


def caption(wording: str, entities: int, captions: Sequence[str] = CAPTIONS) -> str:
    """What the text tower is shown for a wording: "moving left" -> "an object moving left".

    Args:
        wording: the phrase that states a label.
        entities: how many entities the label relates, 1 to K.
        captions: a template for each number of entities, from one to K, with ``{r0}`` where the wording goes.

    Raises:
        SettingsError: there are not K templates, or one does not have ``{r0}`` exactly once.
    """
    if len(captions) != SLOTS:
        raise SettingsError(f"captions {list(captions)}: expected {SLOTS} templates, for labels of {COUNTS} entities")
    return compose(captions[entities - 1], (), (wording,))[0]


def label_anchors(backbone: Backbone, labels: Sequence[Label], captions: Sequence[str] = CAPTIONS) -> Tensor:
    """The anchor of each label: the mean of the unit text embeddings of its wordings' captions, at unit length.

    Args:
        backbone: whose text tower reads.
        labels: the labels.
        captions: see :func:`caption`.

    Returns:
        (Y, E)

    Raises:
        UserError: the backbone has no text tower, or a caption template is malformed.
    """
    phrases = [caption(wording, label.entities, captions) for label in labels for wording in label.wordings]
    parts = backbone.text_features(phrases).split([len(label.wordings) for label in labels])
    return F.normalize(torch.stack([part.mean(0) for part in parts]), dim=-1)


def part_wordings(labels: Sequence[Label], without: Sequence[str]) -> tuple[list[Label], list[Label]]:
    """Leave some wordings out of the anchors, and keep them apart, to test the classifier with words it has not seen.

    Example: of a label ``left`` (moving left, drifting left) and a label ``up`` (moving up), without "drifting left",
    the first list has ``left`` (moving left) and ``up`` (moving up), the second has ``left`` (drifting left) alone.

    Args:
        labels: the labels, with all their wordings.
        without: the wordings to leave out.

    Returns:
        All labels, in order, with the wordings that are kept; and only those labels of which a wording was left out,
        in order, with the wordings left out of them.

    Raises:
        SettingsError: a wording that no label has, or a label of which no wording would be kept.
    """
    unknown = sorted(set(without).difference(*(label.wordings for label in labels)))
    if unknown:
        raise SettingsError(f"head: {unknown[0]!r} is to be left out of the anchors, but no label has that wording")
    kept, lost = (
        [replace(label, wordings=tuple(w for w in label.wordings if (w in without) == leave)) for label in labels]
        for leave in (False, True)
    )
    bare = [label.name for label in kept if not label.wordings]
    if bare:
        raise SettingsError(f"head: all wordings of label {bare[0]!r} are left out of its anchor; keep at least one")
    return kept, [label for label in lost if label.wordings]


def deviations(labels: Sequence[Label], anchor_YE: Tensor) -> Tensor:
    """The anchors less the mean of their group (Y, E): what tells labels of one group apart."""
    same_YY = torch.tensor([[float(a.group == b.group) for b in labels] for a in labels]).to(anchor_YE)
    mean_YE = same_YY @ anchor_YE / same_YY.sum(1, keepdim=True)
    return anchor_YE - mean_YE


def check_distinct(labels: Sequence[Label], anchor_YE: Tensor) -> None:
    """Raise DataError when two labels of one group have the same anchor: nothing could tell them apart."""
    cosine_YY = anchor_YE @ anchor_YE.T
    for i, one in enumerate(labels):
        for j, other in enumerate(labels[:i]):
            if one.group == other.group and cosine_YY[i, j] > _SAME:
                raise DataError(
                    f"labels {other.name!r} and {one.name!r}: the backbone's text tower embeds them alike (cosine "
                    f"{cosine_YY[i, j]:.5f}), so that nothing tells them apart; state them in other words"
                )
