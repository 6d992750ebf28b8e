"""The command that samples: what it says, what it writes, and what it does not do twice."""

from __future__ import annotations

import inspect
import stat
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from diffusers import WanPipeline

from cvg import sample
from cvg.classifier import CompositionClassifier
from cvg.common.cli import run
from cvg.common.errors import ModelError, PromptError, SettingsError
from cvg.common.files import read_json
from cvg.composition import LabelSet, parse
from cvg.generators import Loading
from cvg.guidance import making, stated, traces
from cvg.guidance.choice import candidate_seeds
from cvg.guidance.config import GuidanceConfig
from cvg.guidance.sampler import GuidedSampler
from tests.helpers import tiny

UP, LEFT = "a red circle moving up", "a blue square moving left"
TINY: dict[str, Any] = {"steps": 11, "size": (5, 32, 32), "scale": 1, "batch_size": 1}
"""With the shipped models."""


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """Options with random models, which take a quarter of the time, where nothing hangs on what a video shows."""
    _, classifier = tiny.make_both(tmp_path_factory.getbasetemp() / "tiny")
    return TINY | {"steps": tiny.STEPS, "classifier": str(classifier)}


@pytest.fixture
def calls(monkeypatch: pytest.MonkeyPatch) -> list[list[str]]:
    """The prompts of each call of the sampler."""
    made: list[list[str]] = []
    sampled = GuidedSampler.__call__

    def call(self: GuidedSampler, prompts: list[str], *args: Any, **options: Any) -> Any:
        made.append(list(prompts))
        return sampled(self, prompts, *args, **options)

    monkeypatch.setattr(GuidedSampler, "__call__", call)
    return made


def test_it_says_what_was_understood_and_what_came_of_it(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(traces, "LOW", 1.1)
    (video,) = sample.main(UP, out=tmp_path, **TINY)
    said = capsys.readouterr()
    assert f"{UP!r} was understood as: up (red circle)\n" in said.out
    (relation,) = read_json(video.with_suffix(".json"))["relations"]
    before, after = relation["probability_before"], relation["probability_after"]
    assert f"  up (red circle): probability {before:.2f} before guidance, {after:.2f} after\n" in said.out
    assert f"seed 0: the probability of up (red circle) stayed at {after:.2f}" in said.err
    assert "11/11" in said.err or "22/22" in said.err  # the bar counts steps


def test_what_is_there_is_not_made_again(tmp_path: Path, small: dict[str, Any], calls: list[list[str]]) -> None:
    videos = sample.main([UP, LEFT], out=tmp_path, **small)
    assert calls == [[UP], [UP], [LEFT], [LEFT]]
    files = {path: path.read_bytes() for path in tmp_path.iterdir() if path.suffix != ".json"}
    assert len(files) == 6 and sample.main([UP, LEFT], out=tmp_path, **small) == videos and len(calls) == 4
    videos[0].with_suffix(".json").unlink()  # killed before the last file of the first
    videos[1].with_suffix(".json").write_text("{")
    sample.main([UP, LEFT], out=tmp_path, **small)
    assert len(calls) == 8 and files == {path: path.read_bytes() for path in files}
    for other in ({"guidance_scale": 1.5}, {"fps": 4}, {"entities": ["circle"]}):
        sample.main(UP, out=tmp_path, **small, **other)
    assert len(calls) == 14
    assert read_json(videos[0].with_suffix(".json"))["by_hand"]["entities"] == ["circle"]


def test_the_sidecar_has_all_that_it_takes(tmp_path: Path, small: dict[str, Any]) -> None:
    (video,) = sample.main(UP, 3, tmp_path, entities=["red circle"], label="up", **small)
    told = read_json(video.with_suffix(".json"))
    assert (
        told["size"] == {"frames": 5, "height": 32, "width": 32} and told["seed"] == 3 and told["steps"] == tiny.STEPS
    )
    assert told["by_hand"] == {"entities": ["red circle"], "label": "up", "label_group": None}
    assert told["guiding"]["step_size"] > 0 and told["loading"]["dtype"] == "float32"
    assert all(told[name]["fingerprint"] for name in ("generator", "classifier"))
    assert {"cvg", "torch", "diffusers"} <= set(told["versions"])
    assert all(stat.S_IMODE(path.stat().st_mode) & 0o044 for path in tmp_path.iterdir())


def test_the_plain_pipeline_takes_any_prompt(tmp_path: Path, small: dict[str, Any], calls: list[list[str]]) -> None:
    (video,) = sample.main("no cat at all", out=tmp_path, guidance="off", **small | {"steps": 2})
    assert read_json(video.with_suffix(".json"))["relations"] == [] and calls == [["no cat at all"]]
    (known,) = sample.main(UP, out=tmp_path, guidance="off", **small | {"steps": 2})
    assert [relation["label"] for relation in read_json(known.with_suffix(".json"))["relations"]] == ["up"]


def test_prompts_that_are_alike_have_files_of_their_own(tmp_path: Path, small: dict[str, Any]) -> None:
    long = "a red circle with a very long description of what it is and does in this world, moving up"
    prompts = [f"{long} now", f"{long} then", "赤い円", "青い円", "a dog.", "A dog", "a dog"]
    videos = sample.main(prompts, out=tmp_path, guidance="off", **small | {"steps": 1, "batch_size": 7})
    assert len(set(videos)) == 7 and videos[-1].name == "a-dog_seed0.mp4"
    assert all(video.exists() and len(video.name) < 110 for video in videos)


def test_labels_that_the_classifier_never_saw_are_warned_of(
    tmp_path: Path, small: dict[str, Any], calls: list[list[str]], capsys: pytest.CaptureFixture[str]
) -> None:
    classifier = CompositionClassifier.from_pretrained(small["classifier"])
    classifier.config = replace(classifier.config, seen={"up": 7, "left": 0})
    classifier.save_pretrained(tmp_path / "classifier")
    options = small | {"classifier": str(tmp_path / "classifier")}
    sample.main([UP, LEFT], out=tmp_path / "out", **options)
    warned = [line for line in capsys.readouterr().err.splitlines() if "has never seen the label" in line]
    assert len(warned) == 1 and warned[0].startswith("warning: the classifier has never seen the label 'left'")
    sample.main(LEFT, out=tmp_path / "plain", guidance="off", **options)
    assert "has never seen the label" not in capsys.readouterr().err and len(calls) == 5


def test_the_best_of_several_seeds_is_written_with_what_was_tried(
    tmp_path: Path, small: dict[str, Any], capsys: pytest.CaptureFixture[str], calls: list[list[str]]
) -> None:
    (video,) = sample.main(UP, seed=7, out=tmp_path, guidance="score", candidates=2, **small)
    told = read_json(video.with_suffix(".json"))
    seeds = [one["seed"] for one in told["tried"]]
    assert seeds == candidate_seeds(7, 2) == candidate_seeds(7, 3)[:2] and seeds[0] == 7
    best = max(told["tried"], key=lambda one: one["log_probability"])
    assert told["kept_seed"] == best["seed"] and told["candidates"] == 2 and calls == []
    assert told["guiding"] == {"guided_steps": 2, "smoothing": 1}  # all that it has; nothing is moved
    said = capsys.readouterr().out
    assert f"kept seed {best['seed']} of 7, {seeds[1]}\n" in said
    assert f"up (red circle): probability {best['probabilities'][0]:.2f} (of all: " in said
    made = video.read_bytes()
    sample.main(UP, seed=7, out=tmp_path, guidance="score", candidates=2, **small)
    assert "made before" in capsys.readouterr().out
    (plain,) = sample.main(UP, seed=told["kept_seed"], out=tmp_path / "plain", guidance="off", **small)
    assert plain.read_bytes() == made


def test_rules_take_the_classifiers_place(tmp_path: Path) -> None:
    ruled = {"classifier": "rules", "labels": "shapes", "generator": "shapes-wan"}
    (video,) = sample.main(LEFT, out=tmp_path / "on", **ruled, **TINY)
    told = read_json(video.with_suffix(".json"))
    assert told["classifier"]["name"] == "rules" and told["classifier"]["layers"] == [0, 1, 2, 3]
    assert told["relations"][0]["label"] == "left" and told["relations"][0]["probability_after"] > 0.5
    (video,) = sample.main(LEFT, out=tmp_path / "score", guidance="score", candidates=2, **ruled, **TINY)
    assert len(read_json(video.with_suffix(".json"))["tried"]) == 2


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"classifier": "rules"}, "so they name none; give generator and size"),
        ({"classifier": "rules", "generator": "shapes-wan"}, "so they name none; give size"),
        ({"labels": "shapes"}, "labels shapes: a classifier has a label set of its own"),
    ],
)
def test_rules_want_what_a_classifier_brings_and_a_classifier_nothing_of_theirs(
    tmp_path: Path, options: dict[str, Any], message: str
) -> None:
    with pytest.raises(SettingsError, match=message):
        sample.main(LEFT, out=tmp_path, **options)


def test_what_no_rule_states_is_told_prompt_by_prompt(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    front, both = "a red circle in front of a blue square", "a red circle moving left in front of a blue square"
    ruled = {"classifier": "rules", "labels": "shapes", "generator": "shapes-wan", **TINY}
    with pytest.raises(
        PromptError, match=r"label 'in front of': no rule on attention maps states it; rules know left,"
    ):
        sample.main(front, out=tmp_path / "one", **{**ruled, "generator": "no/such-generator"})  # before it is loaded
    (tmp_path / "prompts.txt").write_text(f"{front}\n{both}\n")
    videos = sample.main(prompts_file=tmp_path / "prompts.txt", out=tmp_path / "file", **ruled)
    said = capsys.readouterr().out
    assert f"{front!r} is sampled plainly (label 'in front of': no rule" in said
    unstated = "left out: 'in front of': no rule on attention maps states it"
    assert f"{both!r} was understood as: left (red circle)\n{unstated}\n" in said
    told = [read_json(video.with_suffix(".json")) for video in videos]
    assert [one["guidance"] for one in told] == ["off", "on"]
    assert [relation["label"] for relation in told[1]["relations"]] == ["left"]


def test_where_rules_add_nothing_to_a_classifier_it_is_told() -> None:
    labels = LabelSet(
        {
            "motion": {
                "entities": 1,
                "labels": {
                    "left": {"wordings": ["moving left"], "rule": "moves left"},
                    "still": {"wordings": ["standing still"]},
                },
            }
        }
    )
    assert stated.stated(labels) == []  # a formula with none to be told from says nothing
    (line,) = stated.silent_about(labels, [parse("a red circle moving left", labels)])
    assert line == "rules add nothing to the guidance towards 'left': no rule on attention maps states it"
    shapes = LabelSet.load("shapes")
    assert stated.silent_about(shapes, [parse("a red circle moving left", shapes)]) == []


def test_the_command_warns_of_labels_that_rules_add_nothing_to(
    tmp_path: Path, small: dict[str, Any], capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(stated, "stated", lambda labels: [])
    for weight, warned in ((1.0, True), (0.0, False)):
        sample.main(UP, out=tmp_path / f"{weight}", guiding=GuidanceConfig(rules=weight), **small)
        assert ("warning: rules add nothing to the guidance towards 'up'" in capsys.readouterr().err) == warned


def test_prompts_of_a_file_that_ask_for_nothing_are_sampled_plainly(
    tmp_path: Path, small: dict[str, Any], calls: list[list[str]], capsys: pytest.CaptureFixture[str]
) -> None:
    lake = "a quiet lake"
    (tmp_path / "prompts.csv").write_text(
        f"prompt,entities,labels\n{lake},,\na red circle that climbs,red circle,up\n{LEFT},,\n"
    )
    videos = sample.main(prompts_file=tmp_path / "prompts.csv", out=tmp_path / "out", **{**small, "batch_size": 2})
    assert calls == [["a red circle that climbs", LEFT]] * 2 + [[lake]]
    said = capsys.readouterr().out
    assert f"{lake!r} is sampled plainly (" in said and "'a red circle that climbs' was understood as: up" in said
    told = [read_json(video.with_suffix(".json"))["guidance"] for video in videos]
    assert told == ["off", "on", "on"] and len(list((tmp_path / "out").glob("*.side-by-side.mp4"))) == 2
    sample.main(prompts_file=tmp_path / "prompts.csv", out=tmp_path / "out", **{**small, "batch_size": 2})
    assert len(calls) == 3
    for options, message in (
        ({}, "give --prompt or --prompts_file"),
        ({"prompt": UP, "prompts_file": tmp_path / "prompts.csv"}, "not both"),
        ({"prompts_file": tmp_path / "prompts.csv", "label": "up"}, "a file says them beside each prompt"),
    ):
        with pytest.raises(SettingsError, match=message):
            sample.main(out=tmp_path, **options)


def test_without_a_twin_there_is_the_guided_video_alone(
    tmp_path: Path, small: dict[str, Any], calls: list[list[str]]
) -> None:
    (both,) = sample.main(UP, out=tmp_path / "both", **small)
    (video,) = sample.main(UP, out=tmp_path / "one", compare=False, **small)
    assert video.read_bytes() == both.read_bytes() and len(calls) == 3
    assert {path.suffix for path in video.parent.iterdir()} == {".mp4", ".json"}
    assert list(read_json(video.with_suffix(".json"))["seconds"]) == ["guided"]
    sample.main(UP, out=tmp_path / "one", compare=False, **small)
    assert len(calls) == 3  # made before
    sample.main(UP, out=tmp_path / "one", **small)
    assert len(calls) == 5


def test_the_pipelines_own_arguments_go_into_its_call(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    heard: list[Any] = []
    plain = WanPipeline.__call__

    def call(self: WanPipeline, *args: Any, negative_prompt: Any = None, **options: Any) -> Any:
        heard.append(negative_prompt)
        return plain(self, *args, negative_prompt=negative_prompt, **options)

    call.__signature__ = inspect.signature(plain)  # type: ignore[attr-defined]
    monkeypatch.setattr(WanPipeline, "__call__", call)
    said = ["--prompt", UP, "--pipeline.negative_prompt", "a blue square", "--out", str(tmp_path), "--steps", "11"]
    said += ["--size", "[5, 32, 32]", "--scale", "1", "--compare", "false"]
    (video,) = run(sample.main, "cvg sample", args=said)
    assert (
        heard == ["a blue square"] and read_json(video.with_suffix(".json"))["pipeline"]["negative_prompt"] == heard[0]
    )
    for name, value, message in [
        ("negative_promt", "x", "WanPipeline takes no such argument, but negative_prompt, guidance_scale_2"),
        ("num_frames", 5, "pipeline num_frames: cannot be given, as it has an option of its own"),
        ("attention_kwargs", {}, "cannot be given, as it would change LoRAs"),
        ("prompt_embeds", 5, "cannot be given, as it is set by the model's adapter"),
        ("max_sequence_length", 5, "cannot be given, as it is set by the model's adapter"),
        ("negative_prompt", ["x"], "give one text for all videos"),
    ]:
        with pytest.raises(SettingsError, match=message):
            sample.main(UP, out=tmp_path, pipeline={name: value}, **TINY)


def test_what_differs_from_training_is_warned_of_or_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    sample.main(UP, out=tmp_path, loading=Loading(quantize="torchao-int8"), compare=False, **TINY)
    told = capsys.readouterr().err
    told = "".join(line for line in told.splitlines(True) if "look whether the video" not in line)
    assert told.count("warning: ") == 2 and "loaded now: quantisation torchao Int8Tensor instead of none" in told
    assert f"size {list(TINY['size'])}: the classifier was trained on frames, rows, columns [13, 64, 64]" in told
    monkeypatch.setattr(making, "make_all", lambda *_: pytest.fail("began"))
    with pytest.raises(ModelError, match="instead of none.*load and call it as it was, or train with it"):
        sample.main(UP, out=tmp_path, loading=Loading(quantize="torchao-int8"), strict=True, **TINY)
