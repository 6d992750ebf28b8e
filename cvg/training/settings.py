"""From the module's options to what a classifier is made of."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from cvg.classifier.anchors import CAPTIONS
from cvg.classifier.config import AnchoredSettings, BackboneSettings, HeadSettings, JointSettings, LinearSettings
from cvg.classifier.model import CompositionClassifier
from cvg.common.errors import ModelError, SettingsError
from cvg.common.typed import read
from cvg.composition import LabelSet
from cvg.shards.shards import merge_licences


def check_numbers(warmup: float, **others: float) -> None:
    """Raise SettingsError for a number among the module's options that no training can have."""
    for name, value in others.items():
        if not (math.isfinite(value) and value >= 0):
            raise SettingsError(f"model.{name} {value}: give a number of at least 0")
    if not 0 <= warmup <= 1:
        raise SettingsError(f"model.warmup {warmup}: give a share of the steps, from 0 to 1")


def backbone_settings(options: Mapping[str, Any]) -> BackboneSettings:
    """The backbone, of the module's options.

    Raises:
        SettingsError: options that are unknown, given twice or do not go together.
    """
    more = options["backbone_options"] or {}
    given: dict[str, Any] = {"name": options["backbone"], "path": options["backbone_path"] or None}
    if options["backbone"] == "vlm":
        given |= {"layer": options["backbone_layer"], "pool": options["backbone_pool"]}
        if twice := sorted(set(more) & set(given)):
            raise SettingsError(f"model.backbone_options: {', '.join(twice)} has its own option, model.backbone_...")
    if options["backbone"] != "none":
        given |= more
    return read(BackboneSettings, given, "model.backbone", "see docs/backbones.md", error=SettingsError)


def head_settings(options: Mapping[str, Any]) -> HeadSettings:
    """The head, of the module's options."""
    anchors: dict[str, Any] = {"tied": options["head_tied"], "captions": options["head_captions"] or list(CAPTIONS)}
    anchors |= {"without": options["head_without"] or []}
    if options["head"] == "joint":
        return JointSettings(**anchors)
    if options["head"] == "anchored":
        return AnchoredSettings(rank=options["head_rank"], **anchors)
    return LinearSettings()


def check_hold_out(head: HeadSettings, hold_out: Sequence[str]) -> None:
    """Raise SettingsError where labels are held out of a training whose head needs records of them."""
    if hold_out and isinstance(head, LinearSettings):
        raise SettingsError(
            "data.hold_out: a linear head's weights for a label that it never sees stay random; use an anchored head"
        )


def left_alone(labels: LabelSet, groups: Sequence[str], adversarial: float) -> list[int]:
    """Class indices of the labels of ``adversarial_without``.

    Raises:
        SettingsError: a group that there is not, or nothing that it could be spared.
    """
    if groups and not adversarial:
        raise SettingsError(
            f"model.adversarial_without {', '.join(groups)}: model.adversarial is 0, so that no group is perturbed; "
            "leave one of the two out"
        )
    if unknown := [group for group in groups if group not in labels.groups]:
        raise SettingsError(
            f"model.adversarial_without {unknown[0]!r}: no group of the labels, which are {', '.join(labels.groups)}"
        )
    return [labels.index(label.name) for group in groups for label in labels.groups[group]]


def start_from(classifier: CompositionClassifier, folder: str) -> None:
    """Take over the weights of an exported classifier, what it has seen, and under which licences.

    Raises:
        ModelError: they do not fit.
    """
    begun = CompositionClassifier.from_pretrained(folder)
    seen, more = begun.config.seen, classifier.config.seen
    # Where it is not known what the first training saw, it is not known of both.
    both = None if seen is None else dict(Counter(seen) + Counter(more or {}))
    licences = merge_licences([begun.config.licences, classifier.config.licences])
    classifier.config = replace(classifier.config, seen=both, licences=licences)
    try:
        classifier.load_state_dict(begun.state_dict())
    except RuntimeError as error:
        raise ModelError(
            f"model.warm_start {folder}: its weights do not fit these shards and options; use a classifier with the "
            "same labels, taps, backbone and sizes"
        ) from error
