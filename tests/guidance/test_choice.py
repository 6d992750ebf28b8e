"""The best of several seeds, without gradients."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import torch

from cvg.classifier.config import SamplingSettings
from cvg.common.errors import UserError
from cvg.composition import parse
from cvg.guidance import choice
from cvg.guidance.choice import BestSeed, followed, looks
from cvg.guidance.config import GuidanceConfig
from cvg.guidance.guide import Guide
from cvg.guidance.rules import Rules
from cvg.guidance.sampler import GuidedSampler
from tests.generators.test_histories import CASES, PIPELINES, STEPS, tiny_generator
from tests.helpers.conformance import PROMPTS
from tests.helpers.labels import LABELS
from tests.helpers.tiny import tiny_classifier

COMPOSITIONS = [parse(prompt, LABELS) for prompt in PROMPTS]
FEW = [CASES[number] for number in (0, 4, 7, 8)]
SEEDS = [[3, 1, 4], [1, 5, 9]]


def sampler(name: str = "wan", at: slice = slice(1, 4)) -> GuidedSampler:
    generator, size = tiny_generator(name), PIPELINES[name][1]
    latents = generator.initial_latents([torch.Generator()], size)
    grid = list(generator.token_grid(latents))
    grids = {"grid": grid, "token_grid": grid, "volume_grid": [min(side, 4) for side in grid]}
    levels = [float(level) for level in generator.schedule(STEPS, size).levels[:-1][at]]
    return GuidedSampler(generator, tiny_classifier(generator, sigmas=levels, **grids), GuidanceConfig(smoothing=1))


@pytest.mark.parametrize(
    ("name", "scheduler"),
    FEW,
    ids=lambda value: getattr(type(value), "__name__", value),
)
def test_the_video_is_the_plain_one_of_the_kept_seed(
    name: str, scheduler: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whatever the scheduler remembers or draws: of the first, the last and one between, kept side by side."""
    tiny_generator(name).pipeline.scheduler = scheduler
    run, kept = sampler(name), [0, 2, 1]
    prompts, compositions, tried = [*PROMPTS, PROMPTS[0]], [*COMPOSITIONS, COMPOSITIONS[0]], [*SEEDS, [2, 6, 5]]
    monkeypatch.setattr(choice, "_best", lambda *_: kept)
    chosen = BestSeed(run)(prompts, tried, compositions, STEPS, 2.0)
    seeds = [mine[number] for mine, number in zip(tried, kept, strict=True)]
    plain = run(prompts, seeds, compositions, guided=False, steps=STEPS, guidance_scale=2.0)
    assert chosen.seeds == seeds and torch.equal(chosen.video_BCFHW, plain.video_BCFHW)


@pytest.mark.parametrize("at", [slice(0, 1), slice(0, 3)])
def test_the_likeliest_seed_is_kept_by_the_verdict_that_guidance_begins_with(at: slice) -> None:
    run = sampler(at=at)
    chosen = BestSeed(run)(PROMPTS, SEEDS, COMPOSITIONS, STEPS)
    for index, (mine, tried) in enumerate(zip(SEEDS, chosen.tried, strict=True)):
        assert [one.seed for one in tried] == mine
        assert chosen.seeds[index] == max(tried, key=lambda one: one.log_probability).seed
    z = {}
    seeds = [mine[1] for mine in SEEDS]
    run(
        PROMPTS, seeds, COMPOSITIONS, guided=False, steps=STEPS, observe=lambda step, latents: z.update({step: latents})
    )
    guide, timesteps = (
        Guide(run.generator, run.classifier, COMPOSITIONS, run.config),
        run.plan(PROMPTS, COMPOSITIONS, STEPS, None, None).timesteps,
    )
    for step, guided_step in run.guided_steps(STEPS).items():
        probability_R = guide.judge(z[step], timesteps[step], guided_step)
    found = torch.tensor([probability for tried in chosen.tried for probability in tried[1].probabilities])
    torch.testing.assert_close(found, probability_R)


def test_it_needs_no_gradients(monkeypatch: pytest.MonkeyPatch) -> None:
    run = sampler()
    forward, seen = run.generator.network.forward, []
    monkeypatch.setattr(
        run.generator.network, "forward", lambda *a, **k: seen.append(torch.is_grad_enabled()) or forward(*a, **k)
    )
    wanted = BestSeed(run)(PROMPTS, SEEDS, COMPOSITIONS, STEPS)
    assert seen and not any(seen)
    with torch.inference_mode():
        assert torch.equal(BestSeed(run)(PROMPTS, SEEDS, COMPOSITIONS, STEPS).video_BCFHW, wanted.video_BCFHW)


def test_the_others_stop_where_the_choice_is_made() -> None:
    run, steps = sampler(), []
    BestSeed(run)(PROMPTS, SEEDS, COMPOSITIONS, STEPS, observe=lambda step, z: steps.append(step))
    assert steps == [0, 1, 2, 3] * 2 + list(range(STEPS))
    assert "step" not in vars(run.generator.pipeline.scheduler)


@pytest.mark.parametrize(("given", "last"), [(None, 3), (2, 2)])
def test_all_noise_levels_are_looked_at_but_where_a_number_is_given(given: int | None, last: int) -> None:
    """However many the classifier would have guided."""
    made, steps = sampler(), []
    made.classifier.config = replace(made.classifier.config, sampling=SamplingSettings(guided_steps=1))
    run = GuidedSampler(made.generator, made.classifier, GuidanceConfig(guided_steps=given))
    assert len(run.guided_steps(STEPS)) == (given or 1)
    BestSeed(run)(PROMPTS, SEEDS, COMPOSITIONS, STEPS, observe=lambda step, z: steps.append(step))
    assert steps == [*range(last + 1)] * 2 + list(range(STEPS))
    assert followed(run) == {"guided_steps": given or 3, "smoothing": 1}


def test_by_rules_it_looks_where_they_guide_places() -> None:
    made = sampler()
    rules = Rules.of(made.generator, LABELS, made.size)
    assert len(rules.config.sigmas) == 6
    assert looks(GuidedSampler(made.generator, rules)) == 4
    assert looks(GuidedSampler(made.generator, rules, GuidanceConfig(guided_steps=5))) == 5


@pytest.mark.parametrize("seeds", [[[0, 1]], [[0, 1], [2]], [[], []]])
def test_every_prompt_has_as_many_seeds(seeds: list[list[int]]) -> None:
    with pytest.raises(UserError, match="give every one of 2 prompts as many, at least one"):
        BestSeed(sampler())(PROMPTS, seeds, COMPOSITIONS, STEPS)
