"""Fixed and adaptive steps side by side: what is counted, and how rows are compared."""

from __future__ import annotations

import pytest
import torch

from benchmarks.adaptive import AdaptiveGuide, AdaptiveSampler
from benchmarks.steps import Looks, markdown, rows_of, ways
from cvg.composition import parse
from cvg.generators import wrap_pipeline
from cvg.guidance.config import GuidanceConfig
from cvg.guidance.sampler import GuidedSampler
from tests.helpers.labels import LABELS
from tests.helpers.tiny import tiny_classifier, tiny_pipeline

PROMPTS = ["a red circle to the left of a blue square", "a green triangle moving up"]


def test_passes_and_guided_steps_are_counted_and_the_generator_is_left_as_it_was() -> None:
    generator = wrap_pipeline(tiny_pipeline(), "tiny")
    config = GuidanceConfig(step_size=0.17, threshold=None, iterations=3, repeat_below=1.0)
    given = (generator, tiny_classifier(generator), [parse(prompt, LABELS) for prompt in PROMPTS], config)
    guide = AdaptiveGuide(*given, sure=1.0, still=0.0)
    z = generator.initial_latents([torch.Generator().manual_seed(i) for i in range(2)], (5, 32, 32))
    with Looks(generator) as looks:
        z, _ = guide.edit(z, torch.tensor(999), 0)
        assert (looks.steps, looks.gradients, looks.plain) == (2, 6, 0)
        guide.open = [1]
        z, _ = guide.edit(z, torch.tensor(900), 1)
        guide.judge(z, torch.tensor(900), 1)
    assert (looks.steps, looks.gradients, looks.plain) == (3, 9, 2)
    assert "entity_maps" not in vars(generator)


def test_rows_compare_videos_one_by_one() -> None:
    def batch(plain: list[bool], fixed: list[bool], adaptive: list[bool]) -> dict[str, dict[str, object]]:
        rights = {"unguided": (plain, 10.0, 0), "fixed 4": (fixed, 14.0, 8), "adaptive 0.6": (adaptive, 12.0, 5)}
        return {
            name: {"right": right, "entities_right": right, "seconds": seconds, "steps": steps, "gradients": 2 * steps}
            for name, (right, seconds, steps) in rights.items()
        }

    batches = [batch([False, True], [True, True], [True, False]), batch([False, False], [True, False], [True, True])]
    plain, fixed, adaptive = rows_of(batches, ["unguided", "fixed 4", "adaptive 0.6"], "fixed 4")
    assert (plain["right"], fixed["right"], adaptive["right"]) == (0.25, 0.75, 0.75)
    assert (plain["difference"], fixed["difference"], adaptive["difference"]) == (-0.5, 0.0, 0.0)
    low, high = adaptive["difference_ci95"]
    assert -1 < low < 0 < high < 1 and high - low > fixed["difference_ci95"][1] - fixed["difference_ci95"][0]
    assert (adaptive["steps"], adaptive["gradients"]) == (2.5, 5.0)
    assert [row["time"] for row in (plain, fixed, adaptive)] == pytest.approx([1, 1.4, 1.2])
    table = markdown("shapes-wan", [plain, fixed, adaptive], "fixed 4").splitlines()
    assert len(table) == 5 and "`shapes-wan`, 4 prompts" in table[0] and "against fixed 4" in table[0]
    assert "| unguided | 0.250" in table[2] and table[3].count("|") == table[0].count("|")


def test_ways_differ_in_their_steps_alone() -> None:
    generator = wrap_pipeline(tiny_pipeline(), "tiny")
    classifier = tiny_classifier(generator)
    found = ways(generator, classifier, [2], [0.5, 0.9], 0.1)
    assert list(found) == ["unguided", "fixed 2", "adaptive 0.5", "adaptive 0.9"] and found["unguided"] is None
    fixed, adaptive = found["fixed 2"], found["adaptive 0.9"]
    assert isinstance(fixed, GuidedSampler) and isinstance(adaptive, AdaptiveSampler)
    assert (fixed.config.guided_steps, adaptive.config.guided_steps) == (2, len(classifier.config.sigmas))
    assert (adaptive.sure, adaptive.still) == (0.9, 0.1)
