"""What a suite is: the prompts of an evaluation, the judge of its videos, and the score that a judge's reading gives.

A suite sees neither generator nor classifier.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any, Protocol

from cvg.common.errors import SettingsError
from cvg.common.typed import record
from cvg.composition import Composition, LabelSet
from cvg.judging.base import Frames, Judge, Reading
from cvg.judging.quality import flicker, smoothness, static_share

CANDIDATES = 4
"""Seeds per prompt: the first is the paired one, the others are for best-of-n."""


@dataclass(frozen=True)
class Case:
    """One prompt of a suite.

    Attributes:
        prompt: the prompt.
        composition: what it asks for; None where it asks for nothing that can be guided and is sampled plainly.
        group: the part of the suite it is counted in.
        seeds: of initial noise; :data:`CANDIDATES` of them where the case is for evaluation.
        number: the prompt's place in its group, from 0, for suites whose files go by it.
        sample: which of the prompt's videos it is, from 0, for suites that want several.
        reason: why it is sampled plainly, one of :data:`cvg.composition.asking.REASONS`; empty where it is not.
        why: the same in full.
        unknown: labels of relations that the prompt states and that its composition has no more, since what guides
            does not know them.
    """

    prompt: str
    composition: Composition | None
    group: str
    seeds: tuple[int, ...]
    number: int = 0
    sample: int = 0
    reason: str = ""
    why: str = ""
    unknown: tuple[str, ...] = ()

    @property
    def asked(self) -> Composition:
        """The composition, of a case that has one."""
        assert self.composition is not None, self.prompt
        return self.composition


@dataclass(frozen=True)
class SuiteSettings:
    """What suites take besides labels and device. Each refuses what it has no use for.

    Attributes:
        suite_dir: folder of a benchmark's own files (its prompts and metadata).
        prompts_file: prompts, one a line (.txt), or with entities and labels by hand (.jsonl, .csv).
        judge: who reads the videos instead of the suite's own judge, by name.
        samples: videos of every prompt, each of its own seed, for suites that want several.
        kinds: the kinds of prompts, in turn, of a suite that draws them; its usual ones when left out.
        judge_cache: folder that keeps what a detector found in a video, so that the same video is not looked at twice:
            2 to 50 kB a video
            and prompt, of all together with no bound. It may be deleted at any time.
    """

    suite_dir: Path | None = None
    prompts_file: Path | None = None
    judge: str | None = None
    samples: int = 1
    kinds: list[str] | None = None
    judge_cache: Path | None = None

    def to_dict(self) -> dict[str, Any]:
        """The settings that figures depend on (not the cache), as JSON has them; :meth:`of` reads them."""
        kept = {name: value for name, value in vars(self).items() if name != "judge_cache"}
        return {name: str(value) if isinstance(value, Path) else value for name, value in kept.items()}

    @classmethod
    def of(cls, told: Mapping[str, Any]) -> SuiteSettings:
        """The settings that :meth:`to_dict` told of."""
        paths = {name: Path(told[name]) for name in ("suite_dir", "prompts_file") if told[name] is not None}
        return cls(**{**told, **paths})

    def only(self, suite: str, *used: str) -> None:
        """Raise SettingsError for the first setting that is given and that the suite does not use.

        Args:
            suite: its name.
            used: the settings that it uses.
        """
        for field in fields(self):
            if field.name not in used and getattr(self, field.name) != field.default:
                known = ", ".join(used) or "none"
                raise SettingsError(
                    f"{field.name} {getattr(self, field.name)}: suite {suite} has no use for it (it takes: {known}); "
                    "leave it out"
                )

    def needed(self, suite: str, name: str, what: str) -> Path:
        """A path that the suite cannot do without. Raises SettingsError where it was not given."""
        found = getattr(self, name)
        if found is None:
            raise SettingsError(f"suite {suite}: no {name}; give {what}")
        return Path(found)


@record
class Score:
    """What a suite makes of one video.

    Attributes:
        right: the video is as asked.
        entities_right: its entities are.
        labels: per relation, the label of its group that the video shows; None if that cannot be told.
        found: per relation, whether its entities were found.
        smoothness: of the motion, 0 to 1.
        flicker: mean change between frames where little moves, 0 to 1.
        static_share: of the pairs of consecutive frames, those that show the same.
        problems: what is wrong with the entities.
    """

    right: bool
    entities_right: bool
    labels: list[str | None]
    found: list[bool]
    smoothness: float
    flicker: float
    static_share: float
    problems: list[str]


class Suite(Protocol):
    """Prompts, their judge and their score.

    Attributes:
        name: as it is asked for (:func:`cvg.evaluation.suites.load_suite`).
        labels: the label set that its prompts are made of.
        groups: the parts it is counted in, in order.
        judge: who reads its videos. The suite has a judge; it is none.
        drawn: whether its prompts are drawn at random, so that the same one twice is chance, and each video counts by
            itself in intervals; of a fixed list, all videos of a prompt count together.
    """

    drawn: bool
    name: str
    labels: LabelSet
    groups: tuple[str, ...]
    judge: Judge

    def cases(self, count: int | None, seed: int) -> list[Case]:
        """``count`` held-out prompts, groups in turn. Fewer are a prefix of more.

        Args:
            count: how many; no more than there are. None: all of them, or a usual number where there is no end.
            seed: of prompts that are drawn, and of initial noise.
        """
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

    def video_name(self, case: Case) -> str:
        """Where the video of a case lies in a folder of this suite's videos.

        Returns:
            A file name, or a path with folders, that no other case has.

        Raises:
            DataError: no file can have the name that the suite's videos go by.
        """
        ...


def all_or_nothing(frames_FHWC: Frames, asked: Composition, reading: Reading) -> Score:
    """The score of a suite that wants everything: right are the entities together with every relation's label."""
    as_asked = reading.labels == tuple(relation.label for relation in asked.relations)
    return Score(
        right=reading.entities_right and as_asked,
        entities_right=reading.entities_right,
        labels=list(reading.labels),
        found=list(reading.found),
        smoothness=smoothness(frames_FHWC),
        flicker=flicker(frames_FHWC),
        static_share=static_share(frames_FHWC),
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
