"""Sizes of videos and of their latents, with names for the three numbers."""

from __future__ import annotations

from typing import NamedTuple


class Size(NamedTuple):
    """Size of a video in pixels."""

    frames: int
    height: int
    width: int


class Grid(NamedTuple):
    """Size of a volume: frames, rows and columns of latents, or of tokens, each of which joins a patch of latents."""

    frames: int
    rows: int
    columns: int
