"""Entities that cannot be one thing make their relation doubtful; subjects after their place are found."""

import random
import re
from pathlib import Path

import pytest

from cvg.common.errors import PromptError
from cvg.composition import LabelSet, parse, reading, values
from cvg.evaluation.exam import read_exams

LABELS = LabelSet.load("world")
Said = set[tuple[str, ...]]


def said(prompt: str) -> Said:
    try:
        found = parse(prompt, LABELS).relations
    except PromptError:
        return set()
    return {(each.label, *(entity.phrase for entity in each.entities)) for each in found}


@pytest.mark.parametrize(
    ("prompt", "phrase", "word"),
    [
        ("The Roomba glides past a sleeping cat.", "Roomba glides", "glides"),  # the model takes it for a noun
        ("A bicycle taller than a man leans to the right of a kiosk.", "bicycle taller", "taller"),
    ],
)
def test_a_phrase_that_holds_another_word_is_refused_with_the_word_and_a_remedy(
    prompt: str, phrase: str, word: str
) -> None:
    with pytest.raises(PromptError, match=re.escape(f"whether {phrase!r} is one thing is doubtful ({word!r}")) as told:
        parse(prompt, LABELS)
    assert "say it in a shorter sentence, or give the relation's label and entities by hand" in str(told.value)


def test_a_phrase_before_another_states_no_value() -> None:
    found = parse("A boy whose jacket is red hugs a dog whose collar is green.", LABELS)
    assert [(each.label, each.entities[0].phrase) for each in found.relations] == [("green", "collar")]
    assert found.left_out == ("'red' states no label here",)
    found = parse("A clown whose scarf is blue waves at a girl whose mittens are yellow.", LABELS)
    assert [(each.label, each.entities[0].phrase) for each in found.relations] == [("yellow", "mittens")]


@pytest.mark.parametrize(
    ("prompt", "expected"),
    [
        ("A sports car stands to the left of a milk float.", ("left of", "sports car", "milk float")),
        ("Paper cranes hang above a bed.", ("above", "Paper cranes", "bed")),
        ("A woman gives a man a red ball.", ("red", "ball")),
    ],
)
def test_whole_phrases_are_no_doubt(prompt: str, expected: tuple[str, ...]) -> None:
    assert expected in said(prompt)


@pytest.mark.parametrize(
    ("prompt", "expected"),
    [
        ("Under the tree a dog sleeps.", ("below", "dog", "tree")),
        ("A cat sits on a wall, under the tree a dog sleeps.", ("below", "dog", "tree")),
        ("A cat sits on a wall, and under the tree a dog sleeps.", ("below", "dog", "tree")),
        ("A dog sleeps on a rug, while behind the sofa stands a lamp.", ("behind", "lamp", "sofa")),
        ("A cat is in front of the gate, behind the gate a cow grazes.", ("in front of", "cat", "gate")),
        ("To the left of a sofa is a lamp and to the right of the sofa there is a jar.", ("right of", "jar", "sofa")),
        ("Under the bridge, to the left of a cart, sleeps a dog.", ("left of", "dog", "cart")),
    ],
)
def test_a_subject_after_its_place_is_of_its_own_clause(prompt: str, expected: tuple[str, ...]) -> None:
    assert expected in said(prompt)
    assert len({each[1:] for each in said(prompt) if LABELS[each[0]].category == "spatial"}) <= 2


@pytest.mark.parametrize(
    ("prompt", "expected"),
    [
        ("slow motion, a hurdler jumps over a fence", ("above", "hurdler", "fence")),
        ("Poster art: a knight kneels behind a drum", ("behind", "knight", "drum")),
        ('"Evening": a fox runs past a mill', ("past", "fox", "mill")),
        ("A fox, its tail raised, stands on a log.", ("on", "fox", "log")),
        (
            "A burly, bearded sailor stands behind a small, scared parrot.",
            ("behind", "burly, bearded sailor", "small, scared parrot"),
        ),
    ],
)
def test_a_title_or_a_list_of_adjectives_before_it_hides_no_subject(prompt: str, expected: tuple[str, ...]) -> None:
    assert expected in said(prompt)


def test_what_praises_a_picture_is_put_nowhere() -> None:
    assert said("A cat on a crate, fine detail on every surface") == {("on", "cat", "crate")}


def test_whose_verb_stands_after_a_place_is_left_open_where_both_may_do_it() -> None:
    found = said("A man stands on the roof and in front of the crowd raises a flag.")
    assert not {each for each in found if each[0] == "in front of"}
    assert said("A waiter carries a tray; behind the waiter walks a penguin.") == {("carry", "waiter", "tray")}


def test_doubt_never_changes_a_reading_but_takes_of_it(monkeypatch: pytest.MonkeyPatch) -> None:
    exams = read_exams(Path(__file__).parent / "fixtures/prompts.jsonl")
    prompts = [each.prompt for each in random.Random(0).sample(exams, 80)]
    prompts += ["The Roomba glides past a sleeping cat.", "A boy whose jacket is red hugs a dog."]
    doubted = [said(prompt) for prompt in prompts]
    for module in (reading, values):
        monkeypatch.setattr(module, "misread", lambda *_: None)
    believed = [said(prompt) for prompt in prompts]
    assert all(less <= more for less, more in zip(doubted, believed, strict=True))
    assert doubted[-2:] != believed[-2:]
