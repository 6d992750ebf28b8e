"""What the sampling loop calls before every denoising step of a guided batch."""

from __future__ import annotations

import torch
from torch import Tensor

from cvg.guidance.checks import at_step, require_finite
from cvg.guidance.guide import Guide


class GuidedSteps:
    """Guides one batch as it is sampled: what the loop calls before every denoising step.

    Args:
        guide: of the batch.
        timesteps: of the schedule.
        guided_steps: each denoising step that is guided, with the index of the noise level as which it is read.
        moves: whether edits change anything: with a step size of zero they do not.

    Attributes:
        moved: at each step that was guided, the samples whose latents it moved.
    """

    def __init__(self, guide: Guide, timesteps: Tensor, guided_steps: dict[int, int], moves: bool) -> None:
        self.guide, self.timesteps, self.guided_steps, self.moves = guide, timesteps, guided_steps, moves
        self.last = {level: step for step, level in sorted(guided_steps.items())}
        """Of each noise level, the last step that is read as it."""
        self.probabilities: dict[int, list[Tensor]] = {}
        self.ended: dict[int, tuple[Tensor, list[int]]] = {}
        """Steps that were the last guided one of samples: the edited latents, and which of these samples were moved and
        not looked at again."""
        self.moved: dict[int, list[int]] = {}

    def __call__(self, step: int, z: Tensor) -> Tensor:
        """The latents that the step is to start from: z_t' at a guided one."""
        if step == 0:
            self.guide.conditioning = self.guide.generator.with_image(self.guide.conditioning)
        with at_step(step, len(self.timesteps)):
            require_finite("latents", z)
            if step not in self.guided_steps or (step > min(self.guided_steps) and not self.moves):
                return z
            level = self.guided_steps[step]
            edited, self.probabilities[step] = self.guide.edit(z, self.timesteps[step], level)
            require_finite("edited latents", edited)
        if ending := [sample for sample, turn in enumerate(self.guide.turns) if step == self.last[max(turn)]]:
            # A copy, as the pipeline goes on with the others.
            self.ended[step] = edited.clone(), [sample for sample in ending if sample in self.guide.wanting]
        self.moved[step] = [sample for sample in range(len(z)) if not torch.equal(edited[sample], z[sample])]
        if step > 0:  # until a sample moves the scheduler keeps its history: its video is the plain one
            moved = set().union(*self.moved.values())
            guided = {*self.guide.satisfied, *self.guide.wanting}
            self.guide.generator.forget_history(sorted(moved & guided))
        return z if torch.equal(edited, z) else edited

    def conclude(self) -> dict[int, list[Tensor]]:
        """The probabilities, with those after the last moves: for the record, so made once sampling is over."""
        for step, (edited, samples) in self.ended.items():
            trail = self.probabilities[step]
            trail.append(self.guide.judge(edited, self.timesteps[step], self.guided_steps[step], samples, trail[-1]))
        return self.probabilities
