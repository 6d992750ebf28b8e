"""``python -m cvg.labels``: a label set, how its labels are said and shown, and whether it holds together."""

from __future__ import annotations

from cvg.common.cli import run
from cvg.common.errors import DataError, PromptError, UserError
from cvg.composition import LabelSet, parse
from cvg.composition.labels import Label
from cvg.judging.showing import rule_of
from cvg.reporting.table import columns

_PROMPTS = {1: ("a cat {}", "a {} cat", "{} cats"), 2: ("a cat {} a dog",)}
"""Prompts that a wording is tried in, by the number of entities."""


def problems(labels: LabelSet) -> list[str]:
    """What is wrong with a label set, in lines; what is only missing is no problem."""
    found = []
    for label in labels.labels:
        try:
            rule_of(label)
        except UserError as error:
            found.append(str(error))
        if labels[label.mirror].mirror != label.name:
            found.append(f"label {label.name!r}: its mirror image is {label.mirror!r}, whose own is another")
    return found


def unread(label: Label, labels: LabelSet) -> list[str]:
    """Wordings of a label that are read as it in none of the plainest prompts."""
    return [wording for wording in label.wordings if not _is_read(wording, label, labels)]


def _is_read(wording: str, label: Label, labels: LabelSet) -> bool:
    for template in _PROMPTS[label.entities]:
        try:
            found = parse(template.format(wording), labels)
        except PromptError:
            continue
        if any(relation.label == label.name for relation in found.relations):
            return True
    return False


def main(labels: str = "world") -> None:
    """List the labels of a set, with how a video shows them, and check it.

    Checked are: that judges have the rules, that mirror images are mutual, and that each wording is read as its label.

    Args:
        labels: label set: a YAML file, or a shipped one.
    """
    known = LabelSet.load(labels)
    head = ["label", "group", "category", "entities", "mirror image", "shown by"]
    rows = [
        [
            label.name,
            label.group,
            label.category,
            str(label.entities),
            "" if label.mirror == label.name else label.mirror,
            f"rule {rule}" if (rule := label.rule) else label.question or "-",
        ]
        for label in known.labels
    ]
    print(columns([head, *rows]))
    print(f"\n{len(known)} labels in {len(known.groups)} groups")
    for label in known.labels:
        if missed := unread(label, known):
            print(f"note: {label.name!r} is not what plain prompts with {', '.join(map(repr, missed))} are read as")
    if wrong := problems(known):
        raise DataError(f"label set {labels}: " + "; ".join(wrong))


if __name__ == "__main__":
    run(main, prog="python -m cvg.labels")
