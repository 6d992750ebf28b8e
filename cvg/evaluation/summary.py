"""Rows -> figures: shares with their intervals, paired gains, controls. Pure functions of the rows and the timing.

Videos of one prompt count together in intervals and p-values: they tend to be right or wrong together.
"""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from dataclasses import replace
from typing import Any

from cvg.common.statistics import independent, mcnemar, mean, paired_bootstrap, paired_shares, sign_flips, wilson
from cvg.composition import LabelSet
from cvg.evaluation.directions import directions, plainly
from cvg.evaluation.rows import Candidate, Figures, PlainRow, Row
from cvg.evaluation.suites import Score
from cvg.evaluation.timing import Timing

Entry = dict[str, Any]
"""One group of figures, as JSON has it."""
SIDES = ("unguided", "guided")
MEASURES = ("smoothness", "flicker", "static_share")
"""Of a video's motion, fields of :class:`Score`."""


def share(hits: Sequence[bool], prompts: Sequence[Hashable], name: str = "share") -> Entry:
    """A share with its Wilson interval; the share of nothing is None.

    Args:
        hits: one per item.
        prompts: which prompt each is of.
        name: of the share.
    """
    part = independent(hits, prompts) / len(hits) if hits else 0.0
    return {name: mean(hits), "ci95": list(wilson(sum(hits) * part, len(hits) * part)), "n": len(hits)}


def _share_of(hits: Sequence[tuple[bool, str]], name: str) -> Entry:
    """A share of hits that come with their prompts."""
    return share([hit for hit, _ in hits], [prompt for _, prompt in hits], name)


def gain(before: Sequence[bool], after: Sequence[bool], prompts: Sequence[Hashable] | None = None) -> Entry:
    """The difference of two shares over the same cases, with interval and p-value.

    Args:
        before: whether each case was right the first time.
        after: the second time.
        prompts: which prompt each is of; each of one of its own when None.

    Returns:
        Also how many were won and lost, and of how many prompts. Where each case is of its own prompt, p is the exact
        McNemar value, else that of flipping the signs of whole prompts. Of no case there is no difference: None.
    """
    prompts = range(len(before)) if prompts is None else prompts
    change = [int(a) - int(b) for b, a in zip(before, after, strict=True)]
    won, lost, count = change.count(1), change.count(-1), len(change)
    part = independent(change, prompts) / count if count else 1.0
    different = len(set(prompts))
    return {
        "value": (won - lost) / count if count else None,
        "ci95": list(paired_shares(won * part, lost * part, count * part)),
        "p": mcnemar(won, lost) if different == count else sign_flips(change, prompts),
        "won": won,
        "lost": lost,
        "n": count,
        "prompts": different,
    }


def _side(row: Row, side: str) -> Score:
    """The score of a row's video of this side: a field of :class:`Row`."""
    score = getattr(row, side)
    assert isinstance(score, Score)
    return score


def _right(rows: Sequence[Row], side: str) -> list[bool]:
    return [_side(row, side).right for row in rows]


def _prompts(rows: Sequence[Row]) -> list[str]:
    return [row.prompt for row in rows]


def _accuracy(rows: Sequence[Row], side: str, groups: Sequence[str], labels: LabelSet) -> Entry:
    parts = {group: [row for row in rows if row.group == group] for group in groups}
    relations: dict[str, list[tuple[bool, str]]] = {group: [] for group in labels.groups}
    for row in rows:
        for wanted, seen in zip(row.labels, _side(row, side).labels, strict=True):
            relations[labels[wanted].group].append((seen == wanted, row.prompt))
    return {
        **share(_right(rows, side), _prompts(rows), "accuracy"),
        "groups": {name: share(_right(part, side), _prompts(part), "accuracy") for name, part in parts.items()},
        "relations": {group: _share_of(hits, "accuracy") for group, hits in relations.items()},
    }


def quality(rows: Sequence[Row]) -> Entry:
    """What guidance must not spoil: the entities, and what can be said of the motion without a model."""
    entities = {side: [_side(row, side).entities_right for row in rows] for side in SIDES}
    prompts = _prompts(rows)
    found: Entry = {side: {"entities_right": share(entities[side], prompts)} for side in SIDES}
    found["difference"] = {"entities_right": gain(entities["unguided"], entities["guided"], prompts)}
    for name in MEASURES:
        values = {side: [getattr(_side(row, side), name) for row in rows] for side in SIDES}
        change = [after - before for before, after in zip(*values.values(), strict=True)]
        for side in SIDES:
            found[side][name] = mean(values[side])
        found["difference"][name] = {"value": mean(change), "ci95": list(paired_bootstrap(change, prompts))}
    return found


def timing_summary(timing: Timing) -> Entry:
    """Total and per-batch wall time, guided over unguided."""
    return {
        "unguided_seconds": sum(timing.unguided),
        "guided_seconds": sum(timing.guided),
        "ratio_per_batch": [g / u for g, u in zip(timing.guided, timing.unguided, strict=True)],
        "early_seconds": sum(timing.early),
        "verdict_seconds": sum(timing.verdict),
    }


def best_of(rows: Sequence[Row], timing: Timing, ratio: float) -> Entry:
    """Unguided best-of-n, picked by the classifier on early latents.

    ``time_multiple`` finishes all candidates; ``time_multiple_dropping`` drops the losers as soon as the classifier has
    seen them, the cheapest way to spend the time. The one at equal time is the largest n whose dropping multiple
    guidance pays for, and at least the whole videos that its time buys.
    """
    tried = [(row, row.candidates) for row in rows if row.candidates is not None]
    prompts = _prompts([row for row, _ in tried])
    total = sum(timing.unguided)
    table = []
    for n in range(1, min((len(candidates) for _, candidates in tried), default=0) + 1):
        verdicts = n * sum(timing.verdict) if n > 1 else 0.0
        table.append(
            {
                **share([_picked(candidates, n).right for _, candidates in tried], prompts, "accuracy"),
                "prompts": len(tried),
                "n": n,
                "any_right": mean([any(candidate.right for candidate in candidates[:n]) for _, candidates in tried]),
                "time_multiple": (n * total + verdicts) / total,
                "time_multiple_dropping": (total + (n - 1) * sum(timing.early) + verdicts) / total,
            }
        )
    affordable = [
        entry for entry in table if entry["n"] <= max(1, int(ratio)) or entry["time_multiple_dropping"] <= ratio
    ]
    equal = None
    if affordable:
        chosen = [_picked(candidates, affordable[-1]["n"]).right for _, candidates in tried]
        equal = affordable[-1] | {"guided_gain": gain(chosen, _right([row for row, _ in tried], "guided"), prompts)}
    return {"best_of_n": table, "best_of_n_equal_time": equal}


def _picked(candidates: Sequence[Candidate], n: int) -> Candidate:
    """The one of the first n that the classifier prefers."""
    return max(candidates[:n], key=lambda candidate: candidate.log_probability)


def controls(rows: Sequence[Row]) -> Entry | None:
    """Guidance that must do nothing, must not help, and must obey; None where no row has them."""
    rows = [row for row in rows if row.zero_step is not None]
    if not rows:
        return None
    plain, prompts = _right(rows, "unguided"), _prompts(rows)
    wrong = [row.wrong_target for row in rows if row.wrong_target is not None]

    def shows(scores: Sequence[Score]) -> list[bool]:
        """Whether each video shows the wrong target."""
        return [
            score.entities_right and score.labels == asked.target for score, asked in zip(scores, wrong, strict=True)
        ]

    misled, unguided = shows(wrong), shows([row.unguided for row in rows])
    zero = [row.zero_step.max_abs_difference for row in rows if row.zero_step is not None]
    return {
        "n": len(rows),
        "guided": {"gain": gain(plain, _right(rows, "guided"), prompts)},
        "zero_step": {
            "max_abs_difference": max(zero),
            "identical": max(zero) == 0,
            "gain": gain(plain, _right(rows, "zero_step"), prompts),
        },
        "untrained": {"gain": gain(plain, _right(rows, "untrained"), prompts)} if rows[0].untrained else None,
        "wrong_target": {
            "follows_target": share(misled, prompts),
            "follows_prompt": share(_right(rows, "wrong_target"), prompts),
            "unguided_follows_target": share(unguided, prompts),
            "unguided_follows_prompt": share(plain, prompts),
            "gain": gain(unguided, misled, prompts),
        },
    }


def predictability(rows: Sequence[Row], labels: LabelSet) -> list[Entry]:
    """Per early guided step: how often the classifier's verdict on the unguided z_t is the label of the finished video.

    Relations whose finished video leaves the judge undecided do not count. ``target_when_right`` and
    ``target_when_wrong`` are the mean target probabilities of videos that end up right and wrong.
    """
    table = []
    for index, first in enumerate(rows[0].early if rows else []):
        agree: dict[str, list[tuple[bool, str]]] = {group: [] for group in labels.groups}
        target: dict[bool, list[float]] = {True: [], False: []}
        chance = []
        for row in rows:
            early = row.early[index]
            for wanted, said, seen, p in zip(
                row.labels, early.labels, row.unguided.labels, early.probability, strict=True
            ):
                if seen is not None:
                    agree[labels[wanted].group].append((said == seen, row.prompt))
                    target[seen == wanted].append(p)
                    chance.append(1 / len(labels.groups[labels[wanted].group]))
        everything = [hit for hits in agree.values() for hit in hits]
        table.append(
            {
                "guided_step": first.guided_step,
                "step": first.step,
                **_share_of(everything, "agreement"),
                "chance": mean(chance),
                "groups": {group: _share_of(hits, "agreement") for group, hits in agree.items()},
                "target_when_right": mean(target[True]),
                "target_when_wrong": mean(target[False]),
            }
        )
    return table


def satisfied(rows: Sequence[Row], threshold: float) -> Entry:
    """Target probability before and after guidance, and how often a satisfied sample is wrong all the same."""
    before = [row.guided.probability_before for row in rows]
    after = [row.guided.probability_after for row in rows]

    def passes(probabilities: Sequence[float | None]) -> bool:
        return all(p is not None and p >= threshold for p in probabilities)

    def average(probabilities: Sequence[Sequence[float | None]]) -> float | None:
        return mean([p for of_row in probabilities for p in of_row if p is not None])

    prompts = _prompts(rows)
    done = [row for row, of_row in zip(rows, after, strict=True) if passes(of_row)]
    return {
        "threshold": threshold,
        "probability_before": average(before),
        "probability_after": average(after),
        "before": share([passes(of_row) for of_row in before], prompts),
        "after": share([passes(of_row) for of_row in after], prompts),
        "wrong_though_satisfied": share([not row.guided.right for row in done], _prompts(done)),
        "entities_wrong_though_satisfied": share([not row.guided.entities_right for row in done], _prompts(done)),
    }


def summarise(
    rows: Sequence[Row],
    timing: Timing,
    groups: Sequence[str],
    labels: LabelSet,
    threshold: float,
    plain_rows: Sequence[PlainRow] = (),
    drawn: bool = False,
) -> Figures:
    """All figures of an evaluation.

    Args:
        rows: one per case that was guided.
        timing: of the batches they were run in.
        groups: of the suite.
        labels: of the suite.
        threshold: target probability from which guidance leaves a sample alone.
        plain_rows: one per other case.
        drawn: prompts are drawn at random, so that the same one twice is chance, and each counts by itself.
    """
    if drawn:
        rows = [replace(row, prompt=f"{place}: {row.prompt}") for place, row in enumerate(rows)]
    ratio = sum(timing.guided) / sum(timing.unguided)

    def gained(some: Sequence[Row]) -> Entry:
        return gain(_right(some, "unguided"), _right(some, "guided"), _prompts(some))

    by_group = {group: gained([row for row in rows if row.group == group]) for group in groups}
    chosen = best_of(rows, timing, ratio)
    return Figures(
        unguided=_accuracy(rows, "unguided", groups, labels),
        guided=_accuracy(rows, "guided", groups, labels),
        gain=gained(rows) | {"groups": by_group},
        quality=quality(rows),
        time_ratio=ratio,
        timing=timing_summary(timing),
        best_of_n=chosen["best_of_n"],
        best_of_n_equal_time=chosen["best_of_n_equal_time"],
        controls=controls(rows),
        predictability=predictability(rows, labels),
        satisfied=satisfied(rows, threshold),
        directions=directions(rows, groups, labels),
        plain=plainly(plain_rows, groups, rows),
    )
