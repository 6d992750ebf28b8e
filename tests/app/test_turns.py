"""What is begun last is shown, whichever ends last: a slow reading does not undo a click."""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from cvg.application import understanding
from cvg.application.models import CLASSIFIER, Models

gr = pytest.importorskip("gradio", reason="the extra app is not installed")

TYPED = "a red circle above a blue square"
NO_LABEL = (None, "subject", "object")


class Visitor:
    """One who types and clicks: what is shown to them, as their browser puts it together."""

    def __init__(self, models: Models, folder: Path) -> None:
        from cvg.application.guide_page import GuidePage

        with gr.Blocks():
            self.page = GuidePage(models, folder, TYPED, 4, 0)
        self.asked = (models.names[0], CLASSIFIER)
        self.sees = [self.page.session.value, *[None] * (len(self.page.shown) - 1)]

    def shown(self, values: list[Any]) -> None:
        """Take values over, but of those that are skipped."""
        skipped = [isinstance(value, dict) and value == gr.skip() for value in values]
        assert len(values) == len(self.sees)
        self.sees = [old if skip else new for old, new, skip in zip(self.sees, values, skipped, strict=True)]

    def does(self, handler: Callable[..., list[Any]], prompt: str = TYPED) -> Callable[[], None]:
        """Begin something now; the result ends it, and shows what came of it."""
        session = self.sees[0]
        ends = SLOW.submit(handler, session, prompt, *self.asked)
        return lambda: self.shown(ends.result(60))

    def clicks(self, word: str, number: int, prompt: str = TYPED) -> None:
        fields = [value.value for value in self.sees[-len(self.page.fields) :]]
        event: Any = SimpleNamespace(index=number, value=[word, "above"])
        self.shown(self.page.on_click(event, self.sees[0], prompt, *self.asked, *fields))

    @property
    def reads(self) -> list[str]:
        """Labels of the relations that are shown as understood."""
        return [part["class_or_confidence"] for part in self.parts if part["class_or_confidence"] not in NO_LABEL]

    @property
    def parts(self) -> list[dict[str, Any]]:
        """Of the prompt, as they are shown."""
        return list(self.sees[1].value)


SLOW = ThreadPoolExecutor(2)


@pytest.fixture
def visitor(models: Models, tmp_path: Path) -> Visitor:
    found = Visitor(models, tmp_path)
    found.does(found.page.on_prompt)()
    assert found.reads == ["above"] and found.parts[3]["token"] == "above"
    return found


@pytest.fixture
def slow(monkeypatch: pytest.MonkeyPatch) -> tuple[threading.Event, threading.Event]:
    """Set when the first reading from here on is under way, and what it waits for. Those after it are not slow."""
    begun, go_on = threading.Event(), threading.Event()
    parse = understanding.parse

    def slowly(*args: Any) -> Any:
        if not begun.is_set():
            begun.set()
            assert go_on.wait(60)
        return parse(*args)

    monkeypatch.setattr(understanding, "parse", slowly)
    return begun, go_on


@pytest.mark.parametrize("text", [TYPED, TYPED[:-1]])
def test_a_reading_under_way_does_not_undo_a_click(visitor: Visitor, slow: Any, text: str) -> None:
    begun, go_on = slow
    reading = visitor.does(visitor.page.on_typed, text)
    assert begun.wait(60)
    visitor.clicks("above", 3)
    assert visitor.reads == ["below"]
    go_on.set()
    reading()
    assert visitor.reads == ["below"] and visitor.sees[0]["by_hand"] == TYPED
    visitor.does(visitor.page.on_typed)()  # the text as it is, whose reading waited for that of the earlier one
    assert visitor.reads == ["below"]
    visitor.does(visitor.page.on_prompt)()  # told to read it again
    assert visitor.reads == ["above"] and visitor.sees[0]["by_hand"] is None


def test_a_text_typed_after_a_click_is_read(visitor: Visitor, slow: Any) -> None:
    begun, go_on = slow
    event: Any = SimpleNamespace(index=3, value=["above", "above"])
    fields = [value.value for value in visitor.sees[-len(visitor.page.fields) :]]
    click = visitor.does(lambda *asked: visitor.page.on_click(event, *asked, *fields))
    assert begun.wait(60)
    other = "a red circle to the left of a blue square"
    visitor.does(visitor.page.on_typed, other)()
    assert visitor.reads == ["left of"]
    go_on.set()
    click()  # late: of a text that is no more
    assert visitor.reads == ["left of"] and visitor.sees[0]["by_hand"] is None
    visitor.does(visitor.page.on_typed)()
    assert visitor.reads == ["above"]


def test_a_click_on_words_of_an_earlier_text_reads_the_present_one(visitor: Visitor) -> None:
    visitor.clicks("above", 3, "a blue square moving up")
    assert visitor.reads == ["up"] and visitor.sees[0]["by_hand"] is None


def test_what_was_corrected_is_of_that_prompt_alone(visitor: Visitor) -> None:
    visitor.clicks("above", 3)
    visitor.clicks("to the left of", 3, "a red circle to the left of a blue square")
    assert visitor.reads == ["right of"]
