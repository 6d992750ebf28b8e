"""Annotation files that are wrong, cut short or made to harm: one line with file and place, or a reject by name."""

from __future__ import annotations

import io
import json
import tarfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from cvg.common.cli import run
from data_prep import collect
from tests.data_prep.sources import forms
from tests.data_prep.sources.helpers import rejects

DEEP = "[" * 200_000


@pytest.fixture(scope="module")
def clip(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, forms.Clip]:
    folder = tmp_path_factory.mktemp("one")
    return folder, forms.clips(folder, ["spatial"], 1)[0]


def call(source: str, root: Path, out: Path, *more: str) -> int:
    args = [f"--source={source}", f"--root={root}", f"--out={out}", "--labels=shapes", *more]
    try:
        run(collect.main, "python -m data_prep.collect", args=args)
    except SystemExit as end:
        return int(end.code or 0)
    return 0


def refused(source: str, root: Path, capsys: pytest.CaptureFixture[str], *more: str) -> str:
    """The one line that a command ends with."""
    assert call(source, root, root.parent / "out" / "m.jsonl", *more) == 2
    lines = [line for line in capsys.readouterr().err.splitlines() if line.startswith("error: ")]
    assert len(lines) == 1 and not (root.parent / "out" / "m.jsonl").exists()
    return lines[0]


def changed(clip: forms.Clip, path: list[str | int], value: Any) -> dict[str, Any]:
    """An annotation with another value somewhere."""
    whole: Any = json.loads(json.dumps(forms.vidor(clip, {})))
    inner = whole
    for part in path[:-1]:
        inner = inner[part]
    inner[path[-1]] = value
    return whole  # type: ignore[no-any-return]


BOX: list[str | int] = ["trajectories", 3, 0, "bbox"]


@pytest.mark.parametrize(
    ("path", "value", "reason", "detail"),
    [
        ([*BOX, "xmin"], float("nan"), "malformed", "trajectories.3.0.bbox.xmin"),
        ([*BOX, "xmax"], float("inf"), "malformed", "trajectories.3.0.bbox.xmax"),
        ([*BOX, "xmax"], -1e300, "malformed", "box"),
        ([*BOX, "xmin"], "left", "malformed", "trajectories.3.0.bbox.xmin"),
        (["trajectories", 2, 0, "tid"], 77, "malformed", "tid 77"),
        (["trajectories"], {"0": []}, "malformed", "trajectories"),
        (["fps"], 0, "malformed", "fps"),
        (["fps"], 1e9, "malformed", "fps"),
        (["width"], -1, "malformed", "width"),
        (["height"], 10**400, "malformed", "height"),
        (["subject/objects", 0, "category"], "", "malformed", "subject/objects.0.category"),
        (["subject/objects", 1, "tid"], 0, "malformed", "twice"),
        (["video_path"], "../../etc/passwd.mp4", "outside", "leads out of"),
        (["video_path"], "/etc/passwd", "outside", "leads out of"),
        (["video_path"], "a\0b.mp4", "outside", "leads out of"),
        (["video_path"], "nowhere.mp4", "no video", "'nowhere.mp4' is not in"),
    ],
)
def test_a_bad_annotation_is_a_reject_and_the_others_go_on(
    path: list[str | int],
    value: Any,
    reason: str,
    detail: str,
    clip: tuple[Path, forms.Clip],
    tmp_path: Path,
) -> None:
    videos, made = clip
    text = json.dumps(changed(made, path, value))
    bad = tmp_path / "root" / "bad.json"
    bad.parent.mkdir()
    bad.write_text(text)
    forms.write_json(tmp_path / "root" / "good.json", forms.vidor(made, {}))
    assert call("vidor", tmp_path / "root", tmp_path / "m.jsonl", f"--videos={videos}") == 0
    (found,) = [each for each in rejects(tmp_path / "m.jsonl") if each["where"].startswith(str(bad))]
    assert found["reason"] == reason and detail in found["detail"]


@pytest.mark.parametrize("text", ["", "{", DEEP, '{"fps": ' + "9" * 5000 + "}", "\x00", "[1, 2]", "null", '"x"'])
def test_where_no_annotation_is_good_the_first_is_told(
    text: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "root").mkdir()
    (tmp_path / "root" / "1.json").write_text(text)
    line = refused("vidor", tmp_path / "root", capsys)
    assert "gives no row (malformed 1)" in line and "1.json" in line


def test_links_that_lead_out_are_not_followed(
    clip: tuple[Path, forms.Clip], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    videos, made = clip
    root = tmp_path / "root"
    forms.write_json(root / "1.json", forms.vidor(made, {}))
    (root / f"{made.name}.mp4").symlink_to(videos / f"{made.name}.mp4")
    assert "is a link that leads out of" in refused("vidor", root, capsys)
    (root / f"{made.name}.mp4").unlink()
    (root / f"{made.name}.mp4").symlink_to("nothing.mp4")
    assert "no video 1" in refused("vidor", root, capsys)
    (root / f"{made.name}.mp4").unlink()
    (tmp_path / "outside.json").write_text(json.dumps(forms.vidor(made, {})))
    (root / "1.json").unlink()
    (root / "1.json").symlink_to(tmp_path / "outside.json")
    assert "no annotation" in refused("vidor", root, capsys)


def test_a_video_that_is_none_is_a_reject(
    clip: tuple[Path, forms.Clip], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    _, made = clip
    root = tmp_path / "root"
    forms.write_json(root / "1.json", forms.vidor(made, {}))
    (root / f"{made.name}.mp4").write_bytes(b"no video")
    assert "unreadable" in refused("vidor", root, capsys)


Spoil = Callable[[list[dict[str, Any]]], str]


@pytest.mark.parametrize(
    ("spoil", "told"),
    [
        (lambda lines: json.dumps(lines)[:-5], "train.json: not valid JSON"),
        (lambda lines: json.dumps({"1": lines}), "train.json: a dict, not a list"),
        (lambda lines: DEEP, "train.json: not valid JSON"),
        (lambda lines: json.dumps([lines[0] | {"placeholders": []}]), "train.json: 0: 0 placeholders for 2 places"),
        (lambda lines: json.dumps([lines[0] | {"template": 5}]), "train.json: 0: template"),
        (lambda lines: json.dumps([lines[0] | {"id": "../x"}]), "train.json: 0: video '../x' leads out"),
        (lambda lines: json.dumps([lines[0] | {"placeholders": ["a", " "]}]), "train.json: 0: 2 placeholders"),
        (lambda lines: json.dumps([lines[0] | {"template": "[x] " * 9, "placeholders": ["a"] * 9}]), "train.json: 0"),
        (lambda lines: json.dumps([7]), "train.json: 0"),
    ],
)
def test_sentences(
    spoil: Spoil, told: str, clip: tuple[Path, forms.Clip], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    videos, made = clip
    (tmp_path / "root").mkdir()
    (tmp_path / "root" / "train.json").write_text(spoil(forms.something([made])))
    assert told in refused("something-something-v2", tmp_path / "root", capsys, f"--videos={videos}")


@pytest.mark.parametrize(
    ("name", "data", "told"),
    [
        ("a.csv", b'video,caption\n"a.mp4,x', "a.csv:1: not valid CSV"),
        ("a.csv", b"video,caption\n\xff\xfe,x", "a.csv: cannot be read"),
        ("a.csv", b"video,caption\n1.mp4,a,b,c", "a.csv:2: has more or fewer cells"),
        ("a.csv", b"video,caption\n1.mp4," + b"a" * 200_000, "a.csv"),
        ("a.csv", b"what,ever\n1,2", "a.csv:2: needs a video"),
        ("a.csv", b"video,caption,start,end\n1.mp4,a red circle,nan,3", "a.csv:2: start nan"),
        ("a.csv", b"video,caption,start,end\n1.mp4,a red circle,5,3", "a.csv:2: 5 to 3 s is empty"),
        ("a.jsonl", b'{"video": "1.mp4"', "a.jsonl:1: not valid JSON"),
        ("a.jsonl", DEEP.encode(), "a.jsonl:1: not valid JSON"),
        ("a.jsonl", b'{"video": "../1.mp4", "caption": "a red circle"}', "a.jsonl:1: video '../1.mp4' leads out"),
        ("a.jsonl", b'{"video": ["1"], "caption": {}}', "a.jsonl:1: needs a video"),
        ("a.jsonl", b'{"video": true, "caption": "x"}', "a.jsonl:1: needs a video"),
        ("a.tar", b"no tar at all", "a.tar: after its beginning: damaged"),
    ],
)
def test_captions(name: str, data: bytes, told: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "root").mkdir()
    (tmp_path / "root" / name).write_bytes(data)
    assert told in refused("captioned", tmp_path / "root", capsys)


def test_a_tar_that_ends_early_gives_what_came_before(clip: tuple[Path, forms.Clip], tmp_path: Path) -> None:
    videos, made = clip
    (tmp_path / "root").mkdir()
    path = forms.captions_tar(tmp_path / "root" / "a.tar", [made], videos)
    with tarfile.open(path, "a") as tar:
        tar.add(videos / f"{made.name}.mp4", "second.mp4")
    with tarfile.open(path) as tar:
        last = tar.getmembers()[-1]
    path.write_bytes(path.read_bytes()[: last.offset_data + last.size // 2])
    assert call("captioned", tmp_path / "root", tmp_path / "m.jsonl") == 0
    (left,) = rejects(tmp_path / "m.jsonl")
    assert left["reason"] == "malformed" and left["where"] == f"{path}: after second"


def test_members_of_tars_write_nowhere_else(clip: tuple[Path, forms.Clip], tmp_path: Path) -> None:
    videos, made = clip
    (tmp_path / "root").mkdir()
    with tarfile.open(tmp_path / "root" / "a.tar", "w") as tar:
        for name, data in (
            ("../../evil.mp4", (videos / f"{made.name}.mp4").read_bytes()),
            ("../../evil.txt", made.spec.prompt.encode()),
        ):
            info = tarfile.TarInfo(name)
            info.size = len(data)
            tar.addfile(info, io.BytesIO(data))
        link = tarfile.TarInfo("link.mp4")
        link.type, link.linkname = tarfile.SYMTYPE, "/etc/passwd"
        tar.addfile(link)
    assert call("captioned", tmp_path / "root", tmp_path / "out" / "m.jsonl") == 0
    assert not list(tmp_path.parent.glob("evil*")) and not list(tmp_path.glob("evil*"))
    assert len(list((tmp_path / "out" / "m.videos").iterdir())) == 1


@pytest.mark.parametrize(
    ("more", "told"),
    [
        (["--source=nothing"], "source 'nothing': unknown; known: captioned"),
        (["--root=/nowhere"], "/nowhere: no such folder"),
        (["--videos=/nowhere"], "/nowhere: no such folder"),
        (["--fps=0"], "fps 0.0: give a number above 0"),
        (["--seconds=-1"], "seconds -1.0"),
        (["--stretch=0.5"], "stretch 0.5: give 1 or more"),
        (["--per_label=0"], "per_label 0"),
        (["--workers=0"], "workers 0"),
        ([], "no annotation"),
    ],
)
def test_options(more: list[str], told: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "root").mkdir()
    assert told in refused("vidor", tmp_path / "root", capsys, *more)
