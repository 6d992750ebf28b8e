"""A collection that was stopped: it goes on, to the bytes of one that was not, with the options of before alone."""

from __future__ import annotations

import json
import multiprocessing
import os
import shutil
import signal
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from data_prep.journal import Journal
from data_prep.sources import looks
from tests.data_prep.sources import forms
from tests.data_prep.sources.helpers import call, rejects

pytestmark = pytest.mark.usefixtures("pasted_strips")
CLIPS = 6


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A set of VidOR's form, with a copy of one of its videos and one that is none."""
    folder = tmp_path_factory.mktemp("set")
    made = forms.clips(folder, ("motion",), CLIPS, seed=3)
    for clip in made:
        forms.write_json(folder / f"{clip.name}.json", forms.vidor(clip, {}))
    again = forms.vidor(made[0], {}) | {"video_id": "copy", "video_path": "copy.mp4"}
    forms.write_json(folder / "copy.json", again)
    shutil.copy(folder / f"{made[0].name}.mp4", folder / "copy.mp4")
    forms.write_json(folder / "none.json", forms.vidor(made[1], {}) | {"video_id": "none", "video_path": "none.mp4"})
    (folder / "none.mp4").write_bytes(b"no video")
    return folder


@pytest.fixture
def looked(monkeypatch: pytest.MonkeyPatch) -> Counter[str]:
    """How often each video is looked at."""
    found, look = Counter[str](), looks.look

    def counted(piece: Any, *rest: Any) -> Any:
        found[piece.found.video.name] += 1
        return look(piece, *rest)

    monkeypatch.setattr(looks, "look", counted)
    return found


def collect(root: Path, out: Path, *more: str, workers: int = 1) -> dict[str, bytes]:
    """Run the command; the files that it leaves."""
    call("vidor", root, out / "m.jsonl", f"--workers={workers}", *more)
    return {path.name: path.read_bytes() for path in out.iterdir()}


def _killed(root: Path, out: Path, adds: int) -> None:
    """A run that is killed when it has kept what it saw for the last of so many times."""
    add, count = Journal.add, 0

    def kills(self: Any, lines: Any) -> None:
        nonlocal count
        add(self, lines)
        count += 1
        if count == adds:
            with self.path.open("a") as file:
                file.write('{"key": "0123')  # and is at the next line
            os.kill(os.getpid(), signal.SIGKILL)

    Journal.add = kills  # type: ignore[method-assign]  (of the process that is killed)
    collect(root, out)


def test_a_killed_run_goes_on_to_the_bytes_of_one_that_was_not(
    root: Path, tmp_path: Path, looked: Counter[str]
) -> None:
    """With another number of videos at a time, too."""
    out = tmp_path / "out"
    whole = collect(root, out)
    total = looked.total()
    assert total >= CLIPS + 2 and {"copy", "unreadable"} <= {each["reason"] for each in rejects(out / "m.jsonl")}
    shutil.rmtree(out)
    process = multiprocessing.get_context("fork").Process(target=_killed, args=(root, out, 1))
    process.start()
    process.join(300)
    assert process.exitcode == -signal.SIGKILL
    assert {path.name for path in out.iterdir()} <= {"m.looked.jsonl", ".m.jsonl.lock"}
    kept = len((out / "m.looked.jsonl").read_text().splitlines()) - 2
    assert kept == 4  # the line that was being written is lost
    looked.clear()
    again = collect(root, out, workers=3)
    pictures = sum(looked.values()) - (total - kept)
    assert 0 < pictures <= kept, "only those of which the page shows pictures are read again"
    order = sorted(again.pop("m.looked.jsonl").splitlines()), sorted(whole.pop("m.looked.jsonl").splitlines())
    assert order[0] == order[1]
    assert again == whole


def test_what_is_finished_is_found_so_and_what_has_changed_is_seen_anew(
    root: Path, tmp_path: Path, looked: Counter[str]
) -> None:
    copy = Path(shutil.copytree(root, tmp_path / "set"))
    whole = collect(copy, tmp_path / "out")
    names = set(looked)
    looked.clear()
    assert collect(copy, tmp_path / "out") == whole
    assert looked.total() < len(names)  # for pictures
    shutil.copy(copy / "1001.mp4", copy / "none.mp4")
    looked.clear()
    collect(copy, tmp_path / "out")
    assert looked["none.mp4"] >= 1
    assert "unreadable" not in {each["reason"] for each in rejects(tmp_path / "out" / "m.jsonl")}


def test_the_number_of_workers_changes_nothing(root: Path, tmp_path: Path) -> None:
    """Also where there is enough of a label, and what is left out is told in order."""
    found = []
    for workers in (1, 4):
        found.append(collect(root, tmp_path / "out", "--per_label=1", workers=workers))
        shutil.rmtree(tmp_path / "out")
    for each in found:
        del each["m.looked.jsonl"]  # more at a time are more than are needed
    assert found[0] == found[1] and b"enough" in found[0]["m.rejects.jsonl"]


def test_other_options_are_refused_in_the_same_place(
    root: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out"
    whole = collect(root, out)
    for more, told in (
        (["--per_label=2"], "per_label"),
        (["--fps=4"], "seconds"),
        (["--fit=letterbox", "--licence=CC0-1.0"], "fit, licence"),
    ):
        with pytest.raises(SystemExit) as caught:
            collect(root, out, *more)
        said = capsys.readouterr().err.strip().splitlines()[-1]
        assert caught.value.code == 2 and said.startswith(f"error: looks {out / 'm.looked.jsonl'}: made with another ")
        assert f"another {told}; go on with the same, choose another place, or delete the file" in said
    assert {path.name: path.read_bytes() for path in out.iterdir()} == whole


@pytest.mark.parametrize("line", ["{", json.dumps({"key": "0" * 32, "seen": {"video": 1}})])
def test_a_damaged_file_is_one_line(line: str, root: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    collect(root, tmp_path, "--limit=2")
    with (tmp_path / "m.looked.jsonl").open("a") as file:
        file.write(line + "\n")
    with pytest.raises(SystemExit):
        collect(root, tmp_path, "--limit=2")
    said = capsys.readouterr().err.strip().splitlines()[-1]
    assert said.startswith("error: looks") and "damaged" in said and "delete the file" in said
