"""Docstrings name what they mean as ``:func:`cvg.diffusion.trajectory.invert```; the site makes links of that."""

from __future__ import annotations

import re
from typing import Any

import griffe

ROLE = re.compile(r":(?:class|func|meth|mod|data|attr):`~?\.?([\w.]+)`")


def linked(text: str, package: str) -> str:
    """A docstring with its roles as links, where they give a whole path, and as code, where they give a name."""

    def link(match: re.Match[str]) -> str:
        path = match[1]
        return f"[`{path}`][{path}]" if path.split(".")[0] == package else f"`{path}`"

    return ROLE.sub(link, text)


class Roles(griffe.Extension):
    """Rewrites every docstring as it is read."""

    def on_instance(self, *, obj: griffe.Object, **kwargs: Any) -> None:
        """Called by griffe for each module, class, function and attribute."""
        if obj.docstring:
            obj.docstring.value = linked(obj.docstring.value, obj.path.split(".")[0])
