"""What an evaluation stores of every case, as records that are checked when they are made and when they are read."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Final, Literal

from cvg.common.files import read_json, write_json
from cvg.common.typed import read, record, to_dict
from cvg.evaluation.suites.base import Score

SCHEMA: Final = 4
"""Version of the file; a reader refuses another."""


@record
class GuidedScore(Score):
    """The score of a guided video, and what the classifier thought of its latents.

    Attributes:
        probability_before: per relation, its target's probability before any guidance; None without guided steps.
        probability_after: the same after the last guided step.
    """

    probability_before: list[float | None]
    probability_after: list[float | None]


@record
class ZeroStepScore(Score):
    """The score of a video that was guided with a step size of zero.

    Attributes:
        max_abs_difference: from the unguided video, over all pixels in [-1, 1].
    """

    max_abs_difference: float


@record
class WrongTargetScore(Score):
    """The score of a video that was guided to other labels than its prompt's.

    Attributes:
        target: those labels, one per relation.
    """

    target: list[str]


@record
class Early:
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


@record
class Candidate:
    """One unguided video of a prompt, for best-of-n.

    Attributes:
        seed: of its initial noise.
        log_probability: of all targets together, by the classifier's verdict at the last guided step.
        right: by the suite's score.
    """

    seed: int
    log_probability: float
    right: bool


@record
class Row:
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
        untrained: control, guidance by a classifier with fresh weights; None with rules, which have none.
        wrong_target: control, guidance to other labels.
        candidates: unguided videos of several seeds, that of ``seed`` first.
        unknown: labels of relations that the prompt states too, and that are neither guided nor judged, since what
            guides does not know them; None (and not in the file) where there is none.
        video: where its videos lie under ``unguided/`` and ``guided/`` of the folder that they are kept in; None (and
            not in the file) where they are not kept.
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
    unknown: list[str] | None = None
    video: str | None = None


@record
class PlainRow:
    """A case that asks for nothing that can be guided: neither right nor wrong.

    Attributes:
        prompt: the prompt.
        seed: of the initial noise, where it is sampled.
        group: the part of the suite it is counted in.
        reason: why, one of :data:`cvg.composition.asking.REASONS`.
        why: the same in full.
    """

    prompt: str
    seed: int
    group: str
    reason: str
    why: str


@record
class Setup:
    """What was evaluated, and what it takes to do it again.

    Attributes:
        schema: version of the file.
        suite: the suite's name.
        settings: options of the run.
        generator: whose videos.
        classifier: which one guided.
        versions: of the software.
    """

    schema: Literal[4]
    suite: str
    settings: dict[str, Any]
    generator: dict[str, Any]
    classifier: dict[str, Any]
    versions: dict[str, str]


@record
class Figures:
    """What :func:`cvg.evaluation.summary.summarise` makes of all rows; it says what each entry holds."""

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
    directions: dict[str, Any]
    plain: dict[str, Any]


@record
class Evaluation(Figures, Setup):
    """All that an evaluation's file holds.

    Attributes:
        rows: of the cases that were guided.
        plain_rows: of the others.
        official: the benchmark's own scores, per side and group, where its scripts were run.
        vbench: what VBench's tool says of quality, per side and dimension, where it was run.
    """

    rows: list[Row]
    plain_rows: list[PlainRow]
    official: dict[str, dict[str, float | None]] | None = None
    vbench: dict[str, dict[str, float | None]] | None = None


def write_evaluation(path: Path, evaluation: Evaluation) -> None:
    """Write an evaluation as JSON. Its rows have no controls that were not run."""
    rows = {name: [to_dict(row) for row in getattr(evaluation, name)] for name in ("rows", "plain_rows")}
    write_json(path, vars(evaluation) | rows)


def read_evaluation(path: Path) -> Evaluation:
    """The evaluation that :func:`write_evaluation` wrote.

    Raises:
        DataError: the file cannot be read, or is no evaluation of this version; the message names what does not fit.
    """
    return read(Evaluation, read_json(path), f"evaluation {path}", "run `python -m cvg.evaluate` of this version again")
