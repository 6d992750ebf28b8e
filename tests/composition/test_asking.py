"""Prompts that may ask for nothing, and files of them."""

from __future__ import annotations

from pathlib import Path

import pytest

from cvg.common.errors import PromptError, UserError
from cvg.composition.asking import NOTHING, UNREAD, PromptLine, read_prompts, understand
from tests.helpers.labels import LABELS


def test_what_prompts_ask_for_and_why_some_are_not_guided() -> None:
    asked = understand(PromptLine(prompt="a red circle moving left"), LABELS)
    assert asked.composition is not None and asked.composition.relations[0].label == "left" and not asked.reason
    plain = understand(PromptLine(prompt="a quiet lake at dawn"), LABELS)
    assert plain.composition is None and plain.reason == NOTHING and plain.why
    refused = understand(PromptLine(prompt="a red circle not moving left"), LABELS)
    assert refused.composition is None and refused.reason == UNREAD
    by_hand = PromptLine(prompt="a red circle that climbs", entities=["red circle"], labels=["up"])
    found = understand(by_hand, LABELS).composition
    assert found is not None and found.relations[0].label == "up"
    with pytest.raises(PromptError):  # a mistake, not a prompt without relations
        understand(PromptLine(prompt="a red circle that climbs", entities=["red dog"], labels=["up"]), LABELS)


def test_three_forms_of_files_say_the_same(tmp_path: Path) -> None:
    lines = [
        PromptLine(prompt="a dog, running"),
        PromptLine(prompt="a cat above a car", entities=["cat", "car"], labels=["above"]),
    ]
    (tmp_path / "a.jsonl").write_text(
        '{"prompt": "a dog, running"}\n\n'
        '{"prompt": "a cat above a car", "entities": ["cat", "car"], "labels": ["above"]}\n'
    )
    (tmp_path / "a.csv").write_text('prompt,entities,labels\n"a dog, running",,\na cat above a car,cat; car,above\n')
    (tmp_path / "a.txt").write_text("a dog, running\n\na cat above a car")
    assert read_prompts(tmp_path / "a.jsonl") == read_prompts(tmp_path / "a.csv") == lines
    assert [line.prompt for line in read_prompts(tmp_path / "a.txt")] == [line.prompt for line in lines]


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("a.txt", "\n \n", "there is no prompt in it"),
        ("a.yaml", "x", "give a file that ends in .txt, .jsonl, .csv"),
        ("a.jsonl", '{"prompt": "a"}\n{', "line 2: not valid JSON"),
        ("a.jsonl", '{"prompt": 3}', "line 1: 'prompt' is 3; expected a text"),
        ("a.jsonl", '{"text": "a"}', "line 1: unknown key 'text'"),
        ("a.csv", "prompt\na dog, running\n", "line 2: another number of cells"),
        ("a.csv", "text\na dog\n", "line 2: unknown key 'text'"),
        ("a.txt", "\udcff", "not UTF-8 text"),
    ],
)
def test_files_of_another_form_are_one_message(tmp_path: Path, name: str, content: str, message: str) -> None:
    (tmp_path / name).write_text(content, encoding="utf-8", errors="surrogateescape")
    with pytest.raises(UserError, match=message):
        read_prompts(tmp_path / name)
    with pytest.raises(UserError, match="cannot be read"):
        read_prompts(tmp_path / "none.txt")
