"""What an evaluation stores of every case, as records that are checked when they are made and when they are read."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, TypeAdapter, ValidationError
from typing_extensions import TypedDict

from cvg.common.errors import DataError
from cvg.common.files import read_json
from cvg.evaluation.suites.base import Score

SCHEMA = 2
"""Version of the file; a reader refuses another."""


class Record(BaseModel):
    """Part of a row: exactly its fields, of their types, and it does not change."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class GuidedScore(Score):
    """The score of a guided video, and what the classifier thought of its latents.

    Attributes:
        probability_before: per relation, its target's probability before any guidance; None without guided steps.
        probability_after: the same after the last guided step.
    """

    probability_before: list[float | None]
    probability_after: list[float | None]


class ZeroStepScore(Score):
    """The score of a video that was guided with a step size of zero.

    Attributes:
        max_abs_difference: from the unguided video, over all pixels in [-1, 1].
    """

    max_abs_difference: float


class WrongTargetScore(Score):
    """The score of a video that was guided to other labels than its prompt's.

    Attributes:
        target: those labels, one per relation.
    """

    target: list[str]


class Early(Record):
    """The classifier's verdict on unguided latents of one early step.

    Attributes:
        guided_step: index of the step in T, the classifier's noise levels.
        step: denoising step.
        labels: per relation, the likeliest label of its group.
        probability: per relation, that of its target.
    """

    guided_step: int
    step: int
    labels: list[str]
    probability: list[float]


class Candidate(Record):
    """One unguided video of a prompt, for best-of-n.

    Attributes:
        seed: of its initial noise.
        log_probability: of all targets together, by the classifier's verdict at the last guided step.
        right: by the suite's score.
    """

    seed: int
    log_probability: float
    right: bool


class Row(Record):
    """One case: what was asked, and what came of it.

    Attributes:
        prompt: the prompt.
        seed: of the initial noise.
        group: the part of the suite it is counted in.
        labels: what was asked, one per relation.
        unguided: score of the plain pipeline's video.
        guided: score of the guided video from the same noise.
        early: verdicts on the unguided run's latents, earliest step first.
        zero_step: control, guidance that must change nothing; None (and not in the file) where controls were not run.
        untrained: control, guidance by a classifier with fresh weights.
        wrong_target: control, guidance to other labels.
        candidates: unguided videos of several seeds, that of ``seed`` first.
    """

    prompt: str
    seed: int
    group: str
    labels: list[str]
    unguided: Score
    guided: GuidedScore
    early: list[Early]
    zero_step: ZeroStepScore | None = None
    untrained: Score | None = None
    wrong_target: WrongTargetScore | None = None
    candidates: list[Candidate] | None = None

    def to_dict(self) -> dict[str, Any]:
        """The row as JSON has it."""
        return self.model_dump(exclude_none=True)


class Figures(TypedDict):
    """What :func:`cvg.evaluation.summary.summarise` makes of all rows; each entry's keys are described there."""

    unguided: dict[str, Any]
    guided: dict[str, Any]
    gain: dict[str, Any]
    quality: dict[str, Any]
    time_ratio: float
    timing: dict[str, Any]
    best_of_n: list[dict[str, Any]]
    best_of_n_equal_time: dict[str, Any] | None
    controls: dict[str, Any] | None
    predictability: list[dict[str, Any]]
    satisfied: dict[str, Any]


class Evaluation(Figures):
    """All that an evaluation found, and what it takes to run it again; :func:`read_evaluation` reads one back."""

    schema: Literal[2]
    suite: str
    settings: dict[str, Any]
    generator: dict[str, Any]
    classifier: dict[str, Any]
    versions: dict[str, str]
    rows: list[Row]


def read_evaluation(path: Path) -> Evaluation:
    """The evaluation that a JSON file holds.

    Raises:
        DataError: the file cannot be read, or is no evaluation of this version; the message names what does not fit.
    """
    try:
        return TypeAdapter(Evaluation).validate_python(read_json(path))
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        where = ".".join(str(part) for part in first["loc"]) or "the whole"
        raise DataError(
            f"evaluation {path}: not a result of this version's `python -m cvg.evaluate` ({where}: {first['msg']}); "
            "run it again"
        ) from error
