"""What the grammar reads, and what it refuses because it cannot know what is asked."""

import pytest

from cvg.common.errors import PromptError
from cvg.composition import LabelSet, parse

LABELS = LabelSet.load("shapes")

READ = [
    ("a dog, cyberpunk, moving left", [("left", "dog")]),
    ("a dog to the left of a cat", [("left of", "dog", "cat")]),
    ("a bird flying over a house", [("above", "bird", "house")]),
    ("a cat under the table", [("below", "cat", "table")]),
    ("a bird over two cars", [("above", "bird", "two cars")]),
    ("a dog left of 2 cars", [("left of", "dog", "2 cars")]),
    ("a dog, 8k, moving left", [("left", "dog")]),
    ("a dog, best quality, 4k, moving left", [("left", "dog")]),
    ("masterpiece, ultra detailed, a dog moving left, 8k", [("left", "dog")]),
    ("a dog to the left of a cat, 8k, cinematic", [("left of", "dog", "cat")]),
    ("a dog moving left through the door", [("left", "dog")]),
    ("a dog moving left and a cat moving right", [("left", "dog"), ("right", "cat")]),
    ("a dog moving left and a dog moving right", [("left", "dog"), ("right", "dog")]),
    ("a dog moving left and above a car", [("left", "dog"), ("above", "dog", "car")]),
    ("a dog above a cat and above a tree", [("above", "dog", "cat"), ("above", "dog", "tree")]),
    ("a dog above a cat and to the left of a tree", [("above", "dog", "cat"), ("left of", "dog", "tree")]),
    ("a dog above a dog", [("above", "dog", "dog")]),
    ("a dog approaching a cat that is approaching the dog", [("towards", "dog", "cat"), ("towards", "cat", "dog")]),
    ("the sun above the clock", [("above", "sun", "clock")]),
    ("a dog over the fence, moving up", [("above", "dog", "fence"), ("up", "dog")]),
    ("a plane above a time machine", [("above", "plane", "time machine")]),
    ("a knot above a notebook", [("above", "knot", "notebook")]),
    ("a door below an orange", [("below", "door", "orange")]),
    ("a dog drifting left in a theatre", [("left", "dog")]),
    ("A dog moving up, there is a car", [("up", "dog")]),
    ("a forget-me-not above a vase", [("above", "forget-me-not", "vase")]),
    ("a rather large dog moving left", [("left", "rather large dog")]),
    ("two bus stops below a tree", [("below", "two bus stops", "tree")]),
    ("water falling over rocks", [("above", "water", "rocks")]),
    ("a high tower above a lake", [("above", "high tower", "lake")]),
    ("(red circle:1.3) above a cat", [("above", "red circle", "cat")]),
    ("a ((red circle)) above a (cat:0.8), 8k", [("above", "red circle", "cat")]),
    ("a dog moving right instead of moving left", [("right", "dog")]),
    ("a dog moving left rather than moving up", [("left", "dog")]),
    ("a man with no hat is moving left", [("left", "man")]),
    ("a dog without a leash walks past and is moving left", [("left", "dog")]),
    ("a dog that is not tired is above a cat", [("above", "dog", "cat")]),
    ("a dog moving left while no cat is moving right", [("left", "dog")]),
    ("a dog to the left of a cat, barely visible", [("left of", "dog", "cat")]),
    ("a dog moving left while a cat or a bird sleeps", [("left", "dog")]),
    ("an HD screen below a lamp", [("below", "HD screen", "lamp")]),
]

REFUSED = [
    # negation
    ("a dog not to the left of a cat", "'not' negates"),
    ("a dog that isn't above a cat", '"isn\'t" negates'),
    ("a dog that isn’t above a cat", "negates"),
    ("no dog above a cat", "'no' negates"),
    ("a cat with no bird above a tree", "'no' negates"),
    ("a street without a dog moving left", "'without' negates"),
    ("a dog never moving left", "'never' negates"),
    ("neither a dog nor a cat moving left", "'neither' negates"),
    ("Nothing above a table", "'Nothing' negates"),
    ("a dog that cannot be seen under a table", "'cannot' negates"),
    ("a dog avoids moving left", "'avoids' negates"),
    ("a dog that doesn't move above a cat", "negates"),
    # a choice
    ("a dog moving left or moving right", "'or' leaves a choice"),
    ("a dog or a cat moving left", "'or' leaves a choice"),
    ("a dog above a cat or a tree", "'or' leaves a choice"),
    ("either a dog above a cat, a tree", "'either' leaves a choice"),
    ("a dog moving left and/or up", "'and/or' leaves a choice"),
    # two labels of one group
    ("a dog moving left and up", "'moving left' and 'up' are joined"),
    ("a dog moving left and moving up", "only one label of the group 'motion'"),
    ("a dog moving up and to the left", "'moving up' and 'left' are joined"),
    ("a dog moving left then right", "'moving left' and 'right' are joined"),
    ("a dog moving left, up", "'moving left' and 'up' are joined"),
    ("a dog moving left/up", "'moving left' and 'up' are joined"),
    ("a dog moving up & down", "'moving up' and 'down' are joined"),
    ("a dog moving left, moving up", "only one label of the group 'motion'"),
    ("a dog to the left and above a cat", "'left' and 'above' are joined"),
    ("a dog left and right of a cat", "'left' and 'right of' are joined"),
    ("a dog to the left of and above a car", "only one label of the group 'spatial'"),
    ("a dog above and below a car", "only one label of the group 'spatial'"),
    # contradictions
    ("a dog moving left while the dog is moving right", "only one label of the group 'motion'"),
    ("a dog above a cat and below the cat", "only one label of the group 'spatial'"),
    ("a dog approaching a cat and leaving the cat", "only one label of the group 'relative_motion'"),
    ("a dog is moving up. It is moving down", "only one label of the group 'motion'"),
    # quantities, ages, comparisons
    ("a woman over 40", "a quantity"),
    ("a woman over forty", "no clear object"),
    ("a boy under 5 years", "a quantity"),
    ("a child under ten", "no clear object"),
    ("a walk that takes over an hour", "takes over"),
    ("a walk of over an hour", "a quantity"),
    ("a crowd of over 100 people", "a quantity"),
    ("a dog changing over time", "a quantity"),
    ("a house under construction", "a quantity or a state"),
    ("a score above average", "no clear object"),
    ("a lake below zero", "no clear object"),
    ("a man higher than 2 meters", "a quantity"),
    ("a city over the years", "a quantity"),
    # adverbs and verbs
    ("a dog over there", "'over there' is a place"),
    ("a dog over here is a cat", "'over here' is a place"),
    ("a dog under there near a car", "'under there' is a place"),
    ("a dog jumping over and over again", "no clear object"),
    ("a dog jumping over again", "'over again'"),
    ("two dogs, one moving left", "which 'one' is meant"),
    ("a car pulling over near a tree", "'pulling over' is no place"),
    ("a robot taking over the city", "'taking over' is no place"),
    # itself
    ("a dog to the left of itself", "to itself"),
    ("two dogs approaching each other", "to itself"),
    ("a man above himself", "to itself"),
    ("a dog above the dog", "both subject and object"),
    # marks of other programs
    ("a [dog:cat:0.5] above a cat", "prompt weight"),
    ("8k, moving left", "no clear subject"),
    ("a dog over 8k", "a quantity"),
]


@pytest.mark.parametrize(("prompt", "expected"), READ)
def test_it_reads(prompt: str, expected: list[tuple[str, ...]]) -> None:
    found = parse(prompt, LABELS).relations
    assert [(relation.label, *(entity.phrase for entity in relation.entities)) for relation in found] == expected


@pytest.mark.parametrize(("prompt", "reason"), REFUSED)
def test_it_refuses(prompt: str, reason: str) -> None:
    with pytest.raises(PromptError) as caught:
        parse(prompt, LABELS)
    assert reason in str(caught.value) and prompt in caught.value.args[0].encode().decode().replace("\\'", "'")


@pytest.mark.parametrize(
    ("prompt", "expected", "reason"),
    [
        ("a dog jumping over a cat over again", ("above", "dog", "cat"), "'over again' is a place or a manner"),
        ("a dog to the left of a cat, with birds above", ("left of", "dog", "cat"), "no clear object after 'above'"),
        ("a dog to the left of a cat. A bird is not moving up.", ("left of", "dog", "cat"), "'not' negates"),
        ("a dog to the left of a cat. A bird moving left and up.", ("left of", "dog", "cat"), "'up' are joined"),
    ],
)
def test_one_relation_that_is_unclear_is_left_out(prompt: str, expected: tuple[str, ...], reason: str) -> None:
    found = parse(prompt, LABELS)
    (relation,) = found.relations
    assert (relation.label, *(entity.phrase for entity in relation.entities)) == expected
    (left_out,) = found.left_out
    assert reason in left_out and prompt not in left_out


def test_what_only_says_that_something_is_absent_negates_nothing() -> None:
    (relation,) = parse("a dog to the left of a cat, no people, without any text", LABELS).relations
    assert relation.label == "left of"


def test_what_is_given_by_hand_is_not_doubted() -> None:
    for prompt, entities in (
        ("a dog not to the left of a cat", ["dog", "cat"]),
        ("a (dog:1.3) to the left of a cat", ["dog", "cat"]),
        ("a dog or a bird to the left of a cat", ["bird", "cat"]),
    ):
        (relation,) = parse(prompt, LABELS, entities=entities, label="left of").relations
        assert [entity.phrase for entity in relation.entities] == entities
    with pytest.raises(PromptError, match="both subject and object"):
        parse("a dog above a cat", LABELS, entities=["dog", "dog"])


@pytest.mark.parametrize(
    ("prompt", "entities"),
    [
        ("一只狗在一只猫的左边", ["狗", "猫"]),
        ("犬が猫の左にいる", ["犬", "猫"]),
        ("一只dog在cat的左边", ["dog", "cat"]),
        ("dogの左にcat", ["cat", "dog"]),
        ("สุนัขอยู่ทางซ้ายของแมว", ["สุนัข", "แมว"]),
    ],
)
def test_scripts_without_spaces_have_entities(prompt: str, entities: list[str]) -> None:
    (relation,) = parse(prompt, LABELS, entities=entities, label="left of").relations
    assert [entity.phrase for entity in relation.entities] == entities
