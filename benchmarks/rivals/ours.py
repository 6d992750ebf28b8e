"""This project's own ways: none, guidance by a classifier or by rules, and the choice among seeds by a classifier."""

from __future__ import annotations

import functools
from collections.abc import Sequence
from dataclasses import replace

import torch
from torch import Tensor, nn

from benchmarks.rivals.base import Ring
from cvg.classifier import CompositionClassifier
from cvg.composition import Composition, RelationBatch
from cvg.evaluation.early import early_verdicts, run_plain
from cvg.evaluation.suites import Case
from cvg.guidance.choice import BestSeed
from cvg.guidance.config import GuidanceConfig
from cvg.guidance.rules import Rules
from cvg.guidance.sampler import GuidedSampler
from cvg.guidance.stated import stated_part


class Ours:
    """What the rivals of this file have in common: nothing to measure beforehand.

    Args:
        name: the row.
        ring: where it runs.
    """

    step_sizes: tuple[float, ...] = ()
    step_size: float | None = None
    looks = 0

    def __init__(self, name: str, ring: Ring) -> None:
        self.name, self.ring = name, ring
        self.weights: list[nn.Module] = []

    def prepare(self, cases: Sequence[Case]) -> dict[str, float]:
        """See :class:`benchmarks.rivals.base.Rival`."""
        return {}

    def adopt(self, measured: dict[str, float]) -> None:
        """See :class:`benchmarks.rivals.base.Rival`."""


class Unguided(Ours):
    """The pipeline as it is."""

    def __call__(self, cases: Sequence[Case]) -> Tensor:
        """See :class:`benchmarks.rivals.base.Rival`."""
        return self.ring.videos(cases)


class Guided(Ours):
    """Guided steps, by a classifier or by rules.

    Rules guide what they have a formula for; a prompt that asks for nothing of it is sampled as the pipeline does it.

    Args:
        name: the row.
        ring: where it runs.
        reader: what gives the verdicts.
        config: how guided steps are taken, where that is not left to the reader.
        step_sizes: to choose from; none: the one that the classifier names.
    """

    def __init__(
        self,
        name: str,
        ring: Ring,
        reader: CompositionClassifier | Rules,
        config: GuidanceConfig = GuidanceConfig(),  # noqa: B008  (frozen)
        step_sizes: tuple[float, ...] = (),
    ) -> None:
        super().__init__(name, ring)
        self.reader, self.step_sizes, self.config = reader, step_sizes, config
        self.weights = modules_of(reader)

    @functools.cached_property
    def sampler(self) -> GuidedSampler:
        """Made once: it looks at all weights of the generator."""
        return GuidedSampler(self.ring.generator, self.reader, self.config)

    def __call__(self, cases: Sequence[Case]) -> Tensor:
        """See :class:`benchmarks.rivals.base.Rival`."""
        known = {index: self.known(case) for index, case in enumerate(cases)}
        guided = [index for index, asked in known.items() if asked is not None]
        plain = [index for index, asked in known.items() if asked is None]
        videos: dict[int, Tensor] = {}
        if guided:
            asked = [part for part in known.values() if part is not None]
            videos |= zip(guided, self.guided([cases[index] for index in guided], asked), strict=True)
        if plain:
            videos |= zip(plain, self.ring.videos([cases[index] for index in plain]), strict=True)
        return torch.stack([videos[index] for index in known])

    def known(self, case: Case) -> Composition | None:
        """What of a case the reader can guide towards; None: nothing."""
        return stated_part(case.asked, self.reader.labels)[0] if isinstance(self.reader, Rules) else case.asked

    def guided(self, cases: Sequence[Case], asked: Sequence[Composition]) -> Tensor:
        """Videos of cases, guided towards what is stated."""
        ring, sampler = self.ring, self.sampler
        sampler.config = replace(self.config, step_size=self.step_size).preferred(self.reader.config.sampling)
        prompts, seeds = [case.prompt for case in cases], [case.seeds[0] for case in cases]
        return sampler(prompts, seeds, asked, True, ring.steps, ring.guidance_scale, ring.size).video_BCFHW


class Choice(Ours):
    """Unguided videos of several seeds, of which the classifier chooses.

    Args:
        name: the row.
        ring: where it runs.
        candidates: seeds of each prompt.
    """

    def __init__(self, name: str, ring: Ring, candidates: int) -> None:
        super().__init__(name, ring)
        self.candidates, self.weights = candidates, modules_of(ring.classifier)


class Pruned(Choice):
    """Several seeds up to the last guided step, where the classifier keeps one (:mod:`cvg.guidance.choice`)."""

    def __call__(self, cases: Sequence[Case]) -> Tensor:
        """See :class:`benchmarks.rivals.base.Rival`."""
        ring = self.ring
        choose = BestSeed(GuidedSampler(ring.generator, ring.classifier))
        prompts, asked = [case.prompt for case in cases], [case.asked for case in cases]
        seeds = [case.seeds[: self.candidates] for case in cases]
        return choose(prompts, seeds, asked, ring.steps, ring.guidance_scale, ring.size).video_BCFHW


class BestOf(Choice):
    """Several whole unguided videos, of which the classifier's verdict at the last guided step picks one."""

    def __call__(self, cases: Sequence[Case]) -> Tensor:
        """See :class:`benchmarks.rivals.base.Rival`."""
        ring, asked = self.ring, [case.asked for case in cases]
        sampler = GuidedSampler(ring.generator, ring.classifier)
        relations = RelationBatch.of(asked, ring.classifier.labels)
        videos, preference = [], []
        for number in range(self.candidates):
            seeds = [case.seeds[number] for case in cases]
            run = run_plain(sampler, asked, seeds, ring.steps, ring.guidance_scale)
            last = max(early_verdicts(sampler, asked, run.early), key=lambda verdict: verdict.guided_step)
            log_target_R = last.log_probability_RY[range(len(relations)), list(relations.target_R)]
            preference.append([float(log_target_R[relations.rows((prompt,))].sum()) for prompt in range(len(cases))])
            videos.append(run.video_BCFHW)
        best_B = torch.tensor(preference).argmax(0)
        return torch.stack([videos[int(number)][prompt] for prompt, number in enumerate(best_B)])


def modules_of(reader: CompositionClassifier | Rules) -> list[nn.Module]:
    """A classifier, and the frozen model behind it, which is no submodule."""
    tower = reader.backbone.tower if isinstance(reader, CompositionClassifier) else None
    return [reader, *([] if tower is None else [tower])]
