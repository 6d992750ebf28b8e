"""From a classifier to the Hub and back: its folder, its card, its figures and its moving picture."""

from __future__ import annotations

import io
import json
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from huggingface_hub import ModelCard, hf_hub_download
from PIL import Image

from cvg import CompositionClassifier, evaluate, export, sample
from cvg.common.cli import run
from cvg.common.errors import ModelError
from cvg.common.hub import path as path_of
from tests.helpers import tiny
from tests.helpers.hub_double import Hub, hub_double

NAME = "someone/tiny-classifier"


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.getbasetemp() / "tiny"


@pytest.fixture(scope="module")
def evaluated(folder: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """An evaluation of the tiny classifier that kept its videos: its file and their folder."""
    out = tmp_path_factory.mktemp("evaluated")
    _, classifier = tiny.make_both(folder)
    asked = {"prompts": 2, "steps": tiny.STEPS, "batch_size": 2, "controls": False, "videos": out / "videos"}
    evaluate.main(out=out / "evaluation.json", classifier=str(classifier), **asked)
    return out / "evaluation.json", out / "videos"


@pytest.fixture
def hub(tmp_path: Path) -> Iterator[Hub]:
    with hub_double(tmp_path / "cache") as double:
        yield double


def exported(folder: Path, evaluated: tuple[Path, Path], *more: str) -> Any:
    args = [f"--classifier={folder / 'classifier'}", f"--evaluation={evaluated[0]}", f"--videos={evaluated[1]}", *more]
    return run(export.export, "python -m cvg.export", args=args)


def refusal(call: Callable[[], Any], capsys: pytest.CaptureFixture[str]) -> str:
    with pytest.raises(SystemExit) as caught:
        call()
    assert caught.value.code == 2
    (line,) = [line for line in capsys.readouterr().err.splitlines() if line.startswith("error: ")]
    return line


def test_export_push_load_and_sample_by_its_id(
    folder: Path, evaluated: tuple[Path, Path], hub: Hub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    exported(folder, evaluated, f"--out={tmp_path / 'out'}", f"--push_to={NAME}")
    files = hub.repos[NAME]
    assert {"config.json", "model.safetensors", "README.md", "evaluation.json", "example.gif"} <= set(files)
    for name in ("config.json", "model.safetensors", "evaluation.json", "example.gif"):
        assert files[name] == (tmp_path / "out" / name).read_bytes()

    loaded = CompositionClassifier.from_pretrained(NAME)
    local = CompositionClassifier.from_pretrained(folder / "classifier")
    assert all(torch.equal(value, loaded.state_dict()[name]) for name, value in local.state_dict().items())
    assert loaded.config == local.config and loaded.example == files["example.gif"]
    assert Path(hf_hub_download(NAME, "README.md")).read_bytes() == files["README.md"]

    told = ["--prompt=a red circle moving up", f"--steps={tiny.STEPS}", f"--generator={folder / 'generator'}"]
    for place, name in (("theirs", NAME), ("ours", str(folder / "classifier"))):
        run(sample.main, "python -m cvg.sample", args=[*told, f"--out={tmp_path / place}", f"--classifier={name}"])
    ours, theirs = (
        {path.name: path.read_bytes() for path in (tmp_path / side).glob("*.mp4")} for side in ("ours", "theirs")
    )
    assert ours and ours == theirs

    # And as a reader of the card does it.
    (code,) = re.findall(r"```python\n(.*?)```", files["README.md"].decode(), re.S)
    monkeypatch.chdir(tmp_path)
    short = code.replace("seeds=[0]", f"seeds=[0], steps={tiny.STEPS}")
    exec(compile(short, "README.md", "exec"), {})
    assert (tmp_path / "guided.mp4").stat().st_size > 0


def test_the_card_tells_labels_figures_and_shows_a_video(
    folder: Path, evaluated: tuple[Path, Path], tmp_path: Path
) -> None:
    exported(folder, evaluated, f"--out={tmp_path / 'out'}")
    text = (tmp_path / "out" / "README.md").read_text()
    found = json.loads(evaluated[0].read_text())
    card = ModelCard(text)
    assert card.data.license == "apache-2.0" and card.data.pipeline_tag == "text-to-video"
    results = {result.metric_name: result for result in card.data.eval_results}
    assert results["accuracy guided"].metric_value == found["guided"]["accuracy"]
    assert results["accuracy unguided"].metric_value == found["unguided"]["accuracy"]
    assert results["accuracy guided"].dataset_type == "shapes"
    gain = found["gain"]
    whole = (
        f"| all | 2 | {found['unguided']['accuracy']:.2f} | {found['guided']['accuracy']:.2f} | {gain['value']:+.2f} "
    )
    assert whole in text and "| motion | left, right" in text
    prompt = found["rows"][0]["prompt"]
    assert f"![{prompt}: unguided, guided](example.gif)" in text and f'sampler(["{prompt}"]' in text
    with Image.open(io.BytesIO((tmp_path / "out" / "example.gif").read_bytes())) as gif:
        assert (gif.size, gif.n_frames) == (((48 + 4 + 48) * 2, 48 * 2), 5)


@pytest.mark.parametrize("name", ["shapes-classifier", "shapes-cogvideox-classifier", "shapes-wan-more-classifier"])
def test_the_shipped_classifiers_have_the_cards_that_would_be_written_today(name: str, tmp_path: Path) -> None:
    classifier = CompositionClassifier.from_pretrained(name)
    assert classifier.evaluated is not None  # an evaluation of these very weights
    classifier.generate_model_card(name=name).save(tmp_path / "README.md")
    text = (Path(path_of(name)) / "README.md").read_text()
    assert text == (tmp_path / "README.md").read_text()
    assert "| motion | left, right" in text and f"| all | {classifier.evaluated.whole.n} | 0." in text
    assert f'from_pretrained("{name}")' in text and ModelCard(text).data.license == "apache-2.0"


def test_figures_stay_with_the_weights_that_they_are_of(
    folder: Path, evaluated: tuple[Path, Path], tmp_path: Path
) -> None:
    exported(folder, evaluated, f"--out={tmp_path / 'out'}")
    classifier = CompositionClassifier.from_pretrained(tmp_path / "out")
    classifier.save_pretrained(tmp_path / "again")
    assert (tmp_path / "again" / "README.md").read_bytes() == (tmp_path / "out" / "README.md").read_bytes()
    with torch.no_grad():
        classifier.absent_SKFHW.add_(1)
    classifier.save_pretrained(tmp_path / "again")
    assert {path.name for path in (tmp_path / "again").iterdir()} == {"config.json", "model.safetensors", "README.md"}
    assert "Evaluation" not in (tmp_path / "again" / "README.md").read_text()


def test_another_classifiers_evaluation_and_wrong_files_are_refused(
    folder: Path, evaluated: tuple[Path, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    other = tiny.make_classifier(tiny.load_generator(str(folder / "generator")), tmp_path / "other", seed=2)
    (tmp_path / "not.json").write_text("{}")
    traversing = json.loads(evaluated[0].read_text())
    for row in traversing["rows"]:
        row["video"] = "../../secret.mp4"
    (tmp_path / "traversing.json").write_text(json.dumps(traversing))
    for row in traversing["rows"]:
        del row["video"]
    (tmp_path / "unkept.json").write_text(json.dumps(traversing))
    own, out = f"--classifier={folder / 'classifier'}", f"--out={tmp_path / 'out'}"
    kept = f"--videos={evaluated[1]}"
    cases = {
        (f"--classifier={other}", f"--evaluation={evaluated[0]}", out): "not of this classifier",
        (own, f"--evaluation={tmp_path / 'not.json'}", out): "not.json: no 'schema'",
        (own, f"--evaluation={tmp_path / 'nope.json'}", out): "cannot be read",
        (own, f"--evaluation={tmp_path / 'traversing.json'}", kept, out): "lies elsewhere",
        (own, f"--evaluation={tmp_path / 'unkept.json'}", kept, out): "kept none",
        (own, f"--evaluation={evaluated[0]}", f"--videos={tmp_path / 'nowhere'}", out): "no such file",
        (own, kept, out): "give the --evaluation",
        (own,): "give --out or --push_to",
        (out,): "give either --checkpoint or --classifier",
        (own, f"--checkpoint={tmp_path / 'not.json'}", out): "give either --checkpoint or --classifier",
        (own, "--push_to=nobody"): "repository 'nobody': not a Hub id; give owner/name",
    }
    for args, reason in cases.items():
        assert reason in refusal(lambda args=args: run(export.export, "python -m cvg.export", args=list(args)), capsys)
        assert not (tmp_path / "out").exists()


def test_what_a_hub_says_no_to_is_one_line(
    folder: Path, hub: Hub, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    classifier = CompositionClassifier.from_pretrained(folder / "classifier")
    with pytest.raises(
        ModelError, match="repository others/theirs: the Hub refuses it .*; log in with `hf auth login`"
    ):
        classifier.push_to_hub("others/theirs")
    monkeypatch.setenv("HF_TOKEN", "hf_another")
    push = [f"--classifier={folder / 'classifier'}", f"--push_to={NAME}"]
    assert "log in with" in refusal(lambda: run(export.export, "python -m cvg.export", args=push), capsys)
    monkeypatch.setattr("huggingface_hub.constants.ENDPOINT", "http://127.0.0.1:9")  # where nobody listens
    with pytest.raises(ModelError, match=f"repository {NAME}: cannot be written to"):
        classifier.push_to_hub(NAME)


def test_a_private_repository_is_seen_by_its_owner_alone(
    folder: Path, hub: Hub, monkeypatch: pytest.MonkeyPatch
) -> None:
    CompositionClassifier.from_pretrained(folder / "classifier").push_to_hub(NAME, private=True)
    assert NAME in hub.private
    CompositionClassifier.from_pretrained(NAME)
    monkeypatch.setenv("HF_TOKEN", "hf_another")
    with pytest.raises(ModelError, match="the Hub has none of that name"):
        CompositionClassifier.from_pretrained(NAME)


def test_figures_that_are_none_are_refused_on_loading(folder: Path, tmp_path: Path) -> None:
    classifier = CompositionClassifier.from_pretrained(folder / "classifier")
    classifier.save_pretrained(tmp_path)
    for text in ("[]", '{"fingerprint": 3}', "{"):
        (tmp_path / "evaluation.json").write_text(text)
        with pytest.raises(ModelError if text != "{" else Exception, match=r"evaluation\.json"):
            CompositionClassifier.from_pretrained(tmp_path)
