"""An evaluation and a training as sections of the page: what their files hold, and nothing computed anew."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from cvg.common.files import read_json
from cvg.evaluation.rows import Evaluation
from cvg.reporting import charts
from cvg.reporting.page import Section, image
from cvg.reporting.table import (
    best_of_rows,
    control_rows,
    direction_rows,
    main_rows,
    number,
    plain_line,
    predictability_rows,
    satisfied_rows,
    score_rows,
)


def evaluation_sections(result: Evaluation) -> list[Section]:
    """Tables and figures that the evaluation's JSON holds."""
    bars = image(
        charts.accuracy_bars(result), "Share of videos whose entities and relations are all right; 95% intervals"
    )
    note = (
        "A video is right when the judge sees exactly the entities that were asked for and every relation between "
        "them; accuracy is the share of right videos. In brackets: 95% intervals. n: prompts. Gain: guided less "
        "unguided, pair by pair. Entities right: relations left aside. Smoothness: of the motion, 1 at best. Flicker: "
        "change between frames where little moves, 0 at best. Static share: pairs of frames that are the same."
    )
    found = [{"title": "Accuracy", "note": note, "images": [bars], "rows": main_rows(result)}]
    note = (
        "Every relation asked for, by what the video shows: the label, its mirror image, another of its group, nothing "
        f"that the judge could tell, or not all entities. {plain_line(result)}"
    )
    found.append({"title": "Directions", "note": note.strip(), "rows": direction_rows(result)})
    found += _scores(result)
    if result.best_of_n:
        note = (
            "The rival of guidance: unguided videos of n seeds; the classifier picks one by its early latents. "
            "Accuracy: of those picked. Any right: one of the n is, picked or not. Time is a multiple of one unguided "
            "video, for finishing all candidates and for dropping the losers once judged; equal time: what guidance "
            "takes."
        )
        found.append({"title": "Best of n", "note": note, "rows": best_of_rows(result)})
    if result.controls:
        note = (
            "Guidance that must do nothing (a step of size zero: the same video bit for bit), must not help (a "
            "classifier with fresh weights) and must obey (towards another label than the prompt's, which the video "
            "should then show)."
        )
        found.append({"title": "Controls", "note": note, "rows": control_rows(result.controls)})
    note = (
        "How often the classifier's verdict on the unguided latents of an early step is the judge's reading of "
        "the finished unguided video. Noise level: the share of those latents that is noise. Chance: agreement of one "
        "who guesses. p(target): the classifier's probability of what was asked, over videos that turned out right, "
        "and wrong."
    )
    found.append(
        {
            "title": "Predictability",
            "note": note,
            "rows": predictability_rows(result.predictability, result.classifier["sigmas"]),
        }
    )
    note = (
        "Target probability: the classifier's, of what the prompt asks. A sample is satisfied when all its relations "
        "have at least the threshold's; guidance then leaves it alone. Wrong though satisfied: the classifier was "
        "content, and the judge is not."
    )
    found.append({"title": "Satisfied samples", "note": note, "rows": satisfied_rows(result.satisfied)})
    return found


def _scores(result: Evaluation) -> list[Section]:
    """What other programs say of the videos."""
    found: list[Section] = []
    if result.official:
        note = "By the benchmark's own scripts, of the same videos."
        rows = score_rows("category", result.official)
        found.append({"title": "The benchmark's own scores", "note": note, "rows": rows})
    if result.vbench:
        note = (
            "By VBench's own tool, of all videos. More is better, but of dynamic degree, the share of videos in which "
            "much moves. Temporal flickering is of all videos, not of still ones alone, so that what moves lowers it."
        )
        found.append({"title": "VBench's quality", "note": note, "rows": score_rows("dimension", result.vbench)})
    return found


def training_section(folder: Path) -> Section:
    """Curves, confusion matrices and last metrics of a training log folder."""
    inner = sorted(folder.glob("version_*/metrics.csv"), key=lambda path: path.stat().st_mtime)
    if not (folder / "metrics.csv").exists() and inner:
        folder = inner[-1].parent
    images = [image(charts.training_curves(charts.read_curves(folder / "metrics.csv")), "Training")]
    if (folder / "confusion.png").exists():
        images.append(image((folder / "confusion.png").read_bytes(), "Confusion under p+ and p-, rows are true labels"))
    rows = []
    if (folder / "metrics.json").exists():
        rows = [["metric", "value"]]
        rows += [[name, number(value, digits=3)] for name, value in read_json(folder / "metrics.json").items()]
    note = (
        "p+ is the right prompt, p- a wrong one of the same video. Accuracy: how often the video's label is read right "
        "under each. Leakage gap: how much more often under p+, which the prompt's words alone can tell."
    )
    return {"title": "Training", "note": note, "images": images, "rows": rows}


def settings_section(result: Evaluation) -> Section:
    """Everything needed to run it again."""
    rows = [["setting", "value"]]
    for part in ("settings", "generator", "classifier", "versions", "timing"):
        for name, value in getattr(result, part).items():
            if isinstance(value, dict | list):
                value = json.dumps(_rounded(value))
            rows.append([f"{part}: {name}", str(_rounded(value))])
    note = "What it takes to run it again: options of the command, and what generator and classifier were."
    return {"title": "Settings", "note": note, "rows": rows}


def _rounded(value: Any) -> Any:
    if isinstance(value, float):
        return float(f"{value:.4g}")
    if isinstance(value, list):
        return [_rounded(item) for item in value]
    return value


def prompt_rows(result: Evaluation) -> list[list[str]]:
    """One line per prompt."""
    rows = [["prompt", "seed", "unguided", "guided", "target probability before, after"]]
    for row in result.rows:
        seen = [
            ("right: " if score.right else "wrong: ") + ", ".join(label or "?" for label in score.labels)
            for score in (row.unguided, row.guided)
        ]
        when = row.guided.probability_before, row.guided.probability_after
        probabilities = ", ".join(f"{number(b)} → {number(a)}" for b, a in zip(*when, strict=True))
        rows.append([row.prompt, str(row.seed), *seen, probabilities])
    return rows
