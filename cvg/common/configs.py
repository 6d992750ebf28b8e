"""Configuration files that ship: named as in a checkout, wherever the package lies."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

SHIPPED = ("lightning_configs", "data_prep/configs", "cvg/configs")
"""Folders of configurations, beside the package ``cvg`` in a checkout and where it is installed."""


def shipped(path: str) -> Path:
    """Where a shipped configuration lies, ``path`` beginning with one of the folders ``SHIPPED``."""
    return Path(__file__).parents[2] / path


def located(arguments: Sequence[str]) -> list[str]:
    """A command's arguments, with shipped configurations found outside a checkout too.

    What follows ``--config`` and begins with one of the folders ``SHIPPED`` is a path like any other; where no such
    file is there, it is the one that ships.
    """
    return list(_located(arguments))


def _located(arguments: Sequence[str]) -> Iterator[str]:
    before = ""
    for argument in arguments:
        option, equals, value = argument.partition("=")
        if before == "--config":
            yield _place(argument)
        elif option == "--config" and equals:
            yield f"--config={_place(value)}"
        else:
            yield argument
        before = argument


def _place(path: str) -> str:
    ships = path.startswith(tuple(f"{folder}/" for folder in SHIPPED)) and shipped(path).is_file()
    return str(shipped(path)) if ships and not Path(path).exists() else path
