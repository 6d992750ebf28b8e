"""Damaged and hostile folders of shards: each ends in one message, at once, and nothing of it is believed."""

from __future__ import annotations

import gzip
import hashlib
import io
import json
import os
import random
import resource
import shutil
import socket
import tarfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from cvg.common.errors import UserError
from cvg.shards.shards import ShardInfo, ShardWriter
from cvg.shards.stream import read_records
from tests.helpers.shards import make_record, make_shards

TAR = "train-00000.tar"
COUNT = 4
FLIPS = 300


@pytest.fixture(scope="module")
def good(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_shards(tmp_path_factory.mktemp("good"), {"train": COUNT})


@pytest.fixture
def folder(good: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(good, tmp_path / "shards"))


def refused(folder: Path) -> str:
    """The one message that reading the folder ends in; it took little memory."""
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with pytest.raises(UserError) as caught:
        read_records(folder, ["train"])
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 100_000, "it took over 100 MB"
    message = str(caught.value)
    assert "\n" not in message and len(message) < 1000 and str(folder) in message
    return message


def vouch(folder: Path) -> None:
    """Let shards.json name the tar as it is now: what its digest cannot tell."""
    info = json.loads((folder / "shards.json").read_text())
    info["tars"] = {TAR: hashlib.sha256((folder / TAR).read_bytes()).hexdigest()}
    (folder / "shards.json").write_text(json.dumps(info))


def test_no_flipped_bit_is_accepted_with_other_maps(folder: Path) -> None:
    whole, rng = (folder / TAR).read_bytes(), random.Random(0)
    for _ in range(FLIPS):
        place = rng.randrange(8 * len(whole))
        changed = bytearray(whole)
        changed[place // 8] ^= 1 << place % 8
        (folder / TAR).write_bytes(changed)
        refused(folder)


def test_no_flipped_bit_is_accepted_where_shards_json_is_made_to_agree(folder: Path, good: Path) -> None:
    """What is left where the tar's digest is forged too: the maps are still those that each record's JSON names."""
    written = read_records(good, ["train"])
    whole, rng = (folder / TAR).read_bytes(), random.Random(1)
    for _ in range(100):
        place = rng.randrange(8 * len(whole))
        changed = bytearray(whole)
        changed[place // 8] ^= 1 << place % 8
        (folder / TAR).write_bytes(changed)
        vouch(folder)
        try:
            found = read_records(folder, ["train"])
        except UserError:
            continue
        for old, new in zip(written, found, strict=True):
            assert torch.equal(old.positive_SLAKFHW, new.positive_SLAKFHW)
            assert torch.equal(old.negative_SLAKFHW, new.negative_SLAKFHW)


def test_a_tar_of_as_many_other_records_is_refused(folder: Path, tmp_path: Path) -> None:
    make_shards(tmp_path / "other", {"train": COUNT}, seed=1)
    shutil.copy(tmp_path / "other" / TAR, folder)
    assert "not the tar that shards.json names" in refused(folder)


def test_good_ones_are_read(folder: Path, tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to(folder)
    (folder / "train.bin").write_bytes((folder / TAR).read_bytes())
    (folder / TAR).unlink()
    (folder / TAR).symlink_to("train.bin")  # within the folder
    assert len(read_records(folder, ["train"])) == len(read_records(tmp_path / "link", ["train"])) == COUNT


# Other things under a tar's name


def _fifo(folder: Path) -> None:
    (folder / TAR).unlink()
    os.mkfifo(folder / TAR)


def _socket(folder: Path) -> None:
    (folder / TAR).unlink()
    back = Path.cwd()
    os.chdir(folder)  # a socket's path may have no more than 100 letters
    try:
        socket.socket(socket.AF_UNIX).bind(TAR)
    finally:
        os.chdir(back)


def _directory(folder: Path) -> None:
    (folder / TAR).unlink()
    (folder / TAR).mkdir()


def _link(folder: Path) -> None:
    shutil.move(folder / TAR, folder.parent / "elsewhere.tar")
    (folder / TAR).symlink_to(folder.parent / "elsewhere.tar")


def _device(folder: Path) -> None:
    (folder / TAR).unlink()
    (folder / TAR).symlink_to("/dev/zero")


def _nowhere(folder: Path) -> None:
    (folder / TAR).unlink()
    (folder / TAR).symlink_to("nowhere")


def _unlisted(folder: Path) -> None:
    shutil.copy(folder / TAR, folder / "train-00001.tar")


@pytest.mark.parametrize("change", [_fifo, _socket, _directory, _link, _device, _nowhere, _unlisted])
def test_only_regular_files_of_the_folder_are_read(change: Callable[[Path], None], folder: Path) -> None:
    change(folder)
    refused(folder)


# Tars that shards.json vouches for


def _header(name: str, size: int, kind: bytes = tarfile.REGTYPE) -> bytes:
    info = tarfile.TarInfo(name)
    info.size, info.type = size, kind
    return info.tobuf(tarfile.GNU_FORMAT)


def _compressed(whole: bytes) -> bytes:
    return gzip.compress(whole + bytes(50_000_000))


def _sparse(whole: bytes) -> bytes:
    return _header("a.maps.safetensors", 40 << 30, tarfile.GNUTYPE_SPARSE) + whole


def _huge(whole: bytes) -> bytes:
    return _header("a.maps.safetensors", 40 << 30) + whole


def _huge_name(whole: bytes) -> bytes:
    return _header("././@LongLink", 40 << 30, tarfile.GNUTYPE_LONGNAME) + whole


def _negative(whole: bytes) -> bytes:
    header = bytearray(_header("a.maps.safetensors", 0))
    header[124:136] = b"\xff" * 12  # -1, as GNU writes numbers that octal digits cannot
    header[148:156] = b" " * 8
    header[148:156] = b"%06o\0 " % sum(header)
    return bytes(header) + whole


def _larger_than_its_shape(whole: bytes) -> bytes:
    data = bytes(1 << 20)
    return _header("a.maps.safetensors", len(data)) + data + whole


def _long_json(whole: bytes) -> bytes:
    data = b"[" * (2 << 20)
    return _header("a.json", len(data)) + data + whole


def _deep_json(whole: bytes) -> bytes:
    data = b"[" * 100_000
    member = _header("a.json", len(data)) + data
    return _maps("a") + member + bytes(-len(member) % 512) + whole


def _maps(key: str) -> bytes:
    data = b"maps"
    return _header(f"{key}.maps.safetensors", len(data)) + data.ljust(512, b"\0")


def _rewritten(whole: bytes, change: Callable[[list[tuple[str, bytes]]], None]) -> bytes:
    with tarfile.open(fileobj=io.BytesIO(whole), mode="r:") as tar:
        members = [(info.name, tar.extractfile(info).read()) for info in tar]  # type: ignore[union-attr]
    change(members)
    made = io.BytesIO()
    with tarfile.open(fileobj=made, mode="w:") as tar:
        for name, data in members:
            info = tarfile.TarInfo(name)
            info.size = len(data)
            tar.addfile(info, io.BytesIO(data))
    return made.getvalue()


def _swapped(members: list[tuple[str, bytes]]) -> None:
    members[0], members[2] = (members[0][0], members[2][1]), (members[2][0], members[0][1])


def _doubled_member(members: list[tuple[str, bytes]]) -> None:
    members.insert(1, members[0])


def _doubled_record(members: list[tuple[str, bytes]]) -> None:
    members[2:4] = members[:2]


def _without_json(members: list[tuple[str, bytes]]) -> None:
    del members[3]


def _one_less(members: list[tuple[str, bytes]]) -> None:
    del members[2:4]


def _more(members: list[tuple[str, bytes]]) -> None:
    members.insert(2, ("x.pyd", b"import os"))


def _outside(members: list[tuple[str, bytes]]) -> None:
    members[0] = ("../" + members[0][0], members[0][1])


def _old(members: list[tuple[str, bytes]]) -> None:
    name, data = members[1]
    members[1] = name, json.dumps(json.loads(data) | {"schema": 1}).encode()


@pytest.mark.parametrize(
    "change",
    [_compressed, _sparse, _huge, _huge_name, _negative, _larger_than_its_shape, _long_json, _deep_json],
)
def test_members_are_bounded_before_they_are_read(change: Callable[[bytes], bytes], folder: Path) -> None:
    (folder / TAR).write_bytes(change((folder / TAR).read_bytes()))
    vouch(folder)
    refused(folder)


@pytest.mark.parametrize("share", [0.1, 0.4, 0.7])
def test_cut_tars_are_refused(share: float, folder: Path) -> None:
    whole = (folder / TAR).read_bytes()
    (folder / TAR).write_bytes(whole[: int(share * len(whole))])
    vouch(folder)
    refused(folder)


@pytest.mark.parametrize(
    "change",
    [_swapped, _doubled_member, _doubled_record, _without_json, _one_less, _more, _outside, _old],
)
def test_members_go_together(change: Callable[[list[tuple[str, bytes]]], None], folder: Path) -> None:
    (folder / TAR).write_bytes(_rewritten((folder / TAR).read_bytes(), change))
    vouch(folder)
    refused(folder)


# shards.json

JSON: dict[str, Any] = {
    "not an object": [],
    "no field": {},
    "unknown field": {"more": 1},
    "schema": {"schema": 1},
    "infinite sigma": {"sigmas": [float("inf"), 0.9]},
    "nan sigma": {"sigmas": [float("nan"), 0.9]},
    "negative sigma": {"sigmas": [0.9, -0.1]},
    "sigma over 1": {"sigmas": [1.5, 0.9]},
    "sigmas twice": {"sigmas": [0.9, 0.9]},
    "rising sigmas": {"sigmas": [0.5, 0.9]},
    "no sigmas": {"sigmas": []},
    "more sigmas than steps": {"steps": 1},
    "layers twice": {"layers": [0, 0]},
    "negative layer": {"layers": [-1, 0]},
    "huge layer": {"layers": [0, 10**100]},
    "heads twice": {"heads": [1, 1]},
    "boolean head": {"heads": [True, False]},
    "no steps": {"steps": 0},
    "empty grid": {"grid": [0, 8, 8]},
    "huge grid": {"grid": [10**9, 10**9, 10**9], "token_grid": [10**9, 10**9, 10**9]},
    "large maps": {"grid": [4096, 4096, 4096], "token_grid": [4096, 4096, 4096]},
    "finer than its tokens": {"token_grid": [2, 8, 8]},
    "slots": {"slots": 10**6},
    "empty generator": {"generator": {}},
    "nameless generator": {"generator": {"name": "", "class": "", "fingerprint": ""}},
    "generator of numbers": {"generator": {"name": 1, "class": 2, "fingerprint": 3}},
    "negative count": {"counts": {"train": {"left": 5, "right": -1}}},
    "infinite count": {"counts": {"train": {"left": float("inf")}}},
    "unknown label": {"counts": {"train": {"sideways": 4}}},
    "unknown split": {"counts": {"../train": {"left": 4}}},
    "no labels": {"labels": {}},
    "infinite entities": {"labels": {"motion": {"entities": float("inf"), "labels": {"left": ["l"], "right": ["r"]}}}},
    "labels of numbers": {"labels": {"motion": {"entities": 1, "labels": [[1, 2], [3, 4]]}}},
    "a path as tar": {"tars": {"../train-00000.tar": "0" * 64}},
    "no digest": {"tars": {TAR: ""}},
    "no tars": {"tars": {}},
}


@pytest.mark.parametrize("name", JSON)
def test_shards_json_is_checked_before_it_is_used(name: str, folder: Path) -> None:
    info, changes = json.loads((folder / "shards.json").read_text()), JSON[name]
    (folder / "shards.json").write_text(json.dumps(info | changes if changes else changes))
    refused(folder)


@pytest.mark.parametrize(
    "text", [b"", b"{", b"\xff\xfe", b"[" * 100_000, b'{"a":' * 100_000, b"1" * 10_000, b"null", b'"text"', b"NaN"]
)
def test_shards_json_that_is_none(text: bytes, folder: Path) -> None:
    (folder / "shards.json").write_bytes(text)
    refused(folder)


def test_shards_json_that_is_no_file(folder: Path) -> None:
    (folder / "shards.json").unlink()
    os.mkfifo(folder / "shards.json")
    refused(folder)


def test_what_is_written_can_be_read(tmp_path: Path) -> None:
    record = make_record("x", "left", 0)
    record.meta["prompt_positive"] = "x" * (1 << 20)
    with pytest.raises(UserError, match="bytes of JSON"), ShardWriter(tmp_path, "train") as writer:
        writer.write(record)


def test_equal_records_give_equal_digests(tmp_path: Path, good: Path) -> None:
    assert ShardInfo.load(make_shards(tmp_path, {"train": COUNT})).tars == ShardInfo.load(good).tars
