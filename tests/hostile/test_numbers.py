"""NaN, infinity and gradients that are not there: told where they arise, never sampled on with."""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import torch
from diffusers import UniPCMultistepScheduler
from torch import Tensor, nn

from cvg.classifier import CompositionClassifier
from cvg.common.errors import ModelError, SettingsError
from cvg.common.sizes import Size
from cvg.composition import parse
from cvg.composition.relations import RelationBatch
from cvg.generators import Generator, wrap_pipeline
from cvg.guidance.config import GuidanceConfig
from cvg.guidance.guide import Guide
from cvg.guidance.sampler import GuidedSampler
from cvg.guidance.step import move
from cvg.guidance.terms.base import EntityMaps, Taps
from cvg.guidance.verdict import Verdict
from data_prep.inversion import recording
from data_prep.inversion.latents import Settings
from data_prep.manifest import Row
from tests.helpers.labels import LABELS
from tests.helpers.tiny import STEPS, tiny_classifier, tiny_pipeline

PROMPTS = ["a red circle to the left of a blue square", "a green triangle moving up"]
SIZE = (5, 32, 32)


def sample(generator: Generator, classifier: CompositionClassifier, guided: bool = True, **settings: Any) -> Tensor:
    sampler = GuidedSampler(generator, classifier, GuidanceConfig(smoothing=1, **settings))
    return sampler(PROMPTS, [0, 1], guided=guided, steps=STEPS, size=SIZE).video_BCFHW


@contextmanager
def outputs_of(module: nn.Module, change: Callable[[Any], Any], calls: int = 0) -> Iterator[None]:
    """Within it the module's output is changed, after some calls."""
    count = 0

    def hook(module: nn.Module, args: Any, output: Any) -> Any:
        nonlocal count
        count += 1
        return change(output) if count > calls else output

    handle = module.register_forward_hook(hook)
    try:
        yield
    finally:
        handle.remove()


def poisoned(output: Any) -> Any:
    """NaN in the first sample."""
    tensor = (output[0] if isinstance(output, tuple) else output).clone()
    tensor.flatten()[0] = math.nan
    return (tensor, *output[1:]) if isinstance(output, tuple) else tensor


@pytest.mark.parametrize("scale", [1e-42, 1e-30, 1e-20, 1e30, 1e38])
def test_a_move_does_not_depend_on_the_size_of_the_gradient(scale: float) -> None:
    source = torch.Generator().manual_seed(0)
    z, gradient = torch.randn(2, 4, 2, 6, 6, generator=source).clamp(-2, 2)
    wanted = move(z, gradient, 0.2)
    assert not torch.allclose(wanted, z, atol=0.1)
    atol = 0.02 if scale < 1e-38 else 1e-5  # subnormal numbers are coarse
    torch.testing.assert_close(move(z, gradient * scale, 0.2), wanted, atol=atol, rtol=0)


def test_an_ordinary_gradient_is_divided_by_its_root_mean_square_alone() -> None:
    z = torch.randn(4, 2, 6, 6, generator=torch.Generator().manual_seed(0))
    for scale in (1e-12, 1e-3, 1.0, 1e6):
        gradient = scale * torch.randn(4, 2, 6, 6, generator=torch.Generator().manual_seed(1))
        unit = gradient / gradient.square().mean().sqrt()
        axes = (-3, -2, -1)
        moved = z - 0.2 * unit
        scaled = z.std(axes, keepdim=True) / moved.std(axes, keepdim=True)
        wanted = (moved - moved.mean(axes, keepdim=True)) * scaled + z.mean(axes, keepdim=True)
        assert torch.equal(move(z, gradient, 0.2), wanted)


def test_no_bound_takes_nan_for_a_satisfied_verdict(generator: Generator, classifier: CompositionClassifier) -> None:
    relations = RelationBatch.of([parse("a red circle moving left above a blue square", LABELS)], LABELS)
    for values in ([0.99, math.nan], [math.nan, 0.99]):
        assert math.isnan(relations.least(values)[0])
    guide = Guide(generator, classifier, [parse(prompt, LABELS) for prompt in PROMPTS], GuidanceConfig())
    assert guide._below(0.95, torch.tensor([math.nan, 0.99]), [0, 1]) == [0]


def test_a_verdict_that_is_not_finite_stops_at_its_step(
    generator: Generator, classifier: CompositionClassifier
) -> None:
    broken = copy.deepcopy(classifier)
    with torch.no_grad():
        next(broken.head.parameters()).fill_(math.nan)
    with pytest.raises(ModelError, match=rf"denoising step 0 of {STEPS}.*verdicts on relation 0, 1 .* not finite; "):
        sample(generator, broken)


@pytest.mark.parametrize(
    ("calls", "message"),
    [
        (0, r"denoising step 0 of 3.*verdicts on relation 0 .* entity maps are not"),
        # the first guided step, then the two passes of classifier-free guidance of the first denoising step
        (1, r"denoising step 1 of 3.*the latents of sample 0 of"),
    ],
)
def test_a_generator_that_gives_nan_stops_at_its_step(
    generator: Generator, classifier: CompositionClassifier, calls: int, message: str
) -> None:
    with outputs_of(generator.blocks[0], poisoned, calls), pytest.raises(ModelError, match=message):
        sample(generator, classifier, iterations=1, threshold=None)


def test_an_unguided_video_that_is_not_finite_is_an_error_too(
    generator: Generator, classifier: CompositionClassifier
) -> None:
    with outputs_of(generator.blocks[0], poisoned), pytest.raises(ModelError, match=r"final latents \(after 3 den.* 0"):
        sample(generator, classifier, guided=False)
    with (
        outputs_of(generator.pipeline.vae.decoder, poisoned),
        pytest.raises(ModelError, match="decoded pixels of sample 0 of the batch are not finite"),
    ):
        sample(generator, classifier, guided=False)


class Endless:
    """A term with a finite value and a gradient that is not."""

    first_guided_step = 0

    def __init__(self, taps: Taps) -> None:
        self.taps = taps

    def __call__(self, maps: EntityMaps, verdict: Verdict) -> Tensor:
        return (0 * maps.of(self.taps)[1:]).sqrt().sum()


def test_a_gradient_that_is_not_finite_names_its_sample(
    generator: Generator, classifier: CompositionClassifier
) -> None:
    guide = Guide(generator, classifier, [parse(prompt, LABELS) for prompt in PROMPTS], GuidanceConfig(threshold=None))
    guide.terms.append(Endless(guide.read))
    z = generator.initial_latents([torch.Generator().manual_seed(i) for i in range(2)], SIZE)
    with pytest.raises(ModelError, match="gradients of sample 1 of the batch are not finite"):
        guide.edit(z, torch.tensor(999), 0)


@pytest.mark.parametrize("detach", [torch.Tensor.detach, lambda output: 0 * output + output.detach()])
def test_a_sample_without_a_gradient_is_an_error_at_the_first_guided_step(
    generator: Generator, classifier: CompositionClassifier, detach: Callable[[Tensor], Tensor]
) -> None:
    with (
        outputs_of(generator.network.patch_embedding, detach),
        pytest.raises(ModelError, match=r"denoising step 0 .*gradient of sample 0, 1 of the batch is zero"),
    ):
        sample(generator, classifier, threshold=None)


def test_where_nothing_moved_the_video_is_the_unguided_one(classifier: CompositionClassifier) -> None:
    """A multistep scheduler keeps its history then."""
    pipeline = tiny_pipeline()
    pipeline.scheduler = UniPCMultistepScheduler(prediction_type="flow_prediction", use_flow_sigmas=True, flow_shift=3)
    generator = wrap_pipeline(pipeline, "tiny")
    sampler = GuidedSampler(generator, tiny_classifier(generator, steps=6), GuidanceConfig(threshold=1e-6))
    guided, plain = (sampler(PROMPTS, [0, 1], guided=guided, steps=6, size=SIZE) for guided in (True, False))
    assert len(guided.probabilities) == 2
    assert torch.equal(guided.video_BCFHW, plain.video_BCFHW)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"step_size": math.nan}, "'step_size' is NaN; expected a number of at least 0"),
        ({"step_size": math.inf}, "'step_size' is Infinity; expected a number of at least 0"),
        ({"step_size": "long"}, "'step_size' is \"long\"; expected a number"),
        ({"spread": math.nan}, "'spread' is NaN"),
        ({"fade": math.nan}, "'fade' is NaN"),
        ({"threshold": math.nan}, "'threshold' is NaN"),
        ({"threshold": 2.0}, "'threshold' is 2.0; expected a probability above 0 and at most 1, or null"),
        ({"threshold": 0.0}, "'threshold' is 0.0"),
        ({"repeat_below": 1.5}, "'repeat_below' is 1.5"),
        ({"iterations": 0}, "'iterations' is 0; expected a whole number of at least 1"),
        ({"iterations": -1}, "'iterations' is -1"),
        ({"guided_steps": 2.5}, "'guided_steps' is 2.5; expected a whole number of at least 0"),
        ({"smoothing": -1}, "'smoothing' is -1; expected a whole number of at least 0"),
        ({"later": {"spatial": 1.5}}, "'later' is {.spatial.: 1.5}; expected a whole number of at least 0"),
        ({"every_step": "maybe"}, "'every_step' is .maybe.; expected a valid boolean"),
        ({"layers": [0, 0]}, r"'layers' is \[0, 0\]; expected a list of different integers of at least 0"),
        ({"heads": []}, r"'heads' is \[\]; expected a list of different integers"),
    ],
)
def test_guidance_settings_are_numbers_in_their_range(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(SettingsError, match=message):
        GuidanceConfig(**settings)


@pytest.mark.parametrize("scale", [math.nan, math.inf])
def test_a_guidance_scale_is_a_number(generator: Generator, classifier: CompositionClassifier, scale: float) -> None:
    with pytest.raises(SettingsError, match=f"guidance_scale {scale}"):
        GuidedSampler(generator, classifier)(PROMPTS, [0, 1], steps=STEPS, size=SIZE, guidance_scale=scale)


@pytest.mark.parametrize(
    ("method", "broken", "message"),
    [
        ("noising", "vae.encoder", "the video's latents are not finite"),
        ("noising", "transformer.blocks.0", "the entity maps of step 0 are not finite"),
        ("inversion", "transformer.blocks.0", "the replayed latents are not finite"),
        ("inversion", "vae.decoder", "the frames of the replay are not finite"),
    ],
)
def test_a_video_of_which_nan_is_made_is_left_out_and_the_others_are_not(
    generator: Generator, monkeypatch: pytest.MonkeyPatch, method: Any, broken: str, message: str
) -> None:
    frames = torch.randint(0, 255, (*SIZE, 3), dtype=torch.uint8).numpy()
    monkeypatch.setattr(recording, "read_video", lambda *args, **options: frames)
    settings = Settings(method, 3, [0, 1], 0, [0, 1], [0, 1], Size(*SIZE), -100.0, 0)
    row = Row(
        "a", Path("a.mp4"), "{e0} {r0} {e1}", ("red circle", "blue square"), (("left of", (0, 1)),), ("to the left of",)
    )
    part, *names = broken.split(".", 1)
    with (
        outputs_of(generator.pipeline.components[part].get_submodule(*names), poisoned),
        pytest.raises(recording.Rejected, match=message) as caught,
    ):
        recording.make_records(row, generator, LABELS, settings)
    assert caught.value.reason == "not finite"
