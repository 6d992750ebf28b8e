"""Guided generation through an unmodified diffusers pipeline.

    sampler = GuidedSampler(pipeline, CompositionClassifier.from_pretrained("shapes-classifier"))
    result = sampler(["a red circle to the left of a blue square"], seeds=[0])

After the last guided step the pipeline runs as it always does.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from cvg.classifier import CompositionClassifier
from cvg.common.clock import wall_clock
from cvg.common.errors import SettingsError, require
from cvg.common.sizes import Size
from cvg.composition import Composition, Parser, RelationBatch, parse
from cvg.diffusion.trajectory import nearest_steps
from cvg.generators import Conditioning, Generator, wrap_pipeline
from cvg.guidance.checks import call_differences, differences_from_training, require_finite
from cvg.guidance.config import GuidanceConfig
from cvg.guidance.guide import Guide
from cvg.guidance.guided_steps import GuidedSteps
from cvg.guidance.rules import Rules
from cvg.guidance.terms.base import Term
from cvg.guidance.turns import turns

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
            one after the other) before each move of the latents; at a prompt's last one also after it. NaN where the
            prompt is not guided at that step. Empty when unguided.
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

    def levels(self, compositions: Sequence[Composition]) -> list[int]:
        """Indices of the classifier's noise levels at which any of some prompts is guided."""
        relations = RelationBatch.of(compositions, self.classifier.labels)
        return sorted(set().union(*turns(self.classifier, relations, self.config)))

    def guided_steps(self, steps: int, size: Size | None = None, levels: Iterable[int] | None = None) -> dict[int, int]:
        """The denoising steps that are guided, each with the index of the noise level as which it is read.

        These are :meth:`level_steps`, and with ``every_step`` those before them too, from the first one on or from the
        one after the level before: what a prompt is batched with changes nothing. Arguments and errors as there.
        """
        found = self.level_steps(steps, size, levels)
        if not self.config.every_step:
            return found
        every = self._near(steps, size, dict(enumerate(self.classifier.config.sigmas)))
        after = {index: step + 1 for step, index in every.items()}
        begin = {index: after.get(index - 1, step) if index else 0 for step, index in found.items()}
        return {step: index for last, index in found.items() for step in range(min(begin[index], last), last + 1)}

    def level_steps(self, steps: int, size: Size | None = None, levels: Iterable[int] | None = None) -> dict[int, int]:
        """For noise levels of the classifier the denoising steps that are the nearest: {step: index of its level}.

        Args:
            steps: denoising steps in all.
            size: of the videos; the one the classifier was trained for when None.
            levels: indices of noise levels, ascending, as :meth:`levels` finds them for prompts; the noisiest, as many
                as are to be guided, when None.

        Raises:
            SettingsError: the schedule has no step near a noise level of the classifier, or one step for two of them.
        """
        require(1, steps=steps)
        sigmas = self.classifier.config.sigmas
        indices = range(len(sigmas))[: self.config.guided_steps] if levels is None else levels
        wanted = {index: sigmas[index] for index in indices}
        found = self._near(steps, size, wanted)
        if len(found) < len(wanted):
            more = range(steps + 1, 0 if self.generator.fixed_steps else _MOST_STEPS)
            enough = next((n for n in more if len(self._near(n, size, wanted)) == len(wanted)), None)
            remedy = "guide fewer steps, or use another schedule" if enough is None else f"use {enough} steps or more"
            raise SettingsError(
                f"steps {steps}: no separate denoising steps near the classifier's noise levels "
                f"{[round(sigma, 3) for sigma in wanted.values()]}; {remedy}"
            )
        return found

    def _near(self, steps: int, size: Size | None, wanted: Mapping[int, float]) -> dict[int, int]:
        """Denoising step -> index of the noise level that it is the nearest to, for those that are near enough."""
        found = nearest_steps(self.generator.schedule(steps, size or self.size).levels[:-1], list(wanted.values()))
        return {step: index for index, step in zip(wanted, found, strict=True) if step is not None}

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
        guided_steps = self.guided_steps(steps, size, self.levels(compositions))
        timesteps = self.generator.schedule(steps, size).timesteps
        guide = Guide(self.generator, self.classifier, compositions, self.config, self.terms, conditioning)
        return GuidedSteps(guide, timesteps, guided_steps, moves=bool(self.config.step_size))
