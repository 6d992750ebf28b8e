"""Runs the cases of a suite, unguided and guided from the same noise, and the controls; gives one row per case."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field, replace
from random import Random
from typing import Any

import torch
from torch import Tensor

from cvg.classifier.model import CompositionClassifier
from cvg.composition import Composition
from cvg.evaluation.early import EarlyVerdict, early_verdicts, run_plain
from cvg.guidance.sampler import GuidedSampler
from cvg.media.pixels import to_frames
from cvg.sample import traces
from cvg.shapes.suite import Case, Suite

Row = dict[str, Any]


@dataclass
class Timing:
    """Wall seconds per batch; ``early`` and ``verdict`` are what dropping and picking best-of-n candidates costs."""

    unguided: list[float] = field(default_factory=list)
    guided: list[float] = field(default_factory=list)
    early: list[float] = field(default_factory=list)
    verdict: list[float] = field(default_factory=list)


def untrained(classifier: CompositionClassifier, seed: int) -> CompositionClassifier:
    """The same classifier with fresh weights."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return CompositionClassifier(classifier.config).eval()


def wrong_target(composition: Composition, suite: Suite, seed: int) -> Composition:
    """The same prompt, with another label of its group as every relation's target."""
    rng = Random(f"{seed}:{composition.prompt}")
    relations = [
        replace(relation, label=suite.labels.wrong(relation.label, rng).name) for relation in composition.relations
    ]
    return replace(composition, relations=tuple(relations))


class Runner:
    """Runs batches of cases.

    Args:
        suite: prompts and judge.
        sampler: the generator and the classifier under test.
        steps: denoising steps.
        guidance_scale: of classifier-free guidance; the classifier's, else the pipeline's default, when None.
        seed: of the untrained classifier and the wrong targets.
    """

    def __init__(
        self, suite: Suite, sampler: GuidedSampler, steps: int, guidance_scale: float | None = None, seed: int = 0
    ) -> None:
        self.suite, self.sampler, self.seed = suite, sampler, seed
        self.options: dict[str, Any] = {"steps": steps, "guidance_scale": guidance_scale}
        self.timing = Timing()
        config = sampler.config
        self.zero = GuidedSampler(sampler.generator, sampler.classifier, replace(config, step_size=0.0))
        fresh = untrained(sampler.classifier, seed)
        self.untrained = GuidedSampler(sampler.generator, fresh, config)

    def warm_up(self, case: Case) -> None:
        """Run one case both ways, so that one-time costs do not enter the timing."""
        run_plain(self.sampler, [case.composition], case.seeds[:1], **self.options)
        self._guided(self.sampler, [case], [case.composition])

    def batch(self, cases: Sequence[Case], controls: bool, guided_first: bool) -> list[Row]:
        """Rows of a batch.

        Args:
            cases: the batch.
            controls: run the controls too.
            guided_first: which goes first; alternate it, so that a drift of the machine's speed cancels.
        """
        compositions = [case.composition for case in cases]
        if guided_first:
            guided = self._guided(self.sampler, cases, compositions)
        seeds = [case.seeds[0] for case in cases]
        plain = run_plain(self.sampler, compositions, seeds, **self.options)
        if not guided_first:
            guided = self._guided(self.sampler, cases, compositions)
        began = time.perf_counter()
        early = early_verdicts(self.sampler, compositions, plain.latents, self.options["steps"])
        self.timing.verdict.append(time.perf_counter() - began)
        self.timing.unguided.append(plain.seconds)
        self.timing.guided.append(guided.seconds)
        self.timing.early.append(plain.early_seconds)
        details = traces(guided)
        rows = []
        for index, case in enumerate(cases):
            before = [relation["probability_before"] for relation in details[index]]
            after = [relation["probability_after"] for relation in details[index]]
            verdict = self._judge(guided.video_BCFHW[index], case.composition)
            verdict |= {"probability_before": before, "probability_after": after}
            rows.append(
                {
                    "prompt": case.composition.prompt,
                    "seed": case.seeds[0],
                    "group": case.group,
                    "labels": [relation.label for relation in case.composition.relations],
                    "unguided": self._judge(plain.video_BCFHW[index], case.composition),
                    "guided": verdict,
                    "early": self._early(early, compositions, index),
                }
            )
        if controls:
            self._controls(rows, cases, plain.video_BCFHW)
            self._candidates(rows, cases, early)
        return rows

    def _guided(self, sampler: GuidedSampler, cases: Sequence[Case], targets: Sequence[Composition]) -> Any:
        prompts = [case.composition.prompt for case in cases]
        return sampler(prompts, [case.seeds[0] for case in cases], targets, guided=True, **self.options)

    def _judge(self, video_CFHW: Tensor, composition: Composition) -> Row:
        verdict = asdict(self.suite.judge(to_frames(video_CFHW), composition))
        return {name: list(value) if isinstance(value, tuple) else value for name, value in verdict.items()}

    def _early(self, verdicts: Sequence[EarlyVerdict], compositions: Sequence[Composition], sample: int) -> list[Row]:
        labels = self.sampler.classifier.labels
        mine = _relations(compositions, sample)
        targets = [labels.index(relation.label) for relation in compositions[sample].relations]
        return [
            {
                "slot": verdict.slot,
                "step": verdict.step,
                "labels": [labels.labels[int(verdict.log_probability_RY[r].argmax())].name for r in mine],
                "probability": [
                    float(verdict.log_probability_RY[r, target].exp()) for r, target in zip(mine, targets, strict=True)
                ],
            }
            for verdict in verdicts
        ]

    def _controls(self, rows: list[Row], cases: Sequence[Case], plain_BCFHW: Tensor) -> None:
        compositions = [case.composition for case in cases]
        wrong = [wrong_target(composition, self.suite, self.seed) for composition in compositions]
        zero = self._guided(self.zero, cases, compositions).video_BCFHW
        fresh = self._guided(self.untrained, cases, compositions).video_BCFHW
        misled = self._guided(self.sampler, cases, wrong).video_BCFHW
        for index, row in enumerate(rows):
            row["zero_step"] = self._judge(zero[index], compositions[index])
            row["zero_step"]["max_abs_difference"] = float((zero[index] - plain_BCFHW[index]).abs().max())
            row["untrained"] = self._judge(fresh[index], compositions[index])
            row["wrong_target"] = self._judge(misled[index], compositions[index])
            row["wrong_target"]["target"] = [relation.label for relation in wrong[index].relations]

    def _candidates(self, rows: list[Row], cases: Sequence[Case], early: Sequence[EarlyVerdict]) -> None:
        """Unguided videos of the other seeds, each with the classifier's score of its last guided slot's z_t."""
        compositions = [case.composition for case in cases]
        for number in range(len(cases[0].seeds)):
            if number:
                seeds = [case.seeds[number] for case in cases]
                plain = run_plain(self.sampler, compositions, seeds, **self.options)
                early = early_verdicts(self.sampler, compositions, plain.latents, self.options["steps"])
            judged = max((v for v in early if v.slot < self.sampler.config.guided_steps), key=lambda v: v.slot)
            for index, (row, case) in enumerate(zip(rows, cases, strict=True)):
                labels = self.sampler.classifier.labels
                targets = [labels.index(relation.label) for relation in case.composition.relations]
                mine = _relations(compositions, index)
                score = sum(
                    float(judged.log_probability_RY[r, target]) for r, target in zip(mine, targets, strict=True)
                )
                right = self._judge(plain.video_BCFHW[index], case.composition)["right"] if number else None
                row.setdefault("candidates", []).append(
                    {
                        "seed": case.seeds[number],
                        "score": score,
                        "right": row["unguided"]["right"] if right is None else right,
                    }
                )


def _relations(compositions: Sequence[Composition], sample: int) -> range:
    """Where a sample's relations lie among those of the batch."""
    start = sum(len(composition.relations) for composition in compositions[:sample])
    return range(start, start + len(compositions[sample].relations))
