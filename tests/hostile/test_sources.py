"""Annotation files that are wrong, cut short or made to harm: one line with file and place, or a reject by name."""

from __future__ import annotations

import io
import json
import pickle
import tarfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from cvg.common.cli import run
from data_prep import collect
from tests.data_prep.sources import forms
from tests.data_prep.sources.helpers import rejects

pytestmark = pytest.mark.usefixtures("pasted_strips")
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


ABOVE = {"subject_tid": 0, "object_tid": 1, "predicate": "above", "begin_fid": 0, "end_fid": 13}
ENTRY: dict[str, Any] = {"used_relation": ABOVE, "captions": [{"description": "a thing above a thing"}]}


@pytest.mark.parametrize(
    ("change", "reason", "detail"),
    [
        ({"vid": "../1"}, "not seen", "../1.json of VidOR"),
        ({"vid": "77"}, "not seen", "77.json of VidOR"),
        ({"vid": None}, "malformed", "vid"),
        ({"vid": "broken"}, "malformed", "broken.json"),
        ({"used_relation": ABOVE | {"subject_tid": 9}}, "malformed", "9 or 1 is none"),
        ({"used_relation": ABOVE | {"begin_fid": -1}}, "malformed", "used_relation.begin_fid"),
        ({"used_relation": ABOVE | {"end_fid": 0}}, "unclear", "for no time"),
        ({"used_relation": ABOVE | {"predicate": "owns"}}, "label", "'owns' states none"),
        ({"used_relation": 5}, "malformed", "used_relation"),
        ({"temporal_gt": {"begin_fid": 5, "end_fid": 2}}, "unclear", "for no time"),
        ({"captions": [{"description": "x" * 5000}]}, "malformed", "captions.0.description"),
        ({"captions": [{"description": None}]}, "malformed", "captions.0.description"),
    ],
)
def test_entries_of_sentences_with_boxes(
    change: dict[str, Any], reason: str, detail: str, clip: tuple[Path, forms.Clip], tmp_path: Path
) -> None:
    videos, made = clip
    root = tmp_path / "root"
    forms.write_json(root / f"{made.name}.json", forms.vidor(made, {}))
    (root / "broken.json").write_text("{")
    forms.write_json(root / "train_annotations.json", [{"vid": made.name} | ENTRY | change])
    assert call("vidstg", root, tmp_path / "m.jsonl", f"--videos={videos}") == 2
    (found,) = rejects(tmp_path / "m.jsonl")
    assert found["reason"] == reason and detail in found["detail"]
    assert found["where"] == f"{root / 'train_annotations.json'}: 0"


@pytest.mark.parametrize(
    ("text", "told"),
    [("{}", "a dict, not a list"), ("[", "not valid JSON"), (DEEP, "not valid JSON"), ("[1]", "malformed 1")],
)
def test_lists_of_sentences_with_boxes(
    text: str, told: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "root").mkdir()
    assert "no list of sentences" in refused("vidstg", tmp_path / "root", capsys)
    (tmp_path / "root" / "val_annotations.json").write_text(text)
    line = refused("vidstg", tmp_path / "root", capsys)
    assert told in line and "val_annotations.json" in line


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


class Evil:
    """Runs a command when it is unpickled."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> Any:
        return Path.touch, (self.path,)


@pytest.mark.parametrize("name", ["code", "short", "list", "bomb", "text", "keys"])
def test_pickles(name: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    ran = tmp_path / "ran"
    data, told = {
        "code": (pickle.dumps({"1.mp4/1.png": [Evil(ran)]}), "which is no plain value"),
        "short": (pickle.dumps({"1.mp4/1.png": []})[:-4], "not read (pickle data was truncated)"),
        "list": (pickle.dumps([1, 2]), "a list, not a dictionary"),
        "bomb": (b"\x80\x04\x8d" + b"\xff" * 7 + b"\x7f", "not read (read would overflow"),
        "text": (b"not a pickle at all", "not read"),
        "keys": (pickle.dumps({7: [], "1.png": [], "1.mp4/x.png": [], "a.mp4/²²²²²²²²²².png": []}), "malformed 4"),
    }[name]
    (tmp_path / "root").mkdir()
    (tmp_path / "root" / "object_bbox_and_relationship.pkl").write_bytes(data)
    assert told in refused("action-genome", tmp_path / "root", capsys)
    assert not ran.exists()


def test_a_pickles_bad_frame_is_a_reject(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "root").mkdir()
    good = {"class": "cup", "visible": True, "spatial_relationship": ["above"], "metadata": {}}
    for bad in (7, [7], [good | {"class": ""}], [good | {"spatial_relationship": 3}], None):
        data = pickle.dumps({"../1.mp4/1.png": [good], "2.mp4/1.png": bad})
        (tmp_path / "root" / "object_bbox_and_relationship.pkl").write_bytes(data)
        line = refused("action-genome", tmp_path / "root", capsys)
        assert "gives no row" in line and "outside 1" in line


@pytest.mark.parametrize(
    ("name", "place", "value", "told"),
    [
        ("annotations", 0, {"image_id": 1}, "annotations.0: "),
        ("annotations", 0, 7, "annotations.0: "),
        ("images", 0, {"id": 1}, "images.0: "),
        ("categories", 0, {"id": 1, "name": ""}, "categories.0: "),
        ("videos", 0, {"id": {}}, "videos.0: "),
        ("videos", 0, {"id": 1, "name": "../../x"}, "leads out of"),
        ("videos", 0, {"id": 1, "name": "nowhere"}, "are not in"),
        ("videos", None, {}, "videos is a dict, not a list"),
        ("images", None, None, "images is a NoneType, not a list"),
    ],
)
def test_tracks(
    name: str,
    place: int | None,
    value: Any,
    told: str,
    clip: tuple[Path, forms.Clip],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    videos, made = clip
    data = forms.coco([made])
    if place is None:
        data[name] = value
    else:
        data[name][place] = value
    forms.write_json(tmp_path / "root" / "a.json", data)
    code = call("coco", tmp_path / "root", tmp_path / "m.jsonl", f"--videos={videos}")
    errors = capsys.readouterr().err
    left = [f"{each['where']}: {each['detail']}" for each in rejects(tmp_path / "m.jsonl")] if place is not None else []
    assert told in "\n".join([errors, *left]) and code in (0, 2)


@pytest.mark.parametrize("box", [[1e308, 0, 1e308, 1], [0, 0, -5, 5], [float("nan"), 0, 1, 1], [1, 2, 3], "box"])
def test_boxes_of_tracks(box: Any, clip: tuple[Path, forms.Clip], tmp_path: Path) -> None:
    videos, made = clip
    data = forms.coco([made])
    data["annotations"][3]["bbox"] = box
    forms.write_json(tmp_path / "root" / "a.json", data)
    call("coco", tmp_path / "root", tmp_path / "m.jsonl", f"--videos={videos}")
    assert "malformed" in {each["reason"] for each in rejects(tmp_path / "m.jsonl")}


def test_a_frame_of_any_number_takes_no_memory(
    clip: tuple[Path, forms.Clip], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    videos, made = clip
    data = forms.coco([made])
    data["images"][0]["frame_index"] = 10**15
    forms.write_json(tmp_path / "root" / "a.json", data)
    assert "frame 1000000000000000 of a track" in refused("coco", tmp_path / "root", capsys, f"--videos={videos}")


@pytest.mark.parametrize(
    ("rle", "told"),
    [
        ({"size": [64, 64], "counts": "~~~~"}, "is none of COCO's"),
        ({"size": [64, 64], "counts": "oooooooooooooooooooo"}, "is none of COCO's"),
        ({"size": [64, 64], "counts": [1, 2]}, "runs are not those of 64 x 64"),
        ({"size": [64, 64], "counts": [-1, 4097]}, "runs are not those"),
        ({"size": [10**9, 10**9], "counts": [10**18]}, "a mask of 1000000000 x 1000000000"),
        ({"size": [0, 64], "counts": []}, "a mask of 64 x 0"),
        ({"size": [64], "counts": []}, "size"),
        ({"size": [64, 64], "counts": [4096]}, "has no mask that is not empty"),
        (None, "has no mask that is not empty"),
    ],
)
def test_masks(
    rle: Any, told: str, clip: tuple[Path, forms.Clip], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    _, made = clip
    root = tmp_path / "root"
    forms.pictures(root / "JPEGImages" / made.name, made)
    forms.write_json(root / "meta_expressions.json", forms.expressions([made], numbered=True))
    forms.write_json(root / "mask_dict.json", {"0": [rle] * made.frames})
    assert told in refused("mevis", root, capsys)


def test_pictures_that_are_none(
    clip: tuple[Path, forms.Clip], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    _, made = clip
    root = tmp_path / "root"
    folder = root / "JPEGImages" / made.name
    forms.pictures(folder, made)
    forms.write_json(root / "meta_expressions.json", forms.expressions([made], numbered=True))
    forms.write_json(root / "mask_dict.json", {"0": [forms.rle(mask) for mask in forms.masks(made)]})
    whole = (folder / "00003.jpg").read_bytes()
    (folder / "00003.jpg").write_bytes(b"no picture")
    assert "00003.jpg: cannot be read" in refused("mevis", root, capsys, "--rate=8")
    (folder / "00003.jpg").unlink()
    assert "picture '00003'" in refused("mevis", root, capsys, "--rate=8")
    (tmp_path / "elsewhere.jpg").write_bytes(whole)
    (folder / "00003.jpg").symlink_to(tmp_path / "elsewhere.jpg")
    assert "is a link that leads out" in refused("mevis", root, capsys, "--rate=8")


@pytest.mark.parametrize("value", [7, [7], [{"name": "x", "labels": []}], [{"name": "1/0001.jpg", "labels": [{}]}]])
def test_boxes_of_hands(
    value: Any, clip: tuple[Path, forms.Clip], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    videos, made = clip
    forms.write_json(tmp_path / "root" / "train.json", forms.something([made]))
    forms.write_json(tmp_path / "root" / "bounding_box_1.json", {made.name: value})
    line = refused("something-else", tmp_path / "root", capsys, f"--videos={videos}")
    assert "malformed 1" in line and "train.json: 0" in line


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
