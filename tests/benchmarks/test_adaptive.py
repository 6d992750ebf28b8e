"""Whose guidance goes on, and what becomes of those whose has ended."""

from __future__ import annotations

import pytest
import torch

from benchmarks.adaptive import AdaptiveGuide, AdaptiveSampler
from cvg.classifier.model import CompositionClassifier
from cvg.composition import parse
from cvg.generators import Generator
from cvg.guidance.config import GuidanceConfig
from cvg.guidance.guide import Guide
from cvg.guidance.sampler import GuidedSampler
from tests.helpers.labels import LABELS
from tests.helpers.tiny import STEPS

PROMPTS = ["a red circle to the left of a blue square", "a green triangle moving up", "a red circle moving up"]
SIZE = (5, 32, 32)
CONFIG = GuidanceConfig(step_size=0.17, threshold=None)


def guide(generator: Generator, classifier: CompositionClassifier, sure: float = 0.7) -> AdaptiveGuide:
    given = (generator, classifier, [parse(prompt, LABELS) for prompt in PROMPTS], CONFIG)
    return AdaptiveGuide(*given, sure=sure, still=0.05)


def test_guidance_ends_where_the_verdict_is_sure_or_stands_still(
    generator: Generator, classifier: CompositionClassifier
) -> None:
    steered = guide(generator, classifier)
    steered.saw([0.9, 0.1, 0.3])
    assert steered.open == [0, 1, 2]  # the first step's verdict ends nothing
    steered.saw([0.99, 0.2, 0.32])
    assert steered.open == [1]
    steered.saw([0.0, 0.2, 0.0])
    assert steered.open == []  # and nobody comes back


def test_a_sample_whose_guidance_has_ended_is_neither_moved_nor_looked_at(
    generator: Generator, classifier: CompositionClassifier, monkeypatch: pytest.MonkeyPatch
) -> None:
    steered = guide(generator, classifier)
    latents = generator.initial_latents([torch.Generator().manual_seed(i) for i in range(3)], SIZE)
    edited, first = steered.edit(latents, torch.tensor(999), 0)
    assert not any(torch.equal(edited[sample], latents[sample]) for sample in range(3))
    steered.open = [1]
    looked: list[int] = []
    read = Guide.maps
    monkeypatch.setattr(Guide, "maps", lambda self, *rest: looked.extend(rest[2]) or read(self, *rest))
    again, second = steered.edit(edited, torch.tensor(900), 1)
    assert set(looked) == {1}
    assert [torch.equal(again[sample], edited[sample]) for sample in range(3)] == [True, False, True]
    assert second[0][[0, 2]].isnan().all() and second[0][1] != first[-1][1]
    steered.open = []
    looked.clear()
    last, third = steered.edit(again, torch.tensor(800), 1)
    assert torch.equal(last, again) and len(third) == 1 and third[0].isnan().all() and not looked


def test_with_nothing_to_be_sure_of_adaptive_steps_are_the_fixed_ones(
    generator: Generator, classifier: CompositionClassifier
) -> None:
    compositions = [parse(prompt, LABELS) for prompt in PROMPTS]
    both = GuidedSampler(generator, classifier, CONFIG), AdaptiveSampler(generator, classifier, CONFIG, 1.0)
    fixed, never = (one(PROMPTS, [0, 1, 2], compositions, steps=STEPS, size=SIZE) for one in both)
    assert torch.equal(fixed.video_BCFHW, never.video_BCFHW)
    assert fixed.probabilities.keys() == never.probabilities.keys()
