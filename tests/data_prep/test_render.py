from __future__ import annotations

import random
from pathlib import Path

import pytest

from cvg.common import cli
from cvg.composition import parse
from cvg.media.video import read_video
from cvg.shapes.oracle import ShapesOracle
from cvg.shapes.renderer import FRAMES, SIZE
from cvg.shapes.world import ALL_KINDS, HELD_OUT_ENTITIES, KINDS, LABELS
from data_prep.manifest import load
from data_prep.render import main


def render(*args: str) -> None:
    cli.run(main, "python -m data_prep.render", args=list(args))


def test_as_a_user(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "clips"
    render("--out", str(out), "--clips", "12", "--seed", "5")
    said = capsys.readouterr()
    assert "12 clips" in said.out and "render" in said.err
    rows = load(out, LABELS)
    assert len(rows) == 12 and {row.source for row in rows} == {"render"}
    for row in rows:
        frames = read_video(row.video, FRAMES, SIZE, SIZE)
        asked = row.composition(LABELS, random.Random(0))
        (reading,) = ShapesOracle()([frames], [asked])
        assert reading.entities_right and reading.labels == tuple(relation.label for relation in asked.relations)


def test_resumes_and_is_deterministic(tmp_path: Path) -> None:
    first, second = tmp_path / "first", tmp_path / "second"
    render(f"--out={first}", "--clips=2")
    kept = first / "videos" / "000000.mp4"
    before = kept.stat().st_mtime_ns
    (first / "videos" / "000001.mp4").unlink()
    render(f"--out={first}", "--clips=3")
    assert kept.stat().st_mtime_ns == before
    render(f"--out={second}", "--clips=3")
    names = sorted(p.relative_to(first) for p in first.rglob("*") if p.is_file())
    assert len(names) == 5
    assert all((first / name).read_bytes() == (second / name).read_bytes() for name in names)


def test_kinds_and_held_out(tmp_path: Path) -> None:
    render(f"--out={tmp_path}", "--clips=3", "--kinds=[motion]", "--held_out=true")
    for row in load(tmp_path, LABELS):
        assert LABELS[row.relations[0][0]].group == "motion" and row.entities[0] in HELD_OUT_ENTITIES
        assert row.split == "test"


def test_errors(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    render(f"--out={tmp_path / 'a'}", "--clips=1")
    for args, message in (
        ((f"--out={tmp_path / 'a'}", "--clips=1", "--seed=1"), "holds clips of other settings"),
        ((f"--out={tmp_path / 'b'}", "--clips=1", "--kinds=[dance]"), "kind 'dance': unknown"),
        ((f"--out={tmp_path / 'b'}", "--clips=0"), "clips 0: give at least 1"),
    ):
        with pytest.raises(SystemExit) as caught:
            render(*args)
        assert caught.value.code == 2 and message in capsys.readouterr().err
    assert not (tmp_path / "b").exists()


def test_clips_of_every_kind_are_what_their_rows_say(tmp_path: Path) -> None:
    render(f"--out={tmp_path}", "--clips=16", f"--kinds=[{', '.join(ALL_KINDS[len(KINDS) :])}]")
    rows = load(tmp_path, LABELS)
    groups = {LABELS[label].group for row in rows for label, _ in row.relations}
    assert groups >= {"depth", "action", "path", "interaction", "attribute", "change"}
    for row in rows:
        asked = row.composition(LABELS, random.Random(row.id))
        assert [(relation.label, len(relation.entities)) for relation in asked.relations] == [
            (label, len(indices)) for label, indices in row.relations
        ]
        assert parse(asked.prompt, LABELS) == asked
        assert read_video(row.video, FRAMES, SIZE, SIZE).std() > 0
