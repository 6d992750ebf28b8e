"""Rendered clips, written out in each data set's form and read back: the labels are those that were rendered."""

from __future__ import annotations

import json
import pickle
import random
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow
import pytest
from PIL import Image
from pyarrow import parquet

from cvg.common.cli import run
from cvg.shapes.world import LABELS
from data_prep import label, manifest
from tests.data_prep.sources import forms
from tests.data_prep.sources.helpers import SHAPES, agreement, call, rejects, report

KINDS = ("motion", "spatial", "relative_motion")
FEW = 6
Write = Callable[[Path, list[forms.Clip]], str]


def vidor(root: Path, made: list[forms.Clip]) -> str:
    predicates = {"above": "above", "below": "beneath", "towards": "towards", "away from": "away"}
    for clip in made:
        forms.write_json(root / "annotation" / "training" / f"{clip.name}.json", forms.vidor(clip, predicates))
    return "vidor"


def vidvrd(root: Path, made: list[forms.Clip]) -> str:
    predicates = {"left of": "walk_left", "right of": "stand_right", "above": "fly_above", "below": "sit_beneath"}
    predicates |= {"towards": "move_toward", "away from": "run_away"}
    for number, clip in enumerate(made):
        split = "test" if number % 4 == 0 else "train"
        forms.write_json(root / split / f"{clip.name}.json", forms.vidor(clip, predicates))
    return "vidvrd"


def sentences(root: Path, made: list[forms.Clip]) -> str:
    half = len(made) // 2
    forms.write_json(root / "labels" / "train.json", forms.something(made[:half]))
    forms.write_json(root / "labels" / "validation.json", forms.something(made[half:]))
    return "something-something-v2"


def table(root: Path, made: list[forms.Clip]) -> str:
    forms.captions_csv(root / "captions.csv", made)
    return "captioned"


def boxed(root: Path, made: list[forms.Clip]) -> str:
    sentences(root, made)
    forms.write_json(root / "bounding_box_part1.json", {clip.name: forms.something_else(clip) for clip in made})
    return "something-else"


def tracks(root: Path, made: list[forms.Clip]) -> str:
    forms.write_json(root / "annotations" / "train.json", forms.coco(made, every=4))
    return "coco"


def mevis(root: Path, made: list[forms.Clip]) -> str:
    masks = {}
    for number, clip in enumerate(made):
        forms.pictures(root / "JPEGImages" / clip.name, clip)
        masks[str(number)] = [forms.rle(mask) for mask in forms.masks(clip)]
    forms.write_json(root / "meta_expressions.json", forms.expressions(made, numbered=True))
    forms.write_json(root / "mask_dict.json", masks)
    return "mevis"


def youtube(root: Path, made: list[forms.Clip]) -> str:
    for clip in made:
        forms.pictures(root / "train" / "JPEGImages" / clip.name, clip)
        (root / "train" / "Annotations" / clip.name).mkdir(parents=True)
        for number, mask in enumerate(forms.masks(clip)):
            picture = Image.fromarray(mask.astype(np.uint8), "P")
            picture.putpalette([0, 0, 0, 255, 0, 0])
            picture.save(root / "train" / "Annotations" / clip.name / f"{number:05d}.png")
    forms.write_json(root / "meta_expressions" / "meta_expressions.json", forms.expressions(made, numbered=False))
    return "ref-youtube-vos"


FORMS: dict[str, Write] = {"vidor": vidor, "vidvrd": vidvrd, "something": sentences, "captions": table}
FORMS |= {"something-else": boxed, "coco": tracks, "mevis": mevis, "ref-youtube-vos": youtube}
PICTURES = ("mevis", "ref-youtube-vos")
"""Whose videos lie there as pictures."""


@pytest.fixture(scope="module")
def few(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, list[forms.Clip]]:
    folder = tmp_path_factory.mktemp("videos")
    return folder, forms.clips(folder, KINDS, FEW)


@pytest.mark.usefixtures("pasted_strips")
@pytest.mark.parametrize("form", FORMS)
def test_labels_are_those_that_were_rendered(form: str, few: tuple[Path, list[forms.Clip]], tmp_path: Path) -> None:
    videos, made = few
    source = FORMS[form](tmp_path, made)
    more = [f"--rate={forms.FPS}"] if form in PICTURES else [f"--videos={videos}"]
    rows = call(source, tmp_path, tmp_path / "out" / "m.jsonl", *more)
    right, total, found = agreement(rows, made)
    assert right == total and found == len(made)
    assert all(row.dataset == source for row in rows)
    # Sentences have the subject first.
    assert all(indices == tuple(range(len(indices))) for row in rows for _, indices in row.relations)
    assert all((row.video.parent.name == "m.videos") == (form in PICTURES) for row in rows)
    told = report(tmp_path / "out" / "m.jsonl")
    assert told["rows"] == len(rows) and sum(told["labels"].values()) == sum(len(row.relations) for row in rows)
    assert (tmp_path / "out" / "m.report.html").read_text().count("data:image/png") == len(told["labels"])


@pytest.mark.slow
@pytest.mark.parametrize("form", FORMS)
def test_labels_of_many_are_those_that_were_rendered(form: str, tmp_path: Path) -> None:
    (tmp_path / "video").mkdir()
    made = forms.clips(tmp_path / "video", KINDS, 120, seed=5)
    rows = call(FORMS[form](tmp_path, made), tmp_path, tmp_path / "out" / "m.jsonl", f"--rate={forms.FPS}")
    right, total, found = agreement(rows, made)
    assert right >= 0.999 * total and found >= 0.99 * len(made)


@pytest.mark.usefixtures("pasted_strips")
def test_places_around_a_person_are_those_that_were_rendered(tmp_path: Path) -> None:
    root = tmp_path / "root"
    (root / "videos").mkdir(parents=True)
    made = forms.clips(root / "videos", ("spatial",), 8, seed=2)
    words = {"above": "above", "below": "beneath"}
    path = root / "annotations" / "object_bbox_and_relationship.pkl"
    path.parent.mkdir()
    path.write_bytes(pickle.dumps(forms.action_genome(made, words)))
    rows = call("action-genome", root, tmp_path / "m.jsonl")
    truth = {clip.name: clip.spec.relations[0].label for clip in made if clip.spec.relations[0].label in words}
    assert truth and {row.video.stem: row.relations[0][0] for row in rows} == truth
    assert all(row.unconfirmed and row.entities[1] == "person" for row in rows)


@pytest.mark.usefixtures("pasted_strips")
def test_captions_in_tars_are_confirmed_by_a_judge(few: tuple[Path, list[forms.Clip]], tmp_path: Path) -> None:
    videos, made = few
    (tmp_path / "root").mkdir()
    forms.captions_tar(tmp_path / "root" / "00000.tar", made, videos)
    out = tmp_path / "m.jsonl"
    rows = call("captioned", tmp_path / "root", out, "--licence=CC-BY-4.0")
    assert len(rows) == len(made) and all(row.unconfirmed for row in rows)
    assert sorted(row.licence for row in rows) == ["CC-BY-4.0"] * 3 + ["CC0-1.0"] * 3
    assert all(row.video.parent == tmp_path / "m.videos" for row in rows)
    args = [f"--videos={out}", f"--out={tmp_path / 'seen.jsonl'}", "--judge=shapes", "--labels=shapes"]
    run(label.main, "python -m data_prep.label", args=args)
    seen = manifest.load(tmp_path / "seen.jsonl", LABELS)
    assert not any(row.unconfirmed for row in seen) and {row.licence for row in seen} == {"CC-BY-4.0", "CC0-1.0"}
    truth = {clip.name: clip.truth for clip in made}
    assert len(seen) == len(made)
    for row in seen:
        said = {(name, tuple(row.entities[i] for i in indices)) for name, indices in row.relations}
        assert said == truth[row.id.split("-")[1]]


@pytest.mark.usefixtures("pasted_strips")
def test_sentences_of_videos_with_boxes_are_those_that_were_rendered(tmp_path: Path) -> None:
    """Of VidSTG: the words are the sentence's where it states the relation, else the categories'."""
    (tmp_path / "videos").mkdir()
    made = forms.clips(tmp_path / "videos", ("spatial", "relative_motion"), 12, seed=4)
    predicates = {"above": "above", "below": "beneath", "towards": "towards", "away from": "away"}
    entries = {clip.name: forms.vidstg(clip, predicates) for clip in made}
    made = [clip for clip in made if entries[clip.name]]
    assert len(made) > 5
    for clip in made:
        forms.write_json(tmp_path / "root" / "vidor" / f"{clip.name}.json", forms.vidor(clip, predicates))
    wordless, crossed = made[0].name, made[1].name
    entries[wordless][0]["captions"] = []
    entries[crossed][0]["captions"][0]["description"] = "a green star moving up"
    for split, part in (("train", made[2:]), ("val", made[:2])):
        listed = [entry for clip in part for entry in entries[clip.name]]
        forms.write_json(tmp_path / "root" / f"{split}_annotations.json", listed)
    rows = call("vidstg", tmp_path / "root", tmp_path / "m.jsonl", f"--videos={tmp_path / 'videos'}")
    right, total, found = agreement(rows, made)
    assert right == total == len(rows) == len(made) == found
    assert not any(row.unconfirmed for row in rows) and {row.licence for row in rows} == {"CC-BY-SA-4.0"}
    clips = {clip.name: clip for clip in made}
    for row in rows:
        clip = clips[row.id.split("-")[-2]]
        plain = clip.name in (wordless, crossed)
        assert row.split == ("val" if plain else "train")
        prompt = row.composition(SHAPES, random.Random(0)).prompt
        if plain:  # of any of the label's wordings
            assert prompt.startswith("a ") and prompt.endswith(f" a {clip.spec.entities[row.relations[0][1][1]]}")
        else:
            assert prompt == clip.spec.prompt.replace("a ", "the ", 1)


def test_licences_choose_and_labels_are_balanced(few: tuple[Path, list[forms.Clip]], tmp_path: Path) -> None:
    videos, made = few
    forms.captions_csv(tmp_path / "a.csv", made[:4], licence="CC-BY-4.0")
    forms.captions_csv(tmp_path / "b.csv", made[4:], licence="CC-BY-NC-4.0")
    out = tmp_path / "out" / "m.jsonl"
    rows = call("captioned", tmp_path, out, f"--videos={videos}", "--licences=[cc-by-4.0]", "--per_label=1")
    assert {row.licence for row in rows} == {"CC-BY-4.0"}
    counts = report(out)["labels"]
    assert set(counts.values()) == {1}
    assert out.with_name("m.report.html").read_text().count("data:image/png") == len(counts)  # drawn, here
    assert report(out)["rejected"]["licence"] == 2
    left = [reject for reject in rejects(out) if reject["reason"] == "licence"]
    assert all("b.csv:" in reject["where"] and "CC-BY-NC-4.0" in reject["detail"] for reject in left)


@pytest.mark.usefixtures("pasted_strips")
def test_the_same_again_is_the_same_wherever_it_lies(few: tuple[Path, list[forms.Clip]], tmp_path: Path) -> None:
    videos, made = few
    texts = []
    for name, workers in (("one", 1), ("two", 3)):
        root, out = tmp_path / name / "root", tmp_path / name / "m.jsonl"
        vidor(root, made[:6])
        call("vidor", root / "annotation", out, f"--videos={videos}", f"--workers={workers}", "--per_label=2")
        texts.append([json.loads(line) for line in out.read_text().splitlines()])
    assert texts[0] == texts[1] and any(row["relations"][0]["label"] == "right of" for row in texts[0])


@pytest.mark.usefixtures("pasted_strips")
def test_captions_come_as_parquet_and_lines_too(few: tuple[Path, list[forms.Clip]], tmp_path: Path) -> None:
    videos, made = few
    lines = [{"path": f"{clip.name}.mp4", "text": clip.spec.prompt, "license": "CC0-1.0"} for clip in made[:2]]
    (tmp_path / "a.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    rows = call("captioned", tmp_path, tmp_path / "one" / "m.jsonl", f"--videos={videos}")
    assert len(rows) == 2 and {row.licence for row in rows} == {"CC0-1.0"}
    parquet.write_table(pyarrow.Table.from_pylist(lines), tmp_path / "a.parquet")
    (tmp_path / "a.jsonl").unlink()
    again = call("captioned", tmp_path, tmp_path / "two" / "m.jsonl", f"--videos={videos}")
    assert [replace(row, video=videos) for row in again] == [replace(row, video=videos) for row in rows]
    (tmp_path / "a.parquet").write_bytes((tmp_path / "a.parquet").read_bytes()[:-20])
    with pytest.raises(SystemExit):
        call("captioned", tmp_path, tmp_path / "three" / "m.jsonl", f"--videos={videos}")
