"""Files put behind a URL, none of which ever has its name before it is whole.

Stores of objects (S3, Google, Azure, the Hub) show a file when all of it is there. On other file systems it is written
under a temporary name and moved.
"""

from __future__ import annotations

import contextlib
import secrets
from pathlib import Path
from typing import Any

from cvg.common.errors import DataError, SettingsError
from cvg.common.files import atomic
from cvg.shards.remote import download
from cvg.shards.urls import check_url, files_behind, tried

_WHOLE = frozenset({"s3", "s3a", "gs", "gcs", "az", "abfs", "abfss", "hf", "oss", "oci"})
"""Protocols of stores of objects. There are no folders to be made in these."""
_READ_ONLY = frozenset({"http", "https", "data", "github", "gist"})


class Uploads:
    """What is behind a URL, to be written to; every file of it is small enough for the disk.

    Args:
        url: of a folder, which need not be there yet.

    Raises:
        SettingsError: it is no URL, or of a kind that is only read.
    """

    def __init__(self, url: str) -> None:
        check_url(url)
        self.url, self.protocol = url.rstrip("/"), url.partition("://")[0]
        if self.protocol in _READ_ONLY:
            raise SettingsError(
                f"{url}: {self.protocol} is only read; give a folder, or a URL that can be written to, such as "
                "s3://bucket/folder"
            )

    def name(self, file: str) -> str:
        """A file's URL."""
        return f"{self.url}/{file}"

    def require_writable(self) -> None:
        """Write an empty file and remove it. Who may write but not remove leaves it behind.

        Raises:
            DataError: it cannot be written; credentials, rights, the bucket or the network are missing.
        """
        url = self.name(f".try.{secrets.token_hex(4)}")

        def write() -> None:
            files, path = self._at(url)
            files.pipe_file(path, b"")
            with contextlib.suppress(Exception):
                files.rm_file(path)

        tried(url, write, "written")

    def sizes(self) -> dict[str, int]:
        """Name -> bytes of the files that are there; none where there is no such folder. Raises DataError."""

        def look() -> dict[str, int]:
            files, path = files_behind(self.url)
            try:
                found = files.ls(path, detail=True)
            except FileNotFoundError:
                return {}
            return {each["name"].rpartition("/")[2]: int(each["size"]) for each in found if each["type"] == "file"}

        return tried(self.url, look, "read")

    def put(self, path: Path, name: str | None = None) -> None:
        """Copy a file there, over an older one of that name. Raises DataError where it cannot be written."""
        url = self.name(name or path.name)

        def write() -> None:
            files, there = self._at(url)
            if self.protocol in _WHOLE:
                files.put_file(str(path), there)
                return
            folder, _, last = there.rpartition("/")
            temporary = f"{folder}/.{secrets.token_hex(4)}.{last}.part"
            try:
                files.put_file(str(path), temporary)
                with contextlib.suppress(FileNotFoundError):
                    files.rm_file(there)  # not all move over what is there
                files.mv(temporary, there)
            except BaseException:
                with contextlib.suppress(Exception):
                    files.rm_file(temporary)
                raise

        tried(url, write, "written")

    def get(self, name: str, path: Path, most: int) -> str:
        """Copy a file of at most so many bytes from there; its SHA-256. Raises DataError where it cannot be read."""
        with atomic(path) as temporary, temporary.open("wb") as file:
            return download(self.name(name), file, most)

    def remove(self, name: str) -> None:
        """Remove a file. Raises DataError where it is there and cannot be removed."""
        url = self.name(name)

        def away() -> None:
            files, path = files_behind(url)
            with contextlib.suppress(FileNotFoundError):
                files.rm_file(path)

        try:
            tried(url, away, "written")
        except DataError as error:
            raise DataError(f"{error}; what is there from before has to be removed") from error

    def _at(self, url: str) -> tuple[Any, str]:
        files, path = files_behind(url)
        if self.protocol not in _WHOLE:
            files.makedirs(path.rpartition("/")[0], exist_ok=True)
        return files, path
