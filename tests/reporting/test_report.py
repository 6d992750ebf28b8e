"""The report is one file that stands alone."""

from __future__ import annotations

import base64
import io
import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from cvg.classifier import CompositionClassifier
from cvg.common.cli import run
from cvg.common.errors import UserError
from cvg.common.files import read_json
from cvg.media.video import write_gif, write_video
from cvg.report import main
from cvg.reporting.charts import read_curves
from cvg.reporting.strips import blend
from cvg.shapes.renderer import FPS, render
from cvg.shapes.world import sample_scene, sample_spec
from cvg.shards.records import Record
from cvg.shards.shards import ShardInfo, ShardWriter
from tests.helpers import tiny


@pytest.fixture(scope="module")
def evaluation(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny.make_evaluation(tmp_path_factory.getbasetemp() / "tiny")


@pytest.fixture
def training(tmp_path: Path) -> Path:
    folder = tmp_path / "log" / "version_0"
    folder.mkdir(parents=True)
    (folder / "metrics.csv").write_text(
        "epoch,step,train/loss,val/accuracy_negative,val/accuracy_positive,val/leakage_gap,val/loss\n"
        "0,9,2.5,,,,\n0,9,,0.4,0.5,0.1,2.4\n1,19,1.5,,,,\n1,19,,0.6,0.7,0.1,1.4\n"
    )
    (folder / "metrics.json").write_text(json.dumps({"val/leakage_gap": 0.1}))
    return tmp_path / "log"


@pytest.fixture
def samples(tmp_path: Path) -> Path:
    rng = np.random.default_rng(0)
    right, wrong = (sample_spec(rng, "motion", labels=[label]) for label in ("left", "right"))
    frames = np.concatenate([render(sample_scene(spec, rng)) for spec in (wrong, right)], axis=2)
    folder = tmp_path / "samples"
    folder.mkdir()
    for name, prompt in (("clip", right.prompt), ("other", "a <b>dog</b> on a sofa")):
        write_video(folder / f"{name}.side-by-side.mp4", frames, FPS, scale=2)
        write_gif(folder / f"{name}.side-by-side.gif", frames, FPS, scale=2)
        (folder / f"{name}.json").write_text(json.dumps({"prompt": prompt, "seed": 0}))
    return folder


@pytest.fixture
def shards(evaluation: Path, tmp_path: Path) -> Path:
    """Four random records of each split, of the maps that the evaluation's classifier reads."""
    config = CompositionClassifier.from_pretrained(read_json(evaluation)["classifier"]["name"]).config
    folder, shape = tmp_path / "shards", (len(config.layers), len(config.heads), config.slots, *config.grid)
    counts: dict[str, dict[str, int]] = {}
    tars: dict[str, str] = {}
    for split in ("train", "val"):
        with ShardWriter(folder, split) as writer:
            for number in range(4):
                maps = torch.rand(2, len(config.sigmas), *shape, generator=torch.Generator().manual_seed(number)).half()
                meta = {
                    "group": "spatial",
                    "negative_label": "below",
                    "prompt_positive": "up",
                    "prompt_negative": "down",
                }
                writer.write(Record(f"{split}{number}", maps[0], maps[1], (True, True), "above", meta))
        counts[split] = {"above": 4}
        tars |= writer.tars
    names = ("generator", "layers", "heads", "sigmas", "grid", "token_grid", "slots", "labels")
    shared = {name: getattr(config, name) for name in names}
    ShardInfo(**shared, steps=3, source="test", counts=counts, tars=tars).save(folder)
    return folder


def test_report_stands_alone(evaluation: Path, training: Path, samples: Path, shards: Path, tmp_path: Path) -> None:
    out = tmp_path / "report.html"
    args = [f"--evaluation={evaluation}", f"--training={training}", f"--samples={samples}", f"--out={out}", "--maps=1"]
    args.append(f"--shards={shards}")
    run(main, "report", args=args)
    text = out.read_text()
    assert not re.search(r"https?://|//[a-z]|<script|<link|@import", re.sub(r"base64,[A-Za-z0-9+/=]+", "", text))
    sources = re.findall(r'src="([^"]+)"', text)
    kinds = []
    for source in sources:
        header, data = source.split(",", 1)
        with Image.open(io.BytesIO(base64.b64decode(data))) as image:
            image.load()
            kinds.append(image.format)
            assert f"data:image/{str(image.format).lower()};base64" == header
    assert kinds.count("GIF") == 2 and kinds.count("PNG") >= 3
    assert 'guided: <span class="right">right</span>' in text
    assert 'unguided: <span class="wrong">' in text
    assert "&lt;b&gt;dog&lt;/b&gt;" in text and "<b>dog</b>" not in text  # prompts are escaped
    titles = ("Accuracy", "Controls", "Predictability", "Entity maps", "Training", "Settings")
    for title in (*titles, "Which maps tell the label", "What the aggregator weighs", "Sample val0"):
        assert f"<h2>{title}</h2>" in text
    assert "too few videos (motion 0, spatial 4" in text  # and the rest is there all the same


def test_the_page_is_as_narrow_as_its_reader_s(evaluation: Path, tmp_path: Path) -> None:
    """At 400 pixels only tables scroll, each in a box of its own; nothing has a width that is not one at most."""
    text = main(evaluation=evaluation, out=tmp_path / "report.html", maps=0).read_text()
    style = text[text.index("<style>") : text.index("</style>")]
    assert 'name="viewport" content="width=device-width' in text
    assert text.count("<table>") == text.count('<div class="scroll"><table>') > 3
    assert re.search(r"\.scroll \{[^}]*overflow-x: auto", style) and re.search(r"img \{[^}]*max-width: 100%", style)
    assert not re.search(r"(?<!max-)(?<!-)\b(min-)?width: [1-9]\d*(px|r?em)", style)
    assert "minmax(min(" in style  # a column is never wider than the page
    assert "noise level" in text and "z_t" not in text


def test_clips_that_guidance_made_right_come_first(evaluation: Path, tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    right, wrong = (sample_spec(rng, "motion", labels=[label]) for label in ("left", "right"))
    good, bad = (render(sample_scene(spec, rng)) for spec in (right, wrong))
    (tmp_path / "samples").mkdir()
    sides = {"a": (good, good), "b": (bad, bad), "c": (good, bad), "d": (bad, good), "e": (bad, good)}
    for name, pair in sides.items():
        both = np.concatenate(pair, axis=2)
        write_video(tmp_path / "samples" / f"{name}.side-by-side.mp4", both, FPS, scale=2)
        write_gif(tmp_path / "samples" / f"{name}.side-by-side.gif", both, FPS, scale=2)
        (tmp_path / "samples" / f"{name}.json").write_text(json.dumps({"prompt": right.prompt, "seed": ord(name)}))
    options: dict[str, Any] = {"evaluation": evaluation, "samples": tmp_path / "samples", "maps": 0, "clips": 4}
    text = main(out=tmp_path / "report.html", **options).read_text()
    assert [chr(int(seed)) for seed in re.findall(r"\(seed (\d+)\)", text)] == ["d", "e", "c", "a"]


def test_report_of_the_evaluation_alone(evaluation: Path, tmp_path: Path) -> None:
    out = main(evaluation=evaluation, out=tmp_path / "deep" / "report.html", maps=0)
    assert "Entity maps" not in out.read_text()


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"evaluation": Path("/nowhere.json")}, "/nowhere.json"),
        ({"out": Path("folder")}, "ends in .html"),
        ({"samples": Path("/nowhere")}, "no side-by-side clips"),
        ({"training": Path("/nowhere")}, "training log"),
        ({"shards": Path("/nowhere")}, "no shards.json"),
    ],
)
def test_bad_input_is_named(changes: dict[str, Any], message: str, evaluation: Path, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=message):
        main(**{"evaluation": evaluation, "out": tmp_path / "report.html", "maps": 0} | changes)
    assert not (tmp_path / "report.html").exists()


def test_curves(training: Path) -> None:
    curves = read_curves(training / "version_0" / "metrics.csv")
    assert curves["val/loss"] == [(9.0, 2.4), (19.0, 1.4)]
    assert len(curves["train/loss"]) == 2


def test_blend_colours_where_the_maps_are() -> None:
    volume = torch.zeros(2, 4, 8, 8)
    volume[0, :, 2, 2] = volume[1, :, 6, 6] = 1
    picture = blend(np.full((13, 64, 64, 3), 128, np.uint8), volume, entities=2)
    assert picture.shape == (4, 64, 64, 3)
    red, blue, neither = picture[0, 20, 20], picture[0, 52, 52], picture[0, 20, 52]
    assert red[0] > red[2] + 0.3 and blue[2] > blue[0] + 0.3
    assert np.ptp(neither) < 0.01
