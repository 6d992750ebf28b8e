"""Whose result a page shows, of what is computed for one visitor at the same time."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import gradio as gr


class Turns:
    """The turns of one visitor: what was begun last is shown, whichever ends last.

    A prompt is read as it is typed, and corrected by clicks: a reading that began before a click, and ends after it,
    would undo it.

    Attributes:
        corrected: the prompt that was corrected last, until one is read again; None before.
    """

    def __init__(self) -> None:
        self._last: object = None
        self.corrected: str | None = None

    def take(self, compute: Callable[[], list[Any]], corrected: str | None = None) -> list[Any]:
        """What ``compute`` gives; leave everything as it is where something else was begun meanwhile.

        Args:
            compute: gives the values that are shown.
            corrected: the prompt, where it is corrected; None where it is read.
        """
        mine = self._last = object()
        self.corrected = corrected
        shown = compute()
        return shown if self._last is mine else [gr.skip()] * len(shown)
