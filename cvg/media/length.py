"""How long a video is."""

from __future__ import annotations

from pathlib import Path

from cvg.media.video import _check_file, _listing


def length(path: str | Path) -> tuple[int, float]:
    """How many frames a video has, and how many of them are shown a second.

    Raises:
        VideoError: as of :func:`cvg.media.video.read_video`.
    """
    path = Path(path)
    _check_file(path)
    _, times, stop = _listing(path, 0.0, None)
    return len(times), len(times) / float(stop - times[0])
