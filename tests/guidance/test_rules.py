"""Guidance by rules: what maps show, by formulas, and videos guided by them."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any
from unittest.mock import patch

import pytest
import torch
from torch import Tensor

from cvg.classifier.config import SamplingSettings
from cvg.common.errors import PromptError, SettingsError
from cvg.common.sizes import Size
from cvg.composition import Composition, LabelSet, RelationBatch, build, parse
from cvg.generators import Generator
from cvg.guidance.choice import BestSeed
from cvg.guidance.config import GuidanceConfig
from cvg.guidance.formulas import ALONE, BETWEEN, IN_ONE_PLACE, seen, travelled
from cvg.guidance.guide import Guide
from cvg.guidance.places import place
from cvg.guidance.rules import GENTLE, Rules, StepRules
from cvg.guidance.sampler import GuidedSampler
from cvg.guidance.stated import formula_of, stated, stated_part
from cvg.guidance.terms.base import EntityMaps, Taps
from cvg.guidance.terms.rules import RulesTerm
from cvg.guidance.traces import traces
from cvg.guidance.turns import turns
from cvg.judging.rules import RULES
from tests.helpers.tiny import STEPS, tiny_classifier

SHAPES, WORLD = LabelSet.load("shapes"), LabelSet.load("world")
SIZE = Size(5, 32, 32)
FRAMES, ROWS, COLUMNS = 4, 12, 20
PROMPTS = {1: "a {e0} {r0}", 2: "a {e0} {r0} a {e1}"}

Way = Sequence[tuple[float, float]]


def asking(labels: LabelSet, name: str) -> Composition:
    label = labels[name]
    entities = ["cat", "dog"][: label.entities]
    return build(PROMPTS[label.entities], entities, [(name, range(label.entities))], [label.wordings[0]])


def line(start: tuple[float, float], end: tuple[float, float]) -> Way:
    steps = [frame / (FRAMES - 1) for frame in range(FRAMES)]
    return [(start[0] + (end[0] - start[0]) * t, start[1] + (end[1] - start[1]) * t) for t in steps]


def maps_of(*ways: Way, widths: Sequence[float] = (0.06,) * FRAMES) -> Tensor:
    """Maps (1, 2, 3, E, F, H, W) of soft blobs that go these ways, (x, y) from 0 to 1, on a faint background."""
    y = (torch.arange(ROWS) + 0.5)[:, None] / ROWS
    x = (torch.arange(COLUMNS) + 0.5) / COLUMNS
    blobs = torch.stack(
        [
            torch.stack(
                [
                    torch.exp(-(((x - a) * COLUMNS / ROWS) ** 2 + (y - b) ** 2) / (2 * (2 * w) ** 2))
                    for (a, b), w in zip(way, widths, strict=True)
                ]
            )
            for way in ways
        ]
    )
    return (0.001 + 0.1 * blobs).expand(1, 2, 3, *blobs.shape).clone()


def probabilities(labels: LabelSet, name: str, maps: Tensor) -> dict[str, float]:
    """What the rules make of maps, over the group of a label."""
    relations = RelationBatch.of([asking(labels, name)], labels)
    log_probability_RY = StepRules(labels, relations)(maps, [0], 0).log_probability_RY
    return {labels.names[i]: float(log_probability_RY[0, i].exp()) for i in labels.group_indices(name)}


MIDDLE = line((0.5, 0.5), (0.5, 0.5))
CIRCLE: Way = [(0.5 + 0.2 * math.cos(a), 0.5 + 0.33 * math.sin(a)) for a in (0, 1.7, 3.4, 5.1)]
SHOWN: dict[str, tuple[Way, ...]] = {
    "moves left": (line((0.8, 0.5), (0.2, 0.5)),),
    "moves right": (line((0.2, 0.4), (0.8, 0.5)),),
    "moves up": (line((0.5, 0.8), (0.5, 0.2)),),
    "moves down": (line((0.4, 0.2), (0.5, 0.8)),),
    "left of": (line((0.2, 0.5), (0.3, 0.4)), line((0.7, 0.5), (0.7, 0.6))),
    "right of": (line((0.8, 0.5), (0.7, 0.4)), line((0.3, 0.5), (0.3, 0.6))),
    "above": (line((0.5, 0.2), (0.6, 0.2)), line((0.5, 0.8), (0.4, 0.8))),
    "below": (line((0.5, 0.8), (0.6, 0.8)), line((0.5, 0.2), (0.4, 0.2))),
    "towards": (line((0.1, 0.5), (0.5, 0.5)), line((0.8, 0.5), (0.8, 0.5))),
    "away from": (line((0.6, 0.5), (0.1, 0.5)), line((0.8, 0.5), (0.8, 0.5))),
    "past": (line((0.1, 0.3), (0.9, 0.3)), MIDDLE),
    "around": (CIRCLE, MIDDLE),
    "following": (line((0.1, 0.5), (0.5, 0.5)), line((0.4, 0.5), (0.8, 0.5))),
    "inside": (line((0.5, 0.5), (0.5, 0.5)), MIDDLE),
    "bounces": ([(0.5, 0.2), (0.5, 0.8), (0.5, 0.7), (0.5, 0.2)],),
    "goes and returns": ([(0.7, 0.5), (0.3, 0.5), (0.2, 0.5), (0.6, 0.5)],),
    "stops": ([(0.2, 0.5), (0.6, 0.5), (0.7, 0.5), (0.7, 0.5)],),
    "sets off": ([(0.7, 0.5), (0.7, 0.5), (0.6, 0.5), (0.2, 0.5)],),
    "moves left then up": ([(0.7, 0.7), (0.4, 0.7), (0.4, 0.6), (0.4, 0.3)],),
    "moves up then left": ([(0.7, 0.7), (0.7, 0.4), (0.6, 0.4), (0.3, 0.4)],),
    "moves right then down": ([(0.3, 0.3), (0.6, 0.3), (0.6, 0.4), (0.6, 0.7)],),
    "swaps with": (line((0.2, 0.4), (0.8, 0.4)), line((0.8, 0.6), (0.2, 0.6))),
    "bumps into": ([(0.1, 0.5), (0.5, 0.5), (0.5, 0.5), (0.1, 0.5)], line((0.7, 0.5), (0.7, 0.5))),
    "meets": (line((0.1, 0.5), (0.4, 0.5)), line((0.9, 0.5), (0.6, 0.5))),
}


def ruled(*names: str) -> LabelSet:
    """One group, of labels with these rules."""
    entities = 1 if names[0] in ALONE else 2
    labels = {name: {"wordings": [f"is {name}"], "rule": name} for name in names}
    return LabelSet({"group": {"entities": entities, "labels": labels}})


GROUPS = [
    ("moves left", "moves right", "moves up", "moves down"),
    ("left of", "right of", "above", "below"),
    ("towards", "away from", "past", "around", "following"),
    ("inside", "left of", "right of", "above", "below"),
    ("grows", "shrinks", "bounces", "goes and returns", "stops", "sets off"),
    ("moves left then up", "moves up then left", "moves right then down", "moves down then right"),
    ("around", "following", "swaps with", "bumps into", "past", "meets"),
]


@pytest.mark.parametrize(("group", "name"), [(g, n) for g in GROUPS for n in g if n in SHOWN])
def test_the_label_that_is_drawn_is_the_likeliest_of_its_group(group: tuple[str, ...], name: str) -> None:
    found = probabilities(ruled(*group), name, maps_of(*SHOWN[name]))
    assert max(found, key=found.__getitem__) == name, found
    assert sum(found.values()) == pytest.approx(1)


def test_what_grows_comes_towards_the_camera() -> None:
    labels = ruled("towards the camera", "away from the camera", "moves left")
    growing, shrinking = (maps_of(MIDDLE, widths=w) for w in ((0.04, 0.06, 0.08, 0.1), (0.1, 0.08, 0.06, 0.04)))
    assert probabilities(labels, "moves left", growing)["towards the camera"] > 0.9
    assert probabilities(labels, "moves left", shrinking)["away from the camera"] > 0.9


def test_what_is_on_lies_on_top_and_what_is_next_to_lies_beside() -> None:
    labels = ruled("on", "next to", "inside", "left of")
    side = float(seen(place(maps_of(MIDDLE))[0, :1]).side_RF[0, 0]) / math.sqrt(COLUMNS / ROWS)
    above = line((0.5, 0.5 - side * COLUMNS / ROWS), (0.5, 0.5 - side * COLUMNS / ROWS))
    beside = line((0.5 + side, 0.5), (0.5 + side, 0.5))
    for way, name in ((above, "on"), (beside, "next to"), (MIDDLE, "inside")):
        found = probabilities(labels, name, maps_of(way, MIDDLE))
        assert max(found, key=found.__getitem__) == name, found


@pytest.mark.parametrize("name", sorted(stated(SHAPES)))
def test_the_mirror_image_shows_the_mirrored_label_as_clearly(name: str) -> None:
    generator = torch.Generator().manual_seed(3)
    maps = torch.rand(1, 2, 3, SHAPES[name].entities, FRAMES, ROWS, COLUMNS, generator=generator)
    found, mirrored = (probabilities(SHAPES, name, each) for each in (maps, maps.flip(-1)))
    assert sum(found.values()) == pytest.approx(1)
    for label, probability in found.items():
        assert mirrored[SHAPES[label].mirror] == pytest.approx(probability, rel=1e-3)


def test_the_gradient_moves_the_maps_towards_the_label_and_is_that_of_finite_differences() -> None:
    for name, ways in SHOWN.items():
        labels = ruled(name, *(rival for rival in (ALONE if name in ALONE else BETWEEN) if rival != name))
        maps = maps_of(*ways).double().requires_grad_()
        rules = StepRules(labels, RelationBatch.of([asking(labels, name)], labels))

        def value(of: Tensor, rules: StepRules = rules) -> Tensor:
            return rules(of, [0], 0).log_target_R.sum()

        (gradient,) = torch.autograd.grad(value(maps), maps)
        assert gradient.isfinite().all(), name
        with torch.no_grad():
            step = 1e-4 * gradient / (gradient.norm() + 1e-12)
            assert value(maps + step) >= value(maps - step), name


def test_a_still_pair_and_absent_maps_have_finite_gradients() -> None:
    labels = ruled("towards", "past", "around", "following", "next to", "on", "inside")
    rules = StepRules(labels, RelationBatch.of([asking(labels, "past")], labels))
    for maps in (maps_of(MIDDLE, MIDDLE), torch.zeros(1, 1, 1, 2, 1, 4, 4)):
        verdict = rules(maps.requires_grad_(), [0], 0)
        (gradient,) = torch.autograd.grad(verdict.log_target_R.sum(), maps)
        assert gradient.isfinite().all() and verdict.log_target_R.isfinite().all()


def test_travelled_is_the_line_that_numpy_fits() -> None:
    import numpy as np

    track = torch.rand(2, 5, 3, generator=torch.Generator().manual_seed(0))
    for row in range(2):
        slope = np.polyfit(range(5), track[row].numpy(), 1)[0]
        np.testing.assert_allclose(travelled(track)[row], 4 * slope, rtol=1e-4)


def test_every_formula_has_the_name_of_a_rule_by_which_videos_show_labels() -> None:
    for entities, formulas in ((1, ALONE), (2, BETWEEN)):
        assert {name for name in formulas if name not in RULES} == set()
        assert all(RULES[name].entities == entities for name in formulas)
    # Depth, colours, and whether a thing is there at all are not in where it is attended to.
    unstated = set(RULES) - set(ALONE) - set(BETWEEN)
    assert {name for name in unstated if not name.startswith(("is ", "turns "))} == {"in front of", "behind", "blinks"}


def test_a_label_without_a_formula_is_refused_and_never_seen(generator: Generator) -> None:
    labels = LabelSet(
        {
            "doing": {
                "entities": 1,
                "labels": {
                    "sits": {"wordings": ["sitting"], "question": "Does the {subject} sit?"},
                    "left": {"wordings": ["moving left"], "rule": "moves left"},
                    "right": {"wordings": ["moving right"], "rule": "moves right"},
                },
            }
        }
    )
    assert formula_of(labels["sits"]) is None
    rules = Rules.of(generator, labels, SIZE)
    with pytest.raises(PromptError, match=r"label 'sits': no rule on attention maps states it; rules know left, right"):
        Guide(generator, rules, [asking(labels, "sits")], GuidanceConfig())
    assert stated(labels) == rules.identity("rules")["labels"] == ["left", "right"]
    found = probabilities(labels, "left", maps_of(SHOWN["moves left"][0]))
    assert found["sits"] == 0 and found["left"] > 0.9


def test_an_attribute_is_as_probable_as_its_entity_is_in_one_place() -> None:
    labels, spread_out = LabelSet.load("world"), maps_of(MIDDLE, MIDDLE, widths=(0.5,) * 4)
    near, far = (probabilities(labels, "red", maps) for maps in (maps_of(MIDDLE, MIDDLE), spread_out))
    assert near["red"] > 0.6 > 0.4 > far["red"]
    assert sum(far.values()) == pytest.approx(1) and far["blue"] == far["orange"]
    side = seen(place(spread_out)[0, :1]).side_RF
    odds = (IN_ONE_PLACE / side).square()
    assert far["red"] == pytest.approx(float((odds / (1 + odds)).log().mean().exp()), rel=1e-5)
    peak = torch.zeros_like(spread_out)
    peak[..., ROWS // 2, COLUMNS // 2] = 1  # as much in one place as can be
    assert probabilities(labels, "red", peak)["red"] < 1


def test_an_entity_well_in_one_place_still_has_a_gradient() -> None:
    labels = LabelSet.load("world")
    maps = maps_of(MIDDLE, MIDDLE, widths=(0.03,) * FRAMES).requires_grad_()
    assert (seen(place(maps)[0, :1]).side_RF < IN_ONE_PLACE).all()
    batch = RelationBatch.of([asking(labels, "red")], labels)
    (gradient,) = torch.autograd.grad(StepRules(labels, batch)(maps, [0], 0).log_target_R.sum(), maps)
    assert gradient.isfinite().all() and gradient.abs().max() > 0


def test_attributes_are_guided_beside_places_and_sizes_are_not() -> None:
    labels = LabelSet.load("world")
    composition = parse("a small red car to the left of a blue van", labels)
    part, left_out = stated_part(composition, labels)
    assert part is not None and {relation.label for relation in part.relations} == {"left of", "red", "blue"}
    assert left_out == ["small"]
    batch = RelationBatch.of([part], labels)
    taps, maps = Taps.of([0], [0]), torch.rand(1, 1, 1, len(part.entities), FRAMES, ROWS, COLUMNS).requires_grad_()
    verdict = StepRules(labels, batch)(maps, [0], 0)
    term = RulesTerm(1.0, StepRules(labels, batch), taps)(EntityMaps(maps, taps), verdict)
    torch.testing.assert_close(term, -verdict.log_target_R.sum())
    (gradient,) = torch.autograd.grad(term, maps)
    assert gradient.isfinite().all() and (gradient.flatten(-3).abs().amax(-1) > 0).all()


def test_edits_for_attributes_alone_are_shorter(generator: Generator) -> None:
    labels = LabelSet.load("world")
    prompts = ["a red car and a blue van", "a red car to the left of a van"]
    asked = [part for prompt in prompts if (part := stated_part(parse(prompt, labels), labels)[0])]
    config = GuidanceConfig(step_size=0.2, fade=0.0)
    guide = Guide(generator, Rules.of(generator, labels, SIZE), asked, config)
    assert guide._step_sizes(torch.zeros(len(guide.relations))) == [pytest.approx(0.2 * GENTLE), 0.2]


ATTRIBUTES, PLACES = "a red car and a blue van", "a red car to the left of a van"


def of_world(prompt: str) -> Composition:
    part, _ = stated_part(parse(prompt, WORLD), WORLD)
    assert part is not None
    return part


@pytest.mark.parametrize(
    ("count", "known", "places", "attributes"),
    [
        (4, 6, [0, 1, 2, 3], [2, 3, 4, 5]),
        (2, 6, [0, 1], [2, 3]),
        (6, 6, [0, 1, 2, 3, 4, 5], [0, 1, 2, 3, 4, 5]),
        (5, 6, [0, 1, 2, 3, 4], [1, 2, 3, 4, 5]),
        (4, 4, [0, 1, 2, 3], [0, 1, 2, 3]),
        (4, 3, [0, 1, 2], [0, 1, 2]),
        (0, 6, [], []),
    ],
)
def test_attributes_alone_are_guided_later(
    generator: Generator, count: int, known: int, places: list[int], attributes: list[int]
) -> None:
    rules = Rules.of(generator, WORLD, SIZE, sigmas=[0.95 - 0.05 * k for k in range(known)])
    relations = RelationBatch.of([of_world(ATTRIBUTES), of_world(PLACES)], WORLD)
    config = GuidanceConfig(guided_steps=count).preferred(rules.config.sampling)
    assert [list(turn) for turn in turns(rules, relations, config)] == [attributes, places]


def test_classifiers_say_what_they_guide_later(generator: Generator) -> None:
    classifier = tiny_classifier(generator, labels=SHAPES.to_dict())
    relations = [("left of", (0, 1)), ("in red", (0,))]
    mixed = build("a {e0} {r0} a {e1}, {r1}", ["cat", "dog"], relations, ["left of", "in red"])
    asked = RelationBatch.of([asking(SHAPES, "left of"), asking(SHAPES, "in red"), mixed], SHAPES)

    def found(sampling: SamplingSettings, **given: Any) -> list[list[int]]:
        config = GuidanceConfig(guided_steps=1, **given).preferred(sampling)
        return [list(turn) for turn in turns(classifier, asked, config)]

    assert found(SamplingSettings()) == [[0], [0], [0]]
    assert found(SamplingSettings(later={"attribute": 1})) == [[0], [1], [0]]
    assert found(SamplingSettings(later={"attribute": 9, "spatial": 9})) == [[1], [1], [1]]
    assert found(SamplingSettings(later={"attribute": 1}), later={}) == [[0], [0], [0]]
    with pytest.raises(SettingsError, match="later 'colour': no group of the labels, which are motion, spatial"):
        found(SamplingSettings(), later={"colour": 1})


def test_no_group_is_guided_earlier() -> None:
    with pytest.raises(
        SettingsError, match=r"guidance: 'later' is {.spatial.: -1}; expected a whole number of at least 0"
    ):
        GuidanceConfig(later={"spatial": -1})


@pytest.mark.parametrize(
    ("every_step", "steps", "step_size", "late", "early"),
    [(False, 12, 0.5, [3, 4, 5, 6], [1, 2, 3, 4]), (True, 24, 0.1, [*range(5, 13)], [*range(9)])],
)
def test_who_is_guided_later_is_so_in_every_batch(
    generator: Generator, every_step: bool, steps: int, step_size: float, late: list[int], early: list[int]
) -> None:
    config = GuidanceConfig(threshold=None, step_size=step_size, every_step=every_step)
    sampler = GuidedSampler(generator, Rules.of(generator, WORLD, SIZE), config, size=SIZE)
    asked = [of_world(ATTRIBUTES), of_world(PLACES)]
    at = sampler.guided_steps(steps, levels=sampler.levels(asked))
    assert list(at) == [*range(min(early), max(late) + 1)] and at[late[0]] == 2
    assert {at[step] for step in early} == {0, 1, 2, 3} and {at[step] for step in late} == {2, 3, 4, 5}
    both = sampler([ATTRIBUTES, PLACES], [0, 1], asked, steps=steps)
    told = traces(both, WORLD)
    for sample, guided in enumerate((late, early)):
        alone = sampler([asked[sample].prompt], [sample], [asked[sample]], steps=steps)
        torch.testing.assert_close(both.video_BCFHW[sample], alone.video_BCFHW[0], atol=1e-4, rtol=0)
        for mine, its in zip(told[sample], traces(alone, WORLD)[0], strict=True):
            assert [step["step"] for step in mine["steps"]] == guided
            # The last step also tells what came of its last move.
            assert [len(step["probability"]) for step in mine["steps"]] == [*[2] * (len(guided) - 1), 3]
            for here, there in zip(mine["steps"], its["steps"], strict=True):
                assert here["probability"] == pytest.approx(there["probability"], abs=1e-4)
            assert mine["probability_after"] == mine["steps"][-1]["probability"][-1]


def test_every_step_is_read_as_the_next_level_and_a_choice_looks_at_levels_alone(generator: Generator) -> None:
    rules = Rules.of(generator, WORLD, SIZE)
    sampler = GuidedSampler(generator, rules, GuidanceConfig(guided_steps=2, every_step=True), size=SIZE)
    assert sampler.guided_steps(24) == {0: 0, 1: 0, 2: 0, 3: 1, 4: 1}
    assert sampler.guided_steps(24, levels=[2]) == {5: 2, 6: 2}
    assert (
        sampler.level_steps(24)
        == {2: 0, 4: 1}
        == GuidedSampler(generator, rules, GuidanceConfig(guided_steps=2), size=SIZE).guided_steps(24)
    )
    with patch.object(generator, "entity_maps", wraps=generator.entity_maps) as looked:
        BestSeed(sampler)([PLACES], [[0, 1]], [of_world(PLACES)], steps=24)
    assert looked.call_count == 2 * 2


def test_a_step_size_of_zero_looks_at_the_first_step_that_is_guided(generator: Generator) -> None:
    sampler = GuidedSampler(generator, Rules.of(generator, WORLD, SIZE), GuidanceConfig(step_size=0.0), size=SIZE)
    assert list(sampler([ATTRIBUTES], [0], [of_world(ATTRIBUTES)], steps=12).probabilities) == [3]


def test_any_generator_is_guided_with_no_training(generator: Generator) -> None:
    rules = Rules.of(generator, SHAPES, SIZE)
    assert rules.config.layers == list(range(math.ceil(2 / 3 * len(generator.blocks))))
    prompts = ["a red circle to the left of a blue square", "a green triangle moving up"]
    plain = GuidedSampler(generator, rules)(prompts, [0, 1], guided=False, steps=12, size=SIZE)
    zero = GuidedSampler(generator, rules, GuidanceConfig(step_size=0.0))(prompts, [0, 1], steps=12, size=SIZE)
    guided = GuidedSampler(generator, rules, GuidanceConfig(threshold=None))(prompts, [0, 1], steps=12, size=SIZE)
    assert torch.equal(zero.video_BCFHW, plain.video_BCFHW)
    assert not torch.equal(guided.video_BCFHW, plain.video_BCFHW)
    first, last = (
        guided.probabilities[min(guided.probabilities)][0],
        guided.probabilities[max(guided.probabilities)][-1],
    )
    assert (last > first).all()


def test_a_verdict_does_not_depend_on_what_a_sample_is_batched_with() -> None:
    one, two = asking(SHAPES, "left of"), asking(SHAPES, "towards")
    maps = torch.rand(2, 2, 3, 2, FRAMES, ROWS, COLUMNS, generator=torch.Generator().manual_seed(1))
    both = StepRules(SHAPES, RelationBatch.of([one, two], SHAPES))
    together = both(maps, [0, 1], 0).log_probability_RY
    torch.testing.assert_close(both(maps[1:], [1], 0).log_probability_RY, together[1:])
    alone = StepRules(SHAPES, RelationBatch.of([two], SHAPES))
    torch.testing.assert_close(alone(maps[1:], [0], 0).log_probability_RY, together[1:])


def test_rules_can_be_added_to_a_classifier(generator: Generator) -> None:
    classifier = tiny_classifier(generator)
    composition = asking(SHAPES, "left of")
    latents = generator.initial_latents([torch.Generator().manual_seed(0)], SIZE)
    guides = [
        Guide(generator, classifier, [composition], GuidanceConfig(rules=weight, spread=0.0)) for weight in (0.0, 2.0)
    ]
    values = []
    for guide in guides:
        maps = guide.maps(latents, torch.tensor(999), [0], 0)
        values.append(guide.loss(maps, guide.classify(maps.of(guide.read), [0], 0), 0))
    rules = StepRules(classifier.labels, guides[0].relations)
    expected = -2.0 * rules(maps.of(guides[1].read), [0], 0).log_target_R.sum()
    torch.testing.assert_close(values[1] - values[0], expected)
    assert STEPS


def test_what_rules_do_not_know_leaves_the_gradient_of_what_they_know() -> None:
    kinds = {"chases": ["is chasing"], "likes": ["is liking"]}
    labels = LabelSet(ruled("left of", "right of").to_dict() | {"kind": {"entities": 2, "labels": kinds}})
    both = RelationBatch.of([asking(labels, "left of"), asking(labels, "likes")], labels)
    taps, generator = Taps.of([0, 1], [0, 1, 2]), torch.Generator().manual_seed(2)
    maps = torch.rand(2, 2, 3, 2, FRAMES, ROWS, COLUMNS, generator=generator).requires_grad_()
    rules = StepRules(labels, both)
    value = RulesTerm(2.0, rules, taps)(EntityMaps(maps, taps), rules(maps, [0, 1], 0))
    (gradient,) = torch.autograd.grad(value, maps)
    assert gradient.isfinite().all() and gradient[0].any() and not gradient[1].any()
    alone = StepRules(labels, RelationBatch.of([asking(labels, "left of")], labels))(maps[:1], [0], 0)
    torch.testing.assert_close(value, -2.0 * alone.log_target_R.sum())


@pytest.mark.parametrize("change", [{"layers": [99]}, {"heads": [99]}, {"heads": []}])
def test_layers_and_heads_that_are_not_there_are_refused(generator: Generator, change: dict[str, list[int]]) -> None:
    with pytest.raises(SettingsError, match="expected"):
        Rules.of(generator, SHAPES, SIZE, **change)
