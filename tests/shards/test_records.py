"""The shard format: round trips, repeatable bytes, and every way a shard can be bad."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import safetensors.torch
import torch

from cvg.common import hub
from cvg.common.errors import UserError
from cvg.common.typed import to_dict
from cvg.shards.records import Record, decode, encode, most_maps
from cvg.shards.shards import ShardInfo, ShardWriter
from cvg.shards.tars import read_shard

Make = Callable[[str, str, int], Record]


def test_round_trip_through_a_tar(record_factory: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WDS_SECURE", "1")
    records = [record_factory(f"a-{i}", label, i) for i, label in enumerate(("left", "above", "up"))]
    with ShardWriter(tmp_path, "val", samples=2) as writer:
        for record in records:
            writer.write(record)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["val-00000.tar", "val-00001.tar"]
    most = most_maps(records[0].positive_SLAKFHW.shape)
    read = [decode(m) for name, digest in writer.tars.items() for m in read_shard(tmp_path / name, digest, most)]
    for old, new in zip(records, read, strict=True):
        assert (old.key, old.present, old.label, old.meta) == (new.key, new.present, new.label, new.meta)
        assert torch.equal(old.positive_SLAKFHW, new.positive_SLAKFHW)
        assert torch.equal(old.negative_SLAKFHW, new.negative_SLAKFHW)


def test_bytes_are_repeatable(record_factory: Make, tmp_path: Path) -> None:
    for folder in ("a", "b"):
        with ShardWriter(tmp_path / folder, "train") as writer:
            writer.write(record_factory("x", "left", 1))
    assert (tmp_path / "a/train-00000.tar").read_bytes() == (tmp_path / "b/train-00000.tar").read_bytes()


def test_a_failed_writer_leaves_nothing(record_factory: Make, tmp_path: Path) -> None:
    bad = replace(record_factory("y", "left", 1), present=(False, False))

    def write() -> None:
        with ShardWriter(tmp_path, "train") as writer:
            writer.write(record_factory("x", "left", 1))
            writer.write(bad)

    with pytest.raises(UserError):
        write()
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"key": "a.b"}, "the key must be"),
        ({"positive_SLAKFHW": torch.zeros(2, 2, 2, 2, 4, 8, 8)}, "expected float16"),
        ({"positive_SLAKFHW": torch.zeros(2, 2, 2, 2, 4, 8, 4).half()}, "differ in shape"),
        ({"negative_SLAKFHW": torch.full((2, 2, 2, 2, 4, 8, 8), torch.inf).half()}, "not finite"),
        ({"negative_SLAKFHW": torch.full((2, 2, 2, 2, 4, 8, 8), -0.5).half()}, "values from -0.5 to -0.5"),
        ({"negative_SLAKFHW": torch.full((2, 2, 2, 2, 4, 8, 8), 1.5).half()}, "values from 1.5 to 1.5"),
        ({"present": (True,)}, "flags in `present`"),
        ({"present": (False, False)}, "no entity"),
        ({"present": (False, True)}, "absent entity slot are not zero"),
        ({"meta": {"group": "motion"}}, "meta lacks prompt_positive"),
    ],
)
def test_malformed_records_are_refused(record_factory: Make, changes: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError, match=message):
        encode(replace(record_factory("x", "left", 1), **changes))


def test_meta_must_be_json(record_factory: Make) -> None:
    record = record_factory("x", "left", 1)
    record.meta["psnr"] = float("nan")
    with pytest.raises(UserError, match="meta is not JSON"):
        encode(record)


def test_damaged_members_are_refused(record_factory: Make) -> None:
    members: dict[str, Any] = dict(encode(record_factory("x", "left", 1)))
    header = json.loads(members["json"])
    other = encode(record_factory("x", "left", 2))
    cases: list[tuple[dict[str, Any], str]] = [
        ({"maps.safetensors": b"not safetensors"}, "damaged"),
        ({"json": b"{"}, "damaged"),
        ({"json": json.dumps(header | {"schema": 99}).encode()}, "schema 99"),
        ({"__key__": "y"}, "its JSON says the key is 'x'"),
        ({"maps.safetensors": safetensors.torch.save({"positive": torch.zeros(1)})}, "damaged"),
        ({"maps.safetensors": other["maps.safetensors"]}, "its maps are not those that were written"),
    ]
    for change, message in cases:
        with pytest.raises(UserError, match=message):
            decode(members | change)
    with pytest.raises(UserError, match="expected the members"):
        decode({"__key__": "x", "pyd": b""})


def test_damaged_tars_are_named(tmp_path: Path) -> None:
    (tmp_path / "train-00000.tar").write_bytes(b"no tar at all" * 100)
    digest = hashlib.sha256(b"no tar at all" * 100).hexdigest()
    for name in ("train-00000.tar", "train-00001.tar"):
        with pytest.raises(UserError, match=name):
            list(read_shard(tmp_path / name, digest, 1000))


def test_shard_info_round_trip_and_checks(shards: Path, tmp_path: Path) -> None:
    info = ShardInfo.load(shards)
    assert info.shape == (2, 2, 2, 2, 4, 8, 8)
    assert info.count("train") == 160 and info.count("nothing") == 0
    info.save(tmp_path)
    assert ShardInfo.load(tmp_path) == info
    for change, message in (
        ({"sigmas": [0.5, 0.9]}, "falling"),
        ({"grid": [4, 8]}, "three positive"),
        ({"token_grid": [8, 16]}, "three positive"),
        ({"schema": 1}, "'schema' is 1; expected 2"),
        ({"slots": 0}, "'slots' is 0; expected greater than or equal to 1"),
        ({"slots": 3}, "'slots' is 3; expected less than or equal to 2"),
        ({"layers": ["0"]}, r"""'layers' is \["0"\]; expected a list of different integers"""),
        ({"counts": {"train": {"sideways": 1}}}, "sideways"),
        ({"counts": {"dev": {}}}, "expected numbers of records by split .train, val, test. and label"),
    ):
        with pytest.raises(UserError, match=message):
            replace(info, **change).save(tmp_path)
    whole = to_dict(info)
    for name in set(whole) - {"records"}:  # also those that need not be given to make one
        (tmp_path / "shards.json").write_text(json.dumps({key: whole[key] for key in whole if key != name}))
        with pytest.raises(UserError, match=rf"shards.json: no '{name}'; .*write the shards again"):
            ShardInfo.load(tmp_path)
    for text, message in ((json.dumps(whole | {"more": 1}), "unknown key 'more'; known: generator"), ("[]", "a list")):
        (tmp_path / "shards.json").write_text(text)
        with pytest.raises(UserError, match=message):
            ShardInfo.load(tmp_path)
    with pytest.raises(UserError, match="no shards.json"):
        ShardInfo.load(tmp_path / "nowhere")


def test_asset_names(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(hub, "weights", lambda package: tmp_path)
    (tmp_path / "shapes-wan").mkdir()
    assert hub.path("shapes-wan") == tmp_path / "shapes-wan"
    monkeypatch.setattr(hub, "_on_hub", lambda name, token: name)  # the Hub has it
    assert hub.path("some/model") == "some/model"
    with pytest.raises(UserError, match="shipped: shapes-wan"):
        hub.path("shapes-nothing")
