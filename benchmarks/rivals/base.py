"""What a rival is, and the place that all of them meet in."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor, nn

from cvg.classifier import CompositionClassifier
from cvg.common.sizes import Size
from cvg.diffusion.schedule import Schedule
from cvg.evaluation.suites import Case
from cvg.generators import Generator
from cvg.generators.steps import Edit


@dataclass(frozen=True)
class Ring:
    """What all rivals on a generator have in common.

    Attributes:
        generator: the frozen generator.
        classifier: the one that ships for it.
        steps: denoising steps.
        guidance_scale: of classifier-free guidance; the family's default when None.
        size: of the videos.
    """

    generator: Generator
    classifier: CompositionClassifier
    steps: int
    guidance_scale: float | None
    size: Size

    @property
    def schedule(self) -> Schedule:
        """Of the generator."""
        return self.generator.schedule(self.steps, self.size)

    def videos(self, cases: Sequence[Case], edit: Edit | None = None, candidate: int = 0) -> Tensor:
        """Sample cases, as the pipeline does it.

        Args:
            cases: prompts and seeds.
            edit: takes the number of a denoising step and the latents that it starts from, (B, C, F, H', W'), and
                returns those that it is to start from instead.
            candidate: which of the cases' seeds.

        Returns:
            video_BCFHW in [-1, 1], on the CPU.
        """
        noise = [torch.Generator().manual_seed(case.seeds[candidate]) for case in cases]
        z = self.generator.initial_latents(noise, self.size)
        prompts = [case.prompt for case in cases]
        final = self.generator.sample(prompts, z, self.steps, self.guidance_scale, self.size, edit, noise)
        return self.generator.decode_latents(final).cpu()


class Rival(Protocol):
    """A way to sample.

    Attributes:
        name: its row.
        step_sizes: those that the best is chosen from, on prompts that are for choosing alone; none where there is
            nothing to choose.
        step_size: the one in use; None where it has none, or its own default.
        weights: modules that it needs beside the generator.
        looks: how often it has looked at the latents of a sample, beyond what the pipeline itself does, where that
            depends on the step size; else 0.
    """

    name: str
    step_sizes: tuple[float, ...]
    step_size: float | None
    weights: list[nn.Module]
    looks: int

    def prepare(self, cases: Sequence[Case]) -> dict[str, float]:
        """Measure, on cases that are for choosing alone, what a step size is a multiple of.

        Returns:
            What was measured, by name; :meth:`adopt` takes it.
        """
        ...

    def adopt(self, measured: dict[str, float]) -> None:
        """Go by what :meth:`prepare` measured, here or in another run."""
        ...

    def __call__(self, cases: Sequence[Case]) -> Tensor:
        """Videos of cases: video_BCFHW in [-1, 1], on the CPU."""
        ...
