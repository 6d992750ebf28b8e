"""Where shards lie: in a folder here, or behind a URL, of which each tar comes here when it is first read."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from io import BufferedReader
from pathlib import Path

from cvg.common.errors import DataError, SettingsError
from cvg.shards.records import most_maps
from cvg.shards.remote import DiskCache
from cvg.shards.shards import ShardInfo
from cvg.shards.tars import count_records, opened
from cvg.shards.urls import check_url, fetch_json, local_path


@dataclass
class LocalFolder:
    """A folder on this machine."""

    place: str

    @cached_property
    def info(self) -> ShardInfo:
        """Its ``shards.json``. Raises DataError when there is none, or it is no good."""
        return ShardInfo.load(self.place)

    def name(self, tar: str) -> str:
        """What a tar is called in messages."""
        return str(Path(self.place) / tar)

    def open(self, tar: str) -> BufferedReader:
        """A tar at its beginning. Raises DataError where it cannot be opened."""
        try:
            return opened(self.name(tar))
        except (OSError, ValueError) as error:
            reason = getattr(error, "strerror", None) or error
            raise DataError(f"shard {self.name(tar)}: cannot be read ({reason}); make the shards again") from error

    def tars(self, split: str) -> list[str]:
        """The tars of a split, in order. Raises DataError where the folder has others than ``shards.json`` names."""
        named = _named(self.info, split)
        if odd := sorted(set(named) ^ {path.name for path in Path(self.place).glob(f"{split}-*.tar")}):
            what = "is missing" if odd[0] in named else "is not named in shards.json"
            raise DataError(f"shards {self.place}: {odd[0]} {what}; make the shards again")
        return named

    def records(self, tars: list[str]) -> list[int]:
        """How many records each tar holds: as ``shards.json`` says, and where it does not, as are counted."""
        known = self.info.records
        if known is not None:
            return [known[tar] for tar in tars]
        return [count_records(Path(self.name(tar)), most_maps(self.info.shape)) for tar in tars]


@dataclass
class RemoteFolder:
    """What is behind a URL."""

    place: str
    cache: DiskCache

    @cached_property
    def info(self) -> ShardInfo:
        """Its ``shards.json``. Raises DataError when there is none, or it is no good."""
        return ShardInfo.of(fetch_json(self.name("shards.json")), self.name("shards.json"))

    def name(self, tar: str) -> str:
        """A tar's URL."""
        return f"{self.place.rstrip('/')}/{tar}"

    def open(self, tar: str) -> BufferedReader:
        """A tar at its beginning, from the cache. Raises DataError where it cannot be fetched."""
        return self.cache.open(self.name(tar), self.info.tars[tar])

    def tars(self, split: str) -> list[str]:
        """The tars of a split, in order; what else is behind the URL is not asked."""
        return _named(self.info, split)

    def records(self, tars: list[str]) -> list[int]:
        """How many records each tar holds. Raises DataError where ``shards.json`` does not say it."""
        if self.info.records is None:
            raise DataError(
                f"shards {self.place}: shards.json does not say how many `records` each tar holds, which is asked of "
                "sets that do not fit into memory; make the shards again, or copy them here"
            )
        return [self.info.records[tar] for tar in tars]


Folder = LocalFolder | RemoteFolder


def folder_at(place: str, cache: DiskCache) -> Folder:
    """The folder that a path or a URL names.

    Args:
        place: a path, or what fsspec takes for a folder.
        cache: keeps the tars of URLs.

    Raises:
        SettingsError: it is a shell command, or no URL that can be read.
    """
    if place.startswith("pipe:"):
        raise SettingsError(
            f"shards {place}: a shell command, which is never run; give a folder, or a URL such as s3://bucket/folder"
        )
    if (path := local_path(place)) is not None:
        return LocalFolder(path)
    check_url(place)
    return RemoteFolder(place, cache)


def _named(info: ShardInfo, split: str) -> list[str]:
    return [name for name in sorted(info.tars) if name.startswith(f"{split}-")]
