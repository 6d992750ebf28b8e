"""Shards behind URLs, read from servers on this machine."""

from __future__ import annotations

import fcntl
import hashlib
import importlib.util
import json
import multiprocessing
import os
import shutil
import signal
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import fsspec
import pytest
import torch

from benchmarks.bucket import bucket
from cvg.common.errors import DataError, SettingsError, UserError
from cvg.shards import urls
from cvg.shards.folders import LocalFolder, folder_at
from cvg.shards.remote import DiskCache
from cvg.shards.shards import ShardInfo
from cvg.shards.uploads import Uploads
from cvg.training.datamodule import CompositionDataModule
from tests.helpers.servers import Web
from tests.helpers.shards import make_shards
from tests.helpers.training import batches_of


@pytest.fixture(scope="module")
def local(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_shards(tmp_path_factory.mktemp("local"), {"train": 64, "val": 16}, samples=8)


@pytest.fixture(scope="module")
def s3(local: Path) -> Iterator[str]:
    with bucket(local) as url:
        yield url


@pytest.fixture(autouse=True)
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(urls, "FIRST_WAIT", 0.01)


def size_of(local: Path) -> int:
    return (local / "train-00000.tar").stat().st_size


def sets(place: str | Path, cache: Path, **options: Any) -> CompositionDataModule:
    return CompositionDataModule([str(place)], **({"batch_size": 16, "disk": str(cache)} | options))


def same(first: list[Any], second: list[Any]) -> bool:
    return all(torch.equal(a[name], b[name]) for a, b in zip(first, second, strict=True) for name in a)


@pytest.mark.parametrize("options", [{}, {"cache_gb": 0, "num_workers": 0}, {"cache_gb": 0, "num_workers": 2}])
def test_a_bucket_gives_what_its_folder_gives(s3: str, local: Path, tmp_path: Path, options: dict[str, Any]) -> None:
    there, here = sets(s3, tmp_path / "cache", **options), sets(local, tmp_path / "none", **options)
    assert there.info == here.info and there.state_dict() == here.state_dict()
    assert same(batches_of(there), batches_of(here))
    assert same(batches_of(there, epoch=1, start=2), batches_of(here, epoch=1, start=2))
    assert same(list(there.val_dataloader()), list(here.val_dataloader()))
    assert not (tmp_path / "none").exists()
    kept = {path.stem for path in (tmp_path / "cache").glob("*.tar")}
    assert kept == set(there.info.tars.values())  # by their SHA-256, each once


def test_connections_that_break_are_gone_on_with(local: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A quarter of all answers ends in its middle, and a tar takes several."""
    monkeypatch.setattr(urls, "BLOCK", 20_000)
    with Web(local, breaks=0.25) as web:
        there = sets(web.url, tmp_path / "cache", cache_gb=0, num_workers=0)
        found = batches_of(there)
        assert web.broken >= 5
        stored = sum(path.stat().st_size for path in local.glob("train-*.tar"))
        sent = sum(count for name, count in web.sent.items() if name.startswith("train-"))
        assert sent < 3 * stored  # what had come was kept
    assert same(found, batches_of(sets(local, tmp_path, cache_gb=0, num_workers=0)))


def test_servers_that_send_whole_files_only_are_read_from_the_beginning(local: Path, tmp_path: Path) -> None:
    with Web(local, breaks=0.3, ranges=False) as web:
        found = batches_of(sets(web.url, tmp_path / "cache"))
        assert web.broken
    assert same(found, batches_of(sets(local, tmp_path)))


def test_what_cannot_be_read_is_one_message(local: Path, tmp_path: Path) -> None:
    with Web(local) as web:
        assert sets(web.url, tmp_path).info.count("train") == 64
        with pytest.raises(DataError, match=r"nothing/shards.json: cannot be read .*check the address"):
            _ = sets(f"{web.url}/nothing", tmp_path).info
        web.breaks = 1.0
        web.asked.clear()
        with pytest.raises(DataError, match="also not when it was tried 6 times; check the network"):
            _ = sets(web.url, tmp_path).info
        assert web.asked["shards.json"] == urls.ATTEMPTS
        gone = web.url
    with pytest.raises(DataError, match="tried 6 times"):
        _ = sets(gone, tmp_path).info


def test_a_tar_that_is_gone_or_another_is_one_message(local: Path, tmp_path: Path) -> None:
    folder = Path(shutil.copytree(local, tmp_path / "copy"))
    (folder / "train-00003.tar").unlink()
    (folder / "train-00004.tar").write_bytes((folder / "train-00005.tar").read_bytes())
    cache = DiskCache(tmp_path / "cache", 1 << 30)
    with Web(folder) as web:
        place = folder_at(web.url, cache)
        with pytest.raises(DataError, match=r"train-00003.tar: cannot be read .*check the address"):
            place.open("train-00003.tar")
        with pytest.raises(DataError, match=r"train-00004.tar: not the tar that shards.json names"):
            place.open("train-00004.tar")
    assert not list(cache.folder.glob("*.tar"))


def test_the_limit_holds_and_the_oldest_goes(local: Path, tmp_path: Path) -> None:
    size = size_of(local)
    cache = DiskCache(tmp_path / "cache", 3 * size)

    def kept() -> set[str]:
        return {path.stem for path in cache.folder.glob("*.tar")}

    with Web(local) as web:
        place = folder_at(web.url, cache)
        digest = place.info.tars
        names = sorted(name for name in digest if name.startswith("train"))
        for name in [*names[:3], names[0]]:
            place.open(name).close()
            time.sleep(0.02)
        assert kept() == {digest[name] for name in names[:3]}
        held = place.open(names[1])  # is read while it goes
        os.utime(cache.folder / f"{digest[names[1]]}.tar", (1, 1))
        place.open(names[3]).close()
        assert kept() == {digest[name] for name in (names[0], names[2], names[3])}
        assert hashlib.sha256(held.read()).hexdigest() == digest[names[1]]
        held.close()
        for name in names:
            place.open(name).close()
            assert sum(path.stat().st_size for path in cache.folder.iterdir()) <= 3 * size
        with pytest.raises(DataError, match=r"more than the 10 that are kept .*data.disk_gb"):
            folder_at(web.url, DiskCache(tmp_path / "small", 10)).open(names[0])


def test_what_a_killed_process_left_makes_room(local: Path, tmp_path: Path) -> None:
    size = size_of(local)
    cache = DiskCache(tmp_path / "cache", 2 * size)
    cache.folder.mkdir()
    left, at_work = (cache.folder / f".{name}.0123456{name}.part.tar" for name in "ab")
    for path in (left, at_work):
        path.write_bytes(bytes(size))
    with at_work.open("rb") as file, Web(local) as web:
        fcntl.flock(file, fcntl.LOCK_EX)
        folder_at(web.url, cache).open("train-00000.tar").close()
    assert not left.exists() and at_work.exists()


def _read_all(url: str, cache: DiskCache, queue: Any) -> None:
    place = folder_at(url, cache)
    for name, digest in sorted(place.info.tars.items()):
        with place.open(name) as file:
            queue.put(hashlib.sha256(file.read()).hexdigest() == digest)


def test_processes_share_what_one_of_them_fetched(local: Path, tmp_path: Path) -> None:
    fork = multiprocessing.get_context("fork")
    queue, cache = fork.SimpleQueue(), DiskCache(tmp_path / "cache", 1 << 30)
    with Web(local) as web:
        processes = [fork.Process(target=_read_all, args=(web.url, cache, queue)) for _ in range(4)]
        for process in processes:
            process.start()
        count = len(ShardInfo.load(local).tars)
        assert all(queue.get() for _ in range(4 * count))
        for process in processes:
            process.join(30)
        assert all(web.sent[path.name] == path.stat().st_size for path in local.glob("*.tar"))


def test_a_process_that_is_killed_while_it_fetches_leaves_no_tar(local: Path, tmp_path: Path) -> None:
    fork = multiprocessing.get_context("fork")
    cache = DiskCache(tmp_path / "cache", 1 << 30)
    with Web(local, breaks=1.0) as web:  # it never comes to an end
        web.folder = tmp_path / "served"
        shutil.copytree(local, web.folder)
        shared = fork.SimpleQueue()
        process = fork.Process(target=_fetch_slowly, args=(web.url, cache, shared))
        process.start()
        shared.get()
        while not list(cache.folder.glob(".*.part.tar")):
            time.sleep(0.01)
        os.kill(process.pid or 0, signal.SIGKILL)
        process.join(30)
        assert [path.name[0] for path in cache.folder.glob("*.tar")] == ["."]
        web.breaks = 0.0
        folder_at(web.url, cache).open("train-00000.tar").close()
        assert [path.stem for path in cache.folder.glob("[0-9a-f]*.tar")] == [
            ShardInfo.load(local).tars["train-00000.tar"]
        ]


def _fetch_slowly(url: str, cache: DiskCache, begun: Any) -> None:
    urls.FIRST_WAIT = 60.0
    begun.put(True)
    cache.open(f"{url}/train-00000.tar", "0" * 64)


@pytest.mark.parametrize(
    ("place", "message"),
    [
        ("pipe:curl http://127.0.0.1/x", "a shell command, which is never run"),
        ("pipe://echo", "a shell command, which is never run"),
        ("simplecache::http://127.0.0.1/x", "no address of files"),
        ("nothing://x/y", "no address of files"),
        ("s3://", "no address of files"),
    ],
)
def test_addresses_that_are_refused(place: str, message: str, tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match=message):
        sets(place, tmp_path)


def test_a_package_that_is_missing_is_told(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    def missing(protocol: str) -> None:
        raise ImportError("Install s3fs to access S3")

    monkeypatch.setattr(fsspec, "get_filesystem_class", missing)
    with pytest.raises(SettingsError, match=r"needs a package that is not installed; pip install 'cvg\[remote\]'"):
        sets("s3://bucket/sets", tmp_path)


@pytest.mark.skipif(importlib.util.find_spec("gcsfs") is not None, reason="it is installed here")
def test_google_s_package_is_asked_for_by_its_name(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match=r"shards gs://bucket/sets: needs a package .*; Please install gcsfs"):
        sets("gs://bucket/sets", tmp_path)
    with pytest.raises(SettingsError, match=r"shards gs://bucket/sets: needs a package .*; Please install gcsfs"):
        Uploads("gs://bucket/sets")


def test_file_urls_are_folders(local: Path, tmp_path: Path) -> None:
    place = folder_at(f"file://{local}", DiskCache(tmp_path, 1))
    assert isinstance(place, LocalFolder) and place.info == ShardInfo.load(local)


def test_tars_that_are_not_counted_are_read_from_memory_alone(local: Path, tmp_path: Path) -> None:
    folder = Path(shutil.copytree(local, tmp_path / "copy"))
    found = json.loads((folder / "shards.json").read_text())
    del found["records"]
    (folder / "shards.json").write_text(json.dumps(found))
    with Web(folder) as web:
        assert len(batches_of(sets(web.url, tmp_path / "cache"))) == 4
        with pytest.raises(UserError, match="does not say how many `records` each tar holds"):
            sets(web.url, tmp_path / "cache", cache_gb=0).train_dataloader()
    (folder / "shards.json").write_text("[")
    with Web(folder) as web, pytest.raises(DataError, match=r"shards.json: not valid JSON"):
        _ = sets(web.url, tmp_path / "cache").info
