"""The classifier: aggregator, frozen backbones, smoothing, and its folder."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor
from transformers import AutoModel, CLIPConfig, CLIPModel, XCLIPConfig, XCLIPModel

from cvg.classifier import CompositionClassifier, group_log_probs
from cvg.classifier.aggregator import Aggregator
from cvg.classifier.smoothing import evidence_mask, smooth_noise, worst_case
from cvg.common import hub
from cvg.common.errors import UserError
from cvg.grounding.maps import normalise, resample
from tests.helpers.classifiers import GRID3, PRESENT, STEPS_ALL, make_config, make_maps
from tests.helpers.shards import FRAMES, HEADS, LAYERS, SLOTS, STEPS


@pytest.fixture(scope="module", params=["clip", "xclip"])
def vlm(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> tuple[str, Path]:
    """A tiny random CLIP or X-CLIP folder. X-CLIP has fewer frames than the maps."""
    torch.manual_seed(0)
    text = {"vocab_size": 32, "hidden_size": 16, "intermediate_size": 16, "num_hidden_layers": 1}
    text |= {"num_attention_heads": 2, "max_position_embeddings": 8}
    vision = {"hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2}
    vision |= {"image_size": 16, "patch_size": 4}
    model: Any
    if request.param == "clip":
        model = CLIPModel(CLIPConfig(text_config=text, vision_config=vision, projection_dim=8))
    else:
        vision |= {"num_frames": 3, "mit_hidden_size": 16, "mit_intermediate_size": 16, "mit_num_attention_heads": 2}
        model = XCLIPModel(XCLIPConfig(text_config=text, vision_config=vision, projection_dim=8))
    for parameter in model.parameters():  # larger than the usual initial weights, so that the features vary
        torch.nn.init.normal_(parameter, std=0.3)
    folder = tmp_path_factory.mktemp(request.param)
    model.save_pretrained(folder)
    processor = {
        "image_mean": [0.4, 0.5, 0.6],
        "image_std": [0.2, 0.3, 0.4],
        "image_processor_type": "CLIPImageProcessor",
    }
    (folder / "preprocessor_config.json").write_text(json.dumps(processor))
    return request.param, folder


# Aggregator


def test_resample_is_exact_when_equal_and_keeps_means_when_smaller() -> None:
    maps = torch.rand(2, 3, 4, 8, 8)
    assert resample(maps, (4, 8, 8)) is maps
    small = resample(maps, (2, 4, 4))
    assert small.shape == (2, 3, 2, 4, 4)
    torch.testing.assert_close(small.mean((-3, -2, -1)), maps.mean((-3, -2, -1)))
    assert resample(maps, (8, 4, 16)).shape == (2, 3, 8, 4, 16)


def test_normalise_is_the_documented_formula_and_ignores_scale() -> None:
    maps = torch.rand(2, 4, 8, 8, dtype=torch.float64)
    mean = maps.mean((-3, -2, -1), keepdim=True)
    plain = maps / mean - 1
    plain = plain / plain.std((-3, -2, -1), keepdim=True, correction=0)
    torch.testing.assert_close(normalise(maps), plain, atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(normalise(1e-4 * maps), plain, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("kind", ["zero", "constant", "one-hot"])
def test_degenerate_maps_have_finite_values_and_gradients(kind: str) -> None:
    maps = torch.zeros(1, STEPS, LAYERS, HEADS, SLOTS, *GRID3)
    if kind == "constant":
        maps += 0.01
    if kind == "one-hot":
        maps[..., 0, 0, 0] = 1
    maps.requires_grad_()
    classifier = CompositionClassifier(make_config()).eval()
    logits = classifier(maps, PRESENT[:1], STEPS_ALL[:1])
    (gradient,) = torch.autograd.grad(logits.sum(), maps)
    assert logits.isfinite().all() and gradient.isfinite().all()


def test_correction_starts_at_exactly_zero() -> None:
    torch.manual_seed(0)
    full = Aggregator(STEPS, LAYERS, HEADS, SLOTS, GRID3, dim=16, depth=2, attention_heads=2)
    plain = Aggregator(STEPS, LAYERS, HEADS, SLOTS, GRID3, depth=0)
    maps, step = make_maps()[:, 0], torch.zeros(3, dtype=torch.long)
    assert torch.equal(full(maps, PRESENT, step), plain(maps, PRESENT, step))
    mean = normalise(maps[:1]).mean((1, 2))
    volume = plain(maps[:1], PRESENT[:1], step[:1])
    cosine = torch.nn.functional.cosine_similarity(volume.flatten(2), mean.flatten(2), dim=-1)
    torch.testing.assert_close(cosine, torch.ones_like(cosine))


def test_absent_slots_are_zero_and_influence_nothing() -> None:
    aggregator = Aggregator(STEPS, LAYERS, HEADS, SLOTS, GRID3, dim=16, depth=1, attention_heads=2, dropout=0.0)
    torch.nn.init.normal_(aggregator.out.weight)
    maps, step = make_maps()[:, 0], torch.ones(3, dtype=torch.long)
    volume = aggregator(maps, PRESENT, step)
    assert not volume[1, 1].any() and volume[1, 0].any()
    changed = maps.clone()
    changed[1, :, :, 1] = torch.rand(LAYERS, HEADS, *GRID3)
    assert torch.equal(aggregator(changed, PRESENT, step), volume)
    assert aggregator(maps, torch.zeros_like(PRESENT), step).isfinite().all()


# Backbones


def test_the_shipped_classifier_sees_what_it_always_saw() -> None:
    """Bit for bit: the picture, the X-CLIP's second state and its scale, written out."""
    classifier = CompositionClassifier.from_pretrained("shapes-classifier")
    model: Any = XCLIPModel.from_pretrained(hub.path("shapes-clip"), dtype=torch.float32).eval()
    model.vision_model.encoder.layers = model.vision_model.encoder.layers[:2]

    def tokens(volume: Tensor) -> Tensor:
        u = (volume - 2.0) / 1.5
        light = 0.5 + 0.5 * u * torch.rsqrt(1 + u.square())
        light = torch.nn.functional.interpolate(light, size=(4, 64, 64), mode="trilinear", align_corners=False)
        video = torch.stack([light[:, 0], torch.zeros_like(light[:, 0]), light[:, 1]], dim=2).flatten(0, 1)
        hidden = model.vision_model(pixel_values=(video - 0.3) / 0.25).last_hidden_state[:, 1:]
        return hidden.unflatten(0, (-1, 4))

    volume = torch.randn(2, 2, 4, 8, 8, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        blank = tokens(torch.zeros(1, 2, 4, 8, 8))
        probe = 2 * smooth_noise((8, 2, 4, 8, 8), torch.Generator().manual_seed(0))
        channels = (tokens(probe) - blank).square().mean(dim=(0, 1, 2))
        deviation = channels.clamp_min(0.01 * channels.mean()).clamp_min(1e-12).sqrt()
        expected = ((tokens(volume) - blank) / deviation).flatten(1)
        assert torch.equal(classifier.backbone(volume, torch.ones(2, 2, dtype=torch.bool)), expected)


def test_frozen_backbone_keeps_out_of_training(vlm: tuple[str, Path]) -> None:
    config = make_config(backbone={"name": "vlm", "path": str(vlm[1])})
    classifier = CompositionClassifier(config).train()
    tower = classifier.backbone.tower
    assert tower is not None and not any(module.training for module in tower.modules())
    logits = classifier(make_maps(), PRESENT, STEPS_ALL)
    torch.nn.functional.cross_entropy(logits, torch.tensor([0, 1, 5])).backward()
    assert all(parameter.grad is None for parameter in tower.parameters())
    trained = {name for name, parameter in classifier.named_parameters() if parameter.grad is not None}
    assert trained == {name for name, _ in classifier.named_parameters()} == set(classifier.state_dict())
    assert {name.split(".")[0] for name in trained} == {"aggregator", "absent_SKFHW", "head"}
    classifier.double()
    assert next(tower.parameters()).dtype == torch.float64


def test_gradient_agrees_with_finite_differences(vlm: tuple[str, Path]) -> None:
    config = make_config(backbone={"name": "vlm", "path": str(vlm[1])})
    torch.manual_seed(0)
    classifier = CompositionClassifier(config).double().eval()
    phi = torch.randn(1, STEPS, SLOTS, *GRID3, dtype=torch.float64, requires_grad=True)
    direction = torch.randn_like(phi)

    def loss(phi: Tensor) -> Tensor:
        return classifier.classify(phi, PRESENT[:1]).log_softmax(-1)[0, 2]

    (gradient,) = torch.autograd.grad(loss(phi), phi)
    with torch.no_grad():
        numeric = (loss(phi + 1e-6 * direction) - loss(phi - 1e-6 * direction)) / 2e-6
    torch.testing.assert_close((gradient * direction).sum(), numeric, rtol=1e-5, atol=1e-9)
    for value in (torch.zeros_like(phi), torch.ones_like(phi), torch.eye(8).expand_as(phi) * 100):
        value = value.double().requires_grad_()
        assert torch.autograd.grad(loss(value), value)[0].isfinite().all()


def test_backbones_that_cannot_be_used(vlm: tuple[str, Path], tmp_path: Path) -> None:
    path = str(vlm[1])
    (tmp_path / "config.json").write_text('{"model_type": "bert"}')
    cases: list[tuple[dict[str, Any], str]] = [
        ({"name": "vlm", "path": path, "layer": 9}, "layer 9"),
        ({"name": "vlm", "path": path, "pool": 3}, "pool 3"),
        ({"name": "vlm", "path": None}, "expected none, convolution, or vlm"),
        ({"name": "vlm", "path": path, "size": 3}, "unknown key 'size'"),
        ({"name": "other"}, "expected none, convolution, or vlm"),
        ({"name": "none", "layer": 1}, "expected none, convolution, or vlm"),
        ({"name": "vlm", "path": str(tmp_path)}, "model type is 'bert'"),
        ({"name": "vlm", "path": str(tmp_path / "nowhere")}, "no such model"),
    ]
    for spec, message in cases:
        with pytest.raises(UserError, match=message):
            CompositionClassifier(make_config(backbone=spec))


# Classifier


def test_forward_is_the_sum_of_its_parts() -> None:
    torch.manual_seed(0)
    classifier = CompositionClassifier(make_config()).eval()
    torch.nn.init.normal_(classifier.absent_SKFHW)
    maps, steps = make_maps(), torch.tensor([[True, True], [True, False], [False, True]])
    phi = classifier.volume(maps, PRESENT, steps)
    assert torch.equal(phi[2, 0], classifier.absent_SKFHW[0])
    assert not phi[1, :, 1].any()
    one = classifier.step_volume(maps[1:2, 0], PRESENT[1:2], 0)
    torch.testing.assert_close(one, phi[1:2, 0])
    nothing = classifier.absent_SKFHW * PRESENT[:, None, :, None, None, None]
    torch.testing.assert_close(classifier.absent_features(PRESENT), classifier.features(nothing, PRESENT))
    assert torch.equal(classifier(maps, PRESENT, steps), classifier.classify(phi, PRESENT, steps))
    half = classifier(maps.half(), PRESENT, steps)
    assert half.dtype == torch.float32


def test_absent_steps_are_looked_at_once_for_all_samples(monkeypatch: pytest.MonkeyPatch) -> None:
    """Logits and gradients are those of looking at every step of every sample."""
    torch.manual_seed(0)
    classifier = CompositionClassifier(make_config()).eval()
    torch.nn.init.normal_(classifier.absent_SKFHW)
    maps, present = make_maps(), torch.tensor([[True, True], [True, True], [True, False]])
    steps = torch.tensor([[True, True], [True, False], [False, True]])
    looked_at: list[int] = []
    look = type(classifier.backbone).forward
    monkeypatch.setattr(
        type(classifier.backbone), "forward", lambda self, v, p: looked_at.append(len(v)) or look(self, v, p)
    )
    found = []
    for chosen in (steps, None):
        logits = classifier.classify(classifier.volume(maps, present, steps), present, chosen)
        gradients = torch.autograd.grad(logits.square().sum(), [classifier.absent_SKFHW, classifier.head.weight_YD])
        found.append([logits, *gradients])
    # Four that hold evidence, and both steps for each of the two ways in which entity slots are in use.
    assert sorted(looked_at) == [4, 4, 6]
    for once, every in zip(*found, strict=True):
        torch.testing.assert_close(once, every)


def test_other_grids_are_resampled_and_other_taps_refused() -> None:
    classifier = CompositionClassifier(make_config(volume_grid=[FRAMES, 4, 4]))
    maps = torch.rand(1, LAYERS, HEADS, SLOTS, 7, 12, 10)
    assert classifier.step_volume(maps, PRESENT[:1], 1).shape == (1, SLOTS, FRAMES, 4, 4)
    with pytest.raises(UserError, match="trained on"):
        classifier.step_volume(maps[:, :1], PRESENT[:1], 1)


def test_maps_are_averaged_to_the_grid_of_training_before_anything_else() -> None:
    """Also where the volume has another grid; gradients reach the finer maps."""
    classifier = CompositionClassifier(
        make_config(grid=[FRAMES, 6, 6], token_grid=[7, 12, 10], volume_grid=[FRAMES, 4, 4])
    )
    maps = torch.rand(1, LAYERS, HEADS, SLOTS, 7, 12, 10, requires_grad=True)
    volume = classifier.step_volume(maps, PRESENT[:1], 1)
    assert torch.equal(volume, classifier.step_volume(resample(maps, (FRAMES, 6, 6)), PRESENT[:1], 1))
    (gradient,) = torch.autograd.grad(volume.square().sum(), maps)
    assert (gradient != 0).any((0, 1, 2, 3)).all()


def test_group_softmax_leaves_other_groups_out() -> None:
    logits = torch.randn(2, 8, requires_grad=True)
    log_probs = group_log_probs(logits, [4, 5, 6, 7])
    torch.testing.assert_close(log_probs.exp().sum(-1), torch.ones(2))
    assert (log_probs[:, :4] == -torch.inf).all()
    (gradient,) = torch.autograd.grad(log_probs[:, 5].sum(), logits)
    assert gradient.isfinite().all() and not gradient[:, :4].any()


def test_folder_round_trip(tmp_path: Path, vlm: tuple[str, Path]) -> None:
    config = make_config(backbone={"name": "vlm", "path": str(vlm[1]), "pool": 2})
    classifier = CompositionClassifier(config).eval()
    classifier.save_pretrained(tmp_path)
    card = (tmp_path / "README.md").read_text()
    assert "Composition classifier" in card and "More Information Needed" not in card
    again = CompositionClassifier.from_pretrained(tmp_path)
    assert again.config == classifier.config and not again.training
    assert replace(again.config, backbone=config.backbone) == config
    maps = make_maps()
    assert torch.equal(classifier(maps, PRESENT, STEPS_ALL), again(maps, PRESENT, STEPS_ALL))
    trained = sum(p.numel() for p in classifier.parameters())
    assert (tmp_path / "model.safetensors").stat().st_size < 4 * trained + 8000  # the VLM is not in there


def test_another_frozen_model_than_that_of_training_is_refused(tmp_path: Path, vlm: tuple[str, Path]) -> None:
    classifier = CompositionClassifier(make_config(backbone={"name": "vlm", "path": str(vlm[1])}))
    classifier.save_pretrained(tmp_path / "classifier")
    model = AutoModel.from_pretrained(vlm[1])
    copied, changed = tmp_path / "copied", tmp_path / "changed"
    for folder in (copied, changed):
        shutil.copytree(vlm[1], folder)
    model.to(torch.bfloat16).save_pretrained(copied)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.mul_(1.5)
    model.save_pretrained(changed)
    config = tmp_path / "classifier" / "config.json"
    stored = json.loads(config.read_text())
    for folder in (copied, changed):
        config.write_text(json.dumps(stored | {"backbone": stored["backbone"] | {"path": str(folder)}}))
        if folder == copied:
            CompositionClassifier.from_pretrained(tmp_path / "classifier")
        else:
            with pytest.raises(UserError, match=r"changed: its weights are .* give the model it was trained on"):
                CompositionClassifier.from_pretrained(tmp_path / "classifier")


def test_folders_that_cannot_be_loaded(tmp_path: Path) -> None:
    CompositionClassifier(make_config()).save_pretrained(tmp_path)
    text = (tmp_path / "config.json").read_text()
    for change, message in (
        ({"schema": 9}, "'schema' is 9; expected 1, the version"),
        ({"more": 1}, "unknown key 'more'; known: labels, generator"),
        ({"sigmas": [0.9]}, "cannot be loaded"),
    ):
        (tmp_path / "config.json").write_text(json.dumps(json.loads(text) | change))
        with pytest.raises(UserError, match=message):
            CompositionClassifier.from_pretrained(tmp_path)
    for name in ("token_grid", "head", "sampling", "backbone", "aggregator", "noise", "schema"):
        stored = {key: value for key, value in json.loads(text).items() if key != name}
        (tmp_path / "config.json").write_text(json.dumps(stored))
        with pytest.raises(UserError, match=f"config: no '{name}'; .*export it again"):
            CompositionClassifier.from_pretrained(tmp_path)
    stored = json.loads(text) | {"aggregator": {"dim": 16}}
    (tmp_path / "config.json").write_text(json.dumps(stored))
    with pytest.raises(UserError, match="config: no 'aggregator.depth'"):
        CompositionClassifier.from_pretrained(tmp_path)
    (tmp_path / "config.json").write_text(text)
    (tmp_path / "model.safetensors").write_bytes(b"x")
    with pytest.raises(UserError, match="cannot be loaded"):
        CompositionClassifier.from_pretrained(tmp_path)
    (tmp_path / "config.json").unlink()
    with pytest.raises(UserError, match="no config.json"):
        CompositionClassifier.from_pretrained(tmp_path)
    with pytest.raises(UserError, match="no such model"):
        CompositionClassifier.from_pretrained(tmp_path / "nowhere")


# Smoothing


def test_noise_is_smooth_of_unit_deviation_and_repeatable() -> None:
    noise = smooth_noise((4000, *GRID3), torch.Generator().manual_seed(0))
    torch.testing.assert_close(noise.std(0), torch.ones(GRID3), atol=0.06, rtol=0)
    assert (noise[..., 1:] * noise[..., :-1]).mean() > 0.5
    assert torch.equal(noise, smooth_noise((4000, *GRID3), torch.Generator().manual_seed(0)))
    assert smooth_noise((2, 1, 2, 5), torch.Generator()).shape == (2, 1, 2, 5)


def test_worst_case_raises_the_loss_within_its_radius() -> None:
    torch.manual_seed(0)
    classifier = CompositionClassifier(make_config()).eval()
    steps = torch.tensor([[True, False], [True, True], [False, True]])
    phi, labels = classifier.volume(make_maps(), PRESENT, steps), torch.tensor([0, 1, 5])
    mask = evidence_mask(PRESENT, steps)

    def loss(phi: Tensor) -> Tensor:
        return torch.nn.functional.cross_entropy(classifier.classify(phi, PRESENT), labels, reduction="none")

    delta = worst_case(phi, loss, mask, 0.3)
    assert not delta.requires_grad and not (delta * ~mask).any()
    rms = (delta.square().flatten(1).sum(1) / mask.expand_as(phi).flatten(1).sum(1)).sqrt()
    torch.testing.assert_close(rms, torch.full((3,), 0.3))
    assert (loss(phi + delta) > loss(phi)).all()
    each = worst_case(phi, loss, mask, torch.tensor([0.3, 0.0, 0.3]))
    torch.testing.assert_close(each, delta * torch.tensor([1.0, 0.0, 1.0])[:, None, None, None, None, None])
    assert all(p.grad is None for p in classifier.parameters())
