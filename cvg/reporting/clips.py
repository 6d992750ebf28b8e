"""Sampled clips as a section of the page, each with what the suite's judge reads off it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from PIL import Image

from cvg.common.errors import DataError, UserError
from cvg.common.files import read_json
from cvg.composition import parse
from cvg.evaluation.suites import Score, Suite, scores
from cvg.media.video import read_video
from cvg.reporting.page import Section, image


def clip_section(folder: Path, suite: Suite, most: int) -> Section:
    """Side-by-side clips that ``python -m cvg.sample`` wrote, scored by the suite from their files.

    Those that guidance made right come first, then those that it made wrong, then the others, each in order of name.

    Args:
        folder: where they are.
        suite: whose judge looks at them.
        most: show this many, at most.

    Raises:
        DataError: the folder has none.
    """
    paths = sorted(folder.glob("*.side-by-side.gif"))
    if not paths:
        raise DataError(
            f"samples {folder}: no side-by-side clips there; give a folder written by `python -m cvg.sample`"
        )
    clips = []
    for path in paths:
        meta = read_json(path.with_name(path.name.replace(".side-by-side.gif", ".json")))
        with Image.open(path) as gif:
            (width, height), frames = gif.size, int(getattr(gif, "n_frames", 1))
        # Judged from the video: the GIF's palette would change its colours.
        both = read_video(path.with_suffix(".mp4"), frames, height, width)
        try:
            composition = parse(meta["prompt"], suite.labels)
            halves = {"unguided": both[:, :, : width // 2], "guided": both[:, :, width // 2 :]}
            found = scores(suite, list(halves.values()), [composition] * len(halves))
            shown = [(side, _shown(score)) for side, score in zip(halves, found, strict=True)]
        except UserError:  # a prompt that the suite's judge does not know is shown without a score
            shown = []
        clips.append(image(path.read_bytes(), meta["prompt"], "image/gif") | {"seed": meta["seed"], "scores": shown})
    clips.sort(key=_rank)
    note = "Left: unguided. Right: guided, from the same initial noise. Those that guidance changed come first."
    return {"title": "Clips", "note": note, "clips": clips[:most]}


def _rank(clip: dict[str, Any]) -> int:
    right = tuple(score["right"] for _, score in clip["scores"])
    return {(False, True): 0, (True, False): 1}.get(right, 2)


def _shown(score: Score) -> dict[str, Any]:
    seen = ", ".join(label or "undecided" for label in score.labels)
    problems = "; ".join(score.problems)
    return {"right": score.right, "text": "right" if score.right else f"wrong ({problems or seen})"}
