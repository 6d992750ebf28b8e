"""Pieces of HTML for the pages. All text is escaped, and pictures are held in the page itself: no file is named."""

from __future__ import annotations

import base64
from collections.abc import Mapping, Sequence
from html import escape
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Final

from cvg.application.making import FPS, Frames
from cvg.media.video import write_gif

SIDES: Final = ("unguided", "guided")
MOST_VIDEO: Final = 32 << 20
"""Bytes of a video file that a page holds."""
_WIDE = 288
"""Pixels of a moving picture's width, about."""
CSS: Final = """
.cvg-sides { display: grid; grid-template-columns: 1fr 1fr; gap: 0.8rem; max-width: 42rem; }
.cvg-sides figure, .cvg-pictures figure { margin: 0 0 0.8rem; min-width: 0; }
.cvg-sides img, .cvg-sides video { width: 100%; image-rendering: pixelated; border-radius: 4px; display: block; }
.cvg-sides .none { aspect-ratio: 1; border: 1px dashed #9aa3ad; border-radius: 4px; }
.cvg-scroll { overflow-x: auto; max-width: 100%; }
.cvg-scroll img { max-width: none; }
.cvg-pictures figcaption, .cvg-sides figcaption { font-size: 0.9rem; overflow-wrap: anywhere; }
.cvg-text { overflow-wrap: anywhere; }
.cvg-warning { color: #b45309; }
.dark .cvg-warning { color: #fbbf24; }
footer { display: none !important; }
"""


def text(lines: Sequence[str], kind: str = "p", warnings: bool = False) -> str:
    """Paragraphs of plain text."""
    style = "cvg-text cvg-warning" if warnings else "cvg-text"
    return "".join(f'<{kind} class="{style}">{escape(line)}</{kind}>' for line in lines)


def moving(frames: Frames) -> str:
    """A video as an ``<img>``: a GIF, small ones enlarged by the browser, large ones made smaller."""
    every = max(1, frames.shape[2] // _WIDE)
    with TemporaryDirectory() as folder:
        path = Path(folder) / "shown.gif"
        write_gif(path, frames[:, ::every, ::every], FPS)
        return f'<img alt="" src="data:image/gif;base64,{base64.b64encode(path.read_bytes()).decode()}">'


def video(path: Path) -> str:
    """A video file as a ``<video>``; a line in its place where it is missing or large."""
    try:
        size = path.stat().st_size
        if size > MOST_VIDEO:
            return text([f"{path.name}: {size >> 20} MB, too large to be shown in a page"])
        data = base64.b64encode(path.read_bytes()).decode()
    except OSError as error:
        return text([f"{path.name}: cannot be read ({error.strerror})"])
    return f'<video controls loop autoplay muted playsinline src="data:video/mp4;base64,{data}"></video>'


def sides(shown: Mapping[str, str], captions: Mapping[str, str]) -> str:
    """Unguided and guided side by side.

    Args:
        shown: HTML of each side; an empty frame for one that is not there.
        captions: a line below each, plain text.
    """
    figures = [
        f'<figure class="{side}">{shown.get(side) or "<div class=none></div>"}'
        f"<figcaption>{escape(captions.get(side, side))}</figcaption></figure>"
        for side in SIDES
    ]
    return f'<div class="cvg-sides">{"".join(figures)}</div>'


def pictures(images: Sequence[Mapping[str, Any]]) -> str:
    """Pictures of :func:`cvg.reporting.page.image`; those wider than the window are scrolled, not shrunk."""
    figures = [
        f'<figure><div class="cvg-scroll"><img src="{image["data"]}" width="{image["width"]}" alt=""></div>'
        f"<figcaption>{escape(image['caption'])}</figcaption></figure>"
        for image in images
    ]
    return f'<div class="cvg-pictures">{"".join(figures)}</div>'
