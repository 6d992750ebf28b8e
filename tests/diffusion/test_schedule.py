"""One form for all parametrisations of the deterministic step."""

from __future__ import annotations

import pytest
import torch
from diffusers import DDIMScheduler, FlowMatchEulerDiscreteScheduler

from cvg.diffusion.schedule import Prediction, Schedule, flow_schedule

ALPHAS = torch.tensor([0.1, 0.5, 0.8, 1.0], dtype=torch.float64)
SIGMAS = (1 - ALPHAS.square()).sqrt()


def predictions(clean: torch.Tensor, noise: torch.Tensor, alpha: float, sigma: float) -> dict[Prediction, torch.Tensor]:
    return {"flow": noise - clean, "v": alpha * noise - sigma * clean, "noise": noise, "clean": clean}


@pytest.mark.parametrize("kind", ["flow", "v", "noise", "clean"])
def test_a_step_with_the_true_prediction_arrives_at_the_next_level(kind: Prediction) -> None:
    """z = alpha x0 + sigma eps at every level, whatever of x0 and eps the network names."""
    clean, noise = torch.randn(2, 3, 4, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    sigmas = SIGMAS.clamp(min=0.05) if kind == "clean" else SIGMAS  # nothing leads back from x0 alone
    alphas = 1 - SIGMAS if kind == "flow" else ALPHAS
    schedule = Schedule(torch.arange(3), alphas, sigmas, kind)
    for i in range(3):
        z, following = schedule.noised(clean, noise, i), schedule.noised(clean, noise, i + 1)
        prediction = predictions(clean, noise, float(alphas[i]), float(sigmas[i]))[kind]
        torch.testing.assert_close(schedule.step(z, prediction, i), following)
        torch.testing.assert_close(schedule.back(following, prediction, i), z)


def test_levels_are_a_flows_sigmas_and_fall() -> None:
    flow = Schedule(torch.arange(3), 1 - SIGMAS, SIGMAS, "flow")
    torch.testing.assert_close(flow.levels, SIGMAS)
    assert (Schedule(torch.arange(3), ALPHAS, SIGMAS, "v").levels.diff() < 0).all()


def test_a_flows_steps_are_its_schedulers() -> None:
    scheduler = FlowMatchEulerDiscreteScheduler(shift=3.0)
    schedule = flow_schedule(scheduler, 5, torch.device("cpu"))
    scheduler.set_timesteps(5)
    z = torch.randn(1, 4, generator=torch.Generator().manual_seed(0))
    for i, timestep in enumerate(scheduler.timesteps):
        velocity = torch.randn(1, 4, generator=torch.Generator().manual_seed(i))
        following = scheduler.step(velocity, timestep, z, return_dict=False)[0]
        torch.testing.assert_close(schedule.step(z, velocity, i), following, atol=1e-6, rtol=1e-5)
        z = following


@pytest.mark.parametrize(
    ("prediction_type", "kind"), [("v_prediction", "v"), ("epsilon", "noise"), ("sample", "clean")]
)
def test_steps_between_levels_are_ddims(prediction_type: str, kind: Prediction) -> None:
    scheduler = DDIMScheduler(prediction_type=prediction_type, clip_sample=False, set_alpha_to_one=True)
    scheduler.set_timesteps(5)
    products = torch.cat([scheduler.alphas_cumprod[scheduler.timesteps], torch.ones(1)]).double()
    schedule = Schedule(scheduler.timesteps, products.sqrt(), (1 - products).sqrt(), kind)
    z = torch.randn(1, 4, generator=torch.Generator().manual_seed(0))
    for i, timestep in enumerate(scheduler.timesteps):
        prediction = torch.randn(1, 4, generator=torch.Generator().manual_seed(i))
        following = scheduler.step(prediction, timestep, z, return_dict=False)[0]
        torch.testing.assert_close(schedule.step(z, prediction, i), following, atol=1e-5, rtol=1e-4)
        z = following
