"""Which label of a group tracks show, by the labels' rules."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from cvg.common.errors import PromptError, SettingsError
from cvg.composition import Label
from cvg.judging.geometry import JUDGE, Margins, margins_for
from cvg.judging.rules import RULES, View
from cvg.judging.tracks import Tracks


@dataclass(frozen=True)
class Shown:
    """What tracks show of a group of labels.

    Attributes:
        label: the one that holds; None where none does, several do, or the tracks cannot tell.
        confidence: in it, 0 to 1: a half where its rule just holds, 0 where there is no label.
        scores: label -> signed score in margins; None where the tracks cannot tell, or it has no rule.
    """

    label: str | None
    confidence: float
    scores: Mapping[str, float | None]


def rule_of(label: Label) -> str | None:
    """Name of the rule that shows a label.

    It is the one that the label names. One that names neither rule nor question is shown by the rule of its own name
    (``above``, or ``left`` by ``moves left``), where there is such a rule of as many entities.

    Raises:
        SettingsError: a rule that there is not, or of another number of entities.
    """
    if label.rule is not None:
        if label.rule not in RULES:
            raise SettingsError(f"label {label.name!r}: rule {label.rule!r} is unknown; known: {', '.join(RULES)}")
        if RULES[label.rule].entities != label.entities:
            raise SettingsError(
                f"label {label.name!r}: relates {label.entities} entities, rule {label.rule!r} looks at "
                f"{RULES[label.rule].entities}; give it another rule"
            )
        return label.rule
    if label.question is not None:
        return None
    named = (name for name in (label.name, f"moves {label.name}") if name in RULES)
    return next((name for name in named if RULES[name].entities == label.entities), None)


def shown(
    labels: Sequence[Label],
    tracks: Tracks,
    phrases: Sequence[str],
    asked: str | None = None,
    margins: Margins = JUDGE,
) -> Shown:
    """Which of a group's labels holds between entities.

    Where two that do not exclude one another hold, as ``on`` and ``above``, it is the one that says more, unless the
    other was asked for. And where the one asked for says more, or is implied, another is no answer as long as the one
    asked for is not clearly wrong.

    Args:
        labels: of the group.
        tracks: of the video.
        phrases: the entities, subject first, by their phrases in ``tracks``.
        asked: name of the label that the video was to show; None: nothing was asked.
        margins: how clearly a label must hold.

    Raises:
        PromptError: labels that relate another number of entities.
        SettingsError: a label's rule is unknown.
    """
    if len(phrases) != labels[0].entities:
        raise PromptError(f"label {labels[0].name!r}: relates {labels[0].entities} entities, {len(phrases)} given")
    rules = {label.name: name for label in labels if (name := rule_of(label))}
    scores: dict[str, float | None] = {label.name: None for label in labels}
    if all(phrase in tracks.entities for phrase in phrases):
        view = View(tuple(tracks.entities[phrase] for phrase in phrases), tracks)
        margins = margins_for((rule.removeprefix("moves ") for rule in rules.values()), margins)
        for name, rule in rules.items():
            score = RULES[rule].score(view, margins)
            scores[name] = None if math.isnan(score) else score
    label = _choose(rules, scores, asked if asked in rules else None)
    sure = scores[label] if label else None
    return Shown(label, 0.0 if sure is None else 1 - 0.5**sure, scores)


def _choose(rules: Mapping[str, str], scores: Mapping[str, float | None], asked: str | None) -> str | None:
    """The label that holds, of those with rules."""

    def over(one: str, other: str) -> bool:
        return rules[other] in RULES[rules[one]].over

    holding = [label for label in rules if (scores[label] or 0) >= 1]
    if asked and asked in holding and all(asked == each or over(each, asked) or over(asked, each) for each in holding):
        return asked
    most = [label for label in holding if not any(over(other, label) for other in holding)]
    if len(most) != 1:
        return None
    if asked and (over(asked, most[0]) or rules[asked] in RULES[rules[most[0]]].implies):
        score = scores[asked]
        if score is None or score > -1:
            return None
    return most[0]
