"""Shards whose tars go to a URL: the same bytes as in a folder, by several processes, stopped and gone on with."""

from __future__ import annotations

import hashlib
import json
import multiprocessing
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import fsspec
import pytest
from huggingface_hub import HfFileSystem

from benchmarks.bucket import bucket
from cvg.common import cli
from cvg.common.errors import DataError
from cvg.shards import urls
from cvg.shards.uploads import Uploads
from cvg.training.datamodule import CompositionDataModule
from data_prep import invert, render
from data_prep.inversion import packing
from tests.helpers.hub_double import hub_double
from tests.helpers.tiny import make_pipeline


@pytest.fixture(scope="module")
def inputs(tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    clips = tmp_path_factory.mktemp("clips")
    render.main(clips, clips=6, seed=3)
    generator = make_pipeline(tmp_path_factory.mktemp("generator"))
    small = ["--steps=2", "--at=[0]", "--layers=[0]", "--size=[5,32,32]", "--method=noising"]
    return [f"--data={clips}", f"--generator={generator}", *small]


@pytest.fixture(autouse=True)
def small_tars(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(packing, "SAMPLES", 2)
    monkeypatch.setattr("data_prep.inversion.sharding.PACKED_S", 0.0)
    monkeypatch.setattr(urls, "FIRST_WAIT", 0.01)


@pytest.fixture
def here(inputs: list[str], tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """Name -> SHA-256 of what the command writes to a folder."""
    if not _HERE:
        folder = tmp_path_factory.mktemp("here")
        assert run([*inputs, f"--out={folder}"]) == 0
        assert len(list(folder.glob("*.tar"))) > 3
        _HERE.update({path.name: sha(path.read_bytes()) for path in folder.iterdir()})
    return _HERE


_HERE: dict[str, str] = {}


@pytest.fixture
def s3(tmp_path: Path) -> Iterator[str]:
    (tmp_path / "empty").mkdir()
    with bucket(tmp_path / "empty") as url:
        yield url


def run(args: list[str]) -> int:
    try:
        cli.run(invert.main, "python -m data_prep.invert", args=args)
    except SystemExit as end:
        return int(end.code or 0)
    return 0


def sha(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def there(url: str) -> dict[str, str]:
    files, path = fsspec.url_to_fs(url)
    files.invalidate_cache()
    return {name.rpartition("/")[2]: sha(files.cat_file(name)) for name in files.ls(path, detail=False)}


def test_two_processes_put_the_bytes_of_one_into_a_bucket(
    inputs: list[str], here: dict[str, str], s3: str, tmp_path: Path
) -> None:
    work = tmp_path / "work"
    fork = multiprocessing.get_context("fork")
    args = [*inputs, f"--out={s3}/out", f"--work={work}"]
    begun = [fork.Process(target=lambda: exit(run(args))) for _ in range(2)]
    for process in begun:
        process.start()
    for process in begun:
        process.join(300)
        assert process.exitcode == 0
    assert there(f"{s3}/out") == here
    assert not list(work.glob("*.tar")) and not (work / "parts").exists()
    found = CompositionDataModule([f"{s3}/out"], batch_size=2, disk=str(tmp_path / "cache"))
    assert len(list(found.train_dataloader())) == found.info.count("train") // 2


@pytest.mark.parametrize("fresh", [False, True])
def test_what_was_stopped_goes_on(
    fresh: bool, inputs: list[str], here: dict[str, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By the folder of the work; where that is lost, from the beginning. Nothing tells of a set before it is whole."""
    url, put = f"memory://{tmp_path.name}/out", Uploads.put
    put_before: list[str] = []

    def stopped(self: Uploads, path: Path, name: str | None = None) -> None:
        if len(put_before) == 3:
            raise KeyboardInterrupt
        put(self, path, name)
        put_before.append(path.name)

    with monkeypatch.context() as patch:
        patch.setattr(Uploads, "put", stopped)
        assert run([*inputs, f"--out={url}", f"--work={tmp_path / '0'}"]) == 130
    assert put_before[0] == "run.json" and set(there(url)) == set(put_before)
    again: list[str] = []
    monkeypatch.setattr(Uploads, "put", lambda self, path, name=None: (again.append(path.name), put(self, path, name)))
    assert run([*inputs, f"--out={url}", f"--work={tmp_path / str(int(fresh))}"]) == 0
    assert there(url) == here and again[-1] == "shards.json"
    assert fresh or not set(again) & set(put_before[1:])
    for work in "12":  # done, and found done by whoever asks
        again.clear()
        assert run([*inputs, f"--out={url}", f"--work={tmp_path / work}"]) == 0
        assert not again and there(url) == here
    files, path = fsspec.url_to_fs(url)
    files.rm(path, recursive=True)
    assert run([*inputs, f"--out={url}", f"--work={tmp_path / '1'}"]) == 0
    assert there(url) == here


def test_what_is_there_already_is_not_written_over(
    inputs: list[str], here: dict[str, str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    url = f"memory://{tmp_path.name}/out"
    assert run([*inputs, f"--out={url}", f"--work={tmp_path / 'a'}"]) == 0
    assert run([*inputs, f"--out={url}", f"--work={tmp_path / 'b'}", "--seed=7"]) == 2
    assert f"out {url}: holds shards of other settings or videos; choose another URL" in capsys.readouterr().err
    assert there(url) == here
    fsspec.filesystem("memory").pipe_file(f"/{tmp_path.name}/other/train-00000.tar", b"somebody's")
    assert run([*inputs, f"--out=memory://{tmp_path.name}/other", f"--work={tmp_path / 'c'}"]) == 2
    assert "holds shards of other settings" in capsys.readouterr().err
    assert set(there(f"memory://{tmp_path.name}/other")) == {"train-00000.tar"}


def test_wrong_places_are_one_line_before_any_work(
    inputs: list[str], s3: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def loaded(*_: Any, **__: Any) -> None:
        raise AssertionError("the generator is loaded")

    monkeypatch.setattr(invert, "load_generator", loaded)
    monkeypatch.chdir(tmp_path)
    wrong = {
        "nothing://x/y": "no address of files",
        "https://example.com/x": "https is only read",
        "s3://not-there/x": "cannot be written",
    }
    for url, reason in wrong.items():
        assert run([*inputs, f"--out={url}"]) == 2
        found = capsys.readouterr().err.strip().splitlines()
        assert len(found) == 1 and reason in found[0] and found[0].startswith("error: "), found
    assert run([*inputs, f"--out={tmp_path / 'x'}", "--work=y"]) == 2
    assert "work y: is for tars that go to a URL" in capsys.readouterr().err


def test_file_urls_are_folders(inputs: list[str], here: dict[str, str], tmp_path: Path) -> None:
    assert run([*inputs, f"--out=file://{tmp_path / 'out'}"]) == 0
    assert {path.name: sha(path.read_bytes()) for path in (tmp_path / "out").iterdir()} == here


def test_a_bucket_that_fails_later_is_one_line_and_gone_on_with(
    inputs: list[str], here: dict[str, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    url, put = f"memory://{tmp_path.name}/out", Uploads.put
    args = [*inputs, f"--out={url}", f"--work={tmp_path / 'work'}"]

    def full(self: Uploads, path: Path, name: str | None = None) -> None:
        if path.suffix == ".tar":
            raise DataError(f"{self.url}/{path.name}: cannot be written (quota)")
        put(self, path, name)

    with monkeypatch.context() as patch:
        patch.setattr(Uploads, "put", full)
        assert run(args) == 2
    assert run(args) == 0 and there(url) == here
    assert json.loads(fsspec.filesystem("memory").cat_file(f"/{tmp_path.name}/out/shards.json"))["tars"]


def test_a_data_set_of_the_hub_takes_the_same_bytes_and_is_trained_on(
    inputs: list[str], here: dict[str, str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    url = "hf://datasets/someone/clips"
    with hub_double(tmp_path / "hub") as hub:
        HfFileSystem.clear_instance_cache()  # of another Hub
        try:
            assert run([*inputs, f"--out={url}/wan", f"--work={tmp_path / 'none'}"]) == 2  # the data set is not there
            assert re.search(rf"{url}/wan/\S+: cannot be written .* check the address", capsys.readouterr().err)
            files = hub.repos["datasets/someone/clips"] = {"README.md": b"---"}
            assert run([*inputs, f"--out={url}/wan", f"--work={tmp_path / 'work'}"]) == 0
            assert {name: sha(data) for name, data in files.items()} == {
                "README.md": sha(b"---"),
                **{f"wan/{name}": digest for name, digest in here.items()},
            }
            before = hub.commit("datasets/someone/clips")
            assert run([*inputs, f"--out={url}/wan", f"--work={tmp_path / 'another'}"]) == 0
            assert hub.commit("datasets/someone/clips") == before  # it is found to be finished
            found = CompositionDataModule([f"{url}/wan"], batch_size=2, disk=str(tmp_path / "cache"))
            assert len(list(found.train_dataloader())) == found.info.count("train") // 2
        finally:
            HfFileSystem.clear_instance_cache()
