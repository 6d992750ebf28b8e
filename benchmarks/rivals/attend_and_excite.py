"""Attend-and-Excite: every entity shall be attended to strongly somewhere.

Chefer, Alaluf, Vinker, Wolf, Cohen-Or, *Attend-and-Excite: Attention-Based Semantic Guidance for Text-to-Image
Diffusion Models*, SIGGRAPH 2023 (arXiv 2301.13826), section 3 and its algorithm:

    L = max_s L_s,   L_s = 1 - max_p smooth(A_t^s)_p,   z_t' = z_t - alpha_t grad_z L

over entities s and places p. A_t^s is the mean attention over layers and heads, normalised over the prompt's own words;
``smooth`` is a 3 x 3 Gaussian of deviation 0.5. One edit at each of the first 25 of 50 steps, with an alpha that falls
with the square root of what falls from 1 to 0.5 over all steps. At steps 0, 10 and 20 the edit is repeated, up to 20
times, until the weakest entity reaches 0.05, 0.5 and 0.8 (iterative latent refinement).

What differs: the paper is about images, and here L is the mean over latent frames. Its layers are those of one
resolution, here they are those of the rules (the first two thirds). Its normalisation over words sharpens by a softmax,
here a word's attention is divided by that of all words of the prompt. An entity is its whole phrase, not a noun.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace

import torch
import torch.nn.functional as F
from torch import Tensor

from benchmarks.rivals.base import Ring
from benchmarks.rivals.gradient import Loss, PlainGradient
from cvg.evaluation.suites import Case
from cvg.guidance.rules import SHARE

STEP_SIZES = (0.007, 0.02, 0.06)
EDITED = 0.5
"""Share of the denoising steps."""
REACHED = {0.0: 0.05, 0.2: 0.5, 0.4: 0.8}
"""Share of the denoising steps -> what the weakest entity is to reach at the step there."""
REPEATS = 20
DEVIATION = 0.5


class ExciteLoss(Loss):
    """How weakly the weakest entity is attended to; arguments as of :class:`benchmarks.rivals.gradient.Loss`."""

    def __init__(self, ring: Ring, cases: Sequence[Case]) -> None:
        super().__init__(ring, cases)
        self.layers = range(math.ceil(SHARE * len(ring.generator.blocks)))
        columns_BTE = self.conditioning.columns_BTE
        words_BT = columns_BTE.new_zeros(columns_BTE.shape[:2])
        for row, case in zip(words_BT, cases, strict=True):
            row[: len(ring.generator.pipeline.tokenizer(case.prompt)["input_ids"]) - 1] = 1  # the last ends the text
        self.with_words = replace(self.conditioning, columns_BTE=torch.cat([columns_BTE, words_BT[..., None]], -1))
        self.present_BE = columns_BTE.any(1)
        self.reached = {round(share * ring.steps): least for share, least in REACHED.items()}

    def value(self, z: Tensor, step: int, samples: Sequence[int]) -> Tensor:
        """See :class:`benchmarks.rivals.gradient.Loss`."""
        timestep, prompts = self.schedule.timesteps[step], self.with_words.rows(samples)
        maps_BEFHW = self.ring.generator.entity_maps(z, timestep, prompts, self.layers).mean((1, 2))
        share_BEFHW = maps_BEFHW[:, :-1] / maps_BEFHW[:, -1:]
        strength_BEF = smooth(share_BEFHW).amax((-1, -2))
        absent_BE = ~self.present_BE[list(samples)]
        return 1 - strength_BEF.masked_fill(absent_BE[..., None], math.inf).amin(1).mean(-1)

    def most(self, step: int) -> int:
        """See :class:`benchmarks.rivals.gradient.Loss`."""
        return 1 + REPEATS if step in self.reached else 1

    def wants(self, value_B: Tensor, step: int, iteration: int) -> list[bool]:
        """See :class:`benchmarks.rivals.gradient.Loss`: the first edit always, others while the weakest is too weak."""
        if not iteration:
            return [True] * len(value_B)
        return (value_B > 1 - self.reached[step]).tolist()

    def factor(self, step: int) -> float:
        """See :class:`benchmarks.rivals.gradient.Loss`."""
        return math.sqrt(1 - 0.5 * step / max(1, self.ring.steps - 1))


def smooth(maps_BEFHW: Tensor) -> Tensor:
    """Maps under a 3 x 3 Gaussian; borders are reflected."""
    line = torch.tensor([math.exp(-0.5 * (at / DEVIATION) ** 2) for at in (-1, 0, 1)], device=maps_BEFHW.device)
    kernel = torch.outer(line, line) / line.sum() ** 2
    flat = F.pad(maps_BEFHW.flatten(0, 2)[:, None], (1, 1, 1, 1), mode="reflect")
    return F.conv2d(flat, kernel[None, None])[:, 0].unflatten(0, maps_BEFHW.shape[:3])


def attend_and_excite(ring: Ring) -> PlainGradient:
    """The rival."""
    return PlainGradient("Attend-and-Excite", ring, ExciteLoss, STEP_SIZES, EDITED)
