"""The folder of a data set: annotation files, and videos by their names. Nothing outside of it is ever opened."""

from __future__ import annotations

import os
from functools import cached_property
from pathlib import Path, PurePosixPath
from typing import Any

from cvg.common.errors import DataError
from cvg.common.files import read_json

SUFFIXES = frozenset({".mp4", ".webm", ".avi", ".mkv", ".mov", ".m4v", ".mpg", ".mpeg", ".flv", ".wmv", ".ogv", ".3gp"})
"""Of files that are taken for videos."""
MOST_ANNOTATION = 1 << 32
"""Bytes of an annotation file: 4 GB. The largest of the known data sets have about one."""


class Refused(Exception):
    """An entry of an annotation that gives nothing; its reason is one of `data_prep.sources.base.Reason`."""

    def __init__(self, reason: str, detail: str) -> None:
        super().__init__(detail)
        self.reason = reason


class Root:
    """A data set's folder, and that of its videos where it is another.

    Symbolic links within are followed where they stay within.

    Args:
        folder: of the annotations.
        videos: of the videos; the same when None.
        rate: pictures a second of videos that lie there as pictures, where the data set does not say; its reader knows
            when None.

    Raises:
        DataError: one of them is no folder.
    """

    def __init__(self, folder: Path, videos: Path | None = None, rate: float | None = None) -> None:
        for path in filter(None, (folder, videos)):
            if not path.is_dir():
                raise DataError(f"{path}: no such folder; give the one that the data set was unpacked into")
        self.folder, self.videos, self.rate = folder, videos or folder, rate

    def json(self, path: Path) -> Any:
        """What a JSON file of it holds. Raises DataError naming the file, and the place where it is damaged."""
        if not self._within(path, self.folder):
            raise DataError(f"{path}: leads out of {self.folder}; copy the file there")
        return read_json(path, MOST_ANNOTATION)

    def files(self, *patterns: str) -> list[Path]:
        """Files of the annotations by glob patterns, in order of name; those that lead out of the folder are not."""
        found = {path for pattern in patterns for path in self.folder.rglob(pattern)}
        return sorted(path for path in found if path.is_file() and self._within(path, self.folder))

    def one(self, what: str, *patterns: str) -> Path:
        """The first of such files. Raises DataError where there is none, naming what it would hold."""
        if found := self.files(*patterns):
            return found[0]
        raise DataError(
            f"{self.folder}: no {what} ({' or '.join(patterns)}); give the folder that it was unpacked into"
        )

    def video(self, name: str) -> Path:
        """The video of a name.

        Args:
            name: its path below the folder, or the end of that, with or without what its name ends in: of
                ``0001/12.mp4``, ``video/0001/12.mp4`` and ``12.webm`` it is the first that is there.

        Raises:
            Refused: there is none, or it leads out of the folder.
        """
        given = PurePosixPath(name)
        if given.is_absolute() or ".." in given.parts or "\0" in name or not given.name:
            raise Refused("outside", f"video {name!r} leads out of {self.videos}")
        stem = given.stem if given.suffix.lower() in SUFFIXES else given.name
        candidates = self._by_stem.get(stem, [])
        if not candidates:
            raise Refused("no video", f"video {name!r} is not in {self.videos}")
        ends = given.parts[:-1]
        for path in candidates:
            if not ends or path.parent.parts[-len(ends) :] == ends:
                return self.checked(path)
        return self.checked(candidates[0])

    def folder_of(self, name: str) -> Path:
        """The folder of that name among the videos, of pictures. Raises Refused like :meth:`video`."""
        given = PurePosixPath(name)
        if given.is_absolute() or ".." in given.parts or "\0" in name or not given.name:
            raise Refused("outside", f"pictures {name!r} lead out of {self.videos}")
        for path in self._folders.get(given.name, []):
            if path.parts[-len(given.parts) :] == given.parts:
                return self.checked(path)
        raise Refused("no video", f"pictures {name!r} are not in {self.videos}")

    def checked(self, path: Path) -> Path:
        """A path, once it is known to stay within. Raises Refused where a link leads out, or nowhere."""
        try:
            if not self._within(path, self.videos):
                raise Refused("outside", f"{path} is a link that leads out of {self.videos}")
            if not path.exists():
                raise Refused("no video", f"{path} is not there")
        except (OSError, ValueError) as error:
            raise Refused("no video", f"{path!r} cannot be ({error})") from error
        return path

    @staticmethod
    def _within(path: Path, folder: Path) -> bool:
        return path.resolve().is_relative_to(folder.resolve())

    @cached_property
    def _walked(self) -> tuple[dict[str, list[Path]], dict[str, list[Path]]]:
        """Videos by stem, and folders by name."""
        stems: dict[str, list[Path]] = {}
        folders: dict[str, list[Path]] = {}
        for folder, below, files in os.walk(self.videos):  # links to folders are not followed
            below.sort()
            for name in sorted(files):
                path = Path(folder, name)
                if path.suffix.lower() in SUFFIXES:
                    stems.setdefault(path.stem, []).append(path)
            for name in below:
                folders.setdefault(name, []).append(Path(folder, name))
        return stems, folders

    @property
    def _by_stem(self) -> dict[str, list[Path]]:
        return self._walked[0]

    @property
    def _folders(self) -> dict[str, list[Path]]:
        return self._walked[1]
