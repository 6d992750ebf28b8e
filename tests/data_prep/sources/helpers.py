"""Calling the command, and comparing what it finds with what was rendered."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from cvg.common.cli import run
from cvg.composition import LabelSet
from data_prep import collect, manifest
from tests.data_prep.sources.forms import Clip

MIRRORED = {"left of": "right of", "right of": "left of", "above": "below", "below": "above"}
SHAPES = LabelSet.load("shapes")


def call(source: str, root: Path, out: Path, *more: str, labels: str = "shapes") -> list[manifest.Row]:
    """Collect, and read the manifest."""
    given = [f"--source={source}", f"--root={root}", f"--out={out}", f"--labels={labels}", *more]
    run(collect.main, "python -m data_prep.collect", args=given)
    return manifest.load(out, LabelSet.load(labels))


def report(out: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(out.with_name(f"{out.stem}.report.json").read_text())
    return found


def rejects(out: Path) -> list[dict[str, str]]:
    lines = out.with_name(f"{out.stem}.rejects.jsonl").read_text().splitlines()
    return [json.loads(line) for line in lines]


def agreement(rows: Sequence[manifest.Row], clips: Sequence[Clip]) -> tuple[int, int, int]:
    """How many relations of rows are as rendered, of how many that were rendered between these entities; and of how
    many clips one is found at least."""
    truth = {clip.name: clip.truth for clip in clips}
    right, total, found = 0, 0, set()
    for row in rows:
        name = row.id.split("-")[-2]
        for label, indices in row.relations:
            phrases = tuple(row.entities[index] for index in indices)
            said = {(label, phrases), (MIRRORED.get(label, label), phrases[::-1] if label in MIRRORED else phrases)}
            group = {
                each
                for each in truth[name]
                if SHAPES[each[0]].group == SHAPES[label].group
                and (each[1] == phrases or (label in MIRRORED and each[1] == phrases[::-1]))
            }
            total += bool(group)
            right += bool(said & group)
            if said & group:
                found.add(name)
    return right, total, len(found)
