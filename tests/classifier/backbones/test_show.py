"""How a volume is shown: bright where there is evidence, in every layout, with gradients everywhere."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from cvg.classifier.backbones.show import LAYOUTS, show

GRID = (4, 8, 8)
SIZE = 16


def extreme(kind: str) -> Tensor:
    volume = torch.zeros(1, 2, *GRID, dtype=torch.float64)
    if kind == "one-hot":
        volume[0, 0, 1, 2, 3] = 1e3
    return volume + {"constant": 1.0, "huge": 1e6}.get(kind, 0.0)


def test_the_default_is_the_formula_it_always_was() -> None:
    volume = 2 * torch.randn(3, 2, *GRID)
    u = (volume - 2.0) / 1.5
    light = 0.5 + 0.5 * u * torch.rsqrt(1 + u.square())
    light = torch.nn.functional.interpolate(light, size=(5, 12, 12), mode="trilinear", align_corners=False)
    expected = torch.stack([light[:, 0], torch.zeros_like(light[:, 0]), light[:, 1]], dim=2)
    assert torch.equal(show(volume, 5, 12), expected)


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("kind", ["zero", "one-hot", "constant", "huge"])
def test_extreme_volumes_are_pictures_with_gradients(layout: str, kind: str) -> None:
    volume = extreme(kind).requires_grad_()
    video = show(volume, 4, SIZE, layout)
    assert video.shape == (1, 4, 3, SIZE, SIZE)
    assert video.min() >= 0 and video.max() <= 1
    (gradient,) = torch.autograd.grad(video.sum(), volume)
    assert gradient.isfinite().all()
    if kind != "huge":  # at 1e6 deviations the slope is 1e-18
        # in_turn draws two of the four frames of each entity, between those of the volume: all of them matter.
        assert (gradient > 0).all()


@pytest.mark.parametrize("layout", LAYOUTS)
def test_gradient_agrees_with_finite_differences(layout: str) -> None:
    torch.manual_seed(0)
    volume = torch.randn(2, 2, *GRID, dtype=torch.float64, requires_grad=True)
    weight = torch.randn(2, 4, 3, 12, 12, dtype=torch.float64)
    assert torch.autograd.gradcheck(
        lambda v: (show(v, 4, 12, layout, (1.0, 0.5)) * weight).sum(), volume, fast_mode=True
    )


def evidence() -> Tensor:
    """The subject above, in every frame; the object on the left."""
    volume = torch.zeros(1, 2, *GRID)
    volume[:, 0, :, :4] = 8
    volume[:, 1, :, :, :4] = 8
    return volume


def test_colours_show_the_subject_red_and_the_object_blue() -> None:
    video = show(evidence(), 4, 8)[0]
    assert (video[:, 0, :4] > 0.95).all() and (video[:, 0, 4:] < 0.15).all()
    assert (video[:, 2, :, :4] > 0.95).all() and (video[:, 2, :, 4:] < 0.15).all()
    assert not video[:, 1].any()
    third = show(torch.full((1, 3, *GRID), 8.0), 4, 8)[0]
    assert (third > 0.95).all()


def test_side_by_side_each_entity_has_a_band_of_its_own() -> None:
    video = show(evidence(), 4, 16, "side_by_side")[0]
    assert torch.equal(video[:, 0], video[:, 1]) and torch.equal(video[:, 0], video[:, 2])
    left, right = video[:, 0, :, :8], video[:, 0, :, 8:]
    assert (left[:, :7] > 0.95).all() and (left[:, 9:] < 0.15).all()
    assert (right[:, :, :4] > 0.95).all() and (right[:, :, 4:] < 0.15).all()
    three = show(torch.full((1, 3, *GRID), 8.0), 4, 16, "side_by_side")[0]
    assert (three[..., :15] > 0.95).all() and not three[..., 15:].any()  # three bands of five pixels


def test_in_turn_one_entity_follows_the_other() -> None:
    volume = evidence()
    volume[:, 0, 0] = 0  # the subject is not there in the first frame
    video = show(volume, 8, 8, "in_turn")[0]
    assert torch.equal(video[:, 0], video[:, 1]) and torch.equal(video[:, 0], video[:, 2])
    assert (video[0] < 0.15).all()
    assert (video[1:4, 0, :4] > 0.95).all() and (video[1:4, 0, 4:] < 0.15).all()
    assert (video[4:, 0, :, :4] > 0.95).all() and (video[4:, 0, :, 4:] < 0.15).all()


@pytest.mark.parametrize("layout", LAYOUTS)
def test_contrast_puts_the_middle_of_the_light_where_it_says(layout: str) -> None:
    volume = torch.full((1, 2, *GRID), 3.0)
    assert torch.allclose(show(volume, 4, 16, layout, (3.0, 0.1)).amax(), torch.tensor(0.5))
    # One width above the middle: 0.5 + 0.5 / sqrt(2).
    assert torch.allclose(show(volume, 4, 16, layout, (2.5, 0.5)).amax(), torch.tensor(0.8535534))
