"""The spatial spread of entity maps."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from cvg.guidance.places import SHARPNESS
from cvg.guidance.terms.spread import LEAST_VARIANCE, log_spread


def blobs(*centres: tuple[int, int]) -> torch.Tensor:
    """Maps (1, 2, 3, 1, 2, 8, 8) of one entity with a soft blob at each (row, column), on a faint background."""
    rows, columns = torch.meshgrid(torch.arange(8.0), torch.arange(8.0), indexing="ij")
    each = [torch.exp(-((rows - r) ** 2 + (columns - c) ** 2)) for r, c in centres]
    return (0.01 + 0.1 * torch.stack(each).sum(0)).expand(1, 2, 3, 1, 2, 8, 8).clone()


def test_against_the_variance_of_a_place_drawn_from_the_map() -> None:
    maps = torch.rand(2, 2, 3, 2, 2, 4, 5, generator=torch.Generator().manual_seed(0))
    y, x = np.meshgrid(np.linspace(-1, 1, 4), np.linspace(-1, 1, 5), indexing="ij")
    measured = log_spread(maps)
    for sample in range(2):
        for entity in range(2):
            logs = []
            for frame in range(2):
                p = maps[sample, :, :, entity, frame].double().mean((0, 1)).numpy() ** SHARPNESS
                p /= p.sum()
                places = np.stack([y, x])
                mean = (p * places).sum((1, 2), keepdims=True)
                logs.append(math.log((p * (places - mean) ** 2).sum()))
            assert measured[sample, entity].item() == pytest.approx(np.mean(logs), rel=1e-4)


def test_two_places_are_more_spread_than_one_and_the_farther_the_more() -> None:
    one, near, far = (log_spread(blobs(*c)) for c in ([(2, 2)], [(2, 2), (2, 5)], [(1, 1), (6, 6)]))
    assert one + 1 < near < far <= math.log(2)


def test_place_and_height_of_the_maps_do_not_matter() -> None:
    spread = log_spread(blobs((3, 2)))
    torch.testing.assert_close(log_spread(blobs((4, 5))), spread)
    torch.testing.assert_close(log_spread(1e-4 * blobs((3, 2))), spread, atol=1e-4, rtol=1e-4)


def test_the_gradient_is_that_of_finite_differences() -> None:
    maps = torch.rand(1, 1, 2, 1, 1, 3, 3, generator=torch.Generator().manual_seed(1)).add(0.5)
    (gradient,) = torch.autograd.grad(log_spread(maps.requires_grad_()).sum(), maps)
    direction = torch.randn(maps.shape, generator=torch.Generator().manual_seed(2))
    with torch.no_grad():
        difference = log_spread(maps + 1e-2 * direction) - log_spread(maps - 1e-2 * direction)
    assert (gradient * direction).sum().item() == pytest.approx(difference.item() / 2e-2, rel=1e-2)


def test_an_absent_entity_and_a_single_point_have_a_finite_value_and_no_gradient() -> None:
    maps = torch.zeros(1, 1, 1, 2, 1, 4, 4)
    maps[..., 1, :, 2, 3] = 1.0
    maps.requires_grad_()
    spread = log_spread(maps)
    (gradient,) = torch.autograd.grad(spread.sum(), maps)
    assert spread.isfinite().all() and gradient.eq(0).all()
    assert spread[0, 1].item() == pytest.approx(math.log(LEAST_VARIANCE))
