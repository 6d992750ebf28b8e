"""The wrong prompt (p-) of every label of the world: as long, as grammatical, and wrong."""

import random
import re
from itertools import pairwise

import pytest

from cvg.common.errors import PromptError
from cvg.composition import Composition, Label, LabelSet, contradict, parse
from cvg.composition.language import inflected, lemmas

WORLD = LabelSet.load("world")
# What no native speaker writes: an article before the wrong sound, a word twice, a direction after another.
SLIPS = re.compile(
    r"\b(a [aeio]\w|an [^aeiouh\s])|\b(\w+) \2\b|\bturn(s|ing)? turn|\b(is|are) (is|are)\b|  |\b(his|its) (a|the)\b",
    re.IGNORECASE,
)


@pytest.mark.parametrize(
    ("prompt", "said"),
    [
        ("Up the stairs runs a small boy.", r"(Down|Towards|Away|To) .*\w+s a (large|small) boy\."),
        ("A knight kneels before a queen.", r"A knight \w+s before a queen\."),
        ("A puppy sits down.", r"A puppy \w+s\."),
    ],
)
def test_the_wrong_prompt_keeps_the_order_of_words(prompt: str, said: str) -> None:
    for seed in range(8):
        wrong = contradict(parse(prompt, WORLD), WORLD, random.Random(seed)).prompt
        assert re.fullmatch(said, wrong), wrong


@pytest.mark.parametrize("prompt", ["a red circle turning green", "a yellow ring turning blue"])
def test_nothing_becomes_what_it_is(prompt: str) -> None:
    shapes = LabelSet.load("shapes")
    for labels in (shapes, WORLD):
        for seed in range(20):
            wrong = contradict(parse(prompt, labels), labels, random.Random(seed)).prompt.split()
            assert wrong[1] != wrong[-1] or wrong[1] == prompt.split()[-1], wrong


def form(wording: str, tag: str) -> str:
    """A wording that begins with a participle, with its verb in another form."""
    first, *rest = wording.split()
    stem = sorted(lemmas(first, "VERB")) or [first.removesuffix("ing")]
    return " ".join([inflected(stem[0], tag), *rest])


def prompts(label: Label) -> list[str]:
    """Prompts that state a label."""
    wording = label.wordings[0]
    if label.category == "number":
        noun = "dog" if wording == "one" else "dogs"
        return [f"{wording} {noun} on a beach", f"a photo of {wording} {noun}"]
    if label.category == "attribute":
        return [f"a photo of {wording} clothes", f"The vase is {wording}."]
    if label.group == "together":
        return [f"two robots are {wording} in a park", f"Two robots {form(wording, 'VBP')}."]
    if not wording.endswith("ing") and not wording.split()[0].endswith("ing"):
        return [f"a clock {wording} a lamp", f"A dog waits {wording} a tree."]
    if label.has_object:
        return [f"a robot is {wording} a monkey", f"A robot {form(wording, 'VBZ')} a monkey."]
    return [f"a robot is {wording} in a park", f"A robot {form(wording, 'VBZ')}."]


def relation_of(found: Composition, label: Label) -> int:
    """The place among the relations of the one that states a label."""
    return [relation.label for relation in found.relations].index(label.name)


@pytest.mark.parametrize("label", WORLD.labels, ids=lambda label: label.name)
def test_every_label_has_a_wrong_prompt_in_its_form(label: Label) -> None:
    for prompt in prompts(label):
        found = parse(prompt, WORLD)
        place = relation_of(found, label)
        wrong = contradict(found, WORLD, random.Random(label.name))
        now = wrong.relations[place]
        assert now.label != label.name and WORLD[now.label].group == label.group
        assert not SLIPS.search(wrong.prompt), wrong.prompt
        assert abs(len(wrong.prompt.split()) - len(prompt.split())) <= 4, wrong.prompt
        assert wrong.prompt[0].isupper() == prompt[0].isupper()
        assert label.category == "number" or wrong.prompt[-1] == prompt[-1]
    said = {(relation.label, relation.entities) for relation in parse(wrong.prompt, WORLD).relations}
    assert (now.label, now.entities) in said, wrong.prompt  # it says what it is taken for


QUESTIONED = [
    labels for labels in WORLD.groups.values() if labels[0].category in ("attribute", "action") and labels[0].question
]


@pytest.mark.parametrize("group", QUESTIONED, ids=lambda group: group[0].group)
def test_two_entities_exchange_their_attributes_and_actions(group: list[Label]) -> None:
    for one, other in pairwise(group):
        first, second = one.wordings[0], other.wordings[0]
        template = "a {} cup and a {} box" if one.category == "attribute" else "a robot is {} and a monkey is {}"
        prompt = re.sub(r"\ba (?=[aeiou])", "an ", template.format(first, second))
        wrong = contradict(parse(prompt, WORLD), WORLD, random.Random(0))
        assert wrong.prompt == re.sub(r"\ba (?=[aeiou])", "an ", template.format(second, first))


@pytest.mark.parametrize(
    ("prompt", "wrong"),
    [
        ("A sofa with a dog to its right", r"A sofa with a dog (to its left|[\w ]+ it)"),
        ("A chef chops onions.", r"A chef [\w ]+ beside onions."),
        ("A dog runs and a cat climbs a tree.", r"A dog climbs and a cat runs beside a tree."),
        ("An apple is eaten by a girl.", r"An apple is (?!ate|drank)\w+.* by a girl."),
        ("A table made of wood and a chair made of metal", r"A table made of metal and a chair made of wood"),
        ("The leaf turns from green to red.", r"The leaf turns from green to \w+."),
        ("one dog runs on a beach", r"\w+ dogs \w+ .*"),
        ("A man walks up the stairs.", r"A man \w+ down the stairs."),
        ("A van drives from left to right.", r"A van \w+ .*"),
        ("A boy runs past a tree.", r"A boy (?!moving)\w+ (?!moving)[\w ]+ a tree."),
        ("A girl seated on a bench", r"A girl \w+ing .* a bench"),
        ("The cat purrs.", r"The cat \w+s.*\."),
    ],
)
def test_wrong_prompts_are_grammatical(prompt: str, wrong: str) -> None:
    for seed in range(5):
        assert re.fullmatch(wrong, contradict(parse(prompt, WORLD), WORLD, random.Random(seed)).prompt)


def test_where_nothing_can_be_exchanged_it_is_said() -> None:
    found = parse("a dog that is seen", WORLD, entities=["dog"], label="left")
    with pytest.raises(PromptError, match="cannot be replaced with a wrong one"):
        contradict(found, WORLD, random.Random(0))
