"""Guidance without gradients: of several seeds the one whose early latents the classifier prefers.

    choose = BestSeed(GuidedSampler(pipeline, classifier))
    result = choose(["a red circle to the left of a blue square"], seeds=[[0, 1, 2, 3]])

All seeds are denoised up to the last guided step; there the classifier's verdict keeps one for each prompt, and the
remaining steps are run for it alone. Nothing is moved, so its video is the plain one of that seed. It is of use where
the generator's kernels have no backward pass, and it is the rival of guidance that takes about as long.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from random import Random

import torch
from torch import Tensor

from cvg.common.clock import wall_clock
from cvg.common.errors import SettingsError
from cvg.common.sizes import Size
from cvg.composition import Composition, RelationBatch
from cvg.generators.histories import State
from cvg.guidance.checks import at_step, require_finite
from cvg.guidance.guide import reader_of
from cvg.guidance.rules import Rules, StepRules
from cvg.guidance.sampler import GuidedSampler, Observe, Plan, SampleResult
from cvg.guidance.verdict import StepClassifier


def candidate_seeds(seed: int, count: int) -> list[int]:
    """A seed and others that follow from it: always the same, and fewer are the first of more."""
    drawn = Random(seed)
    return [seed, *(drawn.getrandbits(31) for _ in range(count - 1))]


@dataclass(frozen=True)
class Tried:
    """A seed that a prompt was begun with.

    Attributes:
        seed: of the initial noise.
        probabilities: of the target of each of the prompt's relations, by the verdict at the last guided step.
        log_probability: of all targets together; the highest is kept.
    """

    seed: int
    probabilities: list[float]
    log_probability: float


@dataclass
class ChoiceResult(SampleResult):
    """Videos of the kept seeds.

    Attributes:
        seeds: the kept one of each prompt.
        tried: all of each prompt, in the order they were given.
    """

    seeds: list[int] = field(default_factory=list)
    tried: list[list[Tried]] = field(default_factory=list)


class _Judged(Exception):
    """A run is over, as all that is wanted of it is there. Never leaves this module."""


class _Run:
    """One seed of every prompt, up to the last guided step.

    Args:
        noise: the generators that draw the initial noise; schedulers may go on with them.
        judge: gives the verdicts.
    """

    def __init__(self, noise: list[torch.Generator], judge: StepClassifier | StepRules) -> None:
        self.noise, self.judge = noise, judge
        self.probability_R = torch.zeros(len(judge.relations))
        """Of each relation's target, by the last verdict."""
        self.z = torch.empty(0)
        """Latents of the last guided step, (B, C, F, H', W')."""
        self.state: State | None = None
        """What the scheduler remembers there; None before its first step."""


def looks(sampler: GuidedSampler) -> int:
    """How many of the noise levels a choice among seeds looks at, the noisiest ones: the number given, else all.

    A look costs one pass without gradients, and the later it is, the surer is the verdict. Rules look where they would
    guide: their later levels are for attributes alone.
    """
    known = len(sampler.classifier.config.sigmas)
    count = (sampler.config if isinstance(sampler.classifier, Rules) else sampler.given).guided_steps
    return known if count is None else min(count, known)


def followed(sampler: GuidedSampler) -> dict[str, int]:
    """The settings of guidance that a choice among seeds follows; the others are for gradients."""
    return {"guided_steps": looks(sampler), "smoothing": sampler.config.smoothing}


class BestSeed:
    """Samples the best of several seeds of each prompt.

    Args:
        sampler: generator, classifier, and how it is looked at (:func:`followed`).
    """

    def __init__(self, sampler: GuidedSampler) -> None:
        self.sampler = sampler

    @torch.no_grad()
    def __call__(
        self,
        prompts: Sequence[str],
        seeds: Sequence[Sequence[int]],
        compositions: Sequence[Composition] | None = None,
        steps: int = 50,
        guidance_scale: float | None = None,
        size: Size | None = None,
        observe: Observe | None = None,
    ) -> ChoiceResult:
        """Generate one video per prompt, that of the seed which the classifier prefers.

        Its bytes are those of the plain video of that seed, in a batch of as many videos.

        Args:
            prompts: text prompts.
            seeds: of each prompt, those to choose from, as many of each.
            compositions: what the prompts ask for; parsed from them when None.
            steps: denoising steps.
            guidance_scale: of classifier-free guidance; the classifier's, else the family's default, when None.
            size: of the videos; the one the classifier was trained for when None.
            observe: see :data:`cvg.guidance.sampler.Observe`; shown the steps of every run.

        Raises:
            UserError: as of :class:`GuidedSampler`; or prompts have no seeds, or not as many.
        """
        counts = {len(mine) for mine in seeds}
        if len(counts) != 1 or 0 in counts or len(seeds) != len(prompts):
            raise SettingsError(f"seeds {list(seeds)}: give every one of {len(prompts)} prompts as many, at least one")
        plan = self.sampler.plan(prompts, compositions, steps, guidance_scale, size)
        at = self.sampler.level_steps(steps, plan.size, range(looks(self.sampler)))
        if not at:
            raise SettingsError("guided_steps is 0: there is no verdict to choose by; look at one step at least")
        if self.sampler.generator.draws_of_image:
            raise SettingsError(
                f"choice among seeds: {type(self.sampler.generator.pipeline).__name__} makes other conditions of its "
                "image with every seed, so that none can be taken up by another run; guide it instead"
            )
        self.sampler.check_generator()
        began = wall_clock(self.sampler.generator.device)
        relations = RelationBatch.of(plan.compositions, self.sampler.classifier.labels)
        runs: list[_Run] = []
        kept: list[int] = []
        verdict = self._verdicts(plan, relations, at)

        def before_step(step: int, z: Tensor) -> Tensor:
            if observe is not None:
                observe(step, z)
            with at_step(step, steps):
                require_finite("latents", z)
                if step in at:
                    verdict(runs[-1], step, z)
            if step != max(at):
                return z
            runs[-1].z, runs[-1].state = z.clone(), generator.history() if step else None
            if len(runs) < len(seeds[0]):
                raise _Judged
            kept.extend(_best(runs, relations))
            return self._taken_up(runs, kept, z)

        generator, final = self.sampler.generator, torch.empty(0)
        for number in range(len(seeds[0])):
            noise = [torch.Generator().manual_seed(int(mine[number])) for mine in seeds]
            runs.append(_Run(noise, reader_of(self.sampler.classifier, relations, self.sampler.config.smoothing)))
            with suppress(_Judged):
                z = generator.noise(noise, plan.size)
                final = generator.sample(prompts, z, steps, plan.guidance_scale, plan.size, before_step, noise)
        require_finite(f"final latents (after {steps} denoising steps)", final)
        video_BCFHW = self.sampler.decoded(final)
        seconds = wall_clock(generator.device) - began
        chosen = [int(mine[number]) for mine, number in zip(seeds, kept, strict=True)]
        tried = _tried(runs, seeds, relations)
        return ChoiceResult(video_BCFHW, plan.compositions, seconds=seconds, seeds=chosen, tried=tried)

    def _verdicts(
        self, plan: Plan, relations: RelationBatch, at: dict[int, int]
    ) -> Callable[[_Run, int, Tensor], None]:
        """What looks at the latents of a run's guided step, and keeps in the run what the classifier makes of them."""
        generator, config = self.sampler.generator, self.sampler.classifier.config
        conditioning = generator.encode(plan.compositions)

        def look(run: _Run, step: int, z: Tensor) -> None:
            prompts = generator.with_image(conditioning)
            maps = generator.entity_maps(z.float(), plan.timesteps[step], prompts, config.layers, config.heads)
            run.probability_R = run.judge(maps, range(len(z)), at[step]).update(run.probability_R)

        return look

    def _taken_up(self, runs: Sequence[_Run], kept: Sequence[int], z: Tensor) -> Tensor:
        """The latents of the kept runs, which the present one goes on with, as with all else that they had come to."""
        present, others = runs[-1], {b: runs[number] for b, number in enumerate(kept) if number < len(runs) - 1}
        if not others:
            return z
        states = {b: run.state for b, run in others.items() if run.state is not None}
        if states:
            self.sampler.generator.adopt_history(states)
        z = z.clone()
        for b, run in others.items():
            z[b], present.noise[b] = run.z[b], run.noise[b]
        return z


def _best(runs: Sequence[_Run], relations: RelationBatch) -> list[int]:
    """Which run is kept for each prompt: the first of the likeliest."""
    totals = torch.stack([run.probability_R.log() for run in runs])
    return [int(totals[:, rows].sum(1).argmax()) for rows in _rows(relations)]


def _rows(relations: RelationBatch) -> list[list[int]]:
    """The relations of each prompt."""
    return [relations.rows((prompt,)) for prompt in range(max(relations.prompt_R) + 1)]


def _tried(runs: Sequence[_Run], seeds: Sequence[Sequence[int]], relations: RelationBatch) -> list[list[Tried]]:
    return [
        [
            Tried(int(seed), run.probability_R[rows].tolist(), float(run.probability_R[rows].log().sum()))
            for seed, run in zip(mine, runs, strict=True)
        ]
        for mine, rows in zip(seeds, _rows(relations), strict=True)
    ]
