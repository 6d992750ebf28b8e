"""What a suite is: the prompts of an evaluation, the judge of its videos, and the score that a judge's reading gives.

A suite sees neither generator nor classifier.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from cvg.common.typed import record
from cvg.composition import Composition, LabelSet
from cvg.judging.base import Frames, Judge, Reading
from cvg.judging.quality import smoothness

CANDIDATES = 4
"""Seeds per prompt: the first is the paired one, the others are for best-of-n."""


@dataclass(frozen=True)
class Case:
    """One prompt of a suite.

    Attributes:
        composition: prompt and what it asks for.
        group: the part of the suite it is counted in.
        seeds: of initial noise; :data:`CANDIDATES` of them where the case is for evaluation.
    """

    composition: Composition
    group: str
    seeds: tuple[int, ...]


@record
class Score:
    """What a suite makes of one video.

    Attributes:
        right: the video is as asked.
        entities_right: its entities are.
        labels: per relation, the label of its group that the video shows; None if that cannot be told.
        smoothness: of the motion, 0 to 1.
        problems: what is wrong with the entities.
    """

    right: bool
    entities_right: bool
    labels: list[str | None]
    smoothness: float
    problems: list[str]


class Suite(Protocol):
    """Prompts, their judge and their score.

    Attributes:
        name: as it is asked for (:func:`cvg.evaluation.suites.load_suite`).
        labels: the label set that its prompts are made of.
        groups: the parts it is counted in, in order.
        judge: who reads its videos. The suite has a judge; it is none.
    """

    name: str
    labels: LabelSet
    groups: tuple[str, ...]
    judge: Judge

    def cases(self, count: int, seed: int) -> list[Case]:
        """``count`` held-out prompts, groups in turn. Fewer are a prefix of more."""
        ...

    def training_cases(self, count: int, seed: int) -> list[Case]:
        """``count`` prompts that training may see, groups in turn, each with one seed. Fewer are a prefix of more.

        Raises:
            UserError: a suite that has none.
        """
        ...

    def score(self, frames_FHWC: Frames, asked: Composition, reading: Reading) -> Score:
        """What the judge's reading of a video, and the video, are worth (:func:`all_or_nothing` is the usual way)."""
        ...

    def video_name(self, case: Case, candidate: int = 0) -> str:
        """Where the video of a case lies in a folder of this suite's videos.

        Args:
            case: one of its cases.
            candidate: index among the case's seeds.

        Returns:
            A file name, or a path with folders, that no other case and candidate has.
        """
        ...


def all_or_nothing(frames_FHWC: Frames, asked: Composition, reading: Reading) -> Score:
    """The score of a suite that wants everything: right are the entities together with every relation's label."""
    as_asked = reading.labels == tuple(relation.label for relation in asked.relations)
    return Score(
        right=reading.entities_right and as_asked,
        entities_right=reading.entities_right,
        labels=list(reading.labels),
        smoothness=smoothness(frames_FHWC),
        problems=list(reading.problems),
    )


def scores(suite: Suite, videos: Sequence[Frames], asked: Sequence[Composition]) -> list[Score]:
    """Have a batch of videos judged, and score each.

    Args:
        suite: whose judge and score.
        videos: (F, H, W, 3) uint8 RGB each.
        asked: what each of them was to show.

    Raises:
        UserError: the judge does not know what is asked for.
    """
    readings = suite.judge(videos, asked)
    return [suite.score(*one) for one in zip(videos, asked, readings, strict=True)]
