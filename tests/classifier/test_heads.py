"""The anchored head, its anchors, and labels that were never trained."""

from __future__ import annotations

import copy
import math
import random
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import AutoTokenizer, CLIPModel, XCLIPModel

from cvg import sample
from cvg.classifier import CompositionClassifier
from cvg.classifier.anchors import CAPTIONS, caption, check_distinct, deviations, label_anchors, part_wordings
from cvg.classifier.backbones import Backbone, build, loading
from cvg.classifier.backbones.none import NoBackbone
from cvg.classifier.competition import Competition
from cvg.classifier.config import BackboneSettings, SamplingSettings
from cvg.classifier.head import AnchoredHead
from cvg.common.cli import run
from cvg.common.errors import UserError
from cvg.common.files import read_json
from cvg.composition import LabelSet
from cvg.export import export
from cvg.generators import load_generator
from cvg.shards.mirror import Mirror
from cvg.shards.records import Record
from cvg.shards.shards import ShardInfo
from cvg.training.datamodule import CompositionDataModule
from tests.helpers.classifiers import PRESENT, STEPS_ALL, make_config, make_maps
from tests.helpers.shards import FRAMES, LABELS, SIDE, SLOTS
from tests.helpers.tiny import make_classifier, make_vlm
from tests.helpers.training import ALL_MIRRORS, batches_of, fit, metrics_of

GRID3 = (FRAMES, SIDE, SIDE)
WORDS = "a an object another moving left right up down of above below drifting sideways beside".split()
ANCHORED: dict[str, Any] = {"name": "anchored", "rank": 4, "tied": True, "captions": list(CAPTIONS), "without": []}
JOINT = {name: value for name, value in ANCHORED.items() if name != "rank"} | {"name": "joint"}


@pytest.fixture(scope="module", params=["clip", "xclip"])
def vlm(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny random CLIP or X-CLIP folder with both towers and a tokenizer."""
    return make_vlm(tmp_path_factory.mktemp(request.param), request.param, WORDS)


@pytest.fixture(scope="module")
def xclip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_vlm(tmp_path_factory.mktemp("vlm"), "xclip", WORDS)


def vlm_backbone(folder: Path) -> Backbone:
    return build(BackboneSettings(name="vlm", path=str(folder)), SLOTS, GRID3)


def anchored(folder: Path, **head: Any) -> CompositionClassifier:
    """A random classifier on the VLM, its anchors those of the labels."""
    torch.manual_seed(0)
    spec = {"name": "vlm", "path": str(folder)}
    classifier = CompositionClassifier(make_config(backbone=spec, head=ANCHORED | head)).eval()
    classifier.anchor_labels()
    return classifier


# Text features and anchors


def test_text_features_are_the_models_own_at_unit_length(vlm: Path) -> None:
    backbone = vlm_backbone(vlm)
    phrases = ["an object moving left", "an object", "an object left of another object"]
    model: Any = (XCLIPModel if (vlm.name.startswith("xclip")) else CLIPModel).from_pretrained(vlm).eval()
    tokenizer = AutoTokenizer.from_pretrained(vlm)
    own = []
    for phrase in phrases:  # one at a time: a phrase's embedding must not depend on what it is padded to
        with torch.no_grad():
            states = model.text_model(**tokenizer(phrase, return_tensors="pt")).last_hidden_state
            own.append(model.text_projection(states[0, -1]))  # at the end of the text
    found = backbone.text_features(phrases)
    assert backbone.joint_dim == 8 and found.shape == (3, 8) and not found.requires_grad
    torch.testing.assert_close(found, torch.nn.functional.normalize(torch.stack(own), dim=-1))
    text = {name for name, _ in model.named_parameters() if name.startswith("text_model")}
    assert text and backbone.tower is not None and not text & {name for name, _ in backbone.tower.named_parameters()}


def test_phrases_that_cannot_be_embedded(xclip: Path, tmp_path: Path) -> None:
    backbone = vlm_backbone(xclip)
    with pytest.raises(UserError, match="21 tokens, of at most 12"):
        backbone.text_features(["left", "left " * 20])
    for path in xclip.iterdir():
        if "token" not in path.name:
            (tmp_path / path.name).write_bytes(path.read_bytes())
    with pytest.raises(UserError, match="it has no tokenizer"):
        vlm_backbone(tmp_path).text_features(["left"])
    with pytest.raises(UserError, match="no text tower"):
        NoBackbone(SLOTS, GRID3).text_features(["left"])
    with pytest.raises(UserError, match="no text tower"):
        CompositionClassifier(make_config(head=ANCHORED))


def test_an_anchor_is_the_mean_over_wordings_at_unit_length(xclip: Path) -> None:
    labels = LabelSet(
        {
            "motion": {"entities": 1, "labels": {"left": ["moving left", "drifting left"], "up": ["moving up"]}},
            "spatial": {"entities": 2, "labels": {"above": ["above"], "below": ["below"]}},
        }
    )
    backbone = vlm_backbone(xclip)
    anchors = label_anchors(backbone, labels.labels)
    both = backbone.text_features(["an object moving left", "an object drifting left"]).mean(0)
    torch.testing.assert_close(anchors[0], both / both.norm())
    torch.testing.assert_close(anchors[2:3], backbone.text_features(["an object above another object"]))
    kept, lost = part_wordings(labels.labels, ["drifting left"])
    torch.testing.assert_close(label_anchors(backbone, kept)[:1], backbone.text_features(["an object moving left"]))
    assert [(label.name, label.wordings) for label in lost] == [("left", ("drifting left",))]


def test_captions_and_wordings_that_make_no_anchor(xclip: Path) -> None:
    labels = LabelSet(LABELS).labels
    assert caption("left of", 2, ["a dot {r0}", "a dot {r0} a line"]) == "a dot left of a line"
    for captions, message in (
        (["{r0}"], "expected 2 templates, for labels of 1 or 2 entities"),
        (["{r0} {r0}", "x"], "appears twice"),
        (["x", "x"], "no {r0}"),
    ):
        with pytest.raises(UserError, match=message):
            caption("left", 1, captions)
    with pytest.raises(UserError, match="'moving on' is to be left out"):
        part_wordings(labels, ["moving on"])
    with pytest.raises(UserError, match="all wordings of label 'up'"):
        part_wordings(labels, ["moving up"])
    anchors = torch.eye(8)
    check_distinct(labels, anchors)
    anchors[5] = anchors[0]  # of another group: they never compete
    check_distinct(labels, anchors)
    anchors[3] = anchors[0]
    with pytest.raises(UserError, match="'left' and 'down'"):
        check_distinct(labels, anchors)


# The head


def test_anchored_logits_are_the_documented_formula() -> None:
    torch.manual_seed(0)
    head = AnchoredHead(30, 5, 6, rank=3).double()
    head.set_anchors(torch.randn(5, 6))
    head.bias_E.data.normal_()
    x = torch.randn(4, 30, dtype=torch.float64)
    for row, logits in zip(x, head(x), strict=True):
        f = head.joint_ER @ (head.read_RD @ row) / math.sqrt(30) + head.bias_E
        length = (f.square().sum() + 10**2).sqrt()
        expected = [head.log_scale.exp() * f @ w / length / w.norm() for w in head.anchor_YE]
        torch.testing.assert_close(logits, torch.stack(expected))
    torch.testing.assert_close(head(x.view(2, 2, 30)).flatten(0, 1), head(x))


def test_features_without_evidence_have_equal_logits_and_finite_gradients() -> None:
    head = AnchoredHead(30, 5, 6, rank=3)
    x = torch.zeros(1, 30, requires_grad=True)
    logits = head(x)
    (gradient,) = torch.autograd.grad(logits[0, 0], x)
    assert not logits.any() and gradient.isfinite().all() and gradient.norm() < 1e4


@pytest.mark.parametrize("tied", [True, False])
def test_tied_anchors_stay_and_others_train(xclip: Path, tied: bool) -> None:
    classifier = anchored(xclip, tied=tied)
    before = classifier.head.anchor_YE.clone()
    torch.testing.assert_close(before, label_anchors(classifier.backbone, classifier.labels.labels))
    optimizer = torch.optim.SGD([p for p in classifier.parameters() if p.requires_grad], lr=0.1)
    loss = torch.nn.functional.cross_entropy(classifier(make_maps(), PRESENT, STEPS_ALL), torch.tensor([0, 1, 5]))
    loss.backward()
    optimizer.step()
    assert torch.equal(classifier.head.anchor_YE, before) == tied
    trained = {name for name, p in classifier.head.named_parameters() if p.grad is not None and p.grad.any()}
    assert trained == {"read_RD", "joint_ER", "bias_E", "log_scale"} | (set() if tied else {"anchor_YE"})
    assert "head.anchor_YE" in classifier.state_dict()


@pytest.mark.parametrize("tied", [True, False])
def test_a_folder_holds_the_anchors_and_needs_no_text_tower(
    vlm: Path, tied: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    classifier = anchored(vlm, tied=tied)
    classifier.save_pretrained(tmp_path)

    def refuse(path: str) -> Any:
        raise AssertionError("the text tower was read")

    monkeypatch.setattr(loading, "tokenizer", refuse)
    again = CompositionClassifier.from_pretrained(tmp_path)
    assert again.config == classifier.config
    assert torch.equal(again.head.anchor_YE, classifier.head.anchor_YE)
    assert torch.equal(again(make_maps(), PRESENT, STEPS_ALL), classifier(make_maps(), PRESENT, STEPS_ALL))


def test_heads_that_do_not_exist(xclip: Path) -> None:
    for head, message in (
        ({"name": "quadratic"}, r"'head' is \{.*\}; expected a head named linear, joint or anchored"),
        ({"name": "anchored"}, "no 'head.rank'; its keys are name, rank, tied, captions, without"),
        ({"name": "linear", "rank": 3}, "unknown key 'head.rank'; known: name"),
        (ANCHORED | {"rank": 0}, "'head.rank' is 0; expected a positive integer"),
        (ANCHORED | {"rank": 9}, "rank is 9, expected 1 to 8"),
        (JOINT, "own embeddings with text, and this one reads others; give the backbone layer -1"),
    ):
        with pytest.raises(UserError, match=message):
            CompositionClassifier(make_config(backbone={"name": "vlm", "path": str(xclip)}, head=head))


def test_deviations_are_from_the_mean_of_the_group() -> None:
    labels, anchors = LabelSet(LABELS).labels, torch.randn(8, 6)
    expected = torch.cat([group - group.mean(0) for group in anchors.split(4)])
    torch.testing.assert_close(deviations(labels, anchors), expected)


@pytest.mark.parametrize("crowding", [1.0, 0.02])
def test_training_starts_where_labels_are_told_apart_however_alike_their_anchors(crowding: float) -> None:
    """The same logits for anchors in a narrow cone, and every direction in which anchors differ counts alike."""
    torch.manual_seed(0)
    labels, directions = LabelSet(LABELS).labels, torch.linalg.qr(torch.randn(40, 9)).Q.T
    pattern = torch.linalg.qr(deviations(labels, torch.randn(8, 4))).Q * torch.tensor([1.0, 0.8, 0.3, 0.1])
    anchors = directions[8] + crowding * pattern @ directions[:4]
    head = AnchoredHead(30, 8, 40, rank=6)
    head.set_anchors(anchors)
    head.start(deviations(labels, anchors))
    read = torch.linalg.svdvals(deviations(labels, anchors) @ head.joint_ER.detach())
    torch.testing.assert_close(read[:4], read[:1].expand(4), rtol=1e-3, atol=0)
    assert read[4:].max() < 1e-3 * read[0]
    # The slope of the logits where there is little evidence: that of a linear head with orthonormal codes of labels.
    slope = head.log_scale.exp().detach() / 10 * read[0]
    assert float(slope) == pytest.approx((8 / 4) ** 0.5, rel=1e-3)
    assert torch.linalg.matrix_rank(head.joint_ER.detach()) == 6


def test_a_joint_head_says_what_the_vlm_says(vlm: Path) -> None:
    """exp(tau) times the sum over steps of cosines with each label's text, from those of a volume without evidence."""
    torch.manual_seed(0)
    spec = {"name": "vlm", "path": str(vlm), "read": "joint"}
    classifier = CompositionClassifier(make_config(backbone=spec, head=JOINT)).eval()
    classifier.anchor_labels()
    phi = 2 * torch.randn(2, 2, SLOTS, *GRID3)
    present = torch.ones(2, SLOTS, dtype=torch.bool)
    text = label_anchors(classifier.backbone, classifier.labels.labels)
    empty = classifier.backbone.joint_features(torch.zeros(1, SLOTS, *GRID3), present[:1])
    seen = sum(classifier.backbone.joint_features(phi[:, step], present) - empty for step in range(2))
    expected = classifier.head.log_scale.exp() * seen @ text.T
    torch.testing.assert_close(classifier.classify(phi, present), expected)
    assert expected.std() > 1e-3
    trainable = {name.split(".")[-1] for name, _ in classifier.named_parameters() if not name.startswith("aggregator")}
    assert trainable == {"absent_SKFHW", "log_scale"}
    more = classifier.with_label("sideways", ["moving sideways"], entities=1)
    torch.testing.assert_close(more.classify(phi, present)[:, :4], expected[:, :4])
    for options, message in (
        ({"read": "aloud"}, "'read' is \"aloud\"; expected vision or joint"),
        ({"layer": 0}, "use layer -1"),
    ):
        with pytest.raises(UserError, match=message):
            build(BackboneSettings(**spec | options), SLOTS, GRID3)


# New labels


@pytest.mark.parametrize("tied", [True, False])
def test_a_new_label_joins_its_group_and_changes_no_other(xclip: Path, tied: bool, tmp_path: Path) -> None:
    classifier = anchored(xclip, tied=tied)
    before = copy.deepcopy(classifier.state_dict())
    logits = classifier(make_maps(), PRESENT, STEPS_ALL)
    more = classifier.with_label("sideways", ["moving sideways", "drifting sideways"], entities=1)
    assert more.labels.names == ["left", "right", "up", "down", "sideways", "left of", "right of", "above", "below"]
    assert more.labels["sideways"].group == "motion" and more.config.labels == more.labels.to_dict()
    wider = more(make_maps(), PRESENT, STEPS_ALL)
    torch.testing.assert_close(wider[:, [0, 1, 2, 3, 5, 6, 7, 8]], logits)
    expected = label_anchors(classifier.backbone, [more.labels["sideways"]])[0]
    torch.testing.assert_close(more.head.anchor_YE[4].detach(), expected)
    assert more.backbone is classifier.backbone
    # The old one is as it was, whatever happens to the new one.
    more.head.read_RD.data.zero_()
    assert classifier.labels == LabelSet(LABELS) and before.keys() == classifier.state_dict().keys()
    assert all(torch.equal(value, classifier.state_dict()[name]) for name, value in before.items())
    more.save_pretrained(tmp_path)
    again = CompositionClassifier.from_pretrained(tmp_path)
    assert again.labels == more.labels and torch.equal(again.head.anchor_YE, more.head.anchor_YE)


def test_a_classifier_of_another_label_set(xclip: Path) -> None:
    """Labels that stay keep what they have, new ones get the text tower's; a linear head has nothing for them."""
    classifier = anchored(xclip, tied=False)
    with torch.no_grad():
        classifier.head.anchor_YE += 0.1  # as training would
    groups = LabelSet(LABELS).to_dict()
    classifier.config = replace(classifier.config, sampling=SamplingSettings(later=dict.fromkeys(groups, 1)))
    groups["motion"]["labels"] = {"left": groups["motion"]["labels"]["left"], "sideways": ["drifting sideways"]}
    other = classifier.with_labels(LabelSet({"motion": groups["motion"]}))
    assert other.labels.names == ["left", "sideways"] and other.config.sampling.later == {"motion": 1}
    assert torch.equal(other.head.anchor_YE[0], classifier.head.anchor_YE[0])
    torch.testing.assert_close(
        other.head.anchor_YE[1].detach(), label_anchors(classifier.backbone, other.labels.labels)[1]
    )
    torch.testing.assert_close(
        other(make_maps(), PRESENT, STEPS_ALL)[:, 0], classifier(make_maps(), PRESENT, STEPS_ALL)[:, 0]
    )
    with pytest.raises(UserError, match=r"'sideways': .*linear head .*anchored or joint head"):
        CompositionClassifier(make_config()).with_labels(other.labels)


def test_a_head_without_vlm_can_have_its_anchors(xclip: Path, tmp_path: Path) -> None:
    """The text tower makes them, and nothing else of the model is used."""
    with_vlm, without = (
        anchored(xclip),
        CompositionClassifier(make_config(backbone={"name": "none", "path": str(xclip)}, head=ANCHORED)),
    )
    without.anchor_labels()
    assert torch.equal(without.head.anchor_YE, with_vlm.head.anchor_YE)
    assert without.backbone.tower is None and without.backbone.feature_dim == SLOTS * FRAMES * SIDE * SIDE
    without.save_pretrained(tmp_path)
    again = CompositionClassifier.from_pretrained(tmp_path)
    assert torch.equal(again(make_maps(), PRESENT, STEPS_ALL), without.eval()(make_maps(), PRESENT, STEPS_ALL))
    with pytest.raises(UserError, match="expected none, convolution, or vlm"):
        build(BackboneSettings(name="none", path=str(xclip), layer=1), SLOTS, GRID3)


def test_the_nearest_label_is_one_of_the_group(xclip: Path) -> None:
    classifier = anchored(xclip)
    anchors = torch.eye(8)
    anchors[2, 0], anchors[3, 4] = 0.5, 9.0
    classifier.head.set_anchors(anchors)
    assert classifier.nearest_label("left") == ("up", pytest.approx(0.5 / 1.25**0.5))


def test_new_labels_that_cannot_be_had(xclip: Path) -> None:
    classifier = anchored(xclip)
    for options, message in (
        ({"name": "left"}, "'left' states label 'left' already"),
        ({"name": "moving left"}, "'moving left' states label 'left' already"),
        ({"name": "beside"}, "choose one: motion, spatial"),
        ({"name": "beside", "entities": 3}, "no group of 3 entities; its groups: motion, spatial"),
        ({"name": "beside", "group": "sound"}, "group 'sound' is not in the label set; known: motion, spatial"),
    ):
        with pytest.raises(UserError, match=message):
            classifier.with_label(**options)
    strange = classifier.with_label("hovering", group="motion")
    with pytest.raises(UserError, match="'hovering' and 'wobbling': the backbone's text tower embeds them alike"):
        strange.with_label("wobbling", group="motion")  # an unknown word too
    with pytest.raises(UserError, match=r"'beside': .*linear head .*anchored or joint head"):
        CompositionClassifier(make_config()).with_label("beside", entities=2)


def test_sampling_towards_a_phrase_of_no_label_set(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    generator = load_generator("shapes-wan")
    spec = {"backbone": {"name": "vlm", "path": "shapes-clip", "layer": 1}, "head": ANCHORED}
    make_classifier(generator, tmp_path / "classifier", steps=4, **spec)
    options = ["--prompt=a red circle is drifting to the right", "--entities=[red circle]", "--steps=4"]
    options += ["--label=drifting to the right", f"--out={tmp_path / 'out'}", "--size=[5, 32, 32]", "--scale=1"]
    options += ["--guiding.guided_steps=2", "--guiding.iterations=1"]
    (video,) = run(sample.main, "sample", args=[f"--classifier={tmp_path / 'classifier'}", *options])
    assert "new label 'drifting to the right' of group 'motion'; nearest there: " in capsys.readouterr().out
    (relation,) = read_json(video.with_suffix(".json"))["relations"]
    assert relation["label"] == "drifting to the right" and relation["entities"] == ["red circle"]
    probabilities = [value for step in relation["steps"] for value in step["probability"]]
    assert len(relation["steps"]) == 2 and all(0 < value < 1 for value in probabilities)
    for more, message in (
        (["--classifier=shapes-classifier"], "its linear head has no weights for others"),
        (["--classifier=shapes-classifier", "--label=right", "--label_group=motion"], "no new label to take into it"),
        (
            [f"--classifier={tmp_path / 'classifier'}", "--entities=[red circle, circle]"],
            "choose one: spatial, relative",
        ),
    ):
        with pytest.raises(SystemExit):
            run(sample.main, "sample", args=[*options, *more])
        assert message in capsys.readouterr().err


# Labels and wordings held out of training


def test_held_out_labels_are_no_rivals_in_training() -> None:
    labels = LabelSet(LABELS)
    logits = torch.randn(2, 8, requires_grad=True)
    loss = Competition(labels, True, ["up"]).loss(logits, torch.tensor([0, 5]))
    torch.testing.assert_close(loss[0], -logits[0, [0, 1, 3]].log_softmax(-1)[0])
    torch.testing.assert_close(loss[1], -logits[1, 4:].log_softmax(-1)[1])
    (gradient,) = torch.autograd.grad(loss.sum(), logits)
    assert not gradient[:, 2].any()
    every = Competition(labels, False, ["up"])
    torch.testing.assert_close(
        every.loss(logits, torch.tensor([0, 5]))[1], -logits[1, [0, 1, 3, 4, 5, 6, 7]].log_softmax(-1)[4]
    )
    # In evaluation they are.
    assert every(logits, torch.tensor([0, 5])).isfinite().all()
    assert Competition(labels, True, ["up"])(logits, torch.tensor([0, 5])).isfinite().sum(1).tolist() == [4, 4]


def test_no_mirror_makes_a_held_out_label(shards: Path, record_factory: Callable[..., Record]) -> None:
    info = ShardInfo.load(shards)
    mirror = Mirror(ALL_MIRRORS, info.label_set, info.grid, ["left", "above"])
    seen = {
        mirror(record_factory("x", name, 0), random.Random(seed))[2]
        for name in ("down", "right of")
        for seed in range(64)
    }
    assert seen == {"right", "up", "down", "left of", "right of", "below"}


@pytest.mark.parametrize("cache_gb", [0.0, 1.0])
def test_training_batches_hold_no_held_out_label(shards: Path, cache_gb: float) -> None:
    options: dict[str, Any] = {"batch_size": 20, "mirror": ALL_MIRRORS, "cache_gb": cache_gb}
    data = CompositionDataModule([str(shards)], hold_out=["left", "above"], **options)
    data.setup("fit")
    batches = batches_of(data)
    labels = torch.cat([batch["label"] for batch in batches])
    assert len(batches) == 6 and len(labels) == 120  # 160 records, an eighth of each label
    assert set(labels.tolist()) == {1, 2, 3, 4, 5, 7}
    validation = torch.cat([batch["label"][batch["valid"]] for batch in data.val_dataloader()])
    assert set(validation.tolist()) == set(range(8))
    other = CompositionDataModule([str(shards)], hold_out=["left of", "right of", "above", "below"], **options)
    other.setup("fit")
    assert set(torch.cat([batch["label"] for batch in batches_of(other)]).tolist()) == {0, 1, 2, 3}
    for hold_out, message in (
        (["sideways"], "'sideways' is not in the label set"),
        (["left", "right", "up"], r"leaves \['down'\] of the group 'motion'"),
    ):
        with pytest.raises(UserError, match=message):
            CompositionDataModule([str(shards)], hold_out=hold_out).setup("fit")


def test_a_split_of_held_out_labels_alone_is_refused(shard_factory: Any, tmp_path: Path) -> None:
    shards = shard_factory(tmp_path, {"train": 8, "val": 1})  # the first label is "left"
    with pytest.raises(UserError, match="no val records but those of left"):
        CompositionDataModule([str(shards)], hold_out=["left"]).val_dataloader()


def test_training_reports_what_it_has_not_seen_apart(shard_factory: Any, xclip: Path, tmp_path: Path) -> None:
    labels = copy.deepcopy(LABELS)
    labels["motion"]["labels"]["up"].append("drifting up")
    counts = {"train": 160, "val": 40}
    shards = shard_factory(tmp_path / "shards", counts, changes={"labels": labels})
    model = {
        "backbone": "vlm",
        "backbone_path": str(xclip),
        "head": "anchored",
        "head_rank": 4,
        "depth": 0,
        "lr": 0.02,
    }
    options = {"hold_out": ["left"], "eval_batch_size": 16}
    trainer = fit(tmp_path, shards, model | {"head_without": ["drifting up"]}, options, epochs=6)
    metrics = metrics_of(tmp_path)
    parts = {
        name: metrics[f"val/accuracy_positive/{name}"] for name in ("seen", "held_out", "all", "reworded", "motion")
    }
    assert parts["seen"] * 35 + parts["held_out"] * 5 == pytest.approx(parts["all"] * 40)
    assert parts["seen"] > 0.7 and 0 <= parts["reworded"] <= 1
    assert math.isfinite(metrics["val/loss"])

    module: Any = trainer.lightning_module
    kept, lost = part_wordings(module.classifier.labels.labels, ["drifting up"])
    anchors = label_anchors(module.classifier.backbone, kept)
    assert torch.equal(module.classifier.head.anchor_YE, anchors) and [label.name for label in lost] == ["up"]
    start = math.log(10 / deviations(kept, anchors).square().sum(1).mean().sqrt())
    assert module.classifier.head.log_scale.item() != pytest.approx(start, abs=1e-3)  # the temperature is learned
    # What `reworded` is: the accuracy on records of "up", whose anchor is that of the wording left out.
    batches = list(CompositionDataModule([str(shards)]).val_dataloader())
    up = torch.cat([batch["positive"][batch["label"] == 2] for batch in batches])
    swapped = copy.deepcopy(module.classifier.eval())
    anchors[2] = label_anchors(swapped.backbone, lost)[0]
    swapped.head.set_anchors(anchors)
    present, steps = torch.tensor([[True, False]] * len(up)), torch.ones(len(up), 2, dtype=torch.bool)
    with torch.no_grad():
        right = (swapped(up, present, steps)[:, :4].argmax(-1) == 2).float().mean()
    assert parts["reworded"] == pytest.approx(float(right))

    # The anchors are in the checkpoint and in the export, and a resumed training is held to the same labels.
    export(str(tmp_path / "last.ckpt"), tmp_path / "exported")
    exported = CompositionClassifier.from_pretrained(tmp_path / "exported").state_dict()
    assert all(torch.equal(value, exported[name]) for name, value in module.classifier.state_dict().items())
    other = model | {"head_without": ["drifting up"]}
    with pytest.raises(UserError, match=r"its training had hold_out \['left'\]"):
        fit(tmp_path / "other", shards, other, epochs=7, ckpt_path=tmp_path / "last.ckpt")


def test_validation_loss_is_that_of_seen_labels(shards: Path, xclip: Path, tmp_path: Path) -> None:
    """An epoch at a rate of zero: the loss is that of the random head on the records of seen labels alone."""
    model = {"backbone": "vlm", "backbone_path": str(xclip), "head": "anchored", "head_rank": 4, "depth": 0, "lr": 0.0}
    trainer = fit(tmp_path, shards, model, {"hold_out": ["left"]}, epochs=1)
    module: Any = trainer.lightning_module
    (batch,) = CompositionDataModule([str(shards)], eval_batch_size=40).val_dataloader()
    steps, seen = torch.ones(40, 2, dtype=torch.bool), batch["label"] != 0
    module.eval()
    with torch.no_grad():
        losses = sum(
            module.compete.loss(module.classifier(batch[side], batch["present"], steps), batch["label"])
            for side in ("positive", "negative")
        )
    assert metrics_of(tmp_path)["val/loss"] == pytest.approx(float(losses[seen].mean()), rel=1e-4)
    assert losses[~seen].isinf().all()


def test_wordings_without_records_are_not_reported(shard_factory: Any, xclip: Path, tmp_path: Path) -> None:
    labels = copy.deepcopy(LABELS)
    labels["spatial"]["labels"]["below"].append("beside")
    shards = shard_factory(tmp_path / "shards", {"train": 32, "val": 7}, changes={"labels": labels})  # no "below"
    model = {"backbone": "vlm", "backbone_path": str(xclip), "head": "anchored", "head_rank": 4, "depth": 0}
    fit(tmp_path, shards, model | {"head_without": ["beside"]}, epochs=1)
    assert not [name for name in metrics_of(tmp_path) if "reworded" in name]


def test_held_out_labels_need_an_anchored_head(shards: Path, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="linear head's weights .* stay random; use an anchored head"):
        fit(tmp_path, shards, {}, {"hold_out": ["left"]})
    with pytest.raises(UserError, match="no text tower"):
        fit(tmp_path, shards, {"head": "anchored"})
