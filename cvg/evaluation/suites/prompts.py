"""A file of anybody's prompts as a suite."""

from __future__ import annotations

from dataclasses import replace

from cvg.common.errors import DataError
from cvg.common.files import slug
from cvg.composition import LabelSet
from cvg.composition.asking import read_prompts
from cvg.evaluation.suites.base import Case, SuiteSettings
from cvg.evaluation.suites.free import FreeSuite


class PromptsSuite(FreeSuite):
    """The prompts of a file, in its order, in one group.

    Args:
        labels: what prompts are read with; the set ``world`` when None.
        device: torch device of the judge.
        settings: ``prompts_file``, and ``judge``, ``judge_cache`` and ``samples`` where wanted.

    Raises:
        SettingsError: no file, or settings that it has no use for.
        DataError: the file is not of prompts.
    """

    def __init__(
        self, labels: LabelSet | None = None, device: str = "cpu", settings: SuiteSettings | None = None
    ) -> None:
        settings = settings or SuiteSettings()
        settings.only("prompts", "prompts_file", "judge", "judge_cache", "samples")
        path = settings.needed("prompts", "prompts_file", "a file of prompts (.txt, .jsonl, .csv)")
        super().__init__("prompts", {"prompts": read_prompts(path)}, labels, device, settings)

    def training_cases(self, count: int, seed: int) -> list[Case]:
        """The prompts that ask for labels, in turn, and again with other noise. Raises DataError where none does."""
        asking = [case for case in self.cases(None, seed) if case.composition is not None and case.sample == 0]
        if not asking:
            raise DataError(
                f"suite prompts: no prompt asks for a label of {', '.join(self.labels.groups)}; give others"
            )
        return [
            replace(asking[index % len(asking)], seeds=(seed * 10**6 + index,), sample=index // len(asking))
            for index in range(count)
        ]

    def video_name(self, case: Case) -> str:
        """Number, prompt and sample: a prompt may come twice."""
        return f"{case.number + 1:04d}-{slug(case.prompt)}-{case.sample}.mp4"
