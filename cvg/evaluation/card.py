"""What a classifier's card tells of an evaluation: figures in short, and one moving picture."""

from __future__ import annotations

from pathlib import Path, PurePosixPath
from tempfile import TemporaryDirectory
from typing import Any, Final

import numpy as np

from cvg.classifier.card import Compared, Evaluated
from cvg.common.errors import DataError
from cvg.evaluation.rows import Evaluation, Row
from cvg.evaluation.summary import SIDES
from cvg.media.length import length
from cvg.media.video import picture_size, read_video, write_gif

_WIDEST: Final = 256
"""Pixels of a side of the picture's two videos: larger ones are shrunk to it."""
_FRAMES: Final = 24
"""Frames of the picture, at most."""
_GAP: Final = 4


def evaluated(evaluation: Evaluation, fingerprint: str, where: str) -> Evaluated:
    """An evaluation's figures in short.

    Args:
        evaluation: the evaluation.
        fingerprint: of the classifier that it is to be of.
        where: the evaluation's file, for messages.

    Raises:
        DataError: it was guided by something else, or guided nothing.
    """
    guide = evaluation.classifier
    if guide.get("fingerprint") != fingerprint:
        which = f"{guide.get('name')} ({guide['fingerprint']})" if guide.get("fingerprint") else "rules"
        raise DataError(
            f"evaluation {where}: of {which}, not of this classifier ({fingerprint}); evaluate this one, with "
            "`python -m cvg.evaluate`"
        )
    if not evaluation.rows:
        raise DataError(f"evaluation {where}: no prompt of it was guided; evaluate more prompts")
    settings, groups = evaluation.settings, evaluation.gain["groups"]
    sides = [getattr(evaluation, side) for side in SIDES]
    return Evaluated(
        fingerprint=fingerprint,
        suite=evaluation.suite,
        generator=evaluation.generator["name"],
        seed=settings["seed"],
        steps=settings["steps"],
        whole=_compared(evaluation.gain, *sides),
        groups={name: _compared(gain, *(side["groups"][name] for side in sides)) for name, gain in groups.items()},
        time_ratio=evaluation.time_ratio,
    )


def _compared(gain: dict[str, Any], unguided: dict[str, Any], guided: dict[str, Any]) -> Compared:
    shares = [unguided["accuracy"], guided["accuracy"]]
    value = None if None in shares else gain["value"]
    return Compared(n=gain["n"], unguided=shares[0], guided=shares[1], gain=value, ci95=gain["ci95"])


def example(evaluation: Evaluation, videos: Path) -> tuple[str, bytes]:
    """The prompt and, as a GIF, the two videos of one row, unguided on the left: the first that guidance made right.

    Where there is none it is the first row.

    Args:
        evaluation: whose videos were kept.
        videos: the folder they were kept in.

    Raises:
        DataError: the evaluation kept none, or they are not there.
    """
    rows = [row for row in evaluation.rows if row.video is not None]
    if not rows:
        raise DataError(f"videos {videos}: the evaluation kept none; run it with a folder for them")
    row = next((row for row in rows if row.guided.right and not row.unguided.right), rows[0])
    return row.prompt, _picture(videos, row)


def _picture(videos: Path, row: Row) -> bytes:
    """Both videos of a row, side by side."""
    name = PurePosixPath(row.video or "")
    if name.is_absolute() or ".." in name.parts:
        raise DataError(f"videos {videos}: {name} lies elsewhere; give the evaluation as it was written")
    paths = [videos / side / name for side in SIDES]
    (count, fps), (height, width) = length(paths[0]), picture_size(paths[0])
    frames = min(count, _FRAMES)
    shrunk = min(1.0, _WIDEST / max(height, width))
    height, width = (max(1, round(side * shrunk)) for side in (height, width))
    left, right = (read_video(path, frames, height, width) for path in paths)
    gap = np.full((frames, height, _GAP, 3), 255, np.uint8)
    with TemporaryDirectory() as folder:
        path = Path(folder) / "example.gif"
        write_gif(
            path, np.concatenate([left, gap, right], axis=2), fps * frames / count, max(1, 128 // max(height, width))
        )
        return path.read_bytes()
