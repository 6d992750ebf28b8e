"""Schedulers other than a family's own: those whose noise no seed governs, and those that cannot be guided with."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from diffusers import (
    DDIMScheduler,
    DPMSolverMultistepScheduler,
    FlowMatchEulerDiscreteScheduler,
    FlowMatchHeunDiscreteScheduler,
    FlowMatchLCMScheduler,
    LCMScheduler,
    SASolverScheduler,
)
from torch import Tensor

from cvg.common.errors import ModelError
from cvg.common.sizes import Size
from cvg.diffusion.schedule import diffusion_schedule
from cvg.generators import Generator, wrap_pipeline
from cvg.guidance.sampler import GuidedSampler
from tests.generators.families.test_unet import modelscope
from tests.helpers.conformance import PROMPTS
from tests.helpers.tiny import STEPS, tiny_classifier, tiny_pipeline

SIZE = Size(5, 32, 32)
FLOW = {"prediction_type": "flow_prediction", "use_flow_sigmas": True}
DRAWING = [
    FlowMatchLCMScheduler(),
    FlowMatchEulerDiscreteScheduler(stochastic_sampling=True),
    SASolverScheduler(**FLOW),
    DPMSolverMultistepScheduler(algorithm_type="sde-dpmsolver++", **FLOW),
]


@pytest.fixture
def generator() -> Generator:
    return wrap_pipeline(tiny_pipeline(), "tiny")


def sampled(generator: Generator, seeds: list[int], size: Size = SIZE) -> Tensor:
    drawn = [torch.Generator().manual_seed(seed) for seed in seeds]
    latents = generator.initial_latents(drawn, size)
    return generator.sample(PROMPTS[: len(seeds)], latents, 4, 2.0, size, None, drawn)


@pytest.mark.parametrize("scheduler", DRAWING, ids=lambda scheduler: type(scheduler).__name__)
def test_noise_drawn_at_every_step_is_that_of_each_videos_seed(generator: Generator, scheduler: Any) -> None:
    generator.pipeline.scheduler = scheduler
    torch.manual_seed(0)
    both = sampled(generator, [0, 1])
    torch.manual_seed(1)
    assert torch.equal(both, sampled(generator, [0, 1]))
    torch.testing.assert_close(both[:1], sampled(generator, [0]), atol=1e-4, rtol=1e-4)
    assert not torch.allclose(both, sampled(generator, [0, 2]), atol=0.1)
    assert "step" not in vars(scheduler)


def test_frames_that_a_pipeline_takes_for_samples_have_their_videos_seed() -> None:
    size = Size(4, 16, 24)
    generator = wrap_pipeline(modelscope(), "tiny")
    generator.pipeline.scheduler = LCMScheduler.from_config(generator.pipeline.scheduler.config)
    both = sampled(generator, [0, 1], size)
    assert torch.equal(both, sampled(generator, [0, 1], size))
    torch.testing.assert_close(both[:1], sampled(generator, [0], size), atol=1e-3, rtol=1e-3)


class Careless(FlowMatchEulerDiscreteScheduler):
    """Draws noise from the generator of all."""

    def step(self, *args: Any, **options: Any) -> Any:
        (latents,) = super().step(*args, **options)
        return (latents + torch.randn_like(latents),)


def test_noise_that_no_seed_governs_is_refused(generator: Generator) -> None:
    generator.pipeline.scheduler = Careless()
    with pytest.raises(ModelError, match="scheduler Careless: its steps draw noise that no seed governs.*use one that"):
        sampled(generator, [0, 1])
    assert "step" not in vars(generator.pipeline.scheduler)


@pytest.mark.parametrize(
    ("scheduler", "message"),
    [
        (FlowMatchHeunDiscreteScheduler(), r"5 network calls for 3 steps; use one of flow matching that"),
        (DDIMScheduler(), "is not set to flow matching"),
        (DPMSolverMultistepScheduler(), "is not set to flow matching"),
        (LCMScheduler(), "is not set to flow matching"),
    ],
    ids=lambda value: type(value).__name__,
)
@pytest.mark.parametrize("guided", [True, False])
def test_schedulers_that_cannot_be_guided_are_refused_before_anything_is_sampled(
    generator: Generator, scheduler: Any, message: str, guided: bool
) -> None:
    sampler = GuidedSampler(generator, tiny_classifier(generator))
    generator.pipeline.scheduler = scheduler
    generator.pipeline.transformer.forward = None
    with pytest.raises(ModelError, match=f"scheduler {type(scheduler).__name__}: .*{message}"):
        sampler(PROMPTS, [0, 1], guided=guided, steps=STEPS, size=SIZE)


@pytest.mark.parametrize("scheduler", [FlowMatchEulerDiscreteScheduler(), SASolverScheduler(**FLOW)])
def test_a_flow_scheduler_is_none_of_a_diffusion(scheduler: Any) -> None:
    with pytest.raises(ModelError, match="is not one of a variance-preserving diffusion.*DDIMScheduler"):
        diffusion_schedule(scheduler, 3, torch.device("cpu"))
