"""Writing files so that a reader never sees half of one, and small JSON files."""

from __future__ import annotations

import contextlib
import errno
import fcntl
import hashlib
import json
import os
import re
import secrets
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

from cvg.common.errors import DataError

_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EIO)
"""What the system says of a disk that takes no more."""
_TOLD = 40
"""Characters of a file's name that are in those of its temporary files."""
_UMASK = os.umask(0o022)
os.umask(_UMASK)  # it can be read only by setting it


@contextmanager
def atomic(path: str | Path) -> Iterator[Path]:
    """Write a file under a temporary name and rename it into place when all went well.

    The temporary file lies in the same directory (made when missing), so that the rename is atomic, and keeps the
    suffix, which encoders such as ffmpeg read the format from. It is deleted on any failure; an older file under
    ``path`` then stays as it was. Its bytes are on the disk before it gets its name, so that a machine that loses its
    power does not keep a name without them. What a killed process leaves behind, :func:`sweep` removes.

    Args:
        path: the file to write.

    Yields:
        The temporary path. Nothing is there yet; the caller must write it.

    Raises:
        DataError: the directory cannot be made, or the file cannot be put into place.
    """
    path = Path(path)
    # The random part also keeps two processes that write the same file apart: the last rename wins, whole.
    # Of the name only some: with more the temporary one may be too long where the name itself is not.
    temporary = path.with_name(f".{path.stem[:_TOLD]}.{secrets.token_hex(4)}.part{path.suffix}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise DataError(f"{path}: its folder cannot be made ({error.strerror}); choose another place") from error
    try:
        try:
            yield temporary
        except Exception as error:  # of the disk, whatever was being written; others are no matter of this place
            reason = full(error)
            if reason is None and isinstance(error, OSError) and error.filename == str(temporary):
                reason = error.strerror
            if reason is None:
                raise
            raise DataError(f"{path}: cannot be written ({reason}); choose another place") from error
        assert temporary.exists(), f"nothing was written to {temporary}"
        try:
            temporary.chmod(0o666 & ~_UMASK)  # safetensors writes files that nobody else can read
            _to_disk(temporary)
            temporary.replace(path)
            _to_disk(path.parent)
        except OSError as error:
            raise DataError(f"{path}: cannot be written ({error.strerror}); choose another place") from error
    finally:
        with contextlib.suppress(OSError):  # not to hide what went wrong
            temporary.unlink(missing_ok=True)


def full(error: BaseException) -> str | None:
    """What the system says where an error is of a disk that takes no more; None for others."""
    told = re.search(r"\(os error (\d+)\)", str(error))  # safetensors has no more than the words
    number = error.errno if isinstance(error, OSError) else int(told[1]) if told else None
    return os.strerror(number) if number in _FULL and number is not None else None


def sweep(folder: str | Path, older: float = 3600, name: str = "") -> None:
    """Remove the temporary files that killed processes left in a folder.

    Args:
        folder: where :func:`atomic` was to write; those below it are left alone.
        older: seconds since a file was last written to, since a younger one may still be at work; 0 where no other
            process can be (:func:`alone`).
        name: the file whose temporary ones they are, where the rest may be others'; all when empty.
    """
    of, suffix = (re.escape(Path(name).stem[:_TOLD]), re.escape(Path(name).suffix)) if name else (".*", r"(\.[^.]*)?")
    for path in Path(folder).glob(".*.part*"):
        if re.fullmatch(rf"\.{of}\.[0-9a-f]{{8}}\.part{suffix}", path.name):
            with contextlib.suppress(OSError):  # gone by now, or another's
                if path.is_file() and time.time() - path.stat().st_mtime >= older:
                    path.unlink()


@contextmanager
def alone(folder: str | Path, name: str = "") -> Iterator[None]:
    """Within it no other process is in here for the same place; both would write the same files.

    The lock is one of the system's on ``.lock`` in the folder, which is made, and is removed where it stays empty: it
    ends with the process, however that ends, and a file that is left has no lock. On file systems that know no locks
    there is none.

    Args:
        folder: whose files are to be written.
        name: the one of them that is, where the rest may be others'; its lock is ``.NAME.lock``.

    Raises:
        DataError: another process is at it, or the folder cannot be made.
    """
    path = Path(folder) / (f".{name}.lock" if name else ".lock")
    made = [folder for folder in path.parents if not os.path.lexists(folder)]
    place, other = (Path(folder) / name, "name") if name else (folder, "folder")
    while True:
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            file = path.open("ab")
        except OSError as error:
            raise DataError(f"{place}: cannot be written ({error.strerror}); choose another place") from error
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            file.close()
            raise DataError(
                f"{place}: another process is writing there just now; wait for it, or choose another {other}"
            ) from error
        except OSError:
            break
        if path.exists() and path.stat().st_ino == os.fstat(file.fileno()).st_ino:
            break
        file.close()  # the one before removed it just then: what was locked has no name any more
    with file:
        try:
            yield
        finally:
            path.unlink(missing_ok=True)
            with contextlib.suppress(OSError):  # something is in it
                for folder in made:
                    folder.rmdir()


def _to_disk(path: Path) -> None:
    """Have the system write a file's bytes, or a folder's names, to the disk, where the file system can."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    except OSError as error:
        if error.errno in _FULL:  # others: this cannot be synced, as on some mounts
            raise
    finally:
        os.close(descriptor)


def write_json(path: str | Path, obj: Any) -> None:
    """Write ``obj`` as indented JSON, atomically. NaN and infinity are a ValueError: they are not JSON."""
    text = json.dumps(obj, indent=2, ensure_ascii=False, allow_nan=False) + "\n"
    with atomic(path) as temporary:
        try:
            # A lone surrogate, as names of files may have, is written as JSON's escape of it.
            temporary.write_text(text, encoding="utf-8", errors="backslashreplace")
        except OSError as error:
            raise DataError(f"{path}: cannot be written ({error.strerror}); choose another place") from error


MOST_JSON: Final = 1 << 28
"""Bytes of JSON that are read at most: more than an evaluation of tens of thousands of prompts has."""
MOST_CONFIG: Final = 1 << 24
"""The same of a file of settings; real ones have some thousands."""


def read_json(path: str | Path, most: int = MOST_JSON) -> Any:
    """Read a JSON file.

    Args:
        path: the file.
        most: how many bytes it may have.

    Raises:
        DataError: it is missing, cannot be read, is too large, or is not JSON; the message names it.
    """
    path = Path(path)
    if path.exists() and not path.is_file():  # a pipe would wait for its writer for ever
        raise DataError(f"{path}: cannot be read (not a regular file); check the path")
    try:
        with path.open("rb") as file:
            data = file.read(most + 1)
        if len(data) > most:
            raise DataError(f"{path}: has more than the {most} bytes of JSON that are read; write it again")
        return json.loads(data.decode("utf-8"))
    except OSError as error:
        raise DataError(f"{path}: cannot be read ({error.strerror}); check the path") from error
    except (ValueError, RecursionError) as error:  # JSONDecodeError and UnicodeDecodeError; nested too deeply
        raise DataError(f"{path}: not valid JSON ({error}); write it again") from error


def require_writable(*files: str | Path | None) -> None:
    """Try whether files can be written, before the work whose results they are to hold. Nothing is left behind.

    Args:
        files: what is to be written; for a folder, any file in it. None is nothing.

    Raises:
        DataError: naming the first that cannot be written, with the reason.
    """
    for path in (Path(file) for file in files if file is not None):
        if os.path.isdir(path):  # noqa: PTH112  (Path's fails for a name that is too long)
            raise DataError(f"{path}: is a folder; give the name of a file")
        missing = [folder for folder in path.parents if not os.path.lexists(folder)]
        made: list[Path] = []
        probe = path.with_name(f".try.{secrets.token_hex(4)}.part")
        try:
            for folder in reversed(missing):
                folder.mkdir(exist_ok=True)
                made.append(folder)
            with contextlib.suppress(FileNotFoundError):
                path.lstat()  # fails for a name that cannot be
            probe.touch(exist_ok=False)
            probe.unlink()
        except (OSError, ValueError) as error:
            reason = error.strerror if isinstance(error, OSError) else error
            raise DataError(f"{path}: cannot be written ({reason}); choose another place") from error
        finally:
            for folder in reversed(made):
                with contextlib.suppress(OSError):  # another process has put something there meanwhile
                    folder.rmdir()


def slug(text: str) -> str:
    """A text as part of a file name: lower-case letters and digits, dashes between, at most 80 characters.

    Where it cannot tell the text (it is cut, or has more than words of such letters) eight digits of a hash follow, so
    that two texts have two names.
    """
    kept = re.sub(r"[^a-z0-9]+", "-", text.lower()).strip("-")[:80]
    if text == kept.replace("-", " "):
        return kept
    digits = hashlib.sha256(text.encode(errors="surrogatepass")).hexdigest()[:8]
    return f"{kept}-{digits}" if kept else digits
