"""What was collected, as JSON and as a page with pictures of a few clips of each label."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from cvg.common.files import write_json
from cvg.reporting.page import Section, image, write
from cvg.reporting.strips import nearest_frames, strips
from cvg.shards.shards import SPLITS
from data_prep.manifest import Row
from data_prep.sources.gathering import Gathered

FRAMES = 6
"""Pictures of a clip."""
EXAMPLES = 3
"""Rejects that are told of each reason."""


def summary(gathered: Gathered, dataset: str) -> dict[str, Any]:
    """What there is: counts of labels, splits and licences, lengths, sizes, and rejects with their reasons."""
    rows = gathered.rows
    labels = Counter(label for row in rows for label, _ in row.relations)
    examples: dict[str, list[str]] = {}
    for reject in gathered.rejects:
        told = examples.setdefault(reject.reason, [])
        if len(told) < EXAMPLES:
            told.append(f"{reject.where}: {reject.detail}")
    return {
        "dataset": dataset,
        "rows": len(rows),
        "unconfirmed": sum(row.unconfirmed for row in rows),
        "labels": dict(labels.most_common()),
        "splits": {split: sum(row.split == split for row in rows) for split in SPLITS},
        "licences": dict(Counter(row.licence or "not known" for row in rows).most_common()),
        "videos": len({row.video for row in rows}),
        "seconds": _spread(gathered.lengths),
        "pictures": dict(Counter(f"{width} x {height}" for height, width in gathered.sizes).most_common(20)),
        "negatives": len(gathered.negatives),
        "rejected": gathered.reasons,
        "examples": examples,
    }


def _spread(values: Sequence[float]) -> dict[str, float] | None:
    if not values:
        return None
    least, middle, most = (round(float(value), 3) for value in np.percentile(values, [0, 50, 100]))
    return {"least": least, "median": middle, "most": most}


def save(gathered: Gathered, dataset: str, path: Path, page: Path) -> None:
    """Write both.

    Args:
        gathered: what was collected.
        dataset: its name.
        path: of the JSON.
        page: of the HTML.
    """
    found = summary(gathered, dataset)
    write_json(path, found)
    rows = gathered.rows
    by_split = Counter((label, row.split) for row in rows for label, _ in row.relations)
    unsure = Counter(label for row in rows for label, _ in row.relations if row.unconfirmed)
    head = ["label", "rows", *SPLITS, "to be confirmed"]
    table = [
        [label, count, *(by_split[label, s] for s in SPLITS), unsure[label]] for label, count in found["labels"].items()
    ]
    note = "Rows by the labels that their videos show; a row of several relations counts for each."
    sections: list[Section] = [{"title": "Labels", "note": note, "rows": [head, *_texts(table)]}]
    spread, licences = found["seconds"] or {}, found["licences"]
    facts = [
        *([f"seconds of a piece: {name}", f"{value:g}"] for name, value in spread.items()),
        *([f"pictures of {size} pixels", count] for size, count in found["pictures"].items()),
        *([f"licence: {name}", count] for name, count in licences.items()),
    ]
    sections.append({"title": "Videos", "rows": [["what", "how many"], *_texts(facts)]})
    rejects = [
        [reason, count, " | ".join(found["examples"].get(reason, []))] for reason, count in found["rejected"].items()
    ]
    if rejects:
        sections.append({"title": "Left out", "rows": [["reason", "how many", "such as"], *_texts(rejects)]})
    sections += [_clips(label, clips) for label, clips in sorted(gathered.looked.items())]
    key = [("rows", str(len(rows))), ("videos", str(found["videos"])), ("left out", str(len(gathered.rejects)))]
    write(page, f"Collected from {dataset}", "Videos and what they show, before they are inverted", key, sections)


def _texts(rows: Sequence[Sequence[Any]]) -> list[list[str]]:
    return [[str(cell) for cell in row] for row in rows]


def _clips(label: str, clips: Sequence[tuple[Row, Any]]) -> Section:
    """Strips of frames of a label's clips, as they are cut and cropped."""
    pictures = [
        (str(number), [nearest_frames(seen.frames_FHWC, FRAMES) / 255])
        for number, (_, seen) in enumerate(clips, 1)
        if seen.frames_FHWC is not None
    ]
    told = "; ".join(f"{number}: {_words(row)}" for number, (row, _) in enumerate(clips, 1))
    return {"title": label, "images": [image(strips(pictures), told)]}


def _words(row: Row) -> str:
    names = {f"e{i}": phrase for i, phrase in enumerate(row.entities)}
    names |= {f"r{i}": f"[{name}]" for i, (name, _) in enumerate(row.relations)}
    return f"{row.template.format(**names)} ({row.id})"
