"""Guided generation through an unmodified diffusers pipeline.

    sampler = GuidedSampler(pipeline, CompositionClassifier.from_pretrained("shapes-classifier"))
    result = sampler(["a red circle to the left of a blue square"], seeds=[0])

The first step is guided before the pipeline is called, through its ``latents``; later ones in its step callback. After
the last guided step the pipeline runs as it always does.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from cvg.classifier.model import CompositionClassifier
from cvg.common.clock import wall_clock
from cvg.common.errors import UserError
from cvg.composition import Composition, parse
from cvg.diffusion.trajectory import nearest_steps
from cvg.generators import Generator, wrap_pipeline
from cvg.guidance.guide import GuidanceConfig, Guide


@dataclass
class SampleResult:
    """Generated videos and what guidance did.

    Attributes:
        video_BCFHW: in [-1, 1], on the CPU.
        compositions: what each prompt was understood to ask.
        verdicts: by guided denoising step, each relation's target probability (R,) before every move, relations of all
            prompts together; at the last guided step also after its last move. Empty when unguided.
        seconds: wall time, decoding included, without that last verdict: it is for the record, not for the video.
    """

    video_BCFHW: Tensor
    compositions: list[Composition]
    verdicts: dict[int, list[Tensor]] = field(default_factory=dict)
    seconds: float = 0.0


class GuidedSampler:
    """A frozen pipeline, a classifier trained on its attention, and the sampling loop around both.

    Args:
        generator: a diffusers pipeline of a supported family, or its adapter.
        classifier: exported classifier for this generator; moved to the generator's device.
        config: how guided steps are taken.

    Raises:
        UserError: the classifier was trained on another generator.
    """

    def __init__(
        self, generator: Generator | Any, classifier: CompositionClassifier, config: GuidanceConfig | None = None
    ) -> None:
        self.generator = generator if isinstance(generator, Generator) else wrap_pipeline(generator)
        self.classifier = classifier.eval().requires_grad_(False).to(self.generator.device)
        self.config = (config or GuidanceConfig()).of(classifier)
        ours, theirs = self.generator.identity(), classifier.config.generator
        if ours["fingerprint"] != theirs["fingerprint"]:
            trained, given = ("{name} ({class}, {fingerprint})".format(**identity) for identity in (theirs, ours))
            raise UserError(
                f"classifier: trained on the attention of {trained}, but the generator is {given}; use that "
                "generator, or train a classifier on this one"
            )

    @property
    def size(self) -> tuple[int, int, int]:
        """(frames, height, width) in pixels of the videos that the classifier was trained for."""
        return self.generator.pixel_size(self.classifier.config.token_grid)

    def slots(self, steps: int, size: tuple[int, int, int] | None = None) -> dict[int, int]:
        """The denoising step (of ``steps``) at which each of the classifier's guided slots lies: {step: slot}.

        Raises:
            UserError: the schedule has no step near a noise level of the classifier, or one step for two of them.
        """
        wanted = self.classifier.config.sigmas[: self.config.guided_steps]
        levels = self.generator.schedule(steps, size or self.size).levels[:-1]
        slots = {step: slot for slot, step in enumerate(nearest_steps(levels, wanted)) if step is not None}
        if len(slots) < len(wanted):
            raise UserError(
                f"{steps} steps: no separate denoising steps near the classifier's noise levels "
                f"{[round(s, 3) for s in wanted]}; use more steps"
            )
        return slots

    def __call__(
        self,
        prompts: Sequence[str],
        seeds: Sequence[int],
        compositions: Sequence[Composition] | None = None,
        guided: bool = True,
        steps: int = 50,
        guidance_scale: float | None = None,
        size: tuple[int, int, int] | None = None,
        observe: Callable[[int, Tensor], None] | None = None,
    ) -> SampleResult:
        """Generate one video per prompt.

        Args:
            prompts: text prompts.
            seeds: seed of each video's initial noise; the noise is the pipeline's own for that seed.
            compositions: what the prompts ask for; parsed from them when None. Another relation than the prompt's
                steers towards that one.
            guided: False runs the plain pipeline, bit for bit.
            steps: denoising steps.
            guidance_scale: of classifier-free guidance; the classifier's, else the family's default, when None.
            size: (frames, height, width) in pixels; the one the classifier was trained for when None.
            observe: called with (step, z_t) before each denoising step, with the latents the step starts from: z_t'
                where it is guided. It must not change them.

        Raises:
            UserError: a prompt that cannot be parsed, or a schedule that does not fit the classifier.
        """
        if guidance_scale is None:
            guidance_scale = self.classifier.config.sampling.get("guidance_scale")
        if compositions is None:
            compositions = [parse(prompt, self.classifier.labels) for prompt in prompts]
        device = self.generator.device
        began, aside = wall_clock(device), 0.0
        size = size or self.size
        noise = [torch.Generator().manual_seed(int(seed)) for seed in seeds]
        latents = self.generator.initial_latents(noise, size)
        slots = self.slots(steps, size) if guided else {}
        guide = Guide(self.generator, self.classifier, compositions, self.config) if guided else None
        timesteps = self.generator.schedule(steps, size).timesteps
        verdicts: dict[int, list[Tensor]] = {}

        def before_step(step: int, latents: Tensor) -> Tensor:
            nonlocal aside
            # With a step size of zero, later steps keep the scheduler's history: the run is the plain one, bit for bit.
            if guide is not None and step in slots and (step == 0 or self.config.step_size):
                latents, verdicts[step] = guide.edit(latents, timesteps[step], slots[step])
                if step > 0:
                    self.generator.forget_history()
                if step == max(slots):
                    edited = wall_clock(device)
                    last = guide.judge(latents, timesteps[step], slots[step], verdicts[step][-1])
                    verdicts[step].append(last)
                    aside = wall_clock(device) - edited
            if observe is not None:
                observe(step, latents)
            return latents

        edit = before_step if guided or observe is not None else None
        latents = before_step(0, latents)
        final = self.generator.sample(prompts, latents, steps, guidance_scale, size, edit, noise)
        video = self.generator.decode_latents(final).cpu()
        seconds = wall_clock(device) - began - aside
        return SampleResult(video, list(compositions), verdicts, seconds)
