"""Edits of some samples of a batch, and what multistep schedulers remember of the others."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import pytest
import torch
from diffusers import (
    CogVideoXDPMScheduler,
    DPMSolverMultistepScheduler,
    FlowMatchEulerDiscreteScheduler,
    PNDMScheduler,
    SASolverScheduler,
    UniPCMultistepScheduler,
)
from torch import Tensor

from cvg.common.sizes import Size
from cvg.composition import parse
from cvg.generators import Generator, wrap_pipeline
from cvg.guidance.config import GuidanceConfig
from cvg.guidance.guide import Guide
from cvg.guidance.sampler import GuidedSampler
from tests.generators.families import test_cogvideox as cogvideox
from tests.generators.families.test_unet import SCHEDULER, modelscope
from tests.helpers.conformance import PROMPTS
from tests.helpers.labels import LABELS
from tests.helpers.tiny import tiny_classifier, tiny_pipeline

STEPS = 6
FLOW = {"prediction_type": "flow_prediction", "use_flow_sigmas": True}
PIPELINES: dict[str, tuple[Callable[[], Any], Size]] = {
    "wan": (tiny_pipeline, Size(5, 32, 32)),
    "cogvideox": (lambda: cogvideox.build(use_rotary_positional_embeddings=True), Size(9, 16, 24)),
    "modelscope": (modelscope, Size(4, 16, 24)),
}
CASES: list[tuple[str, Any]] = [
    ("wan", UniPCMultistepScheduler(**FLOW)),
    ("wan", UniPCMultistepScheduler(solver_order=3, **FLOW)),
    ("wan", DPMSolverMultistepScheduler(**FLOW)),
    ("wan", DPMSolverMultistepScheduler(solver_order=3, **FLOW)),
    ("wan", DPMSolverMultistepScheduler(algorithm_type="sde-dpmsolver++", **FLOW)),
    ("wan", SASolverScheduler(**FLOW)),
    ("wan", FlowMatchEulerDiscreteScheduler()),
    ("cogvideox", CogVideoXDPMScheduler(**cogvideox.SCHEDULER)),
    ("modelscope", PNDMScheduler(skip_prk_steps=True, **SCHEDULER)),
    ("modelscope", UniPCMultistepScheduler(**SCHEDULER)),
]


@functools.cache
def tiny_generator(name: str) -> Generator:
    return wrap_pipeline(PIPELINES[name][0](), "tiny")


def final(generator: Generator, size: Size, edited: dict[int, list[int]]) -> Tensor:
    """The final latents where these samples are edited: {step: samples}; at later ones they forget again."""
    noise = [torch.Generator().manual_seed(seed) for seed in range(2)]
    latents = generator.initial_latents(noise, size)
    moved: set[int] = set()

    def edit(step: int, z: Tensor) -> Tensor:
        if step not in edited:
            return z
        moved.update(edited[step])
        generator.forget_history(sorted(moved))
        z = z.clone()
        for sample in edited[step]:
            z[sample] += 0.3
        return z

    return generator.sample(PROMPTS, latents, STEPS, 2.0, size, edit, noise)


@pytest.mark.parametrize(("name", "scheduler"), CASES, ids=lambda value: getattr(type(value), "__name__", value))
def test_an_edited_sample_leaves_those_beside_it_as_they_are(name: str, scheduler: Any) -> None:
    size = PIPELINES[name][1]
    generator = tiny_generator(name)
    generator.pipeline.scheduler = scheduler
    plain = final(generator, size, {})
    first, second = final(generator, size, {2: [0], 3: [0]}), final(generator, size, {3: [1]})
    both = final(generator, size, {2: [0, 1], 3: [0, 1]})
    in_turn = final(generator, size, {2: [0], 3: [0, 1]})
    assert torch.equal(first[1], plain[1]) and torch.equal(second[0], plain[0])
    assert torch.equal(first[0], both[0]) and not torch.allclose(first[0], plain[0], atol=1e-3)
    assert torch.equal(in_turn[0], first[0]) and torch.equal(in_turn[1], second[1])
    assert "step" not in vars(scheduler)


@pytest.mark.parametrize("scheduler", [UniPCMultistepScheduler(**FLOW), DPMSolverMultistepScheduler(**FLOW)])
def test_a_satisfied_samples_video_is_its_unguided_one_beside_a_moved_one(
    scheduler: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    generator = tiny_generator("wan")
    generator.pipeline.scheduler = scheduler
    levels = [float(level) for level in generator.schedule(STEPS, Size(5, 32, 32)).levels[:3]]
    sampler = GuidedSampler(generator, tiny_classifier(generator, sigmas=levels), GuidanceConfig(threshold=None))
    edit = Guide.edit

    def first_is_satisfied(self: Guide, latents: Tensor, *rest: Any) -> tuple[Tensor, list[Tensor]]:
        edited, trail = edit(self, latents, *rest)
        return torch.cat([latents[:1], edited[1:]]), trail

    monkeypatch.setattr(Guide, "edit", first_is_satisfied)
    compositions = [parse(prompt, LABELS) for prompt in PROMPTS]
    plain, guided = (
        sampler(PROMPTS, [0, 1], compositions, guided=on, steps=STEPS, size=Size(5, 32, 32)).video_BCFHW
        for on in (False, True)
    )
    assert torch.equal(guided[0], plain[0]) and not torch.allclose(guided[1], plain[1], atol=1e-3)
