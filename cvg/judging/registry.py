"""Finds a judge by its name."""

from __future__ import annotations

import inspect
import pkgutil
import re
from collections.abc import Callable
from pathlib import Path

from cvg.common.devices import find_device
from cvg.common.errors import SettingsError
from cvg.composition import Label, LabelSet
from cvg.judging.base import Judge
from cvg.judging.by_label import ByLabel
from cvg.judging.showing import rule_of

JUDGES: dict[str, str] = {
    "shapes": "cvg.shapes.oracle.ShapesOracle",
    "detector": "cvg.judging.detector.DetectorJudge",
    "vlm": "cvg.judging.vlm.VlmJudge",
    "contrastive": "cvg.judging.contrastive.ContrastiveJudge",
}
"""Name -> module and class, imported when it is asked for. The class takes ``labels`` and ``device``, ``model`` where a
model can be named, and ``cache`` where it can keep what its model found."""

SERVES: dict[str, Callable[[Label], bool]] = {
    "vlm": lambda label: label.question is not None,
    "contrastive": lambda label: True,
}
"""Which labels a judge can read; every other judge those that have a rule."""


def load_judge(name: str, labels: LabelSet | None = None, device: str = "cpu", cache: Path | None = None) -> Judge:
    """The judge of that name.

    Args:
        name: a key of :data:`JUDGES`, with a model after a colon where it takes one (``vlm:FOLDER``); or several with
            plus signs between them (``detector+vlm:FOLDER``): each label is read by the first that can.
        labels: the label set that it tells apart; its own when None.
        device: torch device of the models that it looks with, if it has any.
        cache: folder that keeps what its models find, for other readings of the same videos; nothing is kept when None.

    Raises:
        SettingsError: an unknown name (the known ones are listed), a model or a cache for a judge that has none, or
            labels that this judge cannot tell apart, or a device that this machine does not have.
        ModelError: its model cannot be loaded.
    """
    known = "|".join(map(re.escape, JUDGES))
    parts = re.split(rf"\+(?=(?:{known})(?:[:+]|$))", name)  # a folder's name may have a plus sign
    labels = labels or (LabelSet.load("world") if len(parts) > 1 else None)
    judges = [_load(part, labels, device, cache) for part in parts]
    if cache is not None and not any(_takes(part, "cache") for part in parts):
        raise SettingsError(f"cache {cache}: judge {name} keeps nothing; leave it out")
    if labels is None or len(judges) == 1:
        return judges[0]
    able = [SERVES.get(part.partition(":")[0], _has_rule) for part in parts]
    return ByLabel(list(zip(judges, able, strict=True)), labels.__getitem__)


def _takes(name: str, argument: str) -> bool:
    """Whether the class of a judge takes an argument."""
    return argument in inspect.signature(pkgutil.resolve_name(JUDGES[name.partition(":")[0]])).parameters


def _load(name: str, labels: LabelSet | None, device: str, cache: Path | None) -> Judge:
    kind, colon, model = name.partition(":")
    if kind not in JUDGES:
        raise SettingsError(f"judge {kind!r}: unknown; known: {', '.join(JUDGES)}")
    find_device(device)
    made = pkgutil.resolve_name(JUDGES[kind])
    if colon and not _takes(kind, "model"):
        raise SettingsError(f"judge {kind}: it looks with no model, so that {model!r} is for nothing; leave it out")
    options = {"model": model} if colon else {}
    if cache is not None and _takes(kind, "cache"):
        options["cache"] = str(cache)
    judge: Judge = made(labels=labels, device=device, **options)
    return judge


def _has_rule(label: Label) -> bool:
    return rule_of(label) is not None
