"""What the page says of a prompt, and how that is corrected."""

from __future__ import annotations

import pytest

from cvg.application.understanding import Part, Said, clicked, phrases, understand
from cvg.composition import LabelSet

WORLD = LabelSet.load("world")
DOGS = "a dog chases a cat while a dog is to the left of a tree"


def test_the_parts_are_the_prompt_and_name_what_was_understood() -> None:
    prompt = "a cat to the left of a dog"
    found = understand(prompt, WORLD, ruled=False)
    assert "".join(part.text for part in found.parts) == prompt
    assert [part for part in found.parts if part.kind] == [
        Part("cat", "subject", 0),
        Part("to the left of", "left of", 0),
        Part("dog", "object", 0),
    ]
    assert found.said == [Said("left of", "cat", "dog")] and not found.problem


@pytest.mark.parametrize("prompt", ["a cat to the left of a dog", DOGS, "a dog and a cat move left", "a dog moving up"])
def test_what_is_understood_can_be_said_by_hand(prompt: str) -> None:
    found = understand(prompt, WORLD, ruled=False)
    again = understand(prompt, WORLD, False, found.said)
    assert found.composition is not None and again.composition == found.composition
    assert again.parts == found.parts  # words that were read stay, so that they can be clicked on again


def test_one_phrase_of_several_has_its_number() -> None:
    found = understand(DOGS, WORLD, ruled=False)
    assert [one.subject for one in found.said] == ["dog#1", "dog#2"]
    assert {"dog#1", "dog#2", "cat", "tree"} <= set(phrases(DOGS))


def test_a_click_changes_one_thing() -> None:
    said = understand(DOGS, WORLD, ruled=False).said
    group = [label.name for label in WORLD.groups[WORLD["left of"].group]]
    following = group[(group.index("left of") + 1) % len(group)]
    assert clicked(said, Part("to the left of", "left of", 1), WORLD) == [said[0], Said(following, "dog#2", "tree")]
    assert clicked(said, Part("tree", "object", 1), WORLD) == [said[0], Said("left of", "tree", "dog#2")]
    assert clicked(said, Part(" while "), WORLD) == said


def test_clicks_go_round() -> None:
    prompt, said = "a dog moving left", [Said("left", "dog")]
    seen = []
    for _ in WORLD.groups[WORLD["left"].group]:
        said = clicked(said, Part("moving left", said[0].label, 0), WORLD)
        assert understand(prompt, WORLD, False, said).composition is not None
        seen.append(said[0].label)
    assert seen[-1] == "left" and len(set(seen)) == len(seen)


@pytest.mark.parametrize(
    ("said", "problem"),
    [
        ([], "no relation is chosen"),
        ([Said("left of", "cat", "")], "has no object yet"),
        ([Said("left of", "", "dog")], "has no subject yet"),
        ([Said("left of", "cat", "horse")], "not in the prompt"),
    ],
)
def test_what_is_not_said_whole_is_told(said: list[Said], problem: str) -> None:
    found = understand("a cat to the left of a dog", WORLD, False, said)
    assert found.composition is None and problem in found.problem
    assert "".join(part.text for part in found.parts) == found.prompt


def test_rules_take_what_they_know() -> None:
    prompt = "a cat to the left of a dog"
    assert understand(prompt, WORLD, ruled=True).composition == understand(prompt, WORLD, ruled=False).composition
    unknown = understand("a dog chases a cat", WORLD, ruled=False)
    assert unknown.composition is not None
    ruled = understand("a dog chases a cat", WORLD, ruled=True)
    assert ruled.composition is None and "rule" in ruled.problem


def test_an_empty_prompt_is_no_mistake() -> None:
    found = understand("  ", WORLD, ruled=False)
    assert found.composition is None and not found.problem and found.parts == [Part("  ")]
