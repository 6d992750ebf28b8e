"""The shapes world as a suite: held-out entities and pairs, judged by the world's oracle from pixels."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from cvg.common.errors import SettingsError
from cvg.common.files import slug
from cvg.composition import Composition, LabelSet
from cvg.evaluation.suites.base import CANDIDATES, Case, Score, Suite, SuiteSettings, all_or_nothing
from cvg.judging import Frames, Reading, load_judge
from cvg.shapes.world import ALL_KINDS, KINDS, LABELS, TEMPLATES, Spec, color_of, known_kinds, sample_spec, turns

USUAL = 200
"""Prompts of an evaluation that names no number."""


def _can_be_made(kind: str, labels: LabelSet) -> bool:
    """Whether prompts of a kind can be made of a label set: it has their groups, and in those of colours no others."""
    groups = {group for _, places in TEMPLATES[kind] for group, _ in places}
    colours = groups & {"attribute", "change"}
    return groups <= labels.groups.keys() and all(color_of(label.name) for g in colours for label in labels.groups[g])


class ShapesSuite(Suite):
    """Prompts of the shapes world. Its groups are the world's kinds of prompts.

    Args:
        labels: what prompts ask for, in these wordings; kinds of prompts that need other groups are left out. When
            None the world's own labels, and of its kinds those that straight lines show.
        device: torch device of the judge.
        settings: another ``judge`` than the world's oracle, where wanted, and other ``kinds``.

    Raises:
        SettingsError: settings that it has no use for, a kind that there is not or twice, labels that the judge cannot
            tell apart, or of which no kind of prompt, or not each that was asked for, can be made.
    """

    name, drawn = "shapes", True

    def __init__(
        self, labels: LabelSet | None = None, device: str = "cpu", settings: SuiteSettings | None = None
    ) -> None:
        settings = settings or SuiteSettings()
        settings.only(self.name, "judge", "judge_cache", "kinds")
        self.labels = labels or LABELS
        self.judge = load_judge(settings.judge or "shapes", self.labels, device, settings.judge_cache)
        asked = known_kinds(settings.kinds, ALL_KINDS if labels else KINDS)
        if twice := [kind for kind in asked if asked.count(kind) > 1]:
            raise SettingsError(f"suite shapes: kind {twice[0]!r} is named twice; each is asked for equally often")
        self.groups: tuple[str, ...] = tuple(kind for kind in asked if _can_be_made(kind, self.labels))
        groups = ", ".join(self.labels.groups)
        if settings.kinds and (missing := [kind for kind in asked if kind not in self.groups]):
            raise SettingsError(f"suite shapes: kind {missing[0]!r} needs other labels than those of {groups}")
        if not self.groups:
            raise SettingsError(f"suite shapes: no kind of prompt has the groups {groups} alone")

    def cases(self, count: int | None, seed: int) -> list[Case]:
        """Kinds in turn; the labels of each place of a template are dealt from a shuffled deck, so they balance."""
        decks: dict[tuple[str, int], list[str]] = {}
        cases = []
        for index in range(USUAL if count is None else count):
            rng = np.random.default_rng([seed, index])
            kind = self.groups[index % len(self.groups)]
            among = self.labels if kind == "attribute" else LABELS
            spec = self._deal(sample_spec(rng, kind, held_out=True, among=among), decks, rng)
            seeds = np.random.SeedSequence([seed, index, 1]).generate_state(CANDIDATES)
            cases.append(Case(spec.composition.prompt, spec.composition, kind, tuple(int(value) for value in seeds)))
        return cases

    def training_cases(self, count: int, seed: int) -> list[Case]:
        """Kinds in turn; entities, labels and wordings are drawn uniformly."""
        cases = []
        for index in range(count):
            kind = self.groups[index % len(self.groups)]
            spec = sample_spec(np.random.default_rng([seed, index, 6]), kind, among=self.labels)
            cases.append(Case(spec.composition.prompt, spec.composition, kind, (seed * 10**6 + index,)))
        return cases

    def score(self, frames_FHWC: Frames, asked: Composition, reading: Reading) -> Score:
        """All or nothing: entities and every label."""
        return all_or_nothing(frames_FHWC, asked, reading)

    def video_name(self, case: Case) -> str:
        """Prompt and seed, as samples are named."""
        return f"{slug(case.prompt)}_seed{case.seeds[0]}.mp4"

    def _deal(self, spec: Spec, decks: dict[tuple[str, int], list[str]], rng: np.random.Generator) -> Spec:
        relations, wordings = [], []
        for place, relation in enumerate(spec.relations):
            name = relation.label
            if spec.kind != "attribute":  # colours of two shapes are those of a held-out pair
                name = self._dealt(spec, decks.setdefault((spec.template + spec.kind, place), []), name, rng)
            label = self.labels[name]
            relations.append(replace(relation, label=label.name))
            wordings.append(label.wordings[rng.integers(len(label.wordings))])
        return replace(spec, relations=tuple(relations), wordings=tuple(wordings))

    def _dealt(self, spec: Spec, deck: list[str], like: str, rng: np.random.Generator) -> str:
        """The next label of a deck, of the group of one like it; of new colours the next that the entity has not."""

        def fitting() -> list[str]:
            return [name for name in deck if spec.kind != "change" or turns(spec.entities[0], name)]

        if not fitting():
            names = [label.name for label in self.labels.groups[LABELS[like].group]]
            deck[:0] = [names[i] for i in rng.permutation(len(names))]
        name = fitting()[-1]
        deck.remove(name)
        return name
