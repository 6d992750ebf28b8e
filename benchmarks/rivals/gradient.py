"""Latents that go down the plain gradient of a loss before each of the first denoising steps.

    z_t' = z_t - alpha_t * grad_z L

alpha_t is one constant for all prompts and steps, but for a factor that a paper may let fall with t. In the papers it
is a number for one model; here it is ``step_size / unit``, where ``unit`` is the median root mean square of the
gradient at the first step, over prompts that are for choosing alone. So a first edit with step size 0.1 is by and large
0.1 long as root mean square per latent element, whatever the loss and the model.
"""

from __future__ import annotations

import math
import statistics
from abc import ABC, abstractmethod
from collections.abc import Sequence

import torch
from torch import Tensor, nn

from benchmarks.rivals.base import Ring
from cvg.evaluation.suites import Case
from cvg.guidance.checks import require_finite


class Loss(ABC):
    """A loss on the latents of a batch.

    Args:
        ring: where it is used.
        cases: the batch.
    """

    def __init__(self, ring: Ring, cases: Sequence[Case]) -> None:
        self.ring, self.schedule = ring, ring.schedule
        self.conditioning = ring.generator.encode([case.asked for case in cases])

    @abstractmethod
    def value(self, z: Tensor, step: int, samples: Sequence[int]) -> Tensor:
        """The loss of some samples, each of its own latents alone.

        Args:
            z: their latents, (B', C, F, H', W').
            step: the denoising step.
            samples: their indices in the batch.

        Returns:
            (B',), differentiable in z.
        """

    def most(self, step: int) -> int:
        """How many edits a denoising step has at most; 0 where it has none."""
        return 1

    def wants(self, value_B: Tensor, step: int, iteration: int) -> list[bool]:
        """Which samples are to be edited, and looked at again if there are more edits.

        Args:
            value_B: their losses before the edit.
            step: the denoising step.
            iteration: the edit's number at this step, from 0.
        """
        return [True] * len(value_B)

    def factor(self, step: int) -> float:
        """What alpha is multiplied with at a step."""
        return 1.0


class PlainGradient:
    """A rival that goes down the gradient of a loss.

    Args:
        name: the row.
        ring: where it runs.
        loss: makes the loss of a batch.
        step_sizes: to choose from.
        share: of the denoising steps, the first ones, that are edited.
        weights: what the loss needs beside the generator.
    """

    step_size: float | None = None
    looks = 0

    def __init__(
        self,
        name: str,
        ring: Ring,
        loss: type[Loss],
        step_sizes: tuple[float, ...],
        share: float,
        weights: Sequence[nn.Module] = (),
    ) -> None:
        self.name, self.ring, self.loss, self.step_sizes = name, ring, loss, step_sizes
        self.edited_steps = math.ceil(share * ring.steps)
        self.weights = list(weights)
        self.unit = math.nan

    def prepare(self, cases: Sequence[Case]) -> dict[str, float]:
        """See :class:`benchmarks.rivals.base.Rival`: the ``unit`` of step sizes."""
        ring, loss = self.ring, self.loss(self.ring, cases)
        noise = [torch.Generator().manual_seed(case.seeds[0]) for case in cases]
        z = ring.generator.initial_latents(noise, ring.size).to(ring.generator.device).float()
        with torch.enable_grad():
            gradient = torch.autograd.grad(loss.value(z.requires_grad_(), 0, range(len(cases))).sum(), z)[0]
        self.adopt({"unit": statistics.median(gradient.square().mean((1, 2, 3, 4)).sqrt().tolist())})
        return {"unit": self.unit}

    def adopt(self, measured: dict[str, float]) -> None:
        """See :class:`benchmarks.rivals.base.Rival`."""
        self.unit = measured["unit"]

    def __call__(self, cases: Sequence[Case]) -> Tensor:
        """See :class:`benchmarks.rivals.base.Rival`."""
        loss = self.loss(self.ring, cases)

        def edit(step: int, z: Tensor) -> Tensor:
            if step >= self.edited_steps or not loss.most(step):
                return z
            edited = self.edited(loss, step, z)
            if step:  # a multistep scheduler would take back what it does not know of
                self.ring.generator.forget_history()
            return edited

        return self.ring.videos(cases, edit)

    def edited(self, loss: Loss, step: int, z: Tensor) -> Tensor:
        """z_t' of a batch."""
        assert self.step_size is not None
        alpha = self.step_size / self.unit * loss.factor(step)
        edited, active = z.float().clone(), list(range(len(z)))
        for iteration in range(loss.most(step)):
            with torch.enable_grad():
                leaf = edited[active].requires_grad_()
                value_B = loss.value(leaf, step, active)
                self.looks += len(active)
                moving = [index for index, wants in enumerate(loss.wants(value_B.detach(), step, iteration)) if wants]
                if not moving:
                    break
                (gradient,) = torch.autograd.grad(value_B[moving].sum(), leaf)
            active = [active[index] for index in moving]
            edited[active] -= alpha * gradient[moving]
        require_finite("edited latents", edited)
        return edited.to(z.dtype)
