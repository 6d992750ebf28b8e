"""An evaluation in the terminal."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from cvg.evaluation.directions import OUTCOMES
from cvg.evaluation.rows import Figures
from cvg.evaluation.summary import MEASURES, SIDES


def number(value: float | None, signed: bool = False, digits: int = 2) -> str:
    """A figure, or a dash where there is none."""
    if value is None:
        return "-"
    return f"{value:+.{digits}f}" if signed else f"{value:.{digits}f}"


def interval(entry: dict[str, Any], key: str, signed: bool = False, digits: int = 2) -> str:
    """``0.42 [0.35, 0.49]``."""
    low, high = entry["ci95"]
    value = entry[key]
    if value is None:
        return "-"
    return f"{number(value, signed, digits)} [{number(low, signed, digits)}, {number(high, signed, digits)}]"


def columns(rows: list[list[str]]) -> str:
    """Left-aligned columns; the first row is the heading."""
    widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]))]
    lines = ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows]
    return "\n".join([lines[0], "-" * max(len(line) for line in lines), *lines[1:]])


def render(result: Figures) -> str:
    """The tables that ``python -m cvg.evaluate`` prints."""
    done, gain = result.satisfied, result.gain
    summary = [
        f"time guided / unguided: {number(result.time_ratio)}",
        f"better {gain['won']}, worse {gain['lost']} of {gain['n']} ({_test(gain)} = {gain['p']:.2g})",
        f"target probability: {number(done['probability_before'])} before guidance, "
        f"{number(done['probability_after'])} after; wrong though satisfied: "
        f"{interval(done['wrong_though_satisfied'], 'share')}",
    ]
    if line := plain_line(result):
        summary.append(line)
    blocks = [columns(main_rows(result)), "\n".join(summary), columns(direction_rows(result))]
    if result.best_of_n:
        blocks.append(columns(best_of_rows(result)))
    if result.controls:
        blocks.append(columns(control_rows(result.controls)))
    return "\n\n".join([*blocks, columns(predictability_rows(result.predictability))])


def _test(gain: dict[str, Any]) -> str:
    return "McNemar p" if gain["prompts"] == gain["n"] else f"of {gain['prompts']} prompts: p"


def main_rows(result: Figures) -> list[list[str]]:
    """Accuracy and quality, unguided and guided."""
    plain, guided, gain = result.unguided, result.guided, result.gain
    quality, count = result.quality, str(plain["n"])
    before, after, change = quality["unguided"], quality["guided"], quality["difference"]
    parts = [("all", plain, guided, gain)]
    parts += [(name, plain["groups"][name], guided["groups"][name], gain["groups"][name]) for name in plain["groups"]]
    return [
        ["accuracy (95%)", "n", "unguided", "guided", "gain"],
        *(
            [
                name.replace("_", " "),
                str(first["n"]),
                interval(first, "accuracy"),
                interval(second, "accuracy"),
                interval(difference, "value", signed=True),
            ]
            for name, first, second, difference in parts
        ),
        [
            "entities right",
            count,
            interval(before["entities_right"], "share"),
            interval(after["entities_right"], "share"),
            interval(change["entities_right"], "value", signed=True),
        ],
        *(
            [
                name.replace("_", " "),
                count,
                number(before[name], digits=4),
                number(after[name], digits=4),
                interval(change[name], "value", signed=True, digits=4),
            ]
            for name in MEASURES
        ),
    ]


def direction_rows(result: Figures) -> list[list[str]]:
    """What was shown of the relations asked for, unguided and then guided; accuracy is of those that can be told."""
    sides = [result.directions[side] for side in SIDES]
    groups = list(sides[0]["groups"])
    parts = [("all", sides), *((group, [side["groups"][group] for side in sides]) for group in groups)]
    if len(groups) == 1:
        parts = parts[:1]
    rows = [["relations: unguided, guided", "n", "right of told (95%)", *(name for name in OUTCOMES)]]
    for name, (before, after) in parts:
        counts = [f"{before['counts'][each]}, {after['counts'][each]}" for each in OUTCOMES]
        shares = f"{interval(before, 'accuracy')}, {interval(after, 'accuracy')}"
        rows.append([name.replace("_", " "), str(before["n"]), shares, *counts])
    return rows


def score_rows(title: str, scores: dict[str, dict[str, float | None]]) -> list[list[str]]:
    """Scores by somebody else's program.

    Args:
        title: heading of the first column.
        scores: per side and group.
    """
    groups = dict.fromkeys(name for side in SIDES for name in scores[side])
    rows = [[name.replace("_", " "), *(number(scores[side].get(name), digits=4) for side in SIDES)] for name in groups]
    return [[title, *SIDES], *rows]


def plain_line(result: Figures) -> str:
    """How many prompts were sampled plainly and why, and how many guided in part; empty where none was."""
    plain, told = result.plain, []
    if reasons := ", ".join(f"{reason}: {count}" for reason, count in plain["reasons"].items()):
        told.append(f"{plain['n']} of {plain['of']} prompts are not guided and count nowhere else ({reasons})")
    if labels := ", ".join(f"{label}: {count}" for label, count in plain["unknown"].items()):
        told.append(
            f"{plain['in_part']} are guided and judged in part: not by relations unknown to what guides ({labels})"
        )
    return "; ".join(told)


def best_of_rows(result: Figures) -> list[list[str]]:
    """Unguided best-of-n."""
    chosen = result.best_of_n_equal_time
    equal = chosen["n"] if chosen else None
    return [
        ["unguided best of n", "accuracy", "any right", "time", "time, losers dropped early"],
        *(
            [
                f"n = {entry['n']}" + (" (equal time)" if entry["n"] == equal else ""),
                interval(entry, "accuracy"),
                number(entry["any_right"]),
                number(entry["time_multiple"]),
                number(entry["time_multiple_dropping"]),
            ]
            for entry in result.best_of_n
        ),
    ]


def control_rows(controls: dict[str, Any]) -> list[list[str]]:
    """The controls, beside guidance on the same prompts."""
    zero, wrong, fresh = controls["zero_step"], controls["wrong_target"], "none: rules have no weights"
    if controls["untrained"] is not None:
        fresh = f"gain {interval(controls['untrained']['gain'], 'value', signed=True)}"
    return [
        [f"control ({controls['n']} prompts)", "result"],
        ["none: guided", f"gain {interval(controls['guided']['gain'], 'value', signed=True)}"],
        ["zero step", "bit-identical" if zero["identical"] else f"differs by up to {zero['max_abs_difference']:.3g}"],
        ["untrained classifier", fresh],
        [
            "wrong target",
            f"shows it: {interval(wrong['follows_target'], 'share')} "
            f"(unguided {number(wrong['unguided_follows_target']['share'])}); shows the prompt: "
            f"{interval(wrong['follows_prompt'], 'share')} (unguided "
            f"{number(wrong['unguided_follows_prompt']['share'])})",
        ],
    ]


def predictability_rows(table: list[dict[str, Any]], sigmas: Sequence[float] = ()) -> list[list[str]]:
    """The classifier's verdict on early unguided latents against the judge's reading of the finished videos.

    Args:
        table: of an evaluation.
        sigmas: the classifier's noise levels, which then stand beside the denoising steps.
    """

    def when(entry: dict[str, Any]) -> str:
        return f"{sigmas[entry['guided_step']]:.2f} (step {entry['step']})" if sigmas else str(entry["step"])

    return [
        [
            "noise level" if sigmas else "unguided z_t at step",
            "classifier agrees with judge",
            "n",
            "chance",
            "p(target): video right",
            "video wrong",
        ],
        *(
            [
                when(entry),
                interval(entry, "agreement"),
                str(entry["n"]),
                number(entry["chance"]),
                number(entry["target_when_right"]),
                number(entry["target_when_wrong"]),
            ]
            for entry in table
        ),
    ]


def satisfied_rows(done: dict[str, Any]) -> list[list[str]]:
    """How sure the classifier was before and after guidance, and how often it was content and the judge is not."""
    return [
        ["", "before guidance", "after"],
        ["mean target probability", number(done["probability_before"]), number(done["probability_after"])],
        [
            f"satisfied (p >= {done['threshold']:g})",
            interval(done["before"], "share"),
            interval(done["after"], "share"),
        ],
        ["wrong though satisfied", "", interval(done["wrong_though_satisfied"], "share")],
        ["of these, entities wrong", "", interval(done["entities_wrong_though_satisfied"], "share")],
    ]
