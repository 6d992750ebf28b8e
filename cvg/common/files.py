"""Writing files so that a reader never sees half of one, and small JSON files."""

from __future__ import annotations

import json
import re
import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from cvg.common.errors import DataError


@contextmanager
def atomic(path: str | Path) -> Iterator[Path]:
    """Write a file under a temporary name and rename it into place when all went well.

    The temporary file lies in the same directory (made when missing), so that the rename is atomic, and keeps the
    suffix, which encoders such as ffmpeg read the format from. It is deleted on any failure; an older file under
    ``path`` then stays as it was.

    Args:
        path: the file to write.

    Yields:
        The temporary path. Nothing is there yet; the caller must write it.

    Raises:
        DataError: the directory cannot be made, or the file cannot be put into place.
    """
    path = Path(path)
    # The random part also keeps two processes that write the same file apart: the last rename wins, whole.
    temporary = path.with_name(f".{path.stem}.{secrets.token_hex(4)}{path.suffix}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise DataError(f"{path}: its folder cannot be made ({error.strerror}); choose another place") from error
    try:
        yield temporary
        assert temporary.exists(), f"nothing was written to {temporary}"
        try:
            temporary.replace(path)
        except OSError as error:
            raise DataError(f"{path}: cannot be written ({error.strerror}); choose another place") from error
    finally:
        temporary.unlink(missing_ok=True)


def write_json(path: str | Path, obj: Any) -> None:
    """Write ``obj`` as indented JSON, atomically. NaN and infinity are a ValueError: they are not JSON."""
    text = json.dumps(obj, indent=2, ensure_ascii=False, allow_nan=False) + "\n"
    with atomic(path) as temporary:
        try:
            temporary.write_text(text, encoding="utf-8")
        except OSError as error:
            raise DataError(f"{path}: cannot be written ({error.strerror}); choose another place") from error


def read_json(path: str | Path) -> Any:
    """Read a JSON file.

    Raises:
        DataError: it is missing, cannot be read, or is not JSON; the message names it.
    """
    try:
        return json.loads(Path(path).read_text(encoding="utf-8"))
    except OSError as error:
        raise DataError(f"{path}: cannot be read ({error.strerror}); check the path") from error
    except ValueError as error:  # JSONDecodeError and UnicodeDecodeError
        raise DataError(f"{path}: not valid JSON ({error}); write it again") from error


def slug(text: str) -> str:
    """A text as part of a file name: lower-case letters and digits, dashes between, at most 80 characters."""
    return re.sub(r"[^a-z0-9]+", "-", text.lower()).strip("-")[:80]
