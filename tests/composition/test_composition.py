import itertools
import random
from collections.abc import Callable, Iterable

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cvg.common.errors import UserError
from cvg.composition import Composition, LabelSet, build, compose, contradict, parse, restated, template_of
from cvg.shapes.world import TEMPLATES

LABELS = LabelSet.load("shapes")
ENTITIES = ("red circle", "blue square")


def summary(composition: Composition) -> list[tuple[str, ...]]:
    """(label, subject[, object]) per relation; checks that every span slices the prompt on the way."""
    prompt = composition.prompt
    for relation in composition.relations:
        assert prompt[relation.start : relation.end] == relation.wording
        assert len(relation.entities) == LABELS[relation.label].entities
        for entity in relation.entities:
            assert prompt[entity.start : entity.end] == entity.phrase
    return [(relation.label, *(entity.phrase for entity in relation.entities)) for relation in composition.relations]


Drawn = tuple[str, str]
"""A label and one of its wordings."""


def every_shapes_composition(draw: Callable[[list[list[Drawn]]], Iterable[tuple[Drawn, ...]]]) -> list[Composition]:
    """Every template, with the labels and wordings that are drawn from those that its places can have."""
    compositions = []
    for template, slots in itertools.chain.from_iterable(TEMPLATES.values()):
        count = 1 + max(max(indices) for _, indices in slots)
        choices = [
            [(label.name, wording) for label in LABELS.groups[group] for wording in label.wordings]
            for group, _ in slots
        ]
        for drawn in draw(choices):
            relations = [(name, indices) for (name, _), (_, indices) in zip(drawn, slots, strict=True)]
            wordings = [wording for _, wording in drawn]
            compositions.append(build(template, ENTITIES[:count], relations, wordings))
    return compositions


def some(choices: list[list[Drawn]]) -> list[tuple[Drawn, ...]]:
    """Each wording at each place of a template, where it has several in four companies."""
    rng, most = random.Random(0), max(map(len, choices))
    drawn: dict[tuple[Drawn, ...], None] = {}
    for _ in range(4 if len(choices) > 1 else 1):
        orders = [rng.sample(place, len(place)) for place in choices]
        drawn |= dict.fromkeys(zip(*([order[i % len(order)] for i in range(most)] for order in orders), strict=True))
    return list(drawn)


def most(choices: list[list[Drawn]]) -> list[tuple[Drawn, ...]]:
    """All that a template can have, and where these are thousands, a share."""
    every = list(itertools.product(*choices))
    return every[:: 1 + len(every) // 400]


ALL = every_shapes_composition(some)


def test_every_wording_in_every_template_is_read_as_it_was_built() -> None:
    assert len(ALL) > 300
    for composition in ALL:
        assert parse(composition.prompt, LABELS) == composition
        assert parse(composition.prompt.upper(), LABELS).relations[0].label == composition.relations[0].label


@pytest.mark.slow
def test_every_wording_in_every_company_is_read_as_it_was_built() -> None:
    every = every_shapes_composition(most)
    assert len(every) > 1200
    for composition in every:
        assert parse(composition.prompt, LABELS) == composition


@pytest.mark.parametrize(
    ("prompt", "expected"),
    [
        ("a dog to the left of a car", [("left of", "dog", "car")]),
        (
            "a small brown dog is running, moving towards an old car in the snow",
            [("towards", "small brown dog", "old car")],
        ),
        ("There is a dog above the car.", [("above", "dog", "car")]),
        ("a photo of a dog that is under a wooden table", [("below", "dog", "wooden table")]),
        ("a dog in the snow moving left", [("left", "dog")]),
        ("in the park a dog sits to the right of two cars", [("right of", "dog", "two cars")]),
        ("a dog slowly moving   left\nin the rain", [("left", "dog")]),
        ("two dogs running fast left of a parked car", [("left of", "two dogs", "parked car")]),
        ("a red building over a painting", [("above", "red building", "painting")]),
        ("a butterfly drifting up", [("up", "butterfly")]),
        ("a man with a hat moving left", [("left", "man")]),
        (
            "a black and white cat left of a cup of coffee on a table",
            [("left of", "black and white cat", "cup of coffee")],
        ),
        ("a dog's bowl below a dog's moving left", [("below", "dog's bowl", "dog"), ("left", "dog")]),
        ("a quick-witted fox leaving its den", [("away from", "quick-witted fox", "den")]),
        ("a clip-over lamp moving left", [("left", "clip-over lamp")]),
        # several relations
        ("a dog and a cat moving left", [("left", "dog"), ("left", "cat")]),
        ("a dog left of a cat and a tree", [("left of", "dog", "cat"), ("left of", "dog", "tree")]),
        ("a dog moving left above a car", [("left", "dog"), ("above", "dog", "car")]),
        ("a dog moving left and a car moving up", [("left", "dog"), ("up", "car")]),
        ("a dog moving left while a car is over a tree", [("left", "dog"), ("above", "car", "tree")]),
        ("a dog above a car moving up", [("above", "dog", "car"), ("up", "car")]),
        ("a dog above a car, moving up", [("above", "dog", "car"), ("up", "dog")]),
        ("a dog above a car and to the left of a tree", [("above", "dog", "car"), ("left of", "dog", "tree")]),
        ("a dog approaching and above a car", [("towards", "dog", "car"), ("above", "dog", "car")]),
        ("a dog above a car, a cat is running, moving up", [("above", "dog", "car"), ("up", "cat")]),
        ("a dog is running. It is moving down", [("down", "dog")]),
    ],
)
def test_natural_prompts(prompt: str, expected: list[tuple[str, ...]]) -> None:
    assert summary(parse(prompt, LABELS)) == expected


def test_longest_wording_wins() -> None:
    relation = parse("a dog on the left side of a car", LABELS).relations[0]
    assert (relation.label, relation.wording) == ("left of", "on the left side of")
    assert parse("a dog moving away from a car", LABELS).relations[0].label == "away from"


def test_entities_are_unique_and_in_order_of_appearance() -> None:
    composition = parse("a dog moving left above a car", LABELS)
    assert [entity.phrase for entity in composition.entities] == ["dog", "car"]
    same = parse("a dog above a dog", LABELS)
    assert [(entity.phrase, entity.start) for entity in same.entities] == [("dog", 2), ("dog", 14)]


def test_entities_by_hand_with_occurrences() -> None:
    prompt = "A dog and a DOG left of a dog"
    composition = parse(prompt, LABELS, entities=["dog#2", "the dog#3"])
    assert summary(composition) == [("left of", "DOG", "dog")]
    assert [entity.start for entity in composition.relations[0].entities] == [12, 26]
    both = parse("dogs moving left above cars", LABELS, entities=["dogs", "dogs", "cars"])
    assert summary(both) == [("left", "dogs"), ("above", "dogs", "cars")]


def test_label_by_hand() -> None:
    ambiguous = "a dog moving to the left of a car"
    with pytest.raises(UserError, match="'moving to the left of' can be read as 'left' and as 'left of'.*the label"):
        parse(ambiguous, LABELS)
    assert summary(parse(ambiguous, LABELS, label="left of")) == [("left of", "dog", "car")]
    assert summary(parse(ambiguous, LABELS, label=["left"])) == [("left", "dog")]
    # Wordings of the labels that are left out still bound the phrases.
    assert summary(parse("a dog moving left above a car", LABELS, label="above")) == [("above", "dog", "car")]


def test_label_and_entities_by_hand_need_no_known_wording() -> None:
    prompt = "a dog darts leftwards over there"
    composition = parse(prompt, LABELS, entities=["dog"], label="left")
    assert summary(composition) == [("left", "dog")]
    assert composition.relations[0].wording == ""
    with pytest.raises(UserError, match="not a known wording"):
        contradict(composition, LABELS, random.Random(0))


@pytest.mark.parametrize(
    ("prompt", "options", "messages"),
    [
        (" ", {}, ["prompt is empty"]),
        (
            "a dog inside a car",
            {},
            ["no known relation", "'dog'", "'car'", "moving left", "the relation's label and entities"],
        ),
        ("moving left", {}, ["no clear subject", "noun phrases none", "'moving left' (left)", "Give the entities"]),
        ("a dog left of", {}, ["no clear object", "'dog'", "'left of' (left of)", "Give the entities"]),
        ("a dog left of, a car", {}, ["no clear object", "'car'"]),
        ("a dog left of in the snow", {}, ["no clear object", "'snow'"]),
        ("a dog left of a cat", {"entities": ["dog"]}, ["1 phrase(s), expected 2", "subject and object", "'cat'"]),
        ("a dog left of a cat", {"entities": ["dog", "horse"]}, ["'horse' is not in the prompt"]),
        ("a dog left of a dog", {"entities": ["dog", "dog#2"]}, ["occurs 2 times", "'dog#1' or 'dog#2'"]),
        ("a dog left of a dog", {"entities": ["dog#1", "dog#3"]}, ["'dog#3'", "2 time(s)"]),
        ("a dog left of a dog", {"entities": ["dog#0", "dog#1"]}, ["'dog#0'"]),
        ("a dog left of a dog", {"entities": ["dog#x", "dog#1"]}, ["'dog#x'", "expected a phrase"]),
        ("a dog left of a cat", {"entities": ["dog left", "cat"]}, ["'dog left' overlaps", "'left of'"]),
        ("a dog left of a cat", {"label": "inside"}, ["label 'inside'", "known: left, "]),
        ("a dog left of a cat", {"label": "above"}, ["no known wording of label 'above'", "'left of' (left of)"]),
    ],
)
def test_errors_show_what_was_understood(prompt: str, options: dict[str, list[str]], messages: list[str]) -> None:
    with pytest.raises(UserError) as caught:
        parse(prompt, LABELS, **options)
    for message in messages:
        assert message in str(caught.value)


def test_compose_returns_spans() -> None:
    prompt, entities, wordings = compose("a {e0} {r0} a {e1}", ["red circle", "blue square"], ["above"])
    assert prompt == "a red circle above a blue square"
    assert [prompt[slice(*span)] for span in entities] == ["red circle", "blue square"]
    assert [prompt[slice(*span)] for span in wordings] == ["above"]


@pytest.mark.parametrize(
    ("template", "message"),
    [
        ("a {e0} {r0} a {e1} {e2}", "{e2} has no value"),
        ("a {e0} {r0} a {e0}", "{e0} appears twice"),
        ("a {e0} {r0}", "no {e1} for 'cat'"),
        ("a {e0", "expected '}'"),
    ],
)
def test_bad_templates(template: str, message: str) -> None:
    with pytest.raises(UserError) as caught:
        compose(template, ["dog", "cat"], ["above"])
    assert message in str(caught.value)


def test_a_template_comes_back_from_its_composition() -> None:
    """For every prompt of the world, for braces in the text, and for a label that no words state."""
    for template, slots in itertools.chain.from_iterable(TEMPLATES.values()):
        count = 1 + max(max(indices) for _, indices in slots)
        relations = [(LABELS.groups[group][0].name, indices) for group, indices in slots]
        wordings = [LABELS[name].wordings[0] for name, _ in relations]
        assert template_of(build(template, ENTITIES[:count], relations, wordings)) == template
    for template, wordings in (("a {{big}} {e1} {r0} a {e0}", ["over"]), ("a {e0}{r0} and a {e1}", [""])):
        found = build(template, ["dog", "cat"], [("above", (1, 0))], wordings)
        phrases = [entity.phrase for entity in found.entities]
        prompt, _, _ = compose(template_of(found), phrases, wordings)
        assert prompt == found.prompt


def test_two_things_of_the_same_words_have_no_template() -> None:
    found = build("a {e0} {r0}", ["dog"], [("left", (0,))], ["moving left"])
    twice = Composition(found.prompt, found.relations * 2)
    with pytest.raises(UserError, match="'moving left' is part of two things"):
        template_of(twice)


def test_build_needs_a_wording_per_relation() -> None:
    with pytest.raises(UserError, match="1 relations and 0 wordings"):
        build("a {e0}", ["dog"], [("left", (0,))], [])


@settings(deadline=None)  # a busy machine is no failure
@given(st.sampled_from(ALL), st.integers(0, 2**32))
def test_contradict_replaces_every_label_within_its_group(composition: Composition, seed: int) -> None:
    wrong = contradict(composition, LABELS, random.Random(seed))
    assert contradict(composition, LABELS, random.Random(seed)) == wrong
    assert len(wrong.relations) == len(composition.relations)
    for was, now in zip(composition.relations, wrong.relations, strict=True):
        assert now.label != was.label
        assert LABELS[now.label].group == LABELS[was.label].group
        place = LABELS[was.label].wordings.index(was.wording)
        assert LABELS[now.label].wordings[place % len(LABELS[now.label].wordings)] == now.wording
        assert [entity.phrase for entity in now.entities] == [entity.phrase for entity in was.entities]
    assert parse(wrong.prompt, LABELS) == wrong


def test_contradict_reaches_every_wrong_label() -> None:
    composition = parse("a small dog is MOVING  to the left in the snow", LABELS)
    prompts = {contradict(composition, LABELS, random.Random(seed)).prompt for seed in range(40)}
    assert prompts == {
        "a small dog is moving to the right in the snow",
        "a small dog is moving upwards in the snow",
        "a small dog is moving downwards in the snow",
    }


@settings(deadline=None)  # a busy machine is no failure
@given(st.text(alphabet=st.sampled_from("ab,. '’-éß中"), max_size=30), st.sampled_from(["above", "moving left"]))
def test_any_text_parses_or_is_a_user_error(text: str, wording: str) -> None:
    try:
        composition = parse(f"{text} {wording} {text[::-1]}", LABELS)
    except UserError:
        return
    summary(composition)


def test_restated_is_the_prompt_with_other_labels() -> None:
    asked = parse("a red circle moving up to the left of a blue square", LABELS)
    other = restated(asked, ["down", "left of"], LABELS)
    assert other.prompt == "a red circle moving down to the left of a blue square"
    assert [other.prompt[r.start : r.end] for r in other.relations] == ["moving down", "to the left of"]
    assert restated(other, ["up", "left of"], LABELS) == asked
