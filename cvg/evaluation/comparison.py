"""A whole comparison of guided with unguided: its cases in batches, run by as many processes as there are."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from functools import cached_property
from typing import Any

import torch

from cvg.common.bars import StepBar
from cvg.common.errors import DataError
from cvg.composition import Composition
from cvg.evaluation.batches import Batch, in_batches, run_batches
from cvg.evaluation.journal import Journal
from cvg.evaluation.processes import Processes
from cvg.evaluation.runner import WARM_UP_RUNS, Kept, Runner
from cvg.evaluation.suites import Case, Suite
from cvg.guidance.rules import Rules
from cvg.guidance.sampler import GuidedSampler


@dataclass(frozen=True)
class Comparison:
    """What is compared, and how.

    Attributes:
        suite: prompts and their judge.
        cases: of the suite, with no more than the classifier can guide.
        sampler: generator and classifier.
        steps: denoising steps.
        guidance_scale: of classifier-free guidance; the pipeline's default when None.
        seed: of prompts, initial noise and controls.
        batch_size: videos at a time.
        controlled: how many of the guided cases get controls, rounded up to whole batches.
        kept: where the videos of every case are kept; nowhere when None, and cases that ask for nothing that can be
            guided are then not sampled.
    """

    suite: Suite
    cases: Sequence[Case]
    sampler: GuidedSampler
    steps: int
    guidance_scale: float | None
    seed: int
    batch_size: int
    controlled: int
    kept: Kept | None

    @cached_property
    def asked(self) -> list[Composition]:
        """What the cases ask for that can be guided."""
        return [case.composition for case in self.cases if case.composition is not None]

    @cached_property
    def batches(self) -> list[Batch]:
        """The cases, as they are sampled together."""
        return in_batches(self.cases, self.batch_size, self.controlled, plain=self.kept is not None)

    @property
    def asked_for(self) -> str:
        """A fingerprint of the cases: a run that was stopped goes on with the same alone."""
        told = [[case.prompt, case.group, case.number, case.sample, case.seeds, case.why] for case in self.cases]
        relations = [
            [[relation.label, [entity.phrase for entity in relation.entities]] for relation in asked.relations]
            for asked in self.asked
        ]
        return hashlib.sha256(json.dumps([told, relations]).encode()).hexdigest()

    def settings(self) -> dict[str, Any]:
        """What the rows depend on, besides suite, generator and classifier; for the record."""
        return {
            "prompts": len(self.cases),
            "seed": self.seed,
            "steps": self.steps,
            "guidance_scale": self.guidance_scale,
            "guiding": asdict(self.sampler.config),
            "batch_size": self.batch_size,
            "threads": torch.get_num_threads(),
        }

    def run(self, journal: Journal, crew: Processes) -> None:
        """Run this process's share of the batches that are not done yet, under a bar of denoising steps.

        Args:
            journal: knows what is done, and gets the rows.
            crew: the processes that share the batches; all are waited for.

        Raises:
            DataError: another process has ended, or rows of other processes are not where they should be.
        """
        mine = crew.share([batch for batch in self.batches if batch.number not in journal.done])
        trained = not isinstance(self.sampler.classifier, Rules)
        skipped = sum(batch.runs(trained) for batch in self.batches if batch.number in journal.done)
        warm = WARM_UP_RUNS if any(batch.guided for batch in mine) else 0
        total = warm + skipped + sum(batch.runs(trained) for batch in mine)
        runner = Runner(self.suite, self.sampler, self.steps, self.guidance_scale, self.seed, self.kept)
        with StepBar("evaluate", total, self.steps, shown=crew.first) as bar:
            runner.observe = bar
            bar.skip(skipped)
            run_batches(runner, mine, journal, bar.note)
        crew.meet()
        if crew.first:
            journal.read()
            if missing := sum(batch.number not in journal.done for batch in self.batches):
                raise DataError(f"{journal.path}: {missing} batches are missing in it; the same command goes on")
