"""Guided steps and the loop around the pipeline."""

from __future__ import annotations

import copy
import time
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import pytest
import torch

from cvg.classifier.model import CompositionClassifier
from cvg.classifier.smoothing import evidence_mask, smooth_noise
from cvg.common.errors import SettingsError, UserError
from cvg.composition import parse
from cvg.generators import Generator, wrap_pipeline
from cvg.guidance.config import GuidanceConfig
from cvg.guidance.guide import Guide
from cvg.guidance.sampler import GuidedSampler
from cvg.guidance.step import move
from cvg.guidance.terms.base import EntityMaps, Taps, Term, union
from cvg.guidance.terms.spread import log_spread
from cvg.guidance.verdict import StepClassifier, Verdict
from tests.helpers.labels import LABELS
from tests.helpers.tiny import STEPS, tiny_classifier, tiny_pipeline

PROMPTS = ["a red circle to the left of a blue square", "a green triangle moving up", "a red circle moving up"]
SIZE = (5, 32, 32)


def sampler(generator: Generator, classifier: CompositionClassifier, **changes: float | None) -> GuidedSampler:
    return GuidedSampler(generator, classifier, replace(GuidanceConfig(smoothing=1), **changes))


def guide(
    generator: Generator,
    classifier: CompositionClassifier,
    prompts: list[str],
    terms: Sequence[Term] = (),
    **changes: float | None,
) -> Guide:
    config = replace(GuidanceConfig(smoothing=1), **changes)
    return Guide(generator, classifier, [parse(prompt, LABELS) for prompt in prompts], config, terms)


def noise(generator: Generator, count: int) -> torch.Tensor:
    return generator.initial_latents([torch.Generator().manual_seed(i) for i in range(count)], SIZE)


def divided(generator: Generator, classifier: CompositionClassifier) -> tuple[torch.Tensor, torch.Tensor, float]:
    """Latents of the three prompts, the probabilities they have, and a bound: one is below it, two are above."""
    latents = noise(generator, 3)
    probability_R = guide(generator, classifier, PROMPTS).judge(latents, torch.tensor(999), 0)
    return latents, probability_R, float(probability_R.sort().values[:2].mean())


def test_off_and_zero_step_are_the_plain_pipeline_bit_for_bit(
    generator: Generator, classifier: CompositionClassifier
) -> None:
    plain = generator.pipeline(
        prompt=PROMPTS,
        generator=[torch.Generator().manual_seed(i) for i in range(3)],
        num_inference_steps=STEPS,
        num_frames=SIZE[0],
        height=SIZE[1],
        width=SIZE[2],
        max_sequence_length=generator.encode_prompts(PROMPTS)["encoder_hidden_states"].shape[1],
        output_type="latent",
    ).frames
    plain = generator.decode_latents(plain)
    off = sampler(generator, classifier)(PROMPTS, [0, 1, 2], guided=False, steps=STEPS, size=SIZE)
    zero = sampler(generator, classifier, step_size=0.0)(PROMPTS, [0, 1, 2], steps=STEPS, size=SIZE)
    guided = sampler(generator, classifier)(PROMPTS, [0, 1, 2], steps=STEPS, size=SIZE)
    assert torch.equal(off.video_BCFHW, plain)
    assert torch.equal(zero.video_BCFHW, plain)
    assert not torch.equal(guided.video_BCFHW, plain)


def test_an_edit_raises_the_target_probability(generator: Generator, classifier: CompositionClassifier) -> None:
    steered = guide(generator, classifier, PROMPTS, step_size=0.02, iterations=4, repeat_below=1.0, threshold=None)
    edited, verdicts = steered.edit(noise(generator, 3), torch.tensor(999), 0)
    assert len(verdicts) == 4 and (verdicts[-1] > verdicts[0]).all()
    assert (steered.judge(edited, torch.tensor(999), 0) > verdicts[0]).all()


@pytest.mark.parametrize(("noise_level", "seen"), [(0.0, 2), (0.5, 1), (0.5, 2)])
def test_a_verdict_is_the_mean_over_noisy_copies_of_the_whole_phi(
    generator: Generator, classifier: CompositionClassifier, noise_level: float, seen: int
) -> None:
    """What is remembered of earlier steps, or absent, against `classify` on a phi put together here."""
    classifier = copy.deepcopy(classifier)
    classifier.config = replace(classifier.config, noise=noise_level)
    torch.nn.init.normal_(classifier.absent_SKFHW)
    steered = guide(generator, classifier, PROMPTS, smoothing=3)
    classify, everyone = steered.classify, range(3)
    rows, present = range(len(steered.relations)), classify.present_RK
    with torch.no_grad():
        phi = classifier.absent_SKFHW * present[:, None, :, None, None, None]
        for step in range(seen):
            maps = steered.maps(noise(generator, 3), torch.tensor(999), everyone, step).of(steered.read)
            phi[:, step] = classify.volume(maps, everyone, step)
            verdict = classify(maps, everyone, step).log_probability_RY
            again = classify.log_probability(classify.features(phi[:, step], rows, step), rows, step)
            torch.testing.assert_close(verdict, again)
        mask = torch.arange(phi.shape[1]).expand(phi.shape[:2]) < seen
        drawn = smooth_noise((3, 1, *phi.shape[1:]), torch.Generator().manual_seed(0))
        logits = [classifier.classify(phi + noise_level * n * evidence_mask(present, mask), present) for n in drawn]
    for i, group in enumerate(map(list, steered.relations.group_R)):
        torch.testing.assert_close(verdict[i, group], torch.stack(logits).mean(0)[i, group].log_softmax(-1))


def test_an_edit_is_the_shorter_the_nearer_a_sample_is_to_what_is_asked(generator: Generator) -> None:
    """By its least probable relation; the second prompt's two relations differ."""
    prompts = [PROMPTS[0], "a red circle moving left above a blue square"]
    latents = noise(generator, 2)
    decided = tiny_classifier(generator, 5)  # a seed whose classifier finds the first sample near
    for parameter in decided.head.parameters():
        parameter.data *= 40
    steered = guide(generator, decided, prompts, step_size=0.1, fade=0.75, threshold=None, iterations=1)
    edited, [first] = steered.edit(latents, torch.tensor(999), 0)
    assert first[0] > 0.4 and first[1] != first[2]
    wanted = 0.1 * (1 - 0.75 * torch.stack([first[0], first[1:].min()]))
    torch.testing.assert_close((edited - latents).flatten(1).square().mean(1).sqrt(), wanted, rtol=0.1, atol=0)


def test_an_edit_keeps_each_channels_mean_and_deviation(
    generator: Generator, classifier: CompositionClassifier
) -> None:
    latents = noise(generator, 3)
    steered = guide(generator, classifier, PROMPTS, step_size=0.3, iterations=2, threshold=None)
    edited, _ = steered.edit(latents, torch.tensor(999), 0)
    assert not torch.allclose(edited, latents, atol=0.1)
    for statistic in (torch.mean, torch.std):
        torch.testing.assert_close(
            statistic(edited.flatten(2), dim=2), statistic(latents.flatten(2), dim=2), atol=1e-5, rtol=1e-4
        )


def test_a_move_is_the_step_followed_by_matching_each_channel() -> None:
    """Against a plain loop over channels in float64; a channel without variance stays as it is."""
    source = torch.Generator().manual_seed(0)
    z, gradient = torch.randn(2, 4, 2, 3, 3, generator=source, dtype=torch.float64)
    z[3], gradient[3] = 0.5, 0.0
    wanted = z - 0.2 * gradient / gradient.square().mean().sqrt()
    for channel, before in zip(wanted, z, strict=True):
        channel -= channel.mean()
        if before.std() > 0:
            channel *= before.std() / channel.std()
        channel += before.mean()
    torch.testing.assert_close(move(z, gradient, 0.2), wanted)
    assert torch.equal(move(z, gradient, 0.0), z)
    torch.testing.assert_close(move(z, torch.zeros_like(z), 0.2), z)


@pytest.mark.parametrize(("guided_step", "weight"), [(1, 0.0), (1, 2.0), (0, 2.0)])
def test_the_edit_follows_the_gradient_of_the_loss(
    generator: Generator, classifier: CompositionClassifier, guided_step: int, weight: float
) -> None:
    """The latents make the move for the gradient of the loss, computed here from the public pieces.

    The spread counts from the second guided step on.
    """
    latents = noise(generator, 1)
    classifier = copy.deepcopy(classifier)
    classifier.config = replace(classifier.config, noise=0.0)
    options = {"step_size": 0.1, "fade": 0.0, "iterations": 1, "threshold": None, "spread": weight}
    steered = guide(generator, classifier, PROMPTS[:1], **options)
    edited, _ = steered.edit(latents, torch.tensor(999), guided_step)
    config = classifier.config
    z = latents.clone().requires_grad_(True)
    conditioning = generator.encode([parse(PROMPTS[0], LABELS)])
    maps = generator.entity_maps(z, torch.tensor(999), conditioning, config.layers)
    steps = torch.zeros(1, len(config.sigmas), dtype=torch.bool)
    steps[:, guided_step] = True
    maps_BSLAKFHW = torch.stack([maps[:, :, config.heads]] * len(config.sigmas), dim=1)
    logits = classifier(maps_BSLAKFHW, torch.ones(1, 2, dtype=torch.bool), steps)
    group = classifier.labels.group_indices("left of")
    loss = -logits[:, group].log_softmax(-1)[0, group.index(classifier.labels.index("left of"))]
    if guided_step > 0:
        loss = loss + weight * log_spread(maps).sum()
    (gradient,) = torch.autograd.grad(loss, z)
    torch.testing.assert_close(edited[0], move(latents[0], gradient[0], 0.1), atol=1e-4, rtol=1e-3)


def test_the_weight_of_the_spread_gathers_entities(generator: Generator, classifier: CompositionClassifier) -> None:
    """In one iteration each, edits with a heavy weight leave every prompt's entities less spread than those without."""
    latents, timestep = noise(generator, 3), torch.tensor(999)
    spread = {}
    for weight in (0.0, 100.0):
        steered = guide(generator, classifier, PROMPTS, threshold=None, iterations=1, spread=weight)
        with torch.no_grad():
            edited, _ = steered.edit(latents, timestep, 1)
            maps = steered.maps(edited, timestep, range(3), 1)
            spread[weight] = log_spread(maps.maps_BLAEFHW).sum(-1)
    assert (spread[100.0] < spread[0.0]).all()


def test_a_satisfied_sample_is_left_alone(generator: Generator, classifier: CompositionClassifier) -> None:
    latents = noise(generator, 3)
    steered = guide(generator, classifier, PROMPTS, threshold=1e-6)
    edited, verdicts = steered.edit(latents, torch.tensor(999), 0)
    assert torch.equal(edited, latents) and len(verdicts) == 1


def test_satisfied_samples_are_judged_at_the_next_step_and_moved_if_they_no_longer_are(
    generator: Generator, classifier: CompositionClassifier, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As if nothing had been remembered, but for gradients: only samples that need them get them."""
    timestep = torch.tensor(999)
    latents, first, threshold = divided(generator, classifier)
    with_gradients: list[int] = []
    classify = StepClassifier.__call__

    def counted(self: StepClassifier, maps: torch.Tensor, *rest: Any) -> Verdict:
        with_gradients.append(len(maps) if maps.requires_grad else 0)
        return classify(self, maps, *rest)

    monkeypatch.setattr(StepClassifier, "__call__", counted)
    steered = guide(generator, classifier, PROMPTS, threshold=threshold, iterations=1)
    edited, _ = steered.edit(latents, timestep, 0)
    assert steered.satisfied == [i for i in range(3) if first[i] >= threshold] and len(steered.satisfied) == 2
    _, [verdict] = steered.edit(edited, timestep, 0)
    assert with_gradients == [3, 0, 1]
    torch.testing.assert_close(verdict[first >= threshold], first[first >= threshold])
    # Other latents: the two are not satisfied any more.
    steered.config = replace(steered.config, threshold=None)
    moved, _ = steered.edit(edited, timestep, 0)
    assert with_gradients[3:] == [0, 3]
    assert (moved != edited).flatten(1).any(1).all()


def test_only_samples_with_little_of_what_is_asked_get_further_iterations(
    generator: Generator, classifier: CompositionClassifier
) -> None:
    """The rest moves as with one iteration; the verdicts say how often each was looked at."""
    timestep = torch.tensor(999)
    latents, first, between = divided(generator, classifier)
    options = {"repeat_below": between, "threshold": None, "step_size": 0.01}
    once, _ = guide(generator, classifier, PROMPTS, **options, iterations=1).edit(latents, timestep, 0)
    thrice, verdicts = guide(generator, classifier, PROMPTS, **options, iterations=3).edit(latents, timestep, 0)
    few = int(first.argmin())
    looked_at = (torch.stack(verdicts).diff(dim=0) != 0).sum(0)
    assert looked_at.tolist() == [2 * (i == few) for i in range(3)]
    assert verdicts[0][few] < verdicts[1][few] < verdicts[2][few]
    assert [torch.equal(a, b) for a, b in zip(once, thrice, strict=True)] == [i != few for i in range(3)]


def test_only_what_was_moved_is_judged_again(
    generator: Generator, classifier: CompositionClassifier, monkeypatch: pytest.MonkeyPatch
) -> None:
    timestep = torch.tensor(999)
    latents, _, threshold = divided(generator, classifier)
    steered = guide(generator, classifier, PROMPTS, threshold=threshold, iterations=1)
    edited, verdicts = steered.edit(latents, timestep, 0)
    wanted = steered.judge(edited, timestep, 0)
    judged: list[int] = []
    verdict = Guide.verdict
    monkeypatch.setattr(Guide, "verdict", lambda self, z, *rest: judged.append(len(z)) or verdict(self, z, *rest))
    torch.testing.assert_close(steered.judge(edited, timestep, 0, steered.wanting, verdicts[-1]), wanted)
    assert judged == [1]


def test_a_batch_is_guided_as_its_samples_are_alone(generator: Generator, classifier: CompositionClassifier) -> None:
    latents = noise(generator, 3)
    together = guide(generator, classifier, PROMPTS).edit(latents, torch.tensor(999), 0)[0]
    for i, prompt in enumerate(PROMPTS):
        alone = guide(generator, classifier, [prompt]).edit(latents[i : i + 1], torch.tensor(999), 0)[0]
        torch.testing.assert_close(together[i : i + 1], alone, atol=2e-4, rtol=1e-3)


def test_two_relations_add_up(generator: Generator, classifier: CompositionClassifier) -> None:
    steered = guide(
        generator,
        classifier,
        ["a red circle moving left above a blue square"],
        iterations=2,
        repeat_below=1.0,
        threshold=None,
    )
    _, (first, second) = steered.edit(noise(generator, 1), torch.tensor(999), 0)
    assert first.shape == (2,) and (first != second).all()


def test_the_time_leaves_out_the_verdict_that_is_for_the_record(
    generator: Generator, classifier: CompositionClassifier, monkeypatch: pytest.MonkeyPatch
) -> None:
    judge = Guide.judge

    def slow(self: Guide, *rest: Any) -> torch.Tensor:
        time.sleep(0.5)
        return judge(self, *rest)

    monkeypatch.setattr(Guide, "judge", slow)
    began = time.perf_counter()
    result = sampler(generator, classifier)(PROMPTS[:1], [0], steps=STEPS, size=SIZE)
    assert 0 < result.seconds <= time.perf_counter() - began - 0.5


def test_a_classifier_brings_what_suits_it_and_what_is_given_wins(generator: Generator) -> None:
    plain = tiny_classifier(generator)
    own = copy.deepcopy(plain)
    own.config = replace(plain.config, sampling={"step_size": 0.03, "guidance_scale": 2.0})

    def video(classifier: CompositionClassifier, scale: float | None = None, **changes: float | None) -> torch.Tensor:
        return sampler(generator, classifier, **changes)(
            PROMPTS, [0, 1, 2], steps=STEPS, guidance_scale=scale, size=SIZE
        ).video_BCFHW

    assert torch.equal(video(own), video(plain, 2.0, step_size=0.03))
    assert torch.equal(video(own, 4.0, step_size=0.3), video(plain, 4.0, step_size=0.3))
    assert not torch.equal(video(own), video(plain))


def test_another_generators_classifier_is_refused(generator: Generator, classifier: CompositionClassifier) -> None:
    other = wrap_pipeline(tiny_pipeline(seed=1), "other")
    with pytest.raises(UserError, match=r"trained on the attention of .* use that generator"):
        GuidedSampler(other, classifier)


def test_videos_have_the_size_of_training_whatever_grid_its_maps_were_stored_on(generator: Generator) -> None:
    classifier = tiny_classifier(generator, grid=[2, 4, 4], token_grid=[2, 4, 6], volume_grid=[2, 4, 4])
    guided = sampler(generator, classifier, threshold=None, iterations=1)
    assert guided.size == (5, 32, 48)
    result = guided(PROMPTS[:1], [0], steps=STEPS)
    assert result.video_BCFHW.shape[2:] == guided.size and [len(trail) for trail in result.probabilities.values()] == [
        1,
        2,
    ]


def test_a_schedule_without_the_classifiers_steps_is_refused(
    generator: Generator, classifier: CompositionClassifier
) -> None:
    with pytest.raises(UserError, match=r"use \d+ steps or more"):
        sampler(generator, classifier)(PROMPTS[:1], [0], steps=1, size=SIZE)


def test_a_term_reads_its_own_taps_and_counts_from_its_first_guided_step(
    generator: Generator, classifier: CompositionClassifier
) -> None:
    """A term that needs other layers has the generator read those too; the classifier still sees its own."""

    class Peak:
        taps, first_guided_step = Taps((0, 1), (1, 3)), 1

        def __call__(self, maps: EntityMaps, verdict: Verdict) -> torch.Tensor:
            assert maps.of(self.taps).shape[1:3] == (2, 2)
            return maps.of(self.taps).amax()

    few = tiny_classifier(generator, layers=[1, 2], heads=[0, 2])
    latents, timestep = noise(generator, 3), torch.tensor(999)
    plain, extended = guide(generator, few, PROMPTS), guide(generator, few, PROMPTS, terms=[Peak()])
    assert union([extended.read, Peak.taps]) == Taps((0, 1, 2), (0, 1, 2, 3))
    assert torch.equal(extended.edit(latents, timestep, 0)[0], plain.edit(latents, timestep, 0)[0])
    wide, own = (each.maps(latents, timestep, range(3), 1) for each in (extended, plain))
    assert wide.maps_BLAEFHW.shape[1:3] == (3, 4)
    torch.testing.assert_close(wide.of(plain.read), own.maps_BLAEFHW)
    moved = [each.edit(latents, timestep, 1)[0] for each in (extended, plain)]
    assert not torch.allclose(*moved)


@pytest.mark.parametrize(("options", "message"), [({"steps": 0}, "steps 0"), ({"size": (5, 0, 32)}, "height 0")])
def test_a_size_and_steps_are_at_least_one(options: dict[str, Any], message: str) -> None:
    generator = wrap_pipeline(tiny_pipeline(), "tiny")
    with pytest.raises(SettingsError, match=f"{message}: give at least 1"):
        GuidedSampler(generator, tiny_classifier(generator))(["a red circle moving up"], [0], **options)


def test_a_sampler_guides_by_further_terms_too(generator: Generator, classifier: CompositionClassifier) -> None:
    class Peak:
        taps, first_guided_step = Taps.of(classifier.config.layers, classifier.config.heads), 0

        def __call__(self, maps: EntityMaps, verdict: Verdict) -> torch.Tensor:
            return 100 * maps.of(self.taps).amax()

    config = GuidanceConfig(smoothing=1, threshold=None)
    plain, extended = (GuidedSampler(generator, classifier, config, terms=terms) for terms in ([], [Peak()]))
    videos = [each(PROMPTS[:1], [0], steps=STEPS, size=SIZE).video_BCFHW for each in (plain, extended)]
    assert not torch.equal(*videos)
