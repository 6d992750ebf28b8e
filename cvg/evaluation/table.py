"""An evaluation in the terminal."""

from __future__ import annotations

from typing import Any


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


def render(result: dict[str, Any]) -> str:
    """The tables that ``python -m cvg.evaluate`` prints.

    Args:
        result: what it writes to its JSON file.
    """
    plain, guided, gain = result["unguided"], result["guided"], result["gain"]
    rows = [["accuracy (95%)", "n", "unguided", "guided", "gain"]]
    parts = [("all", plain, guided, gain)]
    parts += [(name, plain["groups"][name], guided["groups"][name], gain["groups"][name]) for name in plain["groups"]]
    for name, before, after, change in parts:
        rows.append(
            [
                name,
                str(before["n"]),
                interval(before, "accuracy"),
                interval(after, "accuracy"),
                interval(change, "value", signed=True),
            ]
        )
    quality = result["quality"]
    rows.append(
        [
            "entities right",
            str(plain["n"]),
            interval(quality["unguided"]["entities_right"], "share"),
            interval(quality["guided"]["entities_right"], "share"),
            interval(quality["difference"]["entities_right"], "value", signed=True),
        ]
    )
    rows.append(
        [
            "smoothness",
            str(plain["n"]),
            number(quality["unguided"]["smoothness"], digits=4),
            number(quality["guided"]["smoothness"], digits=4),
            interval(quality["difference"]["smoothness"], "value", signed=True, digits=4),
        ]
    )
    blocks = [columns(rows), _summary(result)]
    if result["best_of_n"]:
        blocks.append(_best_of(result))
    if result["controls"]:
        blocks.append(_controls(result["controls"]))
    blocks.append(_predictability(result["predictability"]))
    return "\n\n".join(blocks)


def _summary(result: dict[str, Any]) -> str:
    done, gain = result["satisfied"], result["gain"]
    return "\n".join(
        [
            f"time guided / unguided: {number(result['time_ratio'])}",
            f"better {gain['won']}, worse {gain['lost']} of {gain['n']} (McNemar p = {gain['p']:.2g})",
            f"target probability: {number(done['probability_before'])} before guidance, "
            f"{number(done['probability_after'])} after; wrong though satisfied: "
            f"{interval(done['wrong_though_satisfied'], 'share')}",
        ]
    )


def _best_of(result: dict[str, Any]) -> str:
    rows = [["unguided best of n", "accuracy", "any right", "time", "time, losers dropped early"]]
    rows += [
        [
            f"n = {entry['n']}" + (" (equal time)" if entry["n"] == result["best_of_n_equal_time"]["n"] else ""),
            interval(entry, "accuracy"),
            number(entry["any_right"]),
            number(entry["time_multiple"]),
            number(entry["time_multiple_dropping"]),
        ]
        for entry in result["best_of_n"]
    ]
    return columns(rows)


def _controls(controls: dict[str, Any]) -> str:
    zero, wrong = controls["zero_step"], controls["wrong_target"]
    rows = [
        [f"control ({controls['n']} prompts)", "result"],
        ["guided, same prompts", f"gain {interval(controls['guided']['gain'], 'value', signed=True)}"],
        [
            "zero step",
            "bit-identical" if zero["identical"] else f"differs by up to {zero['max_abs_difference']:.3g}",
        ],
        ["untrained classifier", f"gain {interval(controls['untrained']['gain'], 'value', signed=True)}"],
        [
            "wrong target",
            f"shows it {interval(wrong['follows_target'], 'share')} (unguided "
            f"{number(wrong['unguided_follows_target']['share'])}), the prompt {interval(wrong['follows_prompt'], 'share')}",
        ],
    ]
    return columns(rows)


def _predictability(table: list[dict[str, Any]]) -> str:
    rows = [["unguided z_t at step", "classifier agrees with finished video", "chance", "target p: right", "wrong"]]
    rows += [
        [
            str(entry["step"]),
            interval(entry, "agreement"),
            number(entry["chance"]),
            number(entry["target_when_right"]),
            number(entry["target_when_wrong"]),
        ]
        for entry in table
    ]
    return columns(rows)
