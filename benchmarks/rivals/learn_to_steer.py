"""Learn-to-Steer's way to move latents, with this project's classifier.

Yiflach, Atzmon, Chechik, *Data-Driven Loss Functions for Inference-Time Optimization in Text-to-Image*, WACV 2026
(arXiv 2509.02295): the latents of the first 25 of 50 steps go down the plain gradient of a relation classifier's
cross-entropy on the attention maps, up to 16 times a step.

    L = -log C(A_t)_y,   z_t' = z_t - eta grad_z L

It is for images and has a classifier of its own for one relation. Here it is the shipped one, so the row is about how
latents are moved: many steps and plain gradients, against few steps whose length is chosen, with the channels' mean and
deviation kept and the entities' spread in the loss. A denoising step without a noise level of the classifier is read as
the nearest that has one. A sample is left alone once all its relations have a target probability of 0.95.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from benchmarks.rivals.base import Ring
from benchmarks.rivals.gradient import Loss, PlainGradient
from benchmarks.rivals.ours import modules_of
from cvg.composition import RelationBatch
from cvg.evaluation.suites import Case
from cvg.guidance.config import GuidanceConfig
from cvg.guidance.verdict import StepClassifier

STEP_SIZES = (0.01, 0.03, 0.1)
EDITED = 0.5
"""Share of the denoising steps."""
ITERATIONS = 16
ENOUGH = 0.95


class CrossEntropy(Loss):
    """-log of the targets' probabilities; arguments as of :class:`benchmarks.rivals.gradient.Loss`."""

    def __init__(self, ring: Ring, cases: Sequence[Case]) -> None:
        super().__init__(ring, cases)
        self.config = ring.classifier.config
        relations = RelationBatch.of([case.asked for case in cases], ring.classifier.labels)
        self.classify = StepClassifier(ring.classifier, relations, GuidanceConfig().smoothing)
        self.least_B = [0.0] * len(cases)

    def value(self, z: Tensor, step: int, samples: Sequence[int]) -> Tensor:
        """See :class:`benchmarks.rivals.gradient.Loss`."""
        level = float(self.schedule.levels[step])
        nearest = min(range(len(self.config.sigmas)), key=lambda index: abs(self.config.sigmas[index] - level))
        timestep, prompts = self.schedule.timesteps[step], self.conditioning.rows(samples)
        maps = self.ring.generator.entity_maps(z, timestep, prompts, self.config.layers, self.config.heads)
        verdict = self.classify(maps, samples, nearest)
        owner_R = [self.classify.relations.prompt_R[row] for row in verdict.rows]
        mine = [[i for i, owner in enumerate(owner_R) if owner == sample] for sample in samples]
        self.least_B = [math.exp(float(verdict.log_target_R[rows].detach().min())) for rows in mine]
        return torch.stack([-verdict.log_target_R[rows].sum() for rows in mine])

    def most(self, step: int) -> int:
        """See :class:`benchmarks.rivals.gradient.Loss`."""
        return ITERATIONS

    def wants(self, value_B: Tensor, step: int, iteration: int) -> list[bool]:
        """See :class:`benchmarks.rivals.gradient.Loss`."""
        return [least < ENOUGH for least in self.least_B]


def learn_to_steer(ring: Ring) -> PlainGradient:
    """The rival."""
    return PlainGradient("Learn-to-Steer", ring, CrossEntropy, STEP_SIZES, EDITED, modules_of(ring.classifier))
