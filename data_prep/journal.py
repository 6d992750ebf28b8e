"""A file of what is done so far, a line each, which a run that was stopped goes on by."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any, Generic, TypeVar

from cvg.common.errors import DataError
from cvg.common.files import atomic

T = TypeVar("T")


class Journal(Generic[T]):
    """Its first line is the settings that what is done depends on; of the rest, the one that was being written is lost.

    Args:
        path: the file; made where there is none.
        settings: the first line.
        read: what a line's JSON says; ValueError or DataError where it is damaged.
        what: the lines in one word, for messages.
        again: what deleting the file does, likewise.

    Raises:
        DataError: the file has lines of other settings, or cannot be read or written.
    """

    def __init__(self, path: Path, settings: dict[str, Any], read: Callable[[Any], T], what: str, again: str) -> None:
        self.path, self.done = path, list[T]()
        remedy, header = f"delete the file to {again}", json.dumps(settings) + "\n"
        settings = json.loads(header)  # tuples are lists in JSON
        try:
            text = path.read_text(encoding="utf-8") if path.exists() else ""
            first, *rest = text.splitlines(keepends=True) or [header]
            before = json.loads(first)
        except (OSError, ValueError) as error:
            raise DataError(f"{what} {path}: cannot be read ({error}); {remedy}") from error
        whole = [line for line in rest if line.endswith("\n")]  # the last was being written
        other = [name for name in settings if not isinstance(before, dict) or before.get(name) != settings[name]]
        if other and whole:
            raise DataError(
                f"{what} {path}: made with another {', '.join(other)}; go on with the same, choose another place, or "
                f"{remedy}"
            )
        try:
            self.done = [read(json.loads(line)) for line in whole]
        except (ValueError, DataError) as error:
            raise DataError(f"{what} {path}: damaged ({error}); {remedy}") from error
        if whole != rest or not whole:  # where nothing is done yet, settings are free
            with atomic(path) as temporary:
                temporary.write_text("".join([header, *whole]), encoding="utf-8")

    def add(self, lines: Iterable[dict[str, Any]]) -> None:
        """Keep some more; they are on the disk when this returns. Raises DataError where they cannot be written."""
        try:
            with self.path.open("a", encoding="utf-8") as file:
                for line in lines:
                    file.write(json.dumps(line, ensure_ascii=True, allow_nan=False) + "\n")
                file.flush()
                os.fsync(file.fileno())
        except OSError as error:
            raise DataError(f"{self.path}: cannot be written ({error.strerror}); choose another place") from error
