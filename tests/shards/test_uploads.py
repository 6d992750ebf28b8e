"""Files put behind URLs, on an S3 server of this machine and in memory."""

from __future__ import annotations

import hashlib
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import fsspec
import pytest
from s3fs import S3FileSystem

from benchmarks.bucket import bucket
from cvg.common.errors import DataError, SettingsError
from cvg.shards import urls
from cvg.shards.uploads import Uploads


@pytest.fixture(autouse=True)
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(urls, "FIRST_WAIT", 0.01)


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with bucket(tmp_path_factory.mktemp("empty")) as url:
        yield url


@pytest.fixture
def s3(server: str) -> Iterator[str]:
    yield server
    S3FileSystem.clear_instance_cache()  # of what a test made it do


@pytest.fixture
def nobody(s3: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """The bucket, and nothing in the environment that says who asks."""
    with monkeypatch.context() as patch:
        for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
            patch.delenv(name)
        for name in ("AWS_SHARED_CREDENTIALS_FILE", "AWS_CONFIG_FILE"):
            patch.setenv(name, str(tmp_path / "none"))
        S3FileSystem.clear_instance_cache()
        yield s3


@pytest.mark.parametrize("kind", ["s3", "memory"])
def test_what_is_put_is_there_and_can_be_had_back(kind: str, s3: str, tmp_path: Path) -> None:
    uploads = Uploads({"s3": f"{s3}/{tmp_path.name}/", "memory": f"memory://{tmp_path.name}/a"}[kind])
    assert uploads.sizes() == {}
    uploads.require_writable()
    assert uploads.sizes() == {}
    (tmp_path / "a.tar").write_bytes(b"first")
    uploads.put(tmp_path / "a.tar")
    (tmp_path / "a.tar").write_bytes(b"another")
    uploads.put(tmp_path / "a.tar")
    uploads.put(tmp_path / "a.tar", "b.tar")
    assert uploads.sizes() == {"a.tar": 7, "b.tar": 7}
    assert uploads.get("a.tar", tmp_path / "back" / "a.tar", 7) == hashlib.sha256(b"another").hexdigest()
    assert (tmp_path / "back" / "a.tar").read_bytes() == b"another"
    with pytest.raises(DataError, match="more than 6 bytes"):
        uploads.get("a.tar", tmp_path / "back" / "b.tar", 6)
    uploads.remove("b.tar")
    uploads.remove("b.tar")
    assert uploads.sizes() == {"a.tar": 7}


def test_where_files_show_before_they_are_whole_they_are_moved(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Memory shows a file as soon as it is opened; at no moment is there a part of one under its name."""
    uploads, memory = Uploads(f"memory://{tmp_path.name}"), fsspec.filesystem("memory")
    (tmp_path / "a.tar").write_bytes(b"whole")
    put = memory.put_file
    seen: list[str] = []

    def broken(path: str, there: str, **options: Any) -> None:
        put(path, there, **options)
        seen.append(there)
        if len(seen) < 3:
            raise OSError("the connection broke")

    monkeypatch.setattr(type(memory), "put_file", lambda self, *a, **k: broken(*a, **k))
    uploads.put(tmp_path / "a.tar")
    assert len(seen) == 3 and not any(name.endswith("/a.tar") for name in seen)
    assert uploads.sizes() == {"a.tar": 5}


@pytest.mark.parametrize(
    ("url", "message"),
    [
        ("nothing://x/y", "no address of files"),
        ("s3://", "no address of files"),
        ("http://127.0.0.1/x", "http is only read; give a folder, or a URL that can be written to"),
        ("simplecache::s3://x/y", "no address of files"),
    ],
)
def test_addresses_that_are_refused(url: str, message: str) -> None:
    with pytest.raises(SettingsError, match=message):
        Uploads(url)


def test_a_package_that_is_missing_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    def missing(protocol: str) -> None:
        raise ImportError("Install s3fs to access S3")

    monkeypatch.setattr(fsspec, "get_filesystem_class", missing)
    with pytest.raises(SettingsError, match=r"needs a package that is not installed; pip install 'cvg\[remote\]'"):
        Uploads("s3://bucket/sets")


def test_who_says_not_who_he_is_is_told_at_once(nobody: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(time, "sleep", lambda seconds: pytest.fail("it is tried again"))
    with pytest.raises(DataError, match=r"cannot be written \(Unable to locate credentials\); give the credentials"):
        Uploads(f"{nobody}/who").require_writable()
    with pytest.raises(DataError, match=r"cannot be read \(Unable to locate credentials\); give the credentials"):
        urls.fetch_json(f"{nobody}/who/shards.json")


def test_buckets_that_are_not_there_or_not_ours_are_told_at_once(s3: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(time, "sleep", lambda seconds: pytest.fail("it is tried again"))
    with pytest.raises(DataError, match=r"s3://nobody-has-it/x/.try.*cannot be written .*check the address"):
        Uploads("s3://nobody-has-it/x").require_writable()

    async def denied(*_: Any, **__: Any) -> None:
        raise PermissionError("Access Denied")

    monkeypatch.setattr(fsspec.get_filesystem_class("s3"), "_pipe_file", denied)
    S3FileSystem.clear_instance_cache()
    with pytest.raises(DataError, match=r"cannot be written \(Access Denied\); check the address, and who may write"):
        Uploads(f"{s3}/sets").require_writable()


def test_a_network_that_fails_is_tried_six_times(s3: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    tries = []

    async def broken(*_: Any, **__: Any) -> None:
        tries.append(1)
        raise ConnectionResetError("reset by peer")

    (tmp_path / "a.tar").write_bytes(b"x")
    monkeypatch.setattr(fsspec.get_filesystem_class("s3"), "_put_file", broken)
    S3FileSystem.clear_instance_cache()
    with pytest.raises(DataError, match=r"a.tar: cannot be written \(reset by peer\), also not when .* 6 times"):
        Uploads(f"{s3}/sets").put(tmp_path / "a.tar")
    assert len(tries) == urls.ATTEMPTS
