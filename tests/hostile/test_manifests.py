"""Manifests with rows that cannot be used, folders that others are at work in, and parts that are damaged."""

from __future__ import annotations

import itertools
import json
import os
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from cvg.common import cli
from cvg.common.errors import UserError
from cvg.common.files import alone, read_json
from cvg.common.sizes import Size
from cvg.generators import load_generator
from cvg.generators.family import Family
from cvg.media.video import read_video, write_video
from cvg.shards.shards import SPLITS, ShardInfo
from data_prep import invert, manifest, render
from tests.helpers.labels import LABELS
from tests.helpers.tiny import make_pipeline

SIZE = Size(5, 32, 32)


@pytest.fixture(scope="module")
def generator(tmp_path_factory: pytest.TempPathFactory) -> str:
    return str(make_pipeline(tmp_path_factory.mktemp("generator")))


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    frames = np.random.default_rng(0).integers(0, 255, (13, 64, 64, 3), np.uint8)
    write_video(tmp_path / "good.mp4", frames, 8)
    return tmp_path


def line(**changes: Any) -> dict[str, Any]:
    row = {"video": "good.mp4", "template": "a {e0} {r0}", "entities": ["red circle"], "label": "left"}
    return row | changes


def write(folder: Path, rows: Sequence[dict[str, Any]]) -> Path:
    path = folder / "manifest.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def run(data: Path, out: Path, generator: str, **options: Any) -> ShardInfo:
    settings: dict[str, Any] = {"steps": 3, "at": [0, 1], "layers": [0], "method": "noising", "size": SIZE}
    invert.main(data, str(out), generator, **settings | options)
    return ShardInfo.load(out)


def told(out: Path) -> list[dict[str, Any]]:
    """What the parts say of rows."""
    return [json.loads(line) for path in (out / "parts").glob("*.outcomes.jsonl") for line in path.open()]


def rejects(out: Path) -> list[dict[str, Any]]:
    return [json.loads(row) for row in (out / "rejects.jsonl").read_text().splitlines()]


BAD: dict[str, tuple[dict[str, Any], str]] = {
    "missing": ({"video": "none.mp4"}, "unreadable"),
    "folder": ({"video": "."}, "unreadable"),
    "device": ({"video": "/dev/zero"}, "unreadable"),
    "long": ({"video": "n" * 300 + ".mp4"}, "unreadable"),
    "null": ({"video": "a\0b.mp4"}, "unreadable"),
    "surrogate": ({"video": "\ud800.mp4"}, "malformed"),
    "prompt-surrogate": ({"template": "a {e0} {r0} \ud800"}, "malformed"),
    "number": ({"video": 3}, "malformed"),
    "label": ({"label": "beside"}, "malformed"),
    "key": ({"color": "red"}, "malformed"),
    "no-video": ({"video": ""}, "malformed"),
    "entities": ({"entities": []}, "malformed"),
    "two-for-one": ({"entities": ["dog", "cat"]}, "malformed"),
    "placeholder": ({"template": "a {e0} {r0} {e7}"}, "malformed"),
    "wording": ({"wordings": ["moving right"]}, "malformed"),
    "nothing-asked": ({"label": None}, "malformed"),
    "nan": ({"start": float("nan")}, "malformed"),
    "backwards": ({"start": 0.8, "end": 0.2}, "malformed"),
    "split": ({"split": "dev"}, "malformed"),
    "source": ({"source": "web"}, "malformed"),
    "nested": ({"entities": [["dog"]]}, "malformed"),
    "first": ({}, "malformed"),
    "swapped": (
        {
            "template": "a {e0} {r0} a {e1}, the same {r1}",
            "entities": ["dog", "cat"],
            "label": None,
            "relations": [{"label": "above", "entities": [0, 1]}, {"label": "above", "entities": [1, 0]}],
        },
        "malformed",
    ),
    "late": ({"start": 100, "end": 101}, "unreadable"),
    "beyond": ({"end": 100.0}, "unreadable"),
    "short": ({"end": 0.2}, "unreadable"),
    "quote": ({"template": "a {e0}\u2019s friend {r0}"}, "prompt"),
    "spaces": ({"template": "a  {e0} {r0}"}, "prompt"),
    "length": ({"template": "very " * 600 + "{e0} {r0}"}, "prompt"),
}


def test_a_bad_row_is_left_out_by_name_and_line_and_the_others_are_not(
    folder: Path, generator: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    bad = [line(id=name, **changes) for name, (changes, _) in BAD.items()]
    rows = [line(id="first"), *bad, line(id="last")]
    info = run(write(folder, rows), tmp_path / "out", generator)
    assert sum(info.count(split) for split in SPLITS) == 2
    found = rejects(tmp_path / "out")
    assert [reject["rejected"] for reject in found] == [why for _, why in BAD.values()]
    assert [reject["line"] for reject in found] == list(range(2, 2 + len(BAD)))
    assert all(reject["id"] in (name, f"line-{reject['line']}") for name, reject in zip(BAD, found, strict=True))
    assert all(reject["detail"] and "\n" not in reject["detail"] for reject in found)
    assert f" of {len(rows)} rows are malformed and will be left out; line 7: " in capsys.readouterr().err
    again = run(folder / "manifest.jsonl", tmp_path / "out", generator)
    assert again == info


def test_a_bad_trajectory_is_one_row_s(folder: Path, generator: str, tmp_path: Path) -> None:
    sigmas = torch.tensor([1.0, 2 / 3])
    good = {"latents": torch.zeros(2, 16, 4, 8, 8), "sigmas": sigmas}
    model = load_generator(generator)
    clean = model.encode_video(torch.zeros(1, 3, *SIZE))
    good["latents"] = torch.randn(2, *clean.shape[1:])
    good["sigmas"] = model.schedule(3, SIZE).levels[:2].float()
    kinds = {
        "good": good,
        "shape": good | {"latents": torch.zeros(2, 3, 4, 5, 6)},
        "few": good | {"latents": good["latents"][:1]},
        "other": good | {"sigmas": torch.tensor([0.02, 0.01])},
        "nan": good | {"latents": good["latents"] * float("nan")},
        "sigmas": {"latents": good["latents"]},
    }
    rows = []
    for name, tensors in kinds.items():
        save_file({key: value.contiguous() for key, value in tensors.items()}, folder / f"{name}.safetensors")
        rows.append(line(id=name, trajectory=f"{name}.safetensors"))
    (folder / "empty.safetensors").touch()
    rows += [line(id="empty", trajectory="empty.safetensors"), line(id="none"), line(id="gone", trajectory="x")]
    info = run(write(folder, rows), tmp_path / "out", generator, method="trajectory")
    assert sum(info.count(split) for split in SPLITS) == 1
    assert info.rejected == {"trajectory": len(rows) - 2, "not finite": 1}


TEXTS = [b"{", b"[]", b"null", b"1", b'"text"', b"{}", b"NaN", b"[" * 100_000, b'{"a":' * 100_000, b"\0", b"1" * 9999]


@pytest.mark.parametrize("text", TEXTS)
def test_a_line_that_is_no_row_is_left_out(text: bytes, tmp_path: Path) -> None:
    path = write(tmp_path, [line(id="good")])
    path.write_bytes(text + b"\n" + path.read_bytes())
    bad, good = manifest.load(path, LABELS)
    assert bad.fault and "\n" not in bad.fault and (bad.id, bad.line) == ("line-1", 1)
    assert (good.id, good.fault) == ("good", "")
    path.write_bytes(text)
    with pytest.raises(UserError) as caught:
        manifest.load(path, LABELS)
    assert str(caught.value) == f"{path}:1: {bad.fault}"


NONE = {
    "empty": b"",
    "blank": b"\n \n",
    "utf-16": b"\xff\xfe{\x00}\x00",
    "latin": b'{"video": "\xe9.mp4"}',
    "compressed": b"\x1f\x8b\x08\x00",
}


@pytest.mark.parametrize("name", NONE)
def test_a_manifest_that_is_none(name: str, tmp_path: Path) -> None:
    path = tmp_path / "manifest.jsonl"
    path.write_bytes(NONE[name])
    with pytest.raises(UserError, match="has no rows|not UTF-8 text") as caught:
        manifest.load(path, LABELS)
    assert str(path) in str(caught.value) and "\n" not in str(caught.value)


def test_a_manifest_that_is_no_file(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "manifest.jsonl")
    for path in (tmp_path, tmp_path / "manifest.jsonl", tmp_path / "none.jsonl"):
        with pytest.raises(UserError, match="cannot be read"):
            manifest.load(path, LABELS)


def test_a_row_that_the_generator_fails_on_is_left_out(
    folder: Path, generator: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    data = write(folder, [line(id=name) for name in "abc"])
    encode, calls = Family.encode_video, itertools.count()

    def fail(self: Family, video: torch.Tensor) -> torch.Tensor:
        if next(calls) == 2:  # the first call asks for the grid
            raise RuntimeError("a kernel\nhas no such shape")
        return encode(self, video)

    monkeypatch.setattr(Family, "encode_video", fail)
    info = run(data, tmp_path / "out", generator)
    assert info.rejected == {"model": 1} and sum(info.count(split) for split in SPLITS) == 2
    (reject,) = rejects(tmp_path / "out")
    assert (reject["id"], reject["line"], reject["detail"]) == ("b", 2, "the generator failed on it (a kernel)")


@pytest.mark.parametrize(
    ("error", "reason"),
    [
        (torch.OutOfMemoryError("out of memory"), "error: out of memory on device cpu"),
        (MemoryError(), "error: out of memory on device cpu"),
        (torch.AcceleratorError("illegal access", 1), "error: the device failed ("),
    ],
)
def test_what_every_row_would_fail_on_ends_the_run(
    error: Exception,
    reason: str,
    folder: Path,
    generator: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    data, out = write(folder, [line(id="a"), line(id="b")]), tmp_path / "out"

    def fail(*args: Any) -> None:
        raise error

    monkeypatch.setattr("data_prep.inversion.recording.Recorder.run", fail)
    args = [f"--data={data}", f"--out={out}", f"--generator={generator}", "--steps=3", "--at=[0]", "--method=noising"]
    with pytest.raises(SystemExit) as caught:
        cli.run(invert.main, "python -m data_prep.invert", args=args)
    said = capsys.readouterr().err
    assert caught.value.code == 2 and reason in said and "Traceback" not in said
    assert not told(out)  # no row is to blame


def test_when_the_first_rows_all_fail_it_stops_once_and_says_what_to_do(
    folder: Path, generator: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("data_prep.inversion.sharding.FIRST", 2)
    data = write(folder, [line(id=f"v{number}") for number in range(3)])
    out, options = tmp_path / "out", {"method": "inversion", "min_psnr": 90.0, "iterations": 0}
    with pytest.raises(UserError, match=r"first 2 videos .*replay.*--generator.*--method noising.*--min_psnr"):
        run(data, out, generator, **options)
    assert len(told(out)) == 2
    assert sum(run(data, out, generator).count(split) for split in SPLITS) == 3  # the folder is free for it
    with pytest.raises(UserError):
        run(data, tmp_path / "again", generator, **options)
    with pytest.raises(SystemExit):  # all the same, to the end
        run(data, tmp_path / "again", generator, **options)
    assert len(rejects(tmp_path / "again")) == 3


@pytest.mark.parametrize(
    "options",
    [
        {"size": (12, 64, 64)},
        {"size": (13, 60, 64)},
        {"size": (13, 64, 68)},
        {"min_psnr": float("nan")},
        {"iterations": -1},
        {"method": "trajectory"},
    ],
)
def test_settings_that_cannot_be_are_refused_before_any_work(
    folder: Path, generator: str, tmp_path: Path, options: dict[str, Any]
) -> None:
    options = {name: Size(*value) if name == "size" else value for name, value in options.items()}
    with pytest.raises(UserError):
        run(write(folder, [line()]), tmp_path / "out", generator, **options)
    assert not (tmp_path / "out").exists()


# Names and splits


def two(**changes: Any) -> dict[str, Any]:
    relations = [{"label": "left", "entities": [0]}, {"label": "above", "entities": [0, 1]}]
    row = {"video": "x.mp4", "template": "a {e0} {r0} {r1} a {e1}", "entities": ["dog", "cat"], "relations": relations}
    return row | changes


@pytest.mark.parametrize("first", [line(id="x_r0"), line(id="x_r1")])
def test_two_rows_cannot_write_one_record(tmp_path: Path, first: dict[str, Any]) -> None:
    for rows in ([first, two(id="x")], [two(id="x"), first]):
        good, bad = manifest.load(write(tmp_path, rows), LABELS)
        assert not good.fault and re.match(r"id .*already that of line 1; make it unique", bad.fault)
    made = manifest.load(write(tmp_path, [first, two(), two()]), LABELS)  # names that are made give way
    keys = [key for row in made for key in row.keys]
    assert len(set(keys)) == len(keys) == 5


def test_a_mark_of_the_encoding_is_no_part_of_the_first_row(tmp_path: Path) -> None:
    path = write(tmp_path, [line()])
    path.write_bytes(b"\xef\xbb\xbf" + path.read_bytes())
    assert len(manifest.load(path, LABELS)) == 1


@pytest.mark.parametrize("count", [1, 2, 3, 5, 9])
@pytest.mark.parametrize("given", [{}, {"split": "test"}, {"split": "val"}])
def test_each_split_has_a_row_as_far_as_there_are_any(tmp_path: Path, count: int, given: dict[str, str]) -> None:
    for seed in range(10):
        rows = [line(video=f"{seed}-{i}.mp4") for i in range(count)] + ([line(**given)] if given else [])
        path = write(tmp_path, rows)
        loaded = manifest.load(path, LABELS)
        assert manifest.load(path, LABELS) == loaded
        assert len({row.split for row in loaded}) == min(len(rows), 3)
        assert len(rows) < 2 or any(row.split == "train" for row in loaded)
        assert not given or loaded[-1].split == given["split"]


def test_a_manifest_without_a_row_to_validate_by_is_said_before_the_work(
    folder: Path, generator: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run(write(folder, [line(split="train")]), tmp_path / "out", generator)
    assert "note: no row of the split val (train 1, val 0, test 0)" in capsys.readouterr().err


def test_what_is_cut_off_is_said_once_and_letterboxing_keeps_it(
    folder: Path, generator: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write_video(folder / "wide.mp4", np.full((13, 90, 160, 3), 200, np.uint8), 8)
    data = write(folder, [line(video="wide.mp4"), line(video="wide.mp4")])
    run(data, tmp_path / "out", generator)
    assert capsys.readouterr().err.count("videos of 160 x 90 pixels lose 44 % of each picture") == 1
    run(data, tmp_path / "boxed", generator, fit="letterbox")
    assert "lose" not in capsys.readouterr().err
    frames = read_video(folder / "wide.mp4", 13, 64, 64, fit="letterbox")
    assert frames[:, 32].min() > 180 and frames[:, :12].max() < 20 and frames[:, -12:].max() < 20


# Going on


def digests(out: Path) -> dict[str, str]:
    return ShardInfo.load(out).tars


def stopped(data: Path, out: Path, generator: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Invert all rows, and stop before they are packed."""

    def stop(*_: Any) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr("data_prep.inversion.packing.Packer.finish", stop)
        with pytest.raises(KeyboardInterrupt):
            run(data, out, generator)


def test_parts_that_are_damaged_or_gone_are_made_again(
    folder: Path, generator: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    data = write(folder, [line(id=f"v{number}") for number in range(6)])
    run(data, tmp_path / "whole", generator)
    out = tmp_path / "out"
    stopped(data, out, generator, monkeypatch)
    parts = out / "parts"
    (lines,) = parts.glob("*.outcomes.jsonl")
    places, texts = told(out), lines.read_text().splitlines()
    records = parts / places[0]["file"]
    texts[1:5] = ["", "[]", '{"row": 3}', texts[4].replace('"file": "', '"file": "../')]
    lines.write_text("\n".join(texts)[:-9])  # the last one was being written
    maps = bytearray(records.read_bytes())
    maps[places[0]["at"] + places[0]["sizes"][0][0] - 5] ^= 16
    records.write_bytes(maps)
    (parts / ".v5.0123abcd.part.json").write_text("left by a killed run")
    (out / ".train-00000.0123abcd.part.tar").write_text("left by a killed run")
    run(data, out, generator)
    assert digests(out) == digests(tmp_path / "whole")
    names = {"run.json", "files.json", "shards.json", "rejects.jsonl"}
    assert {path.name for path in out.iterdir()} == names | set(digests(out))


def test_shards_of_unknown_settings_and_of_videos_that_changed_are_not_taken(
    folder: Path, generator: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    data, out, half = write(folder, [line(id="a"), line(id="b")]), tmp_path / "out", tmp_path / "half"
    run(data, out, generator)
    stopped(data, half, generator, monkeypatch)
    before = digests(out)
    os.utime(folder / "good.mp4", (1, 1))
    run(data, out, generator)  # a copy of the same bytes is the same
    write_video(folder / "good.mp4", np.full((13, 64, 64, 3), 90, np.uint8), 8)
    with pytest.raises(UserError, match=r"2 of its videos have changed since, .*good.mp4"):
        run(data, out, generator)
    run(data, half, generator)  # it was not finished: the rows are done again
    assert digests(half) != before
    for damage in (b"", b"{", None):
        (out / "run.json").unlink() if damage is None else (out / "run.json").write_bytes(damage)
        with pytest.raises(UserError, match="settings that are not known"):
            run(data, out, generator)


def test_a_second_run_in_one_folder_says_so(folder: Path, generator: str, tmp_path: Path) -> None:
    data = write(folder, [line()])
    with alone(tmp_path / "out"), pytest.raises(UserError, match="another process is writing there"):
        run(data, tmp_path / "out", generator)
    with alone(tmp_path / "clips"), pytest.raises(UserError, match="another process is writing there"):
        render.main(tmp_path / "clips", 1)


def test_a_full_disk_is_one_message(
    folder: Path, generator: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(self: Path, data: bytes) -> int:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path, "write_bytes", full)
    with pytest.raises(UserError, match="cannot be written .No space left on device"):
        run(write(folder, [line()]), tmp_path / "out", generator)
    monkeypatch.undo()
    assert sum(run(folder / "manifest.jsonl", tmp_path / "out", generator).counts["train"].values()) == 1
    assert read_json(tmp_path / "out" / "files.json")
