"""How guided steps are taken."""

from __future__ import annotations

from dataclasses import replace
from typing import Annotated, Any, Final

from pydantic import Field, StrictBool, StrictFloat, StrictInt

from cvg.classifier.config import Amount, Count, Later, SamplingSettings, Share
from cvg.common.typed import MOST, Indices, record

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

Threshold = Annotated[
    StrictFloat | None,
    Field(gt=0, le=1, description="a probability above 0 and at most 1, or null where no sample is to be left alone"),
]
_WHOLE: Final = Field(ge=0, le=MOST, description="a whole number of at least 0")
Chosen = Annotated[Indices | None, Field(description="a list of different integers of at least 0")]


@record(called="guidance")
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
        guided_steps: how many of the classifier's steps are guided, noisiest first; all, where it has no more, and none
            with 0. When left out, the number that the classifier names, else 4.
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

    step_size: Amount = None
    fade: Share = None
    iterations: Count = None
    repeat_below: Share = None
    threshold: Threshold = 0.95
    smoothing: Annotated[StrictInt, _WHOLE] = 1
    guided_steps: Annotated[StrictInt | None, _WHOLE] = None
    every_step: StrictBool | None = None
    later: Later = None
    spread: Amount = None
    rules: Amount = None
    layers: Chosen = None
    heads: Chosen = None

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
