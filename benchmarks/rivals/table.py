"""What the rivals come to, as rows of figures and as a table."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from benchmarks.figures import aligned
from benchmarks.rivals.arena import Results
from cvg.common.statistics import wilson
from cvg.reporting.table import number

HEADER = ["", "composition right", "entities right", "time", "memory", "step size"]


def figures(results: Results, names: Sequence[str]) -> list[dict[str, Any]]:
    """Rows, each over the batches that the rival has done.

    Args:
        results: of one generator.
        names: of the rivals; time and memory are multiples of those of the first one, time of that in the same turn.

    Returns:
        Per rival ``name``, ``n``, ``right`` and ``entities_right`` (shares, None of nothing), ``ci95`` of the first,
        ``by_kind`` (of ``right``, by the kind of prompt), ``time`` and ``memory`` (multiples) and ``step_size`` (None
        where none was chosen).
    """
    rows = []
    for name in names:
        done = [batch[name] for batch in results["batches"] if name in batch]
        right, entities, kinds = (
            [one for row in done for one in row[of]] for of in ("right", "entities_right", "kinds")
        )
        seconds, plain = (sum(row[of] for row in done) for of in ("seconds", "plain_seconds"))
        peak, least = results["memory"].get(name), results["memory"].get(names[0])
        rows.append(
            {
                "name": name,
                "n": len(right),
                "right": sum(right) / len(right) if right else None,
                "ci95": list(wilson(sum(right), len(right))),
                "by_kind": {kind: _share(kind, kinds, right) for kind in dict.fromkeys(kinds)},
                "entities_right": sum(entities) / len(entities) if entities else None,
                "time": seconds / plain if plain else None,
                "memory": peak / least if peak and least else None,
                "step_size": results["tuning"].get(name, {}).get("chosen"),
            }
        )
    return rows


def markdown(generator: str, rows: Sequence[dict[str, Any]]) -> str:
    """The table of one generator, and one of what is right by the kind of prompt; empty where no batch is done."""
    if not rows or not rows[0]["n"]:
        return ""
    count, rows = rows[0]["n"], [row for row in rows if row["n"]]
    kinds = list(rows[0]["by_kind"])
    cells = [HEADER[:]]
    cells[0][0] = f"`{generator}`, {count} prompts"
    by_kind = [["composition right", *(kind.replace("_", " ") for kind in kinds)]]
    for row in rows:
        low, high = row["ci95"]
        right = f"{number(row['right'])} ({number(low)} to {number(high)})"
        size = "" if row["step_size"] is None else f"{row['step_size']:g}"
        multiples = [number(row[of]) for of in ("entities_right", "time", "memory")]
        name = row["name"] if row["n"] == count else f"{row['name']} ({row['n']} prompts)"
        cells.append([name, right, *multiples, size])
        by_kind.append([name, *(number(row["by_kind"].get(kind)) for kind in kinds)])
    return f"{aligned(cells)}\n\n{aligned(by_kind)}"


def _share(kind: str, kinds: Sequence[str], right: Sequence[bool]) -> float:
    of_kind = [hit for hit, its in zip(right, kinds, strict=True) if its == kind]
    return sum(of_kind) / len(of_kind)
