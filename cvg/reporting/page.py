"""HTML of reports: one file, no script, nothing fetched."""

from __future__ import annotations

import base64
import io
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import jinja2
from PIL import Image

from cvg.common.files import atomic
from cvg.reporting.charts import DPI

TEMPLATE = Path(__file__).with_name("page.html.j2")
_WIDE = 640
"""Pixels of a page from which on the letters in a picture are too small when it is as wide as a telephone."""
Section = dict[str, Any]
"""``title``, and any of ``note``, ``images``, ``rows`` (a table, its first row the heading), ``maps``, ``clips``."""


def image(data: bytes, caption: str, kind: str = "image/png") -> dict[str, Any]:
    """A picture of a section, held in the page itself. Wide ones are scrolled on narrow screens, not shrunk."""
    found: dict[str, Any] = {"data": f"data:{kind};base64,{base64.b64encode(data).decode()}", "caption": caption}
    if kind == "image/png":
        with Image.open(io.BytesIO(data)) as picture:
            width = round(picture.width * 96 / DPI)
        found |= {"width": width, "wide": width > _WIDE}
    return found


def write(
    out: Path,
    title: str,
    subtitle: str,
    key: Sequence[tuple[str, str]],
    sections: Sequence[Section],
    prompts: Sequence[Sequence[str]] = (),
) -> None:
    """Write a page; all text is escaped.

    Args:
        out: the file.
        title: of the page.
        subtitle: a line on what was done.
        key: figures to see first, each with its name.
        sections: see :data:`Section`.
        prompts: a table that is folded up at the end.
    """
    page = jinja2.Environment(autoescape=True).from_string(TEMPLATE.read_text(encoding="utf-8"))
    text = page.render(title=title, subtitle=subtitle, key=key, sections=sections, prompts=prompts)
    with atomic(out) as path:
        path.write_text(text, encoding="utf-8")
