"""The convolutional network that learns with the head."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from cvg.classifier import CompositionClassifier
from cvg.classifier.backbones import Backbone, build
from cvg.classifier.backbones.convolution import ConvolutionBackbone
from cvg.classifier.config import BackboneSettings
from cvg.classifier.head import LinearHead
from cvg.common.errors import ModelError, SettingsError
from cvg.common.sizes import Grid
from tests.helpers.classifiers import PRESENT, STEPS_ALL, make_config, make_maps

GRID = Grid(2, 8, 8)
CONVOLUTION = BackboneSettings(name="convolution", width=4, side=2)


def covered(count: int, seed: int) -> tuple[Tensor, Tensor]:
    """Volumes of two squares, of 2 to 4 rows, one of which covers a part of the other, and which one it is."""
    generator = torch.Generator().manual_seed(seed)

    def drawn(least: int, most: int) -> int:
        return int(torch.randint(least, most, (1,), generator=generator))

    volume_BKFHW, front_B = torch.zeros(count, 2, *GRID), torch.zeros(count, dtype=torch.long)
    for volume_KFHW, front in zip(volume_BKFHW, front_B, strict=True):
        row, column, ahead = drawn(1, 4), drawn(1, 4), drawn(0, 2)
        sides = drawn(2, 5), drawn(2, 5)
        corners = [(row, column), (row + (1 if drawn(0, 2) else -1), column + (1 if drawn(0, 2) else -1))]
        for slot, (y, x) in enumerate(corners if drawn(0, 2) else corners[::-1]):
            volume_KFHW[slot, :, y : y + sides[slot], x : x + sides[slot]] = 1
        volume_KFHW[1 - ahead][volume_KFHW[ahead] > 0] = 0
        front.fill_(ahead)
    return volume_BKFHW, front_B


def right_of_others(backbone: Backbone) -> float:
    """How often a head on this backbone, taught a few hundred volumes, tells what covers what in others."""
    torch.manual_seed(0)
    head = LinearHead(backbone.feature_dim, 2)
    optimizer = torch.optim.AdamW([*backbone.parameters(), *head.parameters()], lr=1e-2, weight_decay=0.1)
    volume, front_B = covered(400, 1)
    present = torch.ones(len(volume), 2, dtype=torch.bool)
    for _ in range(60):
        optimizer.zero_grad()
        F.cross_entropy(head(backbone(volume, present)), front_B).backward()
        optimizer.step()
    other, front_B = covered(200, 2)
    with torch.no_grad():
        return float((head(backbone(other, present[:200])).argmax(1) == front_B).float().mean())


def test_tells_what_covers_what_anywhere_which_no_linear_head_on_the_volume_does() -> None:
    torch.manual_seed(0)
    assert right_of_others(ConvolutionBackbone(2, GRID, width=8)) > 0.95
    assert right_of_others(build(BackboneSettings(), 2, GRID)) < 0.85


def test_features_are_patterns_wherever_they_lie() -> None:
    backbone = ConvolutionBackbone(1, Grid(3, 16, 16), width=3, side=8)
    for name, weight in backbone.named_parameters():
        if name.endswith("bias"):  # with which what lies beyond the frame would differ from an empty place
            nn.init.zeros_(weight)
    present = torch.ones(1, 1, dtype=torch.bool)
    volume, elsewhere = torch.zeros(2, 1, 1, 3, 16, 16)
    pattern = torch.randn(2, 2)
    volume[..., 5:7, 5:7], elsewhere[..., 7:9, 9:11] = pattern, pattern
    here, there = backbone(volume, present), backbone(elsewhere, present)
    assert here.shape == (1, backbone.feature_dim)
    torch.testing.assert_close(here[:, -12:], there[:, -12:])  # mean and most over all places
    maps, moved = (each[:, :-12].view(1, 6, 3, 8, 8) for each in (here, there))
    torch.testing.assert_close(maps[..., :5, :5], moved[..., 1:6, 2:7])


def test_absent_slots_are_ignored() -> None:
    backbone = build(CONVOLUTION, 2, GRID)
    volume = torch.randn(1, 2, *GRID)
    other = volume.clone()
    other[:, 1] = 7
    one = torch.tensor([[True, False]])
    torch.testing.assert_close(backbone(volume, one), backbone(other, one))
    assert not torch.allclose(backbone(volume, ~one), backbone(other, ~one))


@pytest.mark.parametrize("grid", [Grid(1, 1, 1), Grid(5, 3, 7)])
def test_any_grid(grid: Grid) -> None:
    backbone = ConvolutionBackbone(3, grid)
    assert backbone(torch.randn(2, 3, *grid), torch.ones(2, 3, dtype=torch.bool)).shape == (2, backbone.feature_dim)


def test_it_is_trained_and_stored_with_the_classifier(tmp_path: Path) -> None:
    classifier = CompositionClassifier(make_config(backbone=CONVOLUTION)).eval()
    learning = {name for name, weight in classifier.named_parameters() if weight.requires_grad}
    assert any(name.startswith("backbone.near") for name in learning)
    classifier.save_pretrained(tmp_path)
    again = CompositionClassifier.from_pretrained(tmp_path)
    assert isinstance(again.backbone, ConvolutionBackbone) and isinstance(again.backbone.far[0], nn.Conv3d)
    assert again.config == classifier.config
    found = [each(make_maps(), PRESENT, STEPS_ALL) for each in (classifier, again)]
    torch.testing.assert_close(*found)


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"width": 0}, "backbone convolution: 'width' is 0; expected a whole number from 1"),
        ({"side": 1.5}, "'side' is 1.5; expected a whole number from 1"),
        ({"width": 10**9}, "'width' is 1000000000; expected a whole number from 1 to 256"),
        ({"depth": 3}, "backbone convolution: unknown key 'depth'; known: width, side"),
    ],
)
def test_options_that_there_are_not(options: dict[str, object], said: str) -> None:
    with pytest.raises(SettingsError, match=said):
        build(BackboneSettings.model_validate({"name": "convolution", **options}), 2, GRID)


def test_it_has_no_path() -> None:
    data = make_config().to_dict() | {"backbone": {"name": "convolution", "path": "shapes-clip"}}
    with pytest.raises(ModelError, match="expected none, convolution, or vlm with a path"):
        type(make_config()).from_dict(data, "it")
