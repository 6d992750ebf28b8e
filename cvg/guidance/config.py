"""How guided steps are taken."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass, replace
from typing import Any, Final

from cvg.classifier.config import SamplingSettings
from cvg.common.errors import SettingsError

RULES: Final = "rules"
"""In the place of a classifier's name: formulas guide, without training (:mod:`cvg.guidance.rules`)."""
STEP_SIZE = 0.17
"""Of classifiers that name none."""
SPREAD = 0.3
"""Likewise the weight of the entities' spread."""
GUIDED_STEPS = 4
"""Likewise how many steps are guided."""
FADE, ITERATIONS, REPEAT_BELOW = 0.667, 2, 0.5
"""Likewise how edits get shorter, and when they are repeated."""


@dataclass(frozen=True)
class GuidanceConfig:
    """How guided steps are taken.

    Attributes:
        step_size: eta, the length of an edit of a sample that has nothing of what is asked, as root mean square per
            latent element; the latents of the first step have 1. When left out, the one that the classifier names in
            its config.json (``sampling``), else 0.17.
        fade: an edit of a sample with target probability p is step_size * (1 - fade * p) long. When left out, as the
            classifier names it, else 0.667.
        iterations: edits of one sample in one guided step, at most; likewise, else 2.
        repeat_below: after its first edit in a guided step, a sample is edited again only if a relation of it had a
            target probability below this one before that edit; likewise, else 0.5.
        threshold: a sample is left alone once all its relations have this target probability, above 0 and at most 1;
            with None no sample ever is.
        smoothing: the classifier is asked about this many noisy copies of a volume and its logits are averaged. Of use
            for classifiers that were trained with noise; others are asked once.
        guided_steps: how many of the classifier's steps are guided, noisiest first; all, where it has no more. When
            left out, the number that the classifier names, else 4.
        every_step: whether all denoising steps from the first one on are guided down to these, each read as the next
            of these, and not these alone. When left out, as the classifier says, else not.
        later: how many noise levels later than others prompts are guided that ask for labels of these groups alone
            (:mod:`cvg.guidance.turns`). When left out, what the classifier names, else nothing; rules name two levels
            for attributes.
        spread: lambda, the weight of the entities' spread in the loss (:mod:`cvg.guidance.terms.spread`). When left
            out, the one that the classifier names, else 0.3.
        rules: weight of the labels' formulas in the loss, beside the classifier (:mod:`cvg.guidance.terms.rules`). When
            left out, the one that the classifier names, else none.
        layers: the layers whose maps rules read; the first two thirds when left out. A classifier names its own.
        heads: likewise the heads; all when left out.
    """

    step_size: float | None = None
    fade: float | None = None
    iterations: int | None = None
    repeat_below: float | None = None
    threshold: float | None = 0.95
    smoothing: int = 1
    guided_steps: int | None = None
    every_step: bool | None = None
    later: dict[str, int] | None = None
    spread: float | None = None
    rules: float | None = None
    layers: list[int] | None = None
    heads: list[int] | None = None

    def __post_init__(self) -> None:
        later = {f"later {group!r}": levels for group, levels in (self.later or {}).items()}
        for name, value in (asdict(self) | later).items():
            if not isinstance(value, (int, float)):
                continue
            if not math.isfinite(value):
                raise SettingsError(f"guidance {name} is {value}; give a number")
            if value < 0:
                raise SettingsError(f"guidance {name} is {value}; it cannot be negative")
        if self.iterations == 0:
            raise SettingsError("guidance iterations is 0; give at least 1, or guide no steps")
        if self.fade is not None and self.fade > 1:
            raise SettingsError(f"guidance fade is {self.fade}; it is a share of the step size, at most 1")
        if self.repeat_below is not None and self.repeat_below > 1:
            raise SettingsError(f"guidance repeat_below is {self.repeat_below}; it is a probability, at most 1")
        if self.threshold is not None and not 0 < self.threshold <= 1:
            raise SettingsError(
                f"guidance threshold is {self.threshold}; it is a probability above 0 and at most 1, or null where no "
                "sample is to be left alone"
            )

    @property
    def repeat_bound(self) -> float:
        """The target probability below which a sample is edited again in a guided step, once it is filled in."""
        assert self.repeat_below is not None
        return self.repeat_below if self.threshold is None else min(self.repeat_below, self.threshold)

    def preferred(self, sampling: SamplingSettings) -> GuidanceConfig:
        """These settings, where none were given with those that a classifier names, else with the usual ones."""
        usual: dict[str, Any] = {"step_size": STEP_SIZE, "spread": SPREAD, "rules": 0.0}
        usual |= {"fade": FADE, "iterations": ITERATIONS, "repeat_below": REPEAT_BELOW}
        usual |= {"guided_steps": GUIDED_STEPS, "every_step": False, "later": {}}
        named = {name: getattr(sampling, name) for name in usual if getattr(sampling, name) is not None}
        return replace(self, **{name: v for name, v in (usual | named).items() if getattr(self, name) is None})
