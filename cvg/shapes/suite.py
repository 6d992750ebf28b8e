"""What an evaluation asks for and who judges it.

A suite gives held-out prompts and a verdict on a finished video. It sees neither generator nor classifier.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from cvg.common.errors import SettingsError
from cvg.composition import Composition, LabelSet, build
from cvg.judging.geometry import APPROACH, DIRECTIONS
from cvg.shapes import oracle
from cvg.shapes.world import KINDS, LABELS, TEMPLATES, Spec, sample_spec

CANDIDATES = 4
"""Seeds per prompt: the first is the paired one, the others are for best-of-n."""


@dataclass(frozen=True)
class Case:
    """One prompt of a suite.

    Attributes:
        composition: prompt and what it asks for.
        group: the part of the suite it is counted in.
        seeds: ``CANDIDATES`` seeds of initial noise.
    """

    composition: Composition
    group: str
    seeds: tuple[int, ...]


@dataclass(frozen=True)
class Judgement:
    """What a video shows.

    Attributes:
        right: the entities and every relation are as asked.
        entities_right: the asked entities, in their colours and shapes, and nothing else.
        labels: per relation, the label of its group that the video shows; None if that cannot be told.
        smoothness: of the motion, 0 to 1.
        problems: what is wrong with the entities.
    """

    right: bool
    entities_right: bool
    labels: tuple[str | None, ...]
    smoothness: float
    problems: tuple[str, ...]


class Suite(Protocol):
    """Prompts and their judge."""

    name: str
    labels: LabelSet
    groups: tuple[str, ...]

    def cases(self, count: int, seed: int) -> list[Case]:
        """``count`` held-out prompts, groups in turn. Fewer are a prefix of more."""
        ...

    def judge(self, frames_FHWC: NDArray[np.uint8], composition: Composition) -> Judgement:
        """Compare a video with what was asked. Raises UserError for what the judge cannot tell."""
        ...


class ShapesSuite:
    """Held-out entities and pairs of the shapes world, judged by its oracle from pixels.

    Args:
        labels: what prompts ask for, in these wordings; kinds of prompts that need other groups are left out. The
            world's own labels when None.

    Raises:
        UserError: labels that the oracle cannot judge, or of which no kind of prompt can be made.
    """

    name = "shapes"

    def __init__(self, labels: LabelSet | None = None) -> None:
        self.labels = labels or LABELS
        for label in self.labels.labels:
            if label.name not in {**DIRECTIONS, **APPROACH} or label.group not in LABELS.groups:
                raise SettingsError(
                    f"suite shapes: label {label.name!r} of group {label.group!r} cannot be judged; known labels: "
                    f"{', '.join({**DIRECTIONS, **APPROACH})}, in groups {', '.join(LABELS.groups)}"
                )
        self.groups: tuple[str, ...] = tuple(
            kind
            for kind in KINDS
            if all(group in self.labels.groups for _, slots in TEMPLATES[kind] for group, _ in slots)
        )
        if not self.groups:
            raise SettingsError(f"suite shapes: no kind of prompt has the groups {', '.join(self.labels.groups)} alone")

    def cases(self, count: int, seed: int) -> list[Case]:
        """Kinds in turn; the labels of each place of a template are dealt from a shuffled deck, so they balance."""
        decks: dict[tuple[str, int], list[str]] = {}
        cases = []
        for index in range(count):
            rng = np.random.default_rng([seed, index])
            kind = self.groups[index % len(self.groups)]
            spec = self._deal(sample_spec(rng, kind, held_out=True), decks, rng)
            relations = [(relation.label, relation.entities) for relation in spec.relations]
            composition = build(spec.template, spec.entities, relations, spec.wordings)
            seeds = np.random.SeedSequence([seed, index, 1]).generate_state(CANDIDATES)
            cases.append(Case(composition, kind, tuple(int(value) for value in seeds)))
        return cases

    def judge(self, frames_FHWC: NDArray[np.uint8], composition: Composition) -> Judgement:
        """See :func:`cvg.shapes.oracle.judge`."""
        verdict = oracle.judge(frames_FHWC, composition, self.labels)
        smoothness = oracle.smoothness(frames_FHWC)
        return Judgement(
            verdict.composition_right, verdict.entities_right, verdict.labels, smoothness, verdict.problems
        )

    def _deal(self, spec: Spec, decks: dict[tuple[str, int], list[str]], rng: np.random.Generator) -> Spec:
        relations, wordings = [], []
        for place, relation in enumerate(spec.relations):
            deck = decks.setdefault((spec.template + spec.kind, place), [])
            if not deck:
                names = [label.name for label in self.labels.groups[LABELS[relation.label].group]]
                deck.extend(names[i] for i in rng.permutation(len(names)))
            label = self.labels[deck.pop()]
            relations.append(replace(relation, label=label.name))
            wordings.append(label.wordings[rng.integers(len(label.wordings))])
        return replace(spec, relations=tuple(relations), wordings=tuple(wordings))


SUITES: dict[str, Callable[[LabelSet | None], Suite]] = {ShapesSuite.name: ShapesSuite}


def load_suite(name: str, labels: LabelSet | None = None) -> Suite:
    """The suite of that name, asking for these labels instead of its own. SettingsError lists the known ones."""
    if name not in SUITES:
        raise SettingsError(f"suite {name!r}: unknown; known: {', '.join(SUITES)}")
    return SUITES[name](labels)
