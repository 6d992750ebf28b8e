"""Linear probes find what is planted, and nothing else; the choice that is made from them."""

from __future__ import annotations

import random
import re
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml

from cvg.common.cli import run
from cvg.common.errors import UserError
from cvg.common.files import read_json
from cvg.composition import LabelSet
from cvg.probing.choice import Choice, choose
from cvg.probing.probe import FOLDS, RIDGE, Probe, TooFewVideos, coarse, deal, predict
from cvg.shapes.world import LABELS as SHAPES_LABELS
from cvg.shards.records import Record
from cvg.shards.shards import ShardInfo
from data_prep import invert, render
from data_prep import probe as command
from tests.helpers import training
from tests.helpers.shards import LABELS
from tests.helpers.tiny import make_pipeline

SET = LabelSet(LABELS)
SPATIAL = [label.name for label in SET.groups["spatial"]]
SHAPE = (3, 4, 3, 2, 4, 8, 8)  # steps, layers, heads, slots, frames, rows, columns


def record(number: int, label: str, planted: Any = (), video: str | None = None, negative: str | None = None) -> Record:
    """Noise in all maps; those of ``planted`` (step, layer, head) have the subject where the label says.

    Under p-, it is where ``negative`` says, if that is given.
    """
    sides = []
    for side, shown in enumerate((label, negative or label)):
        row, column = {"left of": (4, 1), "right of": (4, 6), "above": (1, 4), "below": (6, 4)}.get(shown, (4, 4))
        maps = torch.rand(SHAPE, generator=torch.Generator().manual_seed(2 * number + side))
        for step, layer, head in planted:
            maps[step, layer, head, 0, :, row - 1 : row + 2, column - 1 : column + 2] += 1.0
        sides.append((0.01 * maps).half())
    meta = {"group": SET[label].group, "prompt_positive": "", "prompt_negative": "", "negative_label": label}
    return Record(f"r{number}", *sides, (True, True), label, meta | ({"video": video} if video else {}))


@pytest.fixture(scope="module")
def planted() -> Probe:
    """The label is in step 1, layer 2, head 0 and in no other map."""
    return Probe([record(i, SPATIAL[i % 4], [(1, 2, 0)]) for i in range(60)], SET)


def test_the_one_map_that_knows_is_found_and_the_others_are_at_chance(planted: Probe) -> None:
    (scores,) = planted.each().values()
    flat = {
        (s, layer, head): score
        for s, rows in enumerate(scores)
        for layer, row in enumerate(rows)
        for head, score in enumerate(row)
    }
    found = flat.pop((1, 2, 0))
    assert found.accuracy > 0.9 and found.above and found.low > found.chance == 0.25
    assert not any(score.above for score in flat.values())
    assert np.mean([score.accuracy for score in flat.values()]) == pytest.approx(0.25, abs=0.04)
    together = planted.overall(planted.together([1], range(4)))
    assert together.above and planted.overall(planted.together([0, 2], range(4))).accuracy < 0.45


def test_no_fold_has_seen_the_videos_it_is_judged_on() -> None:
    """Maps that only say which video they are of, with labels drawn at random, tell nothing; unless folds leak."""
    rng = random.Random(0)
    records = []
    for i in range(60):
        label = rng.choice(SPATIAL)
        first = record(i, label, video=f"v{i}")
        first.negative_SLAKFHW = first.positive_SLAKFHW
        second = Record(f"again{i}", first.positive_SLAKFHW, first.negative_SLAKFHW, (True, True), label, first.meta)
        records += [first, second]
    probe = Probe(records, SET)
    (score,) = probe.score(probe.together([0], range(4)))["spatial"]
    assert score.accuracy < 0.45
    group = probe.groups["spatial"]
    leaking = torch.arange(len(group.targets_N)) % FOLDS
    (right,) = predict(probe.together([0], range(4))["spatial"], group.targets_N, leaking) == group.targets_N
    assert right.float().mean() > 0.9


def test_folds_hold_whole_videos_and_labels_evenly() -> None:
    rng = random.Random(1)
    videos = [f"v{i}" for i in range(40) for _ in range(rng.choice((2, 4)))]
    labels = [int(video[1:]) % 4 for video in videos]
    folds = deal(labels, videos)
    assert len(set(zip(videos, folds, strict=True))) == 40
    count = Counter({(label, fold) for label, fold in zip(labels, folds, strict=True)})
    assert len(count) == 4 * FOLDS
    per_fold = Counter(fold for _, fold in set(zip(videos, folds, strict=True)))
    assert set(per_fold.values()) == {8}


def test_the_kernel_form_is_ridge_regression_with_an_intercept() -> None:
    rng = np.random.default_rng(0)
    features, targets, folds = rng.normal(size=(50, 7)), rng.integers(3, size=50), np.arange(50) % FOLDS
    kernel = torch.from_numpy(features @ features.T)[None]
    found = predict(kernel, torch.from_numpy(targets), torch.from_numpy(folds))[0].numpy()
    for fold in range(FOLDS):
        x, y = features[folds != fold], np.eye(3)[targets[folds != fold]]
        centred = x - x.mean(0)
        ridge = RIDGE * (centred**2).sum(1).mean() * np.eye(7)
        weights = np.linalg.solve(centred.T @ centred + ridge, centred.T @ (y - y.mean(0)))
        wanted = ((features[folds == fold] - x.mean(0)) @ weights + y.mean(0)).argmax(1)
        assert (found[folds == fold] == wanted).all()


def test_several_maps_together_are_their_features_side_by_side(planted: Probe) -> None:
    group = planted.groups["spatial"]
    both = torch.cat(
        [group.features_NSLAD[:, s, layer, 1].float() for s, layer in ((0, 1), (0, 3), (2, 1), (2, 3))], -1
    )
    wanted = both @ both.T / group.features_NSLAD.shape[-1]
    assert torch.allclose(planted.together([0, 2], [1, 3], [1])["spatial"][0], wanted, atol=1e-3)


def test_maps_are_made_coarse_and_their_scale_does_not_matter() -> None:
    maps = torch.rand(1, 2, 2, 9, 16, 20)
    assert coarse(maps).shape == (1, 2, 2 * 4 * 8 * 8)
    assert torch.allclose(coarse(maps), coarse(5 * maps), atol=1e-2)


def test_an_interval_counts_a_video_once_and_chance_is_the_commonest_label() -> None:
    labels = ["above"] * 15 + ["below"] * 15 + ["left of"] * 30
    alone = Probe([record(i, label, [(0, 0, 0)]) for i, label in enumerate(labels)], SET)
    often = Probe([record(i + n, label, [(0, 0, 0)], f"v{i}") for i, label in enumerate(labels) for n in (0, 500)], SET)
    (one,), (many,) = ([p.each()["spatial"][0][0][0]] for p in (alone, often))
    assert one.chance == many.chance == 0.5
    assert many.accuracy == one.accuracy == 1.0 and many.low == one.low


def test_groups_are_told_apart_within_and_all_of_them_together() -> None:
    names = [label.name for labels in SET.groups.values() for label in labels]
    probe = Probe([record(i, names[i % 8], [(0, 0, 0)]) for i in range(80)], SET)
    scores = probe.score(probe.together([0], [0], [0]))
    assert list(scores) == ["motion", "spatial", "all"]
    assert scores["spatial"][0].accuracy > 0.9 and scores["motion"][0].accuracy < 0.5  # `record` plants no motion
    assert scores["all"][0].accuracy == pytest.approx(
        (scores["spatial"][0].accuracy + scores["motion"][0].accuracy) / 2
    )


def test_maps_that_show_the_prompts_words_are_told_from_those_that_show_the_video() -> None:
    wrong = {"left of": "right of", "right of": "above", "above": "below", "below": "left of"}
    video = [record(i, SPATIAL[i % 4], [(0, 0, 0)]) for i in range(60)]
    words = [record(i, SPATIAL[i % 4], [(0, 0, 0)], negative=wrong[SPATIAL[i % 4]]) for i in range(60)]
    (honest,), (leaky,) = ([Probe(records, SET).each()["spatial"][0][0][0]] for records in (video, words))
    assert honest.accuracy > 0.9 and abs(honest.leak) < 0.05
    assert leaky.leak > 0.5 and leaky.accuracy < honest.accuracy


def test_too_few_videos_are_said() -> None:
    with pytest.raises(TooFewVideos, match=r"too few videos \(motion 0, spatial 9\)"):
        Probe([record(i, SPATIAL[i % 4]) for i in range(9)], SET)
    with pytest.raises(TooFewVideos):  # one label cannot be told from others
        Probe([record(i, "above") for i in range(40)], SET)


def test_the_choice_is_early_shallow_and_of_the_heads_that_know() -> None:
    taps = [(step, layer, head) for step in (1, 2) for layer in (1, 3) for head in (0, 2)]
    probe = Probe([record(i, SPATIAL[i % 4], taps) for i in range(60)], SET)
    choice = choose(probe, most_steps=4)
    assert (choice.steps, choice.layers, choice.heads) == ([1, 2], [1], [0, 2])
    assert choice.chosen.accuracy > 0.9 and not choice.by_head[1].above
    assert choose(probe, most_steps=1).steps == [1]


def test_layers_that_are_needed_together_are_kept() -> None:
    """Two labels each are told by layer 0 and by layer 2 alone."""
    known = {"left of": 0, "right of": 0, "above": 2, "below": 2}
    records = [record(i, SPATIAL[i % 4], [(0, known[SPATIAL[i % 4]], 0)]) for i in range(80)]
    assert choose(Probe(records, SET), 4).layers == [0, 2]


def test_no_choice_without_a_signal() -> None:
    with pytest.raises(UserError, match="no step tells the label"):
        choose(Probe([record(i, SPATIAL[i % 4]) for i in range(40)], SET), 4)


@pytest.fixture(scope="module")
def clips(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("clips")
    render.main(folder, clips=28, kinds=["spatial"])
    return folder


@pytest.fixture(scope="module")
def generator(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_pipeline(tmp_path_factory.mktemp("generator"))


def test_the_command_writes_what_inversion_and_training_take(clips: Path, tmp_path: Path) -> None:
    """On the shipped generator: the maps of one with random weights do not tell the label."""
    out = tmp_path / "probe"
    given = [f"--data={clips}", f"--out={out}", "--at=[0, 7]"]
    choice = run(command.main, "probe", args=[*given, "--videos=24", "--heads=[0, 2]", "--grid=[4, 4, 4]"])
    found = read_json(out / "probe.json")
    assert found["chosen"]["at"] == [7]  # at noise alone there is nothing to read
    assert set(found["chosen"]["heads"]) <= {0, 2} and found["videos"] == 24
    assert found["probed"]["layers"] == list(range(6))
    assert found["why"]["chosen"]["accuracy"] == choice.chosen.accuracy > 0.5
    assert np.shape(found["groups"]["spatial"]["alone"]["accuracy_SLA"]) == (2, 6, 2)
    assert (out / "probe-spatial.png").read_bytes().startswith(b"\x89PNG")

    shards = out / "shards"
    more = [f"--data={clips}", f"--out={shards}", "--method=noising"]
    run(invert.main, "invert", args=["--config", str(out / "invert.yaml"), *more])
    info = ShardInfo.load(shards)
    assert (info.layers, info.heads) == (found["chosen"]["layers"], found["chosen"]["heads"])
    assert len(info.sigmas) == len(found["chosen"]["at"]) and info.grid == [4, 4, 4]
    quick = ["--model.backbone=none", "--model.backbone_path=null", "--trainer.max_epochs=1"]
    quick += [f"--trainer.logger.init_args.save_dir={tmp_path}", "--trainer.enable_progress_bar=false"]
    configs = re.findall(r'[^\s"]+\.yaml', (out / "train.yaml").read_text().splitlines()[0])
    training.command(["fit", *(f"--config={path}" for path in configs), *quick, "--trainer.accelerator=cpu"])
    assert list((tmp_path / "train").glob("version_0/checkpoints/best.ckpt"))


def test_labels_of_ones_own_are_named_in_both_configurations(
    clips: Path, generator: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(command, "choose", lambda *_: Choice([0], [1], [0], [], [], [], SCORE))
    (tmp_path / "labels.yaml").write_text(yaml.safe_dump(SHAPES_LABELS.to_dict(), sort_keys=False))
    given = [f"--data={clips}", f"--out={tmp_path / 'out'}", f"--generator={generator}", "--steps=2", "--at=[1]"]
    run(command.main, "probe", args=[*given, "--layers=[0, 1]", "--heads=[3]", f"--labels={tmp_path / 'labels.yaml'}"])
    inversion = yaml.safe_load((tmp_path / "out/invert.yaml").read_text())
    assert (inversion["at"], inversion["layers"], inversion["heads"]) == ([1], [1], [3])
    assert LabelSet.load(inversion["labels"]) == SHAPES_LABELS and "grid" not in inversion
    training = yaml.safe_load((tmp_path / "out/train.yaml").read_text())
    assert "mirror" not in training["data"]


SCORE = Probe([record(i, SPATIAL[i % 4]) for i in range(12)], SET).each()["spatial"][0][0][0]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (["--data=nothing.jsonl"], "nothing.jsonl"),
        (["--layers=[9]"], "layers"),
        (["--heads=[4]"], "heads"),
        (["--at=[5]", "--steps=4"], "ascending step indices"),
        (["--videos=0"], "at least 1"),
        (["--videos=4", "--steps=2", "--at=[1]"], "too few videos"),
        (["--steps=2", "--at=[0]", "--layers=[0]", "--videos=12"], "no step tells the label"),
    ],
)
def test_wrong_input_is_one_line(
    changes: list[str], message: str, clips: Path, generator: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as caught:
        run(command.main, "probe", args=[f"--data={clips}", f"--out={tmp_path}", f"--generator={generator}", *changes])
    assert caught.value.code == 2
    error = capsys.readouterr().err.strip().splitlines()[-1]
    assert error.startswith("error:") and message in error
