"""HTML of reports: one file, no script, nothing fetched."""

from __future__ import annotations

import base64
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import jinja2

from cvg.common.files import atomic

TEMPLATE = Path(__file__).with_name("page.html.j2")
Section = dict[str, Any]
"""``title``, and any of ``note``, ``images``, ``rows`` (a table, its first row the heading), ``maps``, ``clips``."""


def image(data: bytes, caption: str, kind: str = "image/png") -> dict[str, str]:
    """A picture of a section, held in the page itself."""
    return {"data": f"data:{kind};base64,{base64.b64encode(data).decode()}", "caption": caption}


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
