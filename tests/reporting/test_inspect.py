"""What the inspection shows is what the classifier reads, and it needs nothing but shards and classifier."""

from __future__ import annotations

import base64
import io
import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from cvg import inspect
from cvg.classifier import ClassifierConfig, CompositionClassifier
from cvg.common.cli import run
from cvg.common.errors import UserError
from cvg.common.files import read_json
from cvg.composition import LabelSet
from cvg.probing.probe import Score
from cvg.reporting import charts, inspection
from cvg.reporting.heatmaps import leak_map, probe_map, verdict_bars, weight_map
from cvg.reporting.strips import strips
from cvg.shards.shards import ShardInfo
from cvg.shards.stream import read_records
from tests.helpers.shards import LABELS


def make_classifier(folder: Path, **changes: Any) -> Path:
    """A random classifier for the shards of `conftest.make_shards`, of one of their two layers and both steps."""
    torch.manual_seed(0)
    values: dict[str, Any] = {
        "labels": LABELS,
        "generator": {"name": "tiny", "class": "Tiny", "fingerprint": "0"},
        "layers": [1],
        "heads": [0, 1],
        "sigmas": [0.99, 0.9],
        "grid": [4, 8, 8],
        "token_grid": [4, 8, 8],
        "slots": 2,
        "volume_grid": [4, 8, 8],
        "aggregator": {"depth": 0},
    }
    classifier = CompositionClassifier(ClassifierConfig(**values | changes))
    with torch.no_grad():
        classifier.aggregator.weight_LA.copy_(torch.tensor([[3.0, -1.0]]))
    classifier.save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def classifier(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_classifier(tmp_path_factory.mktemp("classifier"))


@pytest.fixture(scope="module")
def page(shards: Path, classifier: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder that the command writes, for the default samples."""
    out = tmp_path_factory.mktemp("inspect")
    args = [f"--shards={shards}", f"--out={out}", f"--classifier={classifier}", "--layer=1", "--head=0"]
    run(inspect.main, "inspect", args=args)
    return out


def test_every_picture_is_a_png_and_the_page_holds_them_all(page: Path) -> None:
    names = {path.stem for path in page.glob("*.png")}
    looks = ("maps", "maps-layer1-head0", "volume", "verdict")
    assert names == {"probe-motion", "probe-spatial", "probe-all", "probe-leak", "weights"} | {
        f"val-{number}.{look}" for number in ("0000", "0004") for look in looks
    }
    for name in names:
        with Image.open(page / f"{name}.png") as image:
            image.load()
            assert image.format == "PNG" and min(image.size) > 100 * charts.DPI / 144
            assert np.asarray(image.convert("L")).std() > 5  # not blank
    text = (page / "inspect.html").read_text()
    assert not re.search(r"https?://|//[a-z]|<script|<link|@import", re.sub(r"base64,[A-Za-z0-9+/=]+", "", text))
    held = {base64.b64decode(data) for data in re.findall(r'src="data:image/png;base64,([^"]+)"', text)}
    assert held == {(page / f"{name}.png").read_bytes() for name in names}
    assert "Every prompt" not in text


def test_the_numbers_are_those_of_the_classifier(page: Path, shards: Path, classifier: Path) -> None:
    found = read_json(page / "inspect.json")
    model = CompositionClassifier.from_pretrained(classifier)
    assert [sample["label"] for sample in found["samples"]] == ["left", "left of"]
    info = replace(ShardInfo.load(shards), layers=[1])
    records = {record.key: record for record in read_records(shards, ["val"], info)}
    for sample in found["samples"]:
        record = records[sample["key"]]
        for side, maps in (("p+", record.positive_SLAKFHW), ("p-", record.negative_SLAKFHW)):
            with torch.no_grad():
                logits = model(maps[None], torch.tensor([record.present]), torch.ones(1, 2, dtype=torch.bool))[0]
            group = model.labels.group_indices(record.label)
            wanted = logits[group].softmax(-1)
            assert list(sample["probabilities"][side].values()) == pytest.approx(wanted.tolist(), abs=1e-5)
    assert found["aggregator"]["weight_LA"] == [[3.0, -1.0]]


def test_the_head_that_holds_the_blobs_is_the_one_that_is_found(page: Path) -> None:
    groups = read_json(page / "inspect.json")["probe"]
    for name in ("motion", "spatial"):
        alone = groups[name]["alone"]
        accuracy_SLA = np.array(alone["accuracy_SLA"])
        assert accuracy_SLA.shape == (2, 2, 2)
        assert (accuracy_SLA[:, :, 0] > 0.9).all() and np.array(alone["above_SLA"])[:, :, 0].all()
        assert not np.array(alone["above_SLA"])[:, :, 1].any()
        assert groups[name]["videos"] == 80 and groups[name]["together"][0]["low"] > 0.8


def test_without_a_classifier_the_maps_alone_are_shown(shards: Path, tmp_path: Path) -> None:
    run(inspect.main, "inspect", args=[f"--shards={shards}", f"--out={tmp_path}", "--index=[2, 5]", "--probe=none"])
    assert {path.name for path in tmp_path.glob("*.png")} == {"val-0002.maps.png", "val-0005.maps.png"}
    found = read_json(tmp_path / "inspect.json")
    assert "probe" not in found and [sample["key"] for sample in found["samples"]] == ["val-0002", "val-0005"]


def test_the_volume_is_shown_as_the_frozen_model_gets_it(shards: Path, tmp_path: Path) -> None:
    backbone = {"name": "vlm", "path": "shapes-clip", "layer": 1}
    folder = make_classifier(tmp_path / "classifier", backbone=backbone)
    model = CompositionClassifier.from_pretrained(folder)
    volume = torch.randn(1, 2, 4, 8, 8)
    video = model.backbone.video(volume)
    assert video is not None and video.shape[2] == 3 and video.min() >= 0 and video.max() <= 1
    received: list[torch.Tensor] = []
    tower: Any = model.backbone.tower
    hook = tower.vision_model.register_forward_pre_hook(
        lambda _, args, options: received.append(options["pixel_values"]), with_kwargs=True
    )
    model.backbone.features(volume, torch.ones(1, 2, dtype=torch.bool))
    hook.remove()
    mean, deviation = (getattr(model.backbone, name)[:, None, None] for name in ("mean_C", "std_C"))
    assert torch.allclose(received[0] * deviation + mean, video.flatten(0, 1), atol=1e-5)
    given = [f"--shards={shards}", f"--out={tmp_path}", f"--classifier={folder}", "--sample=val-0004", "--probe=none"]
    text = run(inspect.main, "inspect", args=given).read_text()
    assert "as the frozen VLM is shown it" in text and (tmp_path / "val-0004.volume.png").exists()


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (["--shards=/nowhere"], "no shards.json"),
        (["--sample=val-9"], "sample 'val-9': not among the val records"),
        (["--index=40"], "numbered 0 to 39"),
        (["--index=-1"], "numbered 0 to 39"),
        (["--layer=7"], "layer 7"),
        (["--head=2"], "head 2"),
        (["--split=all"], "split"),
        (["--classifier=/nowhere"], "/nowhere"),
        (["--classifier=shapes-classifier"], "another generator"),
    ],
)
def test_wrong_input_is_one_line(
    changes: list[str], message: str, shards: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    args = [f"--shards={shards}", f"--out={tmp_path / 'out'}", "--probe=none", *changes]
    with pytest.raises(SystemExit) as caught:
        run(inspect.main, "inspect", args=args)
    assert caught.value.code == 2
    error = capsys.readouterr().err
    assert "error:" in error and message in error and "Traceback" not in error
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"heads": [0]}, "heads [0]"),
        ({"layers": [1, 2]}, "layers [1, 2]"),
        ({"sigmas": [0.99, 0.5]}, "noise levels"),
        ({"grid": [2, 8, 8]}, "maps of [2, 8, 8]"),
        ({"labels": {"spatial": LABELS["spatial"]}}, "other labels"),
    ],
)
def test_a_classifier_of_other_shards_is_refused(
    changes: dict[str, Any], message: str, shards: Path, tmp_path: Path
) -> None:
    model = CompositionClassifier.from_pretrained(make_classifier(tmp_path))
    model.config, model.labels = replace(model.config, **changes), LabelSet(changes.get("labels", LABELS))
    with pytest.raises(UserError, match=re.escape(message) + ".*trained on"):
        inspection.read_by(model, ShardInfo.load(shards), shards)


def test_an_empty_split_names_those_that_are_not(shard_factory: Callable[..., Path], tmp_path: Path) -> None:
    folder = shard_factory(tmp_path / "shards", {"train": 4})
    with pytest.raises(UserError, match=r"no val records; choose a split that has some \(train\)"):
        inspect.main(folder, tmp_path / "out")


def test_too_few_videos_for_a_probe_are_said(shard_factory: Callable[..., Path], tmp_path: Path) -> None:
    folder = shard_factory(tmp_path / "shards", {"train": 8, "val": 8})
    with pytest.raises(UserError, match=r"too few videos \(motion 4, spatial 4\)"):
        inspect.main(folder, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_a_group_with_too_few_videos_is_named(shard_factory: Callable[..., Path], tmp_path: Path) -> None:
    folder = shard_factory(tmp_path / "shards", {"train": 20})  # the first four labels are motion's
    part = inspection.probed(folder, "train")
    assert "Left out for too few videos: spatial (8)." in part.note and list(part.numbers) == ["motion"]


def test_pictures_of_any_number_of_steps_layers_heads_frames_and_labels() -> None:
    score = Score(0.5, 0.4, 0.6, 0.25, True, 0.05, -0.02)
    pictures = [
        picture([[[score] * a] * n] * s, [0.9] * s, range(n), range(a))
        for picture in (probe_map, leak_map)
        for s, n, a in ((1, 1, 1), (7, 30, 24))
    ]
    pictures += [weight_map(np.zeros((n, a)), range(n), range(a)) for n, a in ((1, 1), (40, 40))]
    pictures += [verdict_bars({side: {"a": 0.1, "b": 0.9} for side in ("p+", "p-")}, "a", "b")]
    pictures += [strips([("row", [np.zeros((frames, 4, 6, 3))] * 2)], ["p+", "p-"]) for frames in (1, 21)]
    for picture in pictures:
        with Image.open(io.BytesIO(picture)) as image:
            image.load()
            assert max(image.size) < 4500 * charts.DPI / 144
