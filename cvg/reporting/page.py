"""HTML of reports: one file, no script, nothing fetched."""

from __future__ import annotations

import base64
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import jinja2

from cvg.common.files import atomic

Section = dict[str, Any]
"""``title``, and any of ``note``, ``images``, ``rows`` (a table, its first row the heading), ``maps``, ``clips``."""

TEMPLATE = """\
<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>{{ title }}</title>
<style>
  body { font: 15px/1.5 system-ui, -apple-system, "Segoe UI", sans-serif; color: #1f2328; background: #fff;
         max-width: 66rem; margin: 2.5rem auto; padding: 0 1.2rem; }
  h1 { font-size: 1.6rem; margin: 0; }
  h2 { font-size: 1.15rem; margin: 2.6rem 0 .6rem; padding-top: .6rem; border-top: 1px solid #e4e7eb; }
  p.note, figcaption, .quiet { color: #59636e; font-size: .88rem; }
  .key { display: flex; flex-wrap: wrap; gap: 2.4rem; margin: 1.4rem 0; }
  .key b { display: block; font-size: 1.7rem; font-weight: 600; font-variant-numeric: tabular-nums; }
  table { border-collapse: collapse; margin: .6rem 0 1rem; font-variant-numeric: tabular-nums; }
  th, td { text-align: left; padding: .28rem 1.3rem .28rem 0; border-bottom: 1px solid #eceff2; vertical-align: top; }
  th { font-weight: 600; color: #3c4043; border-bottom: 1px solid #c9ced4; }
  img { max-width: 100%; }
  figure { margin: 0; }
  .clips { display: grid; grid-template-columns: repeat(auto-fill, minmax(19rem, 1fr)); gap: 1.4rem; }
  .clips img { width: 100%; image-rendering: pixelated; border-radius: 3px; }
  .maps { display: flex; flex-wrap: wrap; gap: 1.6rem; }
  .right { color: #1a7f37; } .wrong { color: #b42318; }
  code { font-size: .88em; }
  details { margin: .8rem 0; } summary { cursor: pointer; }
</style>
</head>
<body>
<h1>{{ title }}</h1>
<p class="note">{{ subtitle }}</p>
<div class="key">
{% for name, value in key %}<div><b>{{ value }}</b>{{ name }}</div>
{% endfor %}</div>
{% macro table(rows) %}
<table>
<tr>{% for cell in rows[0] %}<th>{{ cell }}</th>{% endfor %}</tr>
{% for row in rows[1:] %}<tr>{% for cell in row %}<td>{{ cell }}</td>{% endfor %}</tr>
{% endfor %}</table>
{% endmacro %}
{% for section in sections %}
<h2>{{ section.title }}</h2>
{% if section.note %}<p class="note">{{ section.note }}</p>{% endif %}
{% for image in section.images %}<figure><img src="{{ image.data }}" alt="{{ image.caption }}">
<figcaption>{{ image.caption }}</figcaption></figure>
{% endfor %}
{% if section.rows %}{{ table(section.rows) }}{% endif %}
{% if section.maps %}<div class="maps">
{% for image in section.maps %}<figure><img src="{{ image.data }}" alt="{{ image.caption }}">
<figcaption>{{ image.caption }}</figcaption></figure>
{% endfor %}</div>{% endif %}
{% if section.clips %}<div class="clips">
{% for clip in section.clips %}<figure><img src="{{ clip.data }}" alt="unguided and guided: {{ clip.caption }}">
<figcaption>{{ clip.caption }} <span class="quiet">(seed {{ clip.seed }})</span>
{% for side, verdict in clip.verdicts %}<br>
{{ side }}: <span class="{{ 'right' if verdict.right else 'wrong' }}">{{ verdict.text }}</span>{% endfor %}</figcaption>
</figure>
{% endfor %}</div>{% endif %}
{% endfor %}
{% if prompts %}
<h2>Every prompt</h2>
<details><summary>{{ prompts | length - 1 }} prompts</summary>
{{ table(prompts) }}
</details>
{% endif %}
</body>
</html>
"""


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
    page = jinja2.Environment(autoescape=True).from_string(TEMPLATE)
    text = page.render(title=title, subtitle=subtitle, key=key, sections=sections, prompts=prompts)
    with atomic(out) as path:
        path.write_text(text, encoding="utf-8")
