"""Rows -> figures: shares with their intervals, paired gains, controls. Pure functions of the rows and the timing."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from cvg.common.statistics import mcnemar, mean, paired_bootstrap, paired_shares, wilson
from cvg.composition import LabelSet
from cvg.evaluation.runner import Row, Timing


def share(hits: Sequence[bool], name: str = "share") -> Row:
    """A share with its Wilson interval; the share of nothing is None."""
    return {name: mean(hits), "ci95": list(wilson(sum(hits), len(hits))), "n": len(hits)}


def gain(before: Sequence[bool], after: Sequence[bool]) -> Row:
    """The difference of two shares over the same cases, with interval and exact McNemar p-value."""
    won = sum(b and not a for a, b in zip(before, after, strict=True))
    lost = sum(a and not b for a, b in zip(before, after, strict=True))
    return {
        "value": (won - lost) / max(1, len(before)),
        "ci95": list(paired_shares(won, lost, len(before))),
        "p": mcnemar(won, lost),
        "won": won,
        "lost": lost,
        "n": len(before),
    }


def _right(rows: Sequence[Row], side: str) -> list[bool]:
    return [row[side]["right"] for row in rows]


def _accuracy(rows: Sequence[Row], side: str, groups: Sequence[str], labels: LabelSet) -> Row:
    relations = [
        (labels[wanted].group, seen == wanted)
        for row in rows
        for wanted, seen in zip(row["labels"], row[side]["labels"], strict=True)
    ]
    return {
        **share(_right(rows, side), "accuracy"),
        "groups": {
            group: share(_right([row for row in rows if row["group"] == group], side), "accuracy") for group in groups
        },
        "relations": {
            group: share([right for name, right in relations if name == group], "accuracy") for group in labels.groups
        },
    }


def quality(rows: Sequence[Row]) -> Row:
    """What guidance must not spoil: the entities, and the smoothness of the motion."""
    sides: Row = {
        side: {
            "entities_right": share([row[side]["entities_right"] for row in rows]),
            "smoothness": mean([row[side]["smoothness"] for row in rows]),
        }
        for side in ("unguided", "guided")
    }
    change = [row["guided"]["smoothness"] - row["unguided"]["smoothness"] for row in rows]
    entities = gain(*([row[side]["entities_right"] for row in rows] for side in ("unguided", "guided")))
    smoothness = {"value": mean(change), "ci95": list(paired_bootstrap(change))}
    return sides | {"difference": {"entities_right": entities, "smoothness": smoothness}}


def timing_summary(timing: Timing) -> Row:
    """Total and per-batch wall time, guided over unguided."""
    return {
        "unguided_seconds": sum(timing.unguided),
        "guided_seconds": sum(timing.guided),
        "ratio_per_batch": [g / u for g, u in zip(timing.guided, timing.unguided, strict=True)],
        "early_seconds": sum(timing.early),
        "verdict_seconds": sum(timing.verdict),
    }


def best_of(rows: Sequence[Row], timing: Timing, ratio: float) -> Row:
    """Unguided best-of-n, picked by the classifier on early latents.

    ``time_multiple`` finishes all candidates; ``time_multiple_dropping`` drops the losers as soon as they are judged,
    the cheapest way to spend the time. The one at equal time is the largest n whose dropping multiple guidance pays
    for, and at least the whole videos that its time buys.
    """
    rows = [row for row in rows if "candidates" in row]
    total = sum(timing.unguided)
    most = min((len(row["candidates"]) for row in rows), default=0)
    table = []
    for n in range(1, most + 1):
        picked = [max(row["candidates"][:n], key=lambda candidate: candidate["score"]) for row in rows]
        verdicts = n * sum(timing.verdict) if n > 1 else 0.0
        table.append(
            {
                **share([candidate["right"] for candidate in picked], "accuracy"),
                "prompts": len(rows),
                "n": n,
                "any_right": mean([any(c["right"] for c in row["candidates"][:n]) for row in rows]),
                "time_multiple": (n * total + verdicts) / total,
                "time_multiple_dropping": (total + (n - 1) * sum(timing.early) + verdicts) / total,
            }
        )
    affordable = [
        entry for entry in table if entry["n"] <= max(1, int(ratio)) or entry["time_multiple_dropping"] <= ratio
    ]
    compared = gain([entry["right"] for entry in _chosen(rows, affordable)], _right(rows, "guided")) if rows else None
    equal = (affordable[-1] | {"guided_gain": compared}) if affordable else None
    return {"best_of_n": table, "best_of_n_equal_time": equal}


def _chosen(rows: Sequence[Row], affordable: Sequence[Row]) -> list[Row]:
    n = affordable[-1]["n"]
    return [max(row["candidates"][:n], key=lambda candidate: candidate["score"]) for row in rows]


def controls(rows: Sequence[Row]) -> Row | None:
    """Guidance that must do nothing, must not help, and must obey; None where no row has them."""
    rows = [row for row in rows if "zero_step" in row]
    if not rows:
        return None
    plain = _right(rows, "unguided")

    def shows(side: str) -> list[bool]:
        return [row[side]["entities_right"] and row[side]["labels"] == row["wrong_target"]["target"] for row in rows]

    zero = [row["zero_step"]["max_abs_difference"] for row in rows]
    return {
        "n": len(rows),
        "guided": {"gain": gain(plain, _right(rows, "guided"))},
        "zero_step": {
            "max_abs_difference": max(zero),
            "identical": max(zero) == 0,
            "gain": gain(plain, _right(rows, "zero_step")),
        },
        "untrained": {"gain": gain(plain, _right(rows, "untrained"))},
        "wrong_target": {
            "follows_target": share(shows("wrong_target")),
            "follows_prompt": share(_right(rows, "wrong_target")),
            "unguided_follows_target": share(shows("unguided")),
            "unguided_follows_prompt": share(plain),
            "gain": gain(shows("unguided"), shows("wrong_target")),
        },
    }


def predictability(rows: Sequence[Row], labels: LabelSet) -> list[Row]:
    """Per early slot: how often the classifier's verdict on the unguided z_t is the judge's on the finished video.

    Relations whose finished video leaves the judge undecided do not count. ``target_when_right`` and
    ``target_when_wrong`` are the mean target probabilities of videos that end up right and wrong.
    """
    table = []
    for index, first in enumerate(rows[0]["early"] if rows else []):
        agree: dict[str, list[bool]] = {group: [] for group in labels.groups}
        target: dict[bool, list[float]] = {True: [], False: []}
        chance = []
        for row in rows:
            early = row["early"][index]
            for wanted, said, seen, p in zip(
                row["labels"], early["labels"], row["unguided"]["labels"], early["probability"], strict=True
            ):
                if seen is not None:
                    agree[labels[wanted].group].append(said == seen)
                    target[seen == wanted].append(p)
                    chance.append(1 / len(labels.groups[labels[wanted].group]))
        everything = [hit for hits in agree.values() for hit in hits]
        table.append(
            {
                "slot": first["slot"],
                "step": first["step"],
                **share(everything, "agreement"),
                "chance": mean(chance),
                "groups": {group: share(hits, "agreement") for group, hits in agree.items()},
                "target_when_right": mean(target[True]),
                "target_when_wrong": mean(target[False]),
            }
        )
    return table


def satisfied(rows: Sequence[Row], threshold: float) -> Row:
    """Target probability before and after guidance, and how often a satisfied sample is wrong all the same."""

    def all_pass(row: Row, when: str) -> bool:
        return all(p is not None and p >= threshold for p in row["guided"][when])

    def probabilities(when: str) -> list[float]:
        return [p for row in rows for p in row["guided"][when] if p is not None]

    done = [row for row in rows if all_pass(row, "probability_after")]
    return {
        "threshold": threshold,
        "probability_before": mean(probabilities("probability_before")),
        "probability_after": mean(probabilities("probability_after")),
        "before": share([all_pass(row, "probability_before") for row in rows]),
        "after": share([all_pass(row, "probability_after") for row in rows]),
        "wrong_though_satisfied": share([not row["guided"]["right"] for row in done]),
        "entities_wrong_though_satisfied": share([not row["guided"]["entities_right"] for row in done]),
    }


def summarise(
    rows: Sequence[Row], timing: Timing, groups: Sequence[str], labels: LabelSet, threshold: float
) -> dict[str, Any]:
    """All figures of an evaluation."""
    ratio = sum(timing.guided) / sum(timing.unguided)
    plain, guided = _right(rows, "unguided"), _right(rows, "guided")
    by_group = {
        group: gain(*(_right([row for row in rows if row["group"] == group], side) for side in ("unguided", "guided")))
        for group in groups
    }
    return {
        "unguided": _accuracy(rows, "unguided", groups, labels),
        "guided": _accuracy(rows, "guided", groups, labels),
        "gain": gain(plain, guided) | {"groups": by_group},
        "quality": quality(rows),
        "time_ratio": ratio,
        "timing": timing_summary(timing),
        **best_of(rows, timing, ratio),
        "controls": controls(rows),
        "predictability": predictability(rows, labels),
        "satisfied": satisfied(rows, threshold),
    }
