"""A family's noise schedule: z_t = alpha_t x0 + sigma_t eps, and the deterministic step between two of its levels.

One form serves all parametrisations. A prediction m at level i gives x0 and eps, and with them z at any other level j
(DDIM: Song et al., arXiv 2010.02502; for flows this is Euler's method):

    z_j = a z_i + b m,   with (a, b) of :meth:`Schedule.between`
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor

from cvg.common.errors import ModelError

Prediction = Literal["flow", "v", "noise", "clean"]
"""What the network returns: eps - x0, alpha eps - sigma x0, eps, or x0."""


@dataclass(frozen=True)
class Schedule:
    """N denoising steps, noisiest first.

    Attributes:
        timesteps: what the network is told at each step, (N,).
        alphas: share of the clean latents at each level, (N + 1,), the last after the last step.
        sigmas: share of the noise at each level, (N + 1,).
        prediction: what the network returns.
    """

    timesteps: Tensor
    alphas: Tensor
    sigmas: Tensor
    prediction: Prediction

    @property
    def levels(self) -> Tensor:
        """Noise levels sigma / (alpha + sigma) in [0, 1], (N + 1,): comparable between families, a flow's own sigma."""
        return self.sigmas / (self.alphas + self.sigmas)

    def between(self, i: int, j: int) -> tuple[float, float]:
        """Coefficients (a, b) of z_j = a z_i + b m, for a prediction m made at level i."""
        (alpha_i, sigma_i), (alpha_j, sigma_j) = ((float(self.alphas[k]), float(self.sigmas[k])) for k in (i, j))
        if self.prediction == "flow":
            return 1.0, sigma_j - sigma_i
        if self.prediction == "v":
            return alpha_j * alpha_i + sigma_j * sigma_i, sigma_j * alpha_i - alpha_j * sigma_i
        if self.prediction == "noise":
            return alpha_j / alpha_i, sigma_j - alpha_j * sigma_i / alpha_i
        return sigma_j / sigma_i, alpha_j - alpha_i * sigma_j / sigma_i

    def step(self, z: Tensor, prediction: Tensor, i: int) -> Tensor:
        """z at level i + 1, from z and the prediction at level i."""
        a, b = self.between(i, i + 1)
        return a * z + b * prediction

    def back(self, z: Tensor, prediction: Tensor, i: int) -> Tensor:
        """z at level i, from z at level i + 1 and the prediction at level i: undoes :meth:`step`.

        Not from a level without noise where the network predicts x0: the step there returns the prediction itself.
        """
        a, b = self.between(i, i + 1)
        return (z - b * prediction) / a

    def noised(self, clean: Tensor, noise: Tensor, i: int) -> Tensor:
        """alpha_i x0 + sigma_i eps."""
        return float(self.alphas[i]) * clean + float(self.sigmas[i]) * noise


def flow_schedule(scheduler: Any, steps: int, device: torch.device, **options: Any) -> Schedule:
    """Steps of a flow-matching scheduler: alpha = 1 - sigma, and the network predicts the velocity eps - x0.

    Where the scheduler inverts its sigmas, they are the share of the clean latents.

    Args:
        scheduler: the pipeline's; a copy of it is set.
        steps: denoising steps.
        device: of the timesteps.
        options: of ``set_timesteps``, beside the number of steps or, with ``timesteps``, in place of it.

    Raises:
        ModelError: the scheduler is not one of flow matching, or calls the network more than once a step.
    """
    name = type(scheduler).__name__
    scheduler = type(scheduler).from_config(scheduler.config)
    if scheduler.config.get("prediction_type", "flow_prediction") != "flow_prediction":
        raise ModelError(
            f"scheduler {name}: is not set to flow matching, which this model was trained for; use one that is, such "
            "as FlowMatchEulerDiscreteScheduler"
        )
    scheduler.set_timesteps(None if "timesteps" in options else steps, device=device, **options)
    if not hasattr(scheduler, "sigmas") or len(scheduler.timesteps) != steps:
        raise ModelError(
            f"scheduler {name}: {len(scheduler.timesteps)} network calls for {steps} steps; use one of flow matching "
            "that calls the network once a step, such as FlowMatchEulerDiscreteScheduler"
        )
    sigmas = scheduler.sigmas.cpu().double()
    if scheduler.config.get("invert_sigmas", False):
        sigmas = 1 - sigmas
    return Schedule(scheduler.timesteps, 1 - sigmas, sigmas, "flow")


def diffusion_schedule(scheduler: Any, steps: int, device: torch.device, **options: Any) -> Schedule:
    """Steps of a variance-preserving (DDPM-like) scheduler: alpha^2 + sigma^2 = 1.

    The levels are the scheduler's own, after whatever it does to its betas (SNR shift, zero terminal SNR). Schedulers
    that keep x0 + (sigma / alpha) eps as latents (Euler and its kin) hold these latents divided by alpha. Two network
    calls in a row at one timestep (PNDM's first step, all of Heun's but one) belong to one step.

    Args:
        scheduler: the pipeline's; a copy of it is set.
        steps: denoising steps.
        device: of the timesteps.
        options: as of :func:`flow_schedule`.

    Raises:
        ModelError: a step of the scheduler calls the network at more than one timestep, or it is of another kind.
    """
    kinds: dict[str, Prediction] = {"epsilon": "noise", "v_prediction": "v", "sample": "clean"}
    if scheduler.config.get("prediction_type") not in kinds or not hasattr(scheduler, "alphas_cumprod"):
        raise ModelError(
            f"scheduler {type(scheduler).__name__}: is not one of a variance-preserving diffusion, which this model "
            "was trained for; use one that is, such as DDIMScheduler"
        )
    scheduler = type(scheduler).from_config(scheduler.config)
    scheduler.set_timesteps(None if "timesteps" in options else steps, device=device, **options)
    timesteps, config = torch.unique_consecutive(scheduler.timesteps), scheduler.config
    if len(timesteps) != steps:
        raise ModelError(
            f"scheduler {type(scheduler).__name__}: {len(timesteps)} timesteps for {steps} steps; use one with a "
            "single timestep per step, such as DDIM"
        )
    if hasattr(scheduler, "sigmas"):
        alphas_squared = 1 / (1 + torch.unique_consecutive(scheduler.sigmas.cpu().double()).square())
    else:
        cumulative = scheduler.alphas_cumprod.cpu().double()
        final = torch.as_tensor(getattr(scheduler, "final_alpha_cumprod", 1.0)).double()
        after = int(timesteps[-1]) - config.num_train_timesteps // steps  # where the last step leads to
        last = cumulative[after] if after >= 0 else final
        alphas_squared = torch.cat([cumulative[timesteps.cpu()], last[None]])
    prediction = kinds[config.prediction_type]
    return Schedule(timesteps, alphas_squared.sqrt(), (1 - alphas_squared).sqrt(), prediction)
