"""Inversion and replay on a toy field, and the helpers beside them."""

from __future__ import annotations

import itertools
import math

import pytest
import torch

from cvg.diffusion.schedule import Schedule
from cvg.diffusion.trajectory import invert, nearest_steps, psnr, replay

SIGMAS = torch.linspace(1, 0, 13, dtype=torch.float64)
SCHEDULE = Schedule(1000 * SIGMAS[:-1], 1 - SIGMAS, SIGMAS, "flow")


def field(z: torch.Tensor, i: int) -> torch.Tensor:
    """A smooth, non-linear velocity that depends on the step."""
    return torch.sin(2 * z) + 0.3 * z.flip(-1) + 0.1 * float(SIGMAS[i])


def test_replay_of_an_inversion_returns_the_latents() -> None:
    clean = torch.randn(2, 8, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    errors = []
    for iterations in (0, 1, 3, 8):
        noise = invert(clean, SCHEDULE, field, iterations)
        replayed, _ = replay(noise, SCHEDULE, field)
        errors.append(float((replayed - clean).abs().max()))
    assert all(later < 0.5 * earlier for earlier, later in itertools.pairwise(errors)), errors
    assert errors[-1] < 1e-5


def test_a_step_is_inverted_where_repeating_its_inverse_goes_back_and_forth() -> None:
    """At low noise a velocity undoes a change of the latents: the plain fixed point is at the edge of diverging."""
    clean = torch.randn(3, 4, 2, 2, 2, generator=torch.Generator().manual_seed(0), dtype=torch.float64)

    def opposing(z: torch.Tensor, i: int) -> torch.Tensor:
        return 1 - 0.95 * len(SCHEDULE.timesteps) * z

    def error(noise: torch.Tensor) -> float:
        return float((replay(noise, SCHEDULE, opposing)[0] - clean).abs().max())

    z = clean
    for i in reversed(range(len(SCHEDULE.timesteps))):
        point = z
        for _ in range(4):
            point = SCHEDULE.back(z, opposing(point, i), i)
        z = point
    assert error(invert(clean, SCHEDULE, opposing, 1)) < 1e-9 < 0.1 < error(z)
    one = invert(clean[:1], SCHEDULE, opposing, 1)
    torch.testing.assert_close(one, invert(clean, SCHEDULE, opposing, 1)[:1])  # nobody's steps depend on a neighbour


def test_replay_keeps_the_latents_before_the_wanted_steps() -> None:
    noise = torch.randn(1, 4)
    _, kept = replay(noise, SCHEDULE, field, [0, 2])
    assert set(kept) == {0, 2} and torch.equal(kept[0], noise)
    second = noise + (SIGMAS[1] - SIGMAS[0]) * field(noise, 0)
    torch.testing.assert_close(kept[2], second + (SIGMAS[2] - SIGMAS[1]) * field(second, 1))


def test_psnr_of_a_known_error() -> None:
    video = torch.zeros(2, 3, 4, 8, 8)
    other = video.clone()
    other[1] += 0.2
    assert psnr(video, other).tolist() == [math.inf, pytest.approx(10 * math.log10(4 / 0.04), rel=1e-5)]


def test_the_nearest_step_is_named_only_where_it_is_near() -> None:
    assert nearest_steps(torch.tensor([1.0, 0.9, 0.5]), [0.97, 0.53, 0.6, 0.0]) == [0, 2, None, None]
    assert nearest_steps(torch.tensor([1.0, 0.9]), []) == []
