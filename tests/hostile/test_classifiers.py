"""Damaged and hostile folders of classifiers, backbones and pipelines: one message each, and no code of theirs runs."""

from __future__ import annotations

import json
import os
import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from safetensors.torch import load_file, save_file

from cvg.classifier import CompositionClassifier, backbones
from cvg.classifier.config import BackboneSettings
from cvg.common import hub
from cvg.common.errors import UserError
from cvg.common.sizes import Grid
from cvg.generators import load_generator
from tests.helpers.classifiers import make_config

BIG = 10**8


@pytest.fixture(scope="module")
def good(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("classifier")
    CompositionClassifier(make_config()).save_pretrained(folder)
    return folder


@pytest.fixture
def folder(good: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(good, tmp_path / "classifier"))


def refused(call: Callable[[], Any], named: Path) -> str:
    with pytest.raises(UserError) as caught:
        call()
    message = str(caught.value)
    assert "\n" not in message and len(message) < 1500 and str(named) in message
    return message


CONFIG: dict[str, Any] = {
    "deep aggregator": {"aggregator": {"dim": 16, "depth": BIG, "attention_heads": 2, "dropout": 0.0}},
    "wide aggregator": {"aggregator": {"dim": BIG, "depth": 1, "attention_heads": 2, "dropout": 0.0}},
    "no attention": {"aggregator": {"dim": 16, "depth": 1, "attention_heads": 0, "dropout": 0.0}},
    "nan dropout": {"aggregator": {"dim": 16, "depth": 1, "attention_heads": 2, "dropout": float("nan")}},
    "infinite sigma": {"sigmas": [float("inf"), 0.9]},
    "negative sigma": {"sigmas": [0.9, -1.0]},
    "rising sigmas": {"sigmas": [0.5, 0.9]},
    "one sigma less": {"sigmas": [0.9]},
    "layers twice": {"layers": [0, 0]},
    "negative layer": {"layers": [-1, 0]},
    "one layer more": {"layers": [0, 1, 2]},
    "many heads": {"heads": list(range(5000))},
    "no heads": {"heads": []},
    "slots": {"slots": BIG},
    "no slots": {"slots": 0},
    "huge grid": {"grid": [BIG, BIG, BIG]},
    "huge volume": {"volume_grid": [4096, 4096, 4096]},
    "flat volume": {"volume_grid": [0, 8, 8]},
    "nan noise": {"noise": float("nan")},
    "negative noise": {"noise": -1.0},
    "empty generator": {"generator": {}},
    "generator of numbers": {"generator": {"name": 1, "class": 1, "fingerprint": 1}},
    "no labels": {"labels": {}},
    "labels of a list": {"labels": []},
    "infinite entities": {"labels": {"motion": {"entities": float("inf"), "labels": {"a": ["a"], "b": ["b"]}}}},
    "unknown head": {"head": {"name": "other"}},
    "rank": {"head": {"name": "anchored", "rank": BIG, "tied": True, "captions": ["a", "b"], "without": []}},
    "unknown backbone": {"backbone": {"name": "other"}},
    "no backbone there": {"backbone": {"name": "vlm", "path": "/nowhere"}},
    "nan step size": {"sampling": {"step_size": float("nan")}},
    "schema": {"schema": 99},
    "unknown field": {"more": 1},
}


@pytest.mark.parametrize("name", CONFIG)
def test_settings_are_checked_before_anything_is_built(name: str, folder: Path) -> None:
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config | CONFIG[name]))
    if name == "no backbone there":
        refused(lambda: CompositionClassifier.from_pretrained(folder), Path("/nowhere"))
    else:
        refused(lambda: CompositionClassifier.from_pretrained(folder), folder)


@pytest.mark.parametrize("text", [b"", b"{", b"[]", b"null", b"\xff\xfe", b"[" * 100_000, b'{"a":' * 100_000])
def test_a_config_that_is_none(text: bytes, folder: Path) -> None:
    (folder / "config.json").write_bytes(text)
    refused(lambda: CompositionClassifier.from_pretrained(folder), folder)


@pytest.mark.parametrize("data", [b"", b"junk", b"\xff" * 100, b"\x02" + bytes(7) + b"{}"])
def test_weights_that_are_none(data: bytes, folder: Path) -> None:
    (folder / "model.safetensors").write_bytes(data)
    refused(lambda: CompositionClassifier.from_pretrained(folder), folder)


@pytest.mark.parametrize("name", ["config.json", "model.safetensors"])
@pytest.mark.parametrize("make", [lambda path: None, os.mkfifo, os.mkdir])
def test_files_that_are_none(name: str, make: Callable[[Path], None], folder: Path) -> None:
    (folder / name).unlink()
    make(folder / name)
    refused(lambda: CompositionClassifier.from_pretrained(folder), folder)


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf")])
def test_weights_that_are_not_finite(value: float, folder: Path) -> None:
    weights = load_file(folder / "model.safetensors")
    weights["absent_SKFHW"].view(-1)[3] = value
    save_file(weights, folder / "model.safetensors")
    message = refused(lambda: CompositionClassifier.from_pretrained(folder), folder)
    assert "its weights are not finite (absent_SKFHW)" in message


FILES = ["config.json", "model.safetensors", "evaluation.json", "example.gif"]


def test_what_comes_from_the_hub_is_checked_before_it_is_read(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[dict[str, Any]] = []

    def download(name: str, **options: Any) -> str:
        asked.append({"name": name, **options})
        return str(folder)

    monkeypatch.setattr("huggingface_hub.model_info", lambda *_, **__: None)
    monkeypatch.setattr("cvg.classifier.folder.snapshot_download", download)
    CompositionClassifier.from_pretrained("owner/name", revision="main")
    assert asked == [{"name": "owner/name", "revision": "main", "allow_patterns": FILES}]
    with (folder / "config.json").open("ab") as file:
        file.truncate(1 << 25)
    message = refused(lambda: CompositionClassifier.from_pretrained("owner/name"), folder)
    assert "more than the 16777216 bytes of JSON that are read" in message


def _large(path: Path) -> None:
    with path.open("ab") as file:
        file.truncate(1 << 25)


def _deep(path: Path) -> None:
    path.write_bytes(b"[" * 100_000)


def _pipe(path: Path) -> None:
    path.unlink()
    os.mkfifo(path)


@pytest.mark.parametrize(
    ("change", "reason"), [(_large, "bytes of JSON"), (_deep, "not valid JSON"), (_pipe, "regular")]
)
@pytest.mark.parametrize("name", ["model_index.json", "transformer/config.json", "scheduler/scheduler_config.json"])
def test_settings_inside_a_pipeline(change: Callable[[Path], None], reason: str, name: str, tmp_path: Path) -> None:
    folder = Path(shutil.copytree(hub.path("shapes-wan"), tmp_path / "wan"))
    change(folder / name)
    assert reason in refused(lambda: load_generator(str(folder)), folder / name)


def _code(folder: Path) -> Path:
    """A module that leaves a file where it is imported."""
    ran = folder.parent / "ran"
    (folder / "code.py").write_text(f"open({str(ran)!r}, 'w')\nclass Config: pass\nclass Model: pass\n")
    return ran


@pytest.fixture
def no_questions(monkeypatch: pytest.MonkeyPatch) -> None:
    def ask(*args: Any) -> str:
        raise AssertionError("asked")

    monkeypatch.setattr("builtins.input", ask)


def test_code_that_comes_with_a_backbone_never_runs(tmp_path: Path, no_questions: None) -> None:
    folder = tmp_path / "vlm"
    folder.mkdir()
    ran, maps = _code(folder), {"AutoConfig": "code.Config", "AutoModel": "code.Model"}
    settings = BackboneSettings(name="vlm", path=str(folder))
    for values in ({"model_type": "own"}, {"model_type": "clip"}, {}):
        (folder / "config.json").write_text(json.dumps(values | {"auto_map": maps}))
        refused(lambda: backbones.build(settings, 2, Grid(4, 8, 8)), folder)
    assert not ran.exists()


@pytest.mark.parametrize(
    "changes",
    [{"text_config": {"num_hidden_layers": BIG}}, {"vision_config": {"hidden_size": 10**12}}, {"vision_config": []}],
)
def test_a_damaged_backbone(changes: dict[str, Any], tmp_path: Path) -> None:
    folder = Path(shutil.copytree(hub.path("shapes-clip"), tmp_path / "vlm"))
    (folder / "config.json").write_text(json.dumps(json.loads((folder / "config.json").read_text()) | changes))
    settings = BackboneSettings(name="vlm", path=str(folder))
    refused(lambda: backbones.build(settings, 2, Grid(4, 8, 8)), folder)


@pytest.mark.parametrize(
    "changes",
    [
        {"_class_name": ["code", "Model"]},
        {"_class_name": "OwnPipeline"},
        {"_class_name": None},
        {"text_encoder": ["transformers", "AutoModel"]},
        {"text_encoder": ["code", "Model"]},
    ],
)
def test_code_that_comes_with_a_pipeline_never_runs(
    changes: dict[str, Any], tmp_path: Path, no_questions: None
) -> None:
    folder = Path(shutil.copytree(hub.path("shapes-wan"), tmp_path / "wan"))
    ran = _code(folder)
    shutil.copy(folder / "code.py", folder / "text_encoder")
    index = json.loads((folder / "model_index.json").read_text())
    (folder / "model_index.json").write_text(json.dumps(index | changes))
    refused(lambda: load_generator(str(folder)), folder)
    assert not ran.exists()


def test_every_class_that_a_folder_may_choose_is_loaded_without_its_code() -> None:
    root, found = Path(__file__).parents[2], 0
    for path in (path for package in ("cvg", "data_prep", "benchmarks") for path in (root / package).rglob("*.py")):
        for call in re.findall(
            r"(?:Auto\w+|DiffusionPipeline)\.from_pretrained\((.*?)\)\n", path.read_text(), re.DOTALL
        ):
            found += 1
            assert "trust_remote_code=False" in call, path
    assert found >= 4
