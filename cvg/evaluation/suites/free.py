"""What suites have in common whose prompts are free English, from a file or a benchmark's folder."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import chain, zip_longest
from typing import Final

import numpy as np

from cvg.common.errors import DataError, SettingsError, require
from cvg.composition import Composition, LabelSet
from cvg.composition.asking import PromptLine, understand
from cvg.evaluation.suites.base import CANDIDATES, Case, Score, Suite, SuiteSettings, all_or_nothing
from cvg.judging import Frames, Judge, Reading, load_judge

WORLD: Final = "world"
"""The label set that free English is read with."""
LONGEST_NAME: Final = 255
"""Bytes that a file's name may have, on the usual file systems."""


class FreeSuite(Suite):
    """Prompts in groups, read with a label set. Those that ask for nothing it knows are cases without a composition.

    Args:
        name: of the suite.
        lines: the prompts of every group, in the order of the suite's own numbers.
        labels: what prompts are read with; the set ``world`` when None.
        device: torch device of the judge.
        settings: whose ``judge``, ``judge_cache`` and ``samples`` count.

    Raises:
        SettingsError: a judge that is not known, or that cannot read the labels.
        PromptError: what is said by hand of a prompt does not fit it.
    """

    drawn = False

    def __init__(
        self,
        name: str,
        lines: Mapping[str, Sequence[PromptLine]],
        labels: LabelSet | None,
        device: str,
        settings: SuiteSettings,
    ) -> None:
        require(1, samples=settings.samples)
        self.name, self.lines, self.samples = name, lines, settings.samples
        self.labels = labels or LabelSet.load(WORLD)
        self.groups = tuple(lines)
        judge = settings.judge or judge_of(name, self.labels)
        self.judge: Judge = load_judge(judge, self.labels, device, settings.judge_cache)

    def cases(self, count: int | None, seed: int) -> list[Case]:
        """The first prompt of every group, then the second, and so on; and all of these again for further samples."""
        numbered = [[(group, number) for number in range(len(lines))] for group, lines in self.lines.items()]
        in_turn = [place for place in chain.from_iterable(zip_longest(*numbered)) if place is not None]
        places = [(group, number, sample) for sample in range(self.samples) for group, number in in_turn]
        return [self._case(group, number, sample, seed) for group, number, sample in places[:count]]

    def _case(self, group: str, number: int, sample: int, seed: int) -> Case:
        line = self.lines[group][number]
        asked = understand(line, self.labels)
        entropy = [seed, number, sample, *group.encode()]
        seeds = tuple(int(value) for value in np.random.SeedSequence(entropy).generate_state(CANDIDATES))
        return Case(line.prompt, asked.composition, group, seeds, number, sample, asked.reason, asked.why)

    def training_cases(self, count: int, seed: int) -> list[Case]:
        """A suite that is an exam has none."""
        raise SettingsError(f"suite {self.name}: is for evaluation and has no prompts to train on; use another suite")

    def score(self, frames_FHWC: Frames, asked: Composition, reading: Reading) -> Score:
        """All or nothing: entities and every label."""
        return all_or_nothing(frames_FHWC, asked, reading)


def judge_of(suite: str, labels: LabelSet) -> str:
    """The judge that reads this label set by itself, where there is one: that of a world whose own labels they are.

    Raises:
        SettingsError: there is none, as the models that look at real scenes have to be chosen.
    """
    if labels == LabelSet.load("shapes"):
        return "shapes"
    raise SettingsError(
        f"suite {suite}: no judge; name one, with its models: contrastive:MODEL, detector:MODEL for places and "
        "motion, or detector:MODEL+vlm:MODEL for what is asked in questions too"
    )


def file_name(prompt: str, ending: str) -> str:
    """A prompt with an ending as the name of a file, just as benchmarks name videos.

    Raises:
        DataError: no file can have that name.
    """
    name = f"{prompt}{ending}"
    if "/" in name or "\0" in name or len(name.encode()) > LONGEST_NAME:
        reason = f"longer than {LONGEST_NAME} bytes" if len(name.encode()) > LONGEST_NAME else "has a slash in it"
        raise DataError(f"video {name!r}: no file can have that name ({reason}); leave its prompt out of the suite")
    return name
