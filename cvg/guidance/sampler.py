"""Guided generation through an unmodified diffusers pipeline.

    sampler = GuidedSampler(pipeline, CompositionClassifier.from_pretrained("shapes-classifier"))
    result = sampler(["a red circle to the left of a blue square"], seeds=[0])

After the last guided step the pipeline runs as it always does.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from cvg.classifier import CompositionClassifier
from cvg.common.clock import wall_clock
from cvg.common.errors import SettingsError, require
from cvg.common.sizes import Size
from cvg.composition import Composition, Parser, parse
from cvg.diffusion.trajectory import nearest_steps
from cvg.generators import Conditioning, Generator, wrap_pipeline
from cvg.guidance.checks import at_step, call_differences, differences_from_training, require_finite
from cvg.guidance.config import GuidanceConfig
from cvg.guidance.guide import Guide
from cvg.guidance.rules import Rules
from cvg.guidance.terms.base import Term

_MOST_STEPS = 201
"""Where the search for a number of steps that fits ends."""

Observe = Callable[[int, Tensor], None]
"""observe(step, z_t): shown the latents that a denoising step starts from, z_t' where it is guided; changes nothing."""


@dataclass
class SampleResult:
    """Generated videos and what guidance did.

    Attributes:
        video_BCFHW: in [-1, 1], on the CPU.
        compositions: what each prompt was understood to ask.
        probabilities: what the classifier thought while the videos were guided. For each denoising step that was
            guided, a list of tensors (R,): the probability of the target label of every relation (those of all prompts,
            one after the other) before each move of the latents; at the last one also after it. Empty when unguided.
        seconds: wall time of sampling and decoding.
    """

    video_BCFHW: Tensor
    compositions: list[Composition]
    probabilities: dict[int, list[Tensor]] = field(default_factory=dict)
    seconds: float = 0.0


@dataclass(frozen=True)
class Plan:
    """What a call is to sample.

    Attributes:
        compositions: what each prompt asks for.
        guidance_scale: of classifier-free guidance; the family's default when None.
        size: of the videos.
        timesteps: of the schedule.
    """

    compositions: list[Composition]
    guidance_scale: float | None
    size: Size
    timesteps: Tensor


class GuidedSteps:
    """Guides one batch as it is sampled: what the loop calls before every denoising step.

    Args:
        guide: of the batch.
        timesteps: of the schedule.
        guided_steps: index of the guided step at each denoising step that is one.
        moves: whether edits change anything: with a step size of zero they do not.

    Attributes:
        moved: at each step that was guided, the samples whose latents it moved.
    """

    def __init__(self, guide: Guide, timesteps: Tensor, guided_steps: dict[int, int], moves: bool) -> None:
        self.guide, self.timesteps, self.guided_steps, self.moves = guide, timesteps, guided_steps, moves
        self.probabilities: dict[int, list[Tensor]] = {}
        self.last: tuple[int, Tensor] | None = None
        self.moved: dict[int, list[int]] = {}

    def __call__(self, step: int, z: Tensor) -> Tensor:
        """The latents that the step is to start from: z_t' at a guided one."""
        if step == 0:
            self.guide.conditioning = self.guide.generator.with_image(self.guide.conditioning)
        with at_step(step, len(self.timesteps)):
            require_finite("latents", z)
            if step not in self.guided_steps or (step > 0 and not self.moves):
                return z
            edited, self.probabilities[step] = self.guide.edit(z, self.timesteps[step], self.guided_steps[step])
            require_finite("edited latents", edited)
        self.last = step, edited.clone()  # the pipeline goes on with the others
        self.moved[step] = [sample for sample in range(len(z)) if not torch.equal(edited[sample], z[sample])]
        if step > 0:  # until a sample moves the scheduler keeps its history: its video is the plain one
            self.guide.generator.forget_history(sorted(set().union(*self.moved.values())))
        return z if torch.equal(edited, z) else edited

    def conclude(self) -> dict[int, list[Tensor]]:
        """The probabilities, with those after the last move: for the record, so made once sampling is over."""
        if self.last is not None and self.last[0] == max(self.guided_steps):
            step, edited = self.last
            trail = self.probabilities[step]
            trail.append(self.guide.judge(edited, self.timesteps[step], self.guided_steps[step], trail[-1]))
        return self.probabilities


class GuidedSampler:
    """A frozen pipeline, a classifier trained on its attention, and the sampling loop around both.

    Args:
        generator: a diffusers pipeline of a supported family, or its adapter.
        classifier: exported classifier for this generator, moved to its device; or rules, for any.
        config: how guided steps are taken.
        parser: reads prompts that come without compositions.
        terms: further terms of the loss that guided steps follow.
        size: of videos whose call names none; the one that the classifier was trained for when None.

    Attributes:
        given: the config as it was given; what it leaves out, :attr:`config` has from the classifier.
        differing: what to tell of a generator that is loaded otherwise than in the classifier's training, when it was
            last looked at; None where it is not.

    Raises:
        ModelError: the classifier was trained on another generator.
    """

    differing: str | None

    def __init__(
        self,
        generator: Generator | Any,
        classifier: CompositionClassifier | Rules,
        config: GuidanceConfig | None = None,
        parser: Parser = parse,
        terms: Sequence[Term] = (),
        size: Size | None = None,
    ) -> None:
        self.generator = generator if isinstance(generator, Generator) else wrap_pipeline(generator)
        self.classifier = classifier.eval().requires_grad_(False).to(self.generator.device)
        self.given, self.parser, self.terms = config or GuidanceConfig(), parser, terms
        self.config = self.given.preferred(classifier.config.sampling)
        self.size = Size(*size) if size else self.generator.pixel_size(classifier.config.token_grid)
        self.check_generator()

    def guided_steps(self, steps: int, size: Size | None = None, count: int | None = None) -> dict[int, int]:
        """The denoising steps that are guided, each with its index among the classifier's noise levels.

        Args:
            steps: denoising steps in all.
            size: of the videos; the one the classifier was trained for when None.
            count: how many of the noise levels, noisiest first; as many as are to be guided when None.

        Raises:
            SettingsError: the schedule has no step near a noise level of the classifier, or one step for two of them.
        """
        require(1, steps=steps)
        wanted = self.classifier.config.sigmas[: self.config.guided_steps if count is None else count]
        found = self._near(steps, size, wanted)
        if len(found) < len(wanted):
            more = range(steps + 1, 0 if self.generator.fixed_steps else _MOST_STEPS)
            enough = next((n for n in more if len(self._near(n, size, wanted)) == len(wanted)), None)
            remedy = "guide fewer steps, or use another schedule" if enough is None else f"use {enough} steps or more"
            raise SettingsError(
                f"steps {steps}: no separate denoising steps near the classifier's noise levels "
                f"{[round(s, 3) for s in wanted]}; {remedy}"
            )
        return found

    def _near(self, steps: int, size: Size | None, wanted: Sequence[float]) -> dict[int, int]:
        """Denoising step -> index of the noise level that it is the nearest to, for those that are near enough."""
        levels = self.generator.schedule(steps, size or self.size).levels[:-1]
        return {step: index for index, step in enumerate(nearest_steps(levels, wanted)) if step is not None}

    def __call__(
        self,
        prompts: Sequence[str],
        seeds: Sequence[int],
        compositions: Sequence[Composition] | None = None,
        guided: bool = True,
        steps: int = 50,
        guidance_scale: float | None = None,
        size: Size | None = None,
        observe: Observe | None = None,
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
            size: of the videos; the one the classifier was trained for when None.
            observe: see :data:`Observe`.

        Raises:
            UserError: a prompt that cannot be parsed, a schedule that does not fit the classifier, or numbers that are
                not finite.
        """
        plan, device = self.plan(prompts, compositions, steps, guidance_scale, size), self.generator.device
        began, guiding = wall_clock(device), None
        if guided:
            self.check_generator()  # adapters and networks may have been exchanged since
            for told in self.call_differences(steps, plan.size, plan.guidance_scale):
                warnings.warn(told, stacklevel=2)
            guiding = self.guiding(plan.compositions, steps, plan.size)

        def before_step(step: int, z: Tensor) -> Tensor:
            z = z if guiding is None else guiding(step, z)
            if observe is not None:
                observe(step, z)
            return z

        noise = [torch.Generator().manual_seed(int(seed)) for seed in seeds]
        edit, z = before_step if guided or observe is not None else None, self.generator.noise(noise, plan.size)
        final = self.generator.sample(prompts, z, steps, plan.guidance_scale, plan.size, edit, noise)
        sampled = wall_clock(device)
        require_finite(f"final latents (after {steps} denoising steps)", final)
        probabilities = {} if guiding is None else guiding.conclude()  # now, while an offloaded network is still there
        concluded = wall_clock(device)
        video_BCFHW = self.decoded(final)
        seconds = wall_clock(device) - concluded + sampled - began
        return SampleResult(video_BCFHW, plan.compositions, probabilities, seconds)

    def plan(
        self,
        prompts: Sequence[str],
        compositions: Sequence[Composition] | None,
        steps: int,
        guidance_scale: float | None,
        size: Size | None,
    ) -> Plan:
        """What is to be sampled, checked before anything is; arguments and errors as of :meth:`__call__`."""
        if guidance_scale is None:
            guidance_scale = self.classifier.config.sampling.guidance_scale
        if compositions is None:
            compositions = [self.parser(prompt, self.classifier.labels) for prompt in prompts]
        size = Size(*(size or self.size))
        require(1, steps=steps, **size._asdict())
        self.generator.check_size(size)
        if guidance_scale is not None and not math.isfinite(guidance_scale):
            raise SettingsError(f"guidance_scale {guidance_scale}: give a number")
        timesteps = self.generator.schedule(steps, size).timesteps  # refuses schedulers before anything is sampled
        return Plan(list(compositions), guidance_scale, size, timesteps)

    def decoded(self, final: Tensor) -> Tensor:
        """Videos (B, 3, F, H, W) in [-1, 1], on the CPU, of final latents. ModelError where they are not finite."""
        video_BCFHW = self.generator.decode_latents(final).cpu()
        require_finite("decoded pixels", video_BCFHW)
        return video_BCFHW

    def check_generator(self) -> None:
        """Raise ModelError where a classifier was trained on another generator; warn where this one was otherwise."""
        self.differing = differences_from_training(self.generator, self.classifier.config.generator)
        if self.differing:
            warnings.warn(self.differing, stacklevel=2)

    def call_differences(self, steps: int, size: Size | None, guidance_scale: float | None) -> list[str]:
        """What to tell of steps, size and scale that are not those of the classifier's training; as of a call."""
        config, size = self.classifier.config, Size(*(size or self.size))
        levels = self.generator.schedule(steps, size).levels.tolist()[:-1]
        sizes = None if config.generator is None else (self.generator.pixel_size(config.token_grid), size)
        return call_differences(config.levels, levels, config.sampling.guidance_scale, guidance_scale, sizes)

    def guiding(
        self,
        compositions: Sequence[Composition],
        steps: int,
        size: Size,
        conditioning: Conditioning | None = None,
    ) -> GuidedSteps:
        """What guides a batch while a pipeline samples it.

        Args:
            compositions: what each video is to show.
            steps: denoising steps.
            size: of the videos.
            conditioning: the prompts as the generator sees them; made of the compositions' when None.

        Raises:
            UserError: a label that is unknown, or a schedule that does not fit the classifier.
        """
        guided_steps, timesteps = self.guided_steps(steps, size), self.generator.schedule(steps, size).timesteps
        guide = Guide(self.generator, self.classifier, compositions, self.config, self.terms, conditioning)
        return GuidedSteps(guide, timesteps, guided_steps, moves=bool(self.config.step_size))
