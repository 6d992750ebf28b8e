"""Where finished tars lie: in the folder of the work, or behind a URL, to which each goes as soon as it is written."""

from __future__ import annotations

from collections.abc import Collection
from pathlib import Path

from cvg.shards.shards import files_of, is_tar
from cvg.shards.uploads import Uploads
from cvg.shards.urls import fetch_json

RUN, INFO, FILES, REJECTS = "run.json", "shards.json", "files.json", "rejects.jsonl"
"""Beside the tars: what they are of, what they share, what the videos were like, and what was left out."""
_TEMPORARY = ".part"


class Here:
    """The folder of the work itself.

    Args:
        folder: of the work.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    @property
    def name(self) -> str:
        """What it is called in messages."""
        return str(self.folder)

    def sizes(self) -> dict[str, int]:
        """Name -> bytes of the tars that are there."""
        return {path.name: path.stat().st_size for path in files_of(self.folder)}

    def put(self, name: str) -> None:
        """Have a file that was just written to the folder of the work there."""

    def put_tar(self, name: str) -> None:
        """The same of a tar, which need not be in the folder of the work any longer."""

    def put_last(self, path: Path) -> None:
        """Have ``shards.json``, written elsewhere, there and then in the folder of the work."""
        path.replace(self.folder / path.name)

    def get_tar(self, name: str, size: int) -> Path:
        """Where a tar of so many bytes can be read. Raises DataError where it cannot be got."""
        return self.folder / name

    def keep(self, names: Collection[str]) -> None:
        """Remove all other tars, and what was not written to its end."""
        for path in files_of(self.folder):
            if path.name not in names:
                path.unlink()


class There(Here):
    """Behind a URL. Tars do not stay in the folder of the work.

    Args:
        folder: of the work.
        uploads: what is behind the URL.
    """

    def __init__(self, folder: Path, uploads: Uploads) -> None:
        super().__init__(folder)
        self.uploads = uploads

    @property
    def name(self) -> str:
        """The URL."""
        return self.uploads.url

    def sizes(self) -> dict[str, int]:
        """Name -> bytes of the tars that are there."""
        return {name: size for name, size in self.uploads.sizes().items() if is_tar(name)}

    def put(self, name: str) -> None:
        """Copy a file there. Raises DataError where it cannot be."""
        self.uploads.put(self.folder / name)

    def put_tar(self, name: str) -> None:
        """Copy a tar there, and remove it here. Raises DataError where it cannot be."""
        self.put(name)
        (self.folder / name).unlink()

    def put_last(self, path: Path) -> None:
        """Copy it there, and then have it here. Raises DataError where it cannot be."""
        self.uploads.put(path)
        super().put_last(path)

    def get_tar(self, name: str, size: int) -> Path:
        """Copy a tar here. Raises DataError where it cannot be."""
        self.uploads.get(name, self.folder / name, size)
        return self.folder / name

    def keep(self, names: Collection[str]) -> None:
        """Remove all other tars there, all tars here, and what was not written to its end."""
        super().keep(())
        for name in self.uploads.sizes():
            temporary = name.startswith(".") and name.endswith(_TEMPORARY)
            if temporary or (is_tar(name) and name not in names):
                self.uploads.remove(name)

    def noted(self) -> object:
        """What its ``run.json`` says; None where there is none."""
        return fetch_json(self.uploads.name(RUN)) if RUN in self.uploads.sizes() else None

    def finished(self) -> bool:
        """Whether ``shards.json`` is there."""
        return INFO in self.uploads.sizes()

    def take_over(self) -> None:
        """Get all but the tars of what is finished into the folder of the work."""
        for name in (RUN, FILES, REJECTS, INFO):
            self.uploads.get(name, self.folder / name, 1 << 40)
