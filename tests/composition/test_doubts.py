"""What a prompt leaves open is left out: hedges, intentions, questions, and relations that may be of two phrases."""

import random
import re

import pytest

from cvg.common.errors import NothingToGuide, PromptError
from cvg.composition import LabelSet, contradict, parse

LABELS, SHAPES = LabelSet.load("world"), LabelSet.load("shapes")
DOUBTFUL = [
    ("A girl almost under the table", "'almost'"),
    ("A balloon halfway above the roof", "'halfway'"),
    ("A vase once stood on this pedestal.", "'once'"),
    ("The balloon will rise.", "'will'"),
    ("An old man is about to sit down.", "'about to'"),
    ("A woman is teaching a boy to swim.", "'boy to'"),
    ("A dog dreams of running.", "'dreams of'"),
    ("It looks as if the ship were above the clouds.", "'if'"),
    ("Is there a mouse behind the fridge?", "'?'"),
    ("Half of the boat is under the water.", "'half of'"),
]


@pytest.mark.parametrize(("prompt", "word"), DOUBTFUL)
def test_what_is_not_asserted_is_refused_by_the_word_that_makes_it_doubtful(prompt: str, word: str) -> None:
    with pytest.raises(PromptError, match=re.escape(word)) as caught:
        parse(prompt, LABELS)
    assert "doubtful" in str(caught.value)


def said(prompt: str, category: str = "spatial") -> set[tuple[str, ...]]:
    found = [each for each in parse(prompt, LABELS).relations if LABELS[each.label].category == category]
    return {(each.label, *(entity.phrase for entity in each.entities)) for each in found}


@pytest.mark.parametrize(
    ("prompt", "expected"),
    [
        ("A wolf howls on a hill behind a castle.", {("on", "wolf", "hill")}),
        ("A cup sits on a windowsill next to a cat.", {("on", "cup", "windowsill")}),
        ("A spider crawls across a book to the left of a candle.", None),
        ("A goldfish in a bowl next to a cat", {("inside", "goldfish", "bowl")}),
        # where grammar or sense tell, they are read
        (
            "A robot stands on a shelf to the left of a globe.",
            {("on", "robot", "shelf"), ("left of", "robot", "globe")},
        ),
        ("An umbrella leans against a wall to the right of a door.", {("right of", "umbrella", "door")}),
        ("A man points at a kite above the trees.", {("above", "kite", "trees")}),
        ("A panda eats bamboo to the left of a tree.", {("left of", "panda", "tree")}),
        (
            "On the desk there is a globe to the left of a lamp.",
            {("on", "globe", "desk"), ("left of", "globe", "lamp")},
        ),
    ],
)
def test_a_relation_that_may_be_of_two_phrases_is_left_out(prompt: str, expected: set[tuple[str, ...]] | None) -> None:
    try:
        assert said(prompt) == (expected or set())
    except PromptError:
        assert expected is None


@pytest.mark.parametrize(
    ("prompt", "expected"),
    [
        ("A girl opens a window and waves.", {("open", "girl"), ("wave", "girl")}),
        ("A woman with gray hair and a purple shawl walks.", {("walk", "woman")}),
        ("A crow, feathers ruffled, sits down.", {("sit", "crow")}),
        ("A man sits on a bench reading a book.", {("sit", "man"), ("read", "man")}),
        ("A boy of about ten kneels in front of a trunk.", {("kneel", "boy")}),
        ("A yellow taxi waits behind a bus that is parked.", {("stand", "yellow taxi")}),
        ("A child next to her eats a banana.", {("eat", "child")}),
        ("Seven sheep graze near three cows.", {("eat", "Seven sheep")}),
        ("A soda can stands on the machine.", {("stand", "soda can")}),
        ("A chef slices tomatoes, and a waiter pours wine.", {("cut", "chef"), ("pour", "waiter")}),
    ],
)
def test_the_subject_of_a_verb_heads_its_clause(prompt: str, expected: set[tuple[str, ...]]) -> None:
    assert said(prompt, "action") == expected


@pytest.mark.parametrize(
    ("prompt", "label", "entities"),
    [
        ("a red circle is passed by a blue square", "passing", ["blue square", "red circle"]),
        ("a red circle passes a blue square", "passing", ["red circle", "blue square"]),
        ("a red circle has been met by a blue square", "meeting", ["blue square", "red circle"]),
        ("a red circle is slowly followed by a blue square", "following", ["blue square", "red circle"]),
        ("a red circle has passed a blue square", "passing", ["red circle", "blue square"]),
    ],
)
def test_wordings_are_of_a_verb_in_its_voice(prompt: str, label: str, entities: list[str]) -> None:
    (relation,) = parse(prompt, SHAPES).relations
    assert (relation.label, [entity.phrase for entity in relation.entities]) == (label, entities)
    wrong = contradict(parse(prompt, SHAPES), SHAPES, random.Random(0))
    assert re.search(r"\b(is|been) (\w+ly )?(bumped|followed|passed|met|swapped|circled)\b", wrong.prompt) or (
        " by " not in prompt
    )


@pytest.mark.parametrize(
    ("prompt", "labels"),
    [
        ("a circle is followed", SHAPES),
        ("a meeting of two circles", SHAPES),
        ("a man passes a ball to a girl", SHAPES),
        ("a fully grown dog beside a cat", SHAPES),
        ("A cook boils milk.", LABELS),
        ("A woman drops it into a basket.", LABELS),
    ],
)
def test_other_senses_of_a_verb_state_nothing(prompt: str, labels: LabelSet) -> None:
    try:
        found = {relation.label for relation in parse(prompt, labels).relations}
    except NothingToGuide:
        found = set()
    assert found <= {"inside"}
