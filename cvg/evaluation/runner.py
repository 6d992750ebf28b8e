"""Runs the cases of a suite, unguided and guided from the same noise, and the controls; gives one row per case."""

from __future__ import annotations

import time
from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from random import Random
from typing import Any, Final

import torch
from torch import Tensor

from cvg.classifier.model import CompositionClassifier
from cvg.composition import Composition, LabelSet, RelationBatch
from cvg.evaluation.early import EarlyVerdict, PlainRun, early_verdicts, run_plain
from cvg.evaluation.rows import Candidate, Early, GuidedScore, Row, WrongTargetScore, ZeroStepScore
from cvg.evaluation.suites import CANDIDATES, Case, Score, Suite, scores
from cvg.evaluation.timing import Timing
from cvg.guidance.choice import looks
from cvg.guidance.rules import Rules
from cvg.guidance.sampler import GuidedSampler, Observe, SampleResult
from cvg.guidance.stated import stated
from cvg.guidance.traces import traces
from cvg.media.pixels import to_frames
from cvg.media.video import write_video

WARM_UP_RUNS: Final = 2
"""Calls of the sampler to warm up."""
BATCH_RUNS: Final = 2
"""Calls of the sampler a batch: unguided and guided."""


def control_runs(trained: bool) -> int:
    """More calls where a batch gets controls: zero step, wrong target, best-of-n's other seeds, and untrained.

    Args:
        trained: whether a classifier guides. Rules have no weights to be untrained.
    """
    return 2 + CANDIDATES - 1 + trained


def untrained(classifier: CompositionClassifier, seed: int) -> CompositionClassifier:
    """The same classifier with fresh weights."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return CompositionClassifier(classifier.config).eval()


def wrong_target(
    composition: Composition, labels: LabelSet, seed: int, known: Collection[str] | None = None
) -> Composition:
    """The same prompt, with another label of its group as every relation's target.

    Args:
        composition: the prompt.
        labels: those of what guides.
        seed: of the draw.
        known: labels that can be targets, more than one of each relation's group; all when None.
    """
    rng = Random(f"{seed}:{composition.prompt}")

    def other(name: str) -> str:
        drawn = labels.wrong(name, rng).name
        while known is not None and drawn not in known:
            drawn = labels.wrong(name, rng).name
        return drawn

    relations = [replace(relation, label=other(relation.label)) for relation in composition.relations]
    return replace(composition, relations=tuple(relations))


@dataclass(frozen=True)
class Kept:
    """Where videos are kept, beside their scores.

    Attributes:
        folder: gets the folders ``unguided`` and ``guided``, each laid out as the suite lays out its videos.
        fps: frames per second of the files.
    """

    folder: Path
    fps: float = 8


class Runner:
    """Runs batches of cases.

    Args:
        suite: prompts and their judge.
        sampler: the generator and the classifier, or rules, under test.
        steps: denoising steps.
        guidance_scale: of classifier-free guidance; the classifier's, else the pipeline's default, when None.
        seed: of the untrained classifier and the wrong targets.
        kept: where the videos of every case are kept; nowhere when None.
        observe: shown every denoising step of every run (:data:`cvg.guidance.sampler.Observe`).
    """

    def __init__(
        self,
        suite: Suite,
        sampler: GuidedSampler,
        steps: int,
        guidance_scale: float | None = None,
        seed: int = 0,
        kept: Kept | None = None,
        observe: Observe | None = None,
    ) -> None:
        self.suite, self.sampler, self.seed, self.kept = suite, sampler, seed, kept
        self.observe = observe
        self.options: dict[str, Any] = {"steps": steps, "guidance_scale": guidance_scale}
        self.timing = Timing()
        config = sampler.config
        self.zero = GuidedSampler(sampler.generator, sampler.classifier, replace(config, step_size=0.0))
        self.known: list[str] | None = None
        self.untrained: GuidedSampler | None = None
        if isinstance(sampler.classifier, Rules):
            self.known = stated(sampler.classifier.labels)
        else:
            # Without rules: they would guide beside a classifier that knows nothing.
            alone = replace(config, rules=0.0)
            self.untrained = GuidedSampler(sampler.generator, untrained(sampler.classifier, seed), alone)

    def warm_up(self, case: Case) -> None:
        """Run one case both ways, so that one-time costs do not enter the timing."""
        self._plain([case])
        self._guided(self.sampler, [case], [case.asked])

    def batch(self, cases: Sequence[Case], controls: bool, guided_first: bool) -> list[Row]:
        """Rows of a batch.

        Args:
            cases: the batch.
            controls: run the controls too.
            guided_first: which goes first; alternate it, so that a drift of the machine's speed cancels.
        """
        asked = [case.asked for case in cases]
        plain, guided = self._both(cases, guided_first)
        early = self._early_verdicts(plain, asked)
        relations = RelationBatch.of(asked, self.sampler.classifier.labels)
        unguided_scores, guided_scores = (self._scores(run.video_BCFHW, asked) for run in (plain, guided))
        details = traces(guided, self.sampler.classifier.labels)
        rows = [
            Row(
                prompt=case.prompt,
                seed=case.seeds[0],
                group=case.group,
                labels=[relation.label for relation in case.asked.relations],
                unguided=unguided_scores[index],
                guided=GuidedScore(
                    **vars(guided_scores[index]),
                    probability_before=[relation["probability_before"] for relation in details[index]],
                    probability_after=[relation["probability_after"] for relation in details[index]],
                ),
                early=[self._early(verdict, relations, index) for verdict in early],
                unknown=list(case.unknown) or None,
                video=None if self.kept is None else str(self.suite.video_name(case)),
            )
            for index, case in enumerate(cases)
        ]
        if self.kept is not None:
            self._keep(self.kept, cases, {"unguided": plain.video_BCFHW, "guided": guided.video_BCFHW})
        if controls:
            rows = self._with_controls(rows, cases, plain.video_BCFHW)
            rows = self._with_candidates(rows, cases, early, relations)
        return rows

    def plain_batch(self, cases: Sequence[Case]) -> None:
        """Sample cases that ask for nothing that can be guided; their one video is kept on both sides."""
        if self.kept is not None:
            prompts, seeds = [case.prompt for case in cases], [case.seeds[0] for case in cases]
            plain = self.sampler(prompts, seeds, [], guided=False, **self.options, observe=self.observe)
            self._keep(self.kept, cases, {"unguided": plain.video_BCFHW, "guided": plain.video_BCFHW})

    def _both(self, cases: Sequence[Case], guided_first: bool) -> tuple[PlainRun, SampleResult]:
        """The cases unguided and guided, timed."""
        asked = [case.asked for case in cases]
        if guided_first:
            guided = self._guided(self.sampler, cases, asked)
        plain = self._plain(cases)
        if not guided_first:
            guided = self._guided(self.sampler, cases, asked)
        self.timing.unguided.append(plain.seconds)
        self.timing.guided.append(guided.seconds)
        self.timing.early.append(plain.early_seconds)
        return plain, guided

    def _plain(self, cases: Sequence[Case], candidate: int = 0) -> PlainRun:
        asked = [case.asked for case in cases]
        return run_plain(
            self.sampler, asked, [case.seeds[candidate] for case in cases], **self.options, observe=self.observe
        )

    def _guided(self, sampler: GuidedSampler, cases: Sequence[Case], targets: Sequence[Composition]) -> SampleResult:
        prompts = [case.prompt for case in cases]
        return sampler(
            prompts, [case.seeds[0] for case in cases], targets, guided=True, **self.options, observe=self.observe
        )

    def _early_verdicts(self, plain: PlainRun, asked: Sequence[Composition]) -> list[EarlyVerdict]:
        """What the classifier makes of the unguided latents, timed."""
        began = time.perf_counter()
        early = early_verdicts(self.sampler, asked, plain.early)
        self.timing.verdict.append(time.perf_counter() - began)
        return early

    def _scores(self, video_BCFHW: Tensor, asked: Sequence[Composition]) -> list[Score]:
        return scores(self.suite, [to_frames(video_CFHW) for video_CFHW in video_BCFHW], asked)

    def _keep(self, kept: Kept, cases: Sequence[Case], sides: dict[str, Tensor]) -> None:
        for side, video_BCFHW in sides.items():
            for case, video_CFHW in zip(cases, video_BCFHW, strict=True):
                write_video(kept.folder / side / self.suite.video_name(case), to_frames(video_CFHW), kept.fps)

    def _early(self, verdict: EarlyVerdict, relations: RelationBatch, sample: int) -> Early:
        """A sample's part of a verdict."""
        labels = self.sampler.classifier.labels
        mine = relations.rows((sample,))
        return Early(
            guided_step=verdict.guided_step,
            step=verdict.step,
            labels=[labels.labels[int(verdict.log_probability_RY[r].argmax())].name for r in mine],
            probability=[float(verdict.log_probability_RY[r, relations.target_R[r]].exp()) for r in mine],
        )

    def _with_controls(self, rows: Sequence[Row], cases: Sequence[Case], plain_BCFHW: Tensor) -> list[Row]:
        asked = [case.asked for case in cases]
        labels = self.sampler.classifier.labels
        wrong = [wrong_target(composition, labels, self.seed, self.known) for composition in asked]
        zero_BCFHW = self._guided(self.zero, cases, asked).video_BCFHW
        misled_BCFHW = self._guided(self.sampler, cases, wrong).video_BCFHW
        zero, misled = (self._scores(video, asked) for video in (zero_BCFHW, misled_BCFHW))
        fresh: list[Score | None] = [None] * len(cases)
        if self.untrained is not None:
            fresh = list(self._scores(self._guided(self.untrained, cases, asked).video_BCFHW, asked))
        controlled = []
        for index, row in enumerate(rows):
            difference = float((zero_BCFHW[index] - plain_BCFHW[index]).abs().max())
            target = [relation.label for relation in wrong[index].relations]
            controlled.append(
                replace(
                    row,
                    zero_step=ZeroStepScore(**vars(zero[index]), max_abs_difference=difference),
                    untrained=fresh[index],
                    wrong_target=WrongTargetScore(**vars(misled[index]), target=target),
                )
            )
        return controlled

    def _with_candidates(
        self, rows: Sequence[Row], cases: Sequence[Case], early: Sequence[EarlyVerdict], relations: RelationBatch
    ) -> list[Row]:
        """Unguided videos of all seeds, each with the classifier's verdict on the last z_t that it looks at."""
        asked = [case.asked for case in cases]
        candidates: list[list[Candidate]] = [[] for _ in cases]
        right = [row.unguided.right for row in rows]
        for number in range(len(cases[0].seeds)):
            if number:
                plain = self._plain(cases, number)
                early = early_verdicts(self.sampler, asked, plain.early)
                right = [score.right for score in self._scores(plain.video_BCFHW, asked)]
            used = [verdict for verdict in early if verdict.guided_step < looks(self.sampler)]
            log_probability_RY = max(used, key=lambda verdict: verdict.guided_step).log_probability_RY
            for index, case in enumerate(cases):
                targets = [float(log_probability_RY[r, relations.target_R[r]]) for r in relations.rows((index,))]
                candidates[index].append(
                    Candidate(seed=case.seeds[number], log_probability=sum(targets), right=right[index])
                )
        return [replace(row, candidates=mine) for row, mine in zip(rows, candidates, strict=True)]
