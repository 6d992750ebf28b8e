"""A file of anybody's prompts as a suite."""

from __future__ import annotations

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

    def video_name(self, case: Case) -> str:
        """Number, prompt and sample: a prompt may come twice."""
        return f"{case.number + 1:04d}-{slug(case.prompt)}-{case.sample}.mp4"
