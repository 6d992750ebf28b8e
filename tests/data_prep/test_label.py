"""Videos against what is claimed of them: rendered clips, whose truth is known, under true and false words."""

from __future__ import annotations

import csv
import json
import random
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from cvg.common.cli import run
from cvg.composition import contradict, parse, template_of
from cvg.judging import Reading
from cvg.judging.detection import Owlv2
from cvg.media.video import write_video
from cvg.shapes.renderer import FPS, render
from cvg.shapes.world import LABELS, Spec, sample_scene, sample_spec
from cvg.shards.shards import ShardInfo
from data_prep import claims, invert, label, manifest
from tests.helpers.tiny import make_pipeline

CLIPS = 15


@pytest.fixture(scope="module")
def rendered(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, list[Spec]]:
    """Clips under captions: a third right, a third of wrong labels, a third of entities that are not there."""
    folder, specs, rows = tmp_path_factory.mktemp("claims"), [], []
    for index in range(CLIPS):
        rng = np.random.default_rng([index, 44])
        spec = sample_spec(rng)
        write_video(folder / f"{index}.mp4", render(sample_scene(spec, rng)), FPS)
        specs.append(spec)
        said = spec.composition
        if index % 3 == 1:
            said = contradict(said, LABELS, random.Random(index))
        caption = said.prompt
        if index % 3 == 2:
            colour = next(c for c in ("red", "green", "blue") if c not in spec.prompt)
            caption = caption.replace(spec.entities[0].split()[0], colour, 1)
        rows.append({"video": f"{index}.mp4", "caption": caption})
    write(folder / "claims.jsonl", rows)
    return folder, specs


def write(path: Path, rows: list[Any]) -> Path:
    path.write_text("".join((row if isinstance(row, str) else json.dumps(row)) + "\n" for row in rows))
    return path


def findings(path: Path) -> list[label.Finding]:
    return [label.read(label.Finding, json.loads(line)) for line in path.read_text().splitlines()[1:]]


def call(*args: Any) -> Any:
    return run(label.main, "python -m data_prep.label", args=[str(arg) for arg in args])


SHAPES = ("--judge=shapes", "--labels=shapes")


def test_what_is_confirmed_or_contradicted_is_what_was_rendered(
    rendered: tuple[Path, list[Spec]], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder, specs = rendered
    out = tmp_path / "shown.jsonl"
    call(f"--videos={folder / 'claims.jsonl'}", f"--out={out}", *SHAPES)
    found = findings(tmp_path / "shown.findings.jsonl")
    assert [each.line for each in found] == list(range(1, CLIPS + 1))
    wanted = ["confirmed", "contradicted", "unclear"]
    assert [each.status for each in found] == [wanted[index % 3] for index in range(CLIPS)]
    assert {each.reason for each in found if each.status == "unclear"} == {"not found"}
    rows = manifest.load(out, LABELS)
    assert len(rows) == CLIPS * 2 // 3 and len({each.id for each in rows}) == len(rows)
    for row in rows:
        index = int(row.video.stem)
        assert [name for name, _ in row.relations] == [relation.label for relation in specs[index].relations]
        assert [tuple(row.entities[i] for i in places) for _, places in row.relations] == [
            tuple(specs[index].entities[i] for i in relation.entities) for relation in specs[index].relations
        ]
        if index % 3 == 0:  # in the words of its caption
            assert row.composition(LABELS, random.Random(0)).prompt == specs[index].prompt
    printed = capsys.readouterr().out
    assert "15 videos: 5 confirmed, 5 contradicted, 5 unclear (not found 5), 0 rejected" in printed
    assert f"10 rows in {out}" in printed


def test_a_stopped_run_goes_on(
    rendered: tuple[Path, list[Spec]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder, _ = rendered
    whole, out = tmp_path / "a" / "whole.jsonl", tmp_path / "b" / "m.jsonl"
    args = (f"--videos={folder / 'claims.jsonl'}", *SHAPES, "--batch_size=5")
    call(*args, f"--out={whole}")
    count, readings = 0, label._readings

    def stop(*given: Any) -> Any:
        nonlocal count
        count += 1
        if count == 3:
            raise KeyboardInterrupt
        return readings(*given)

    monkeypatch.setattr(label, "_readings", stop)
    with pytest.raises(SystemExit):
        call(*args, f"--out={out}")
    kept = tmp_path / "b" / "m.findings.jsonl"
    assert len(findings(kept)) == 10 and not out.exists()
    kept.write_text(kept.read_text() + '{"line": 11, "sta')  # half a line, as of a machine that lost its power
    monkeypatch.setattr(label, "_readings", readings)
    seen: list[int] = []
    monkeypatch.setattr(label, "judged", lambda some, *rest: seen.extend(c.line for c in some) or JUDGED(some, *rest))
    call(*args, f"--out={out}")
    assert seen == list(range(11, CLIPS + 1))
    assert findings(kept) == findings(tmp_path / "a" / "whole.findings.jsonl")
    one, two = ([replace(r, video=r.video.resolve()) for r in manifest.load(path, LABELS)] for path in (out, whole))
    assert one == two
    with pytest.raises(SystemExit):
        call(*args, f"--out={out}", "--least=0.9")


JUDGED = label.judged


def test_what_a_detector_finds_is_kept_where_it_is_asked_for(
    rendered: tuple[Path, list[Spec]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder, _ = rendered
    claims = folder / "few.jsonl"
    claims.write_text("".join((folder / "claims.jsonl").read_text().splitlines(keepends=True)[:3]))
    args = (f"--videos={claims}", "--judge=detector", "--labels=shapes", f"--judge_cache={tmp_path / 'cache'}")
    call(*args, f"--out={tmp_path / 'a' / 'm.jsonl'}")
    assert len(list((tmp_path / "cache").rglob("*.safetensors"))) == 3
    monkeypatch.setattr(Owlv2, "detect", lambda *given: pytest.fail("looked at again"))
    call(*args, f"--out={tmp_path / 'b' / 'm.jsonl'}")
    assert findings(tmp_path / "a" / "m.findings.jsonl") == findings(tmp_path / "b" / "m.findings.jsonl")


def test_claims_in_a_table_and_as_templates(rendered: tuple[Path, list[Spec]], tmp_path: Path) -> None:
    folder, specs = rendered
    index = next(i for i, spec in enumerate(specs) if spec.kind == "spatial")
    spec = specs[index]
    with (folder / "table.csv").open("w", newline="") as file:
        table = csv.writer(file)
        table.writerow(["video", "template", "entities", "label", "start", "end", "split", "id"])
        right, other = spec.relations[0].label, LABELS.wrong(spec.relations[0].label, random.Random(0)).name
        for number, name in enumerate((right, other)):
            table.writerow(
                [
                    f"{index}.mp4",
                    "in fog, a {e0} {r0} a {e1}",
                    "; ".join(spec.entities),
                    name,
                    "",
                    "",
                    "val",
                    f"x{number}",
                ]
            )
    call(f"--videos={folder / 'table.csv'}", f"--out={tmp_path / 'm.jsonl'}", *SHAPES)
    assert [each.status for each in findings(tmp_path / "m.findings.jsonl")] == ["confirmed", "contradicted"]
    rows = manifest.load(tmp_path / "m.jsonl", LABELS)
    assert [(row.id, row.split, row.relations[0][0]) for row in rows] == [("x0", "val", right), ("x1", "val", right)]
    assert rows[0].template == "in fog, a {e0} {r0} a {e1}" and rows[0].entities == spec.entities


def test_every_fault_is_its_line_s(
    rendered: tuple[Path, list[Spec]], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder, specs = rendered
    good = {"video": "0.mp4", "caption": specs[0].prompt}
    (folder / "broken.mp4").write_bytes(b"no video")
    faults = [
        ("{", "malformed", "not valid JSON"),
        ('"text"', "malformed", "a str, not an object"),
        ({"video": "0.mp4"}, "malformed", "no 'template'"),
        ({"video": "0.mp4", "caption": "a red circle"}, "", ""),
        ({"video": "0.mp4", "caption": "a red circle not moving left"}, "prompt", "not"),
        ({**good, "label": "left"}, "prompt", "has a caption and 'label'"),
        ({**good, "caption": 3}, "prompt", "caption is 3"),
        ({**good, "video": "none.mp4"}, "unreadable", "none.mp4"),
        ({**good, "video": "broken.mp4"}, "unreadable", "broken.mp4"),
        ({"video": "0.mp4", "caption": "a dog moving left"}, "prompt", "the oracle knows the colours"),
        (
            '{"video": "\\ud800.mp4", "template": "a {e0} {r0}", "entities": ["a"], "label": "left"}',
            "malformed",
            "half",
        ),
        ({**good, "id": "same"}, None, ""),
        ({**good, "id": "same"}, "malformed", "already that of line"),
    ]
    path = write(folder / "faults.jsonl", [row for row, _, _ in faults])
    call(f"--videos={path}", f"--out={tmp_path / 'm.jsonl'}", *SHAPES)
    for found, (_, reason, detail) in zip(findings(tmp_path / "m.findings.jsonl"), faults, strict=True):
        assert (found.status == "rejected") == (reason is not None), found
        assert reason is None or (reason in found.reason and detail in found.detail), found
    assert "1 confirmed, 0 contradicted, 0 unclear, 12 rejected (" in capsys.readouterr().out
    with pytest.raises(SystemExit) as ended:
        call(f"--videos={write(folder / 'bad.jsonl', ['{'])}", f"--out={tmp_path / 'n.jsonl'}", *SHAPES)
    assert ended.value.code == 1 and "no video can be used; line 1" in capsys.readouterr().err


def test_wrong_options_end_before_anything_is_judged(
    rendered: tuple[Path, list[Spec]], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder, _ = rendered
    good, out = folder / "claims.jsonl", tmp_path / "m.jsonl"
    (tmp_path / "empty.jsonl").write_text("\n")
    for args, reason in (
        ([f"--videos={tmp_path / 'no.jsonl'}", *SHAPES], "no.jsonl: cannot be read"),
        ([f"--videos={tmp_path / 'empty.jsonl'}", *SHAPES], "has no rows"),
        ([f"--videos={tmp_path}", *SHAPES], "not a regular file"),
        ([f"--videos={good}", "--judge=seer", "--labels=shapes"], "judge 'seer': unknown; known: shapes"),
        ([f"--videos={good}", "--judge=shapes", "--labels=none"], "label set none"),
        ([f"--videos={good}", *SHAPES, "--device=abacus"], "device abacus: cannot be used"),
        ([f"--videos={good}", *SHAPES, "--least=2"], "least 2.0: give a confidence"),
        ([f"--videos={good}", *SHAPES, "--frames=2"], "frames 2: give at least 3"),
    ):
        with pytest.raises(SystemExit) as ended:
            call(*args, f"--out={out}")
        error = capsys.readouterr().err
        assert ended.value.code == 2 and reason in error and "Traceback" not in error, error
    assert not list(tmp_path.glob("m.*"))


def test_a_finding_is_no_better_than_its_reading() -> None:
    said = parse("a red circle moving up to the left of a blue square", LABELS)
    row = manifest.Row(
        "a", Path("a.mp4"), template_of(said), ("red circle", "blue square"), (("up", (0,)), ("left of", (0, 1)))
    )
    claim = claims.Claim(1, row, said)
    for reading, status, reason in (
        (Reading(("up", "left of")), "confirmed", ""),
        (Reading(("up", "right of")), "contradicted", ""),
        (Reading(("up", None)), "unclear", "cannot tell"),
        (Reading(("up", "left of"), found=(True, False)), "unclear", "not found"),
        (Reading(("up", "left of"), ("blue square: not asked for",)), "unclear", "entities"),
        (Reading(("up", "left of"), confidence=(0.9, 0.4)), "unclear", "confidence"),
    ):
        found = label.finding(claim, reading, least=0.5)
        assert (found.status, found.reason) == (status, reason)
    assert label.row(claim, label.finding(claim, Reading(("down", "left of")))).relations == (
        ("down", (0,)),
        ("left of", (0, 1)),
    )


def test_inversion_takes_the_manifest(rendered: tuple[Path, list[Spec]], tmp_path: Path) -> None:
    folder, specs = rendered
    rows = [json.loads(line) for line in (folder / "claims.jsonl").read_text().splitlines()[:2]]
    few = write(folder / "few.jsonl", rows)
    call(f"--videos={few}", f"--out={tmp_path / 'm.jsonl'}", *SHAPES)
    model = make_pipeline(tmp_path / "generator")
    invert.main(tmp_path / "m.jsonl", str(tmp_path / "shards"), str(model), method="noising", steps=4, at=[1])
    info = ShardInfo.load(tmp_path / "shards")
    assert sum(info.count(split) for split in ("train", "val", "test")) == sum(
        len(spec.relations) for spec in specs[:2]
    )
