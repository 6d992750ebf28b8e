"""The pages in a real browser, as narrow as a telephone; what comes of it fits a window as wide as a screen, too."""

from __future__ import annotations

import re
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from cvg.media.video import picture_size
from tests.app.conftest import HOSTILE, Served

BROWSERS = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
WIDTHS, HEIGHT = (400, 1280), 900
WAIT_MS = 60_000
"""For what the server computes, on a machine that is busy otherwise."""


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    """Playwright's own browser, else one that is installed."""
    api = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
    with api.sync_playwright() as playwright:
        options: dict[str, Any] = {"args": ["--no-sandbox", "--disable-gpu"]}
        try:
            started = playwright.chromium.launch(**options)
        except api.Error:
            path = next(filter(None, map(shutil.which, BROWSERS)), None)
            if path is None:
                pytest.skip(f"no browser is installed here: playwright's own, {', '.join(BROWSERS)}")
            started = playwright.chromium.launch(executable_path=path, **options)
        yield started
        started.close()


@pytest.fixture
def width() -> int:
    return min(WIDTHS)


@pytest.fixture
def page(browser: Any, served: Served, width: int) -> Iterator[Any]:
    """The first page, when the prompt has been read. Errors in it, and requests to elsewhere, fail the test."""
    shown = browser.new_page(viewport={"width": width, "height": HEIGHT})
    shown.set_default_timeout(WAIT_MS)
    wrong: list[str] = []
    shown.on("pageerror", lambda error: wrong.append(str(error)))
    shown.on("request", lambda sent: wrong.append(sent.url) if not sent.url.startswith((served.url, "data:")) else None)
    shown.goto(served.url)
    understood(shown, "up")
    yield shown
    for each in WIDTHS:
        shown.set_viewport_size({"width": each, "height": HEIGHT})
        fits(shown, each)
    shown.close()
    assert wrong == []


def fits(page: Any, width: int) -> None:
    """Wait until the page is no wider than its window: some parts are laid out anew after it."""
    page.wait_for_function("width => document.documentElement.scrollWidth <= width", arg=width)


def understood(page: Any, *words: str) -> None:
    """Wait until these words stand in what is understood."""
    for word in words:
        page.wait_for_function(
            "word => document.querySelector('#cvg-read')?.innerText.toLowerCase().includes(word)", arg=word
        )


def pictures(page: Any, where: str) -> list[str]:
    """The sources of the pictures in a part of the page, all of them loaded."""
    found = page.locator(f"{where} img")
    assert all(found.nth(number).evaluate("e => e.complete && e.naturalWidth > 0") for number in range(found.count()))
    return [found.nth(number).get_attribute("src") for number in range(found.count())]


@pytest.mark.parametrize("width", WIDTHS)
def test_a_prompt_is_read_as_it_is_typed_and_corrected_by_clicks(page: Any) -> None:
    field = page.locator("#cvg-prompt textarea")
    field.fill("")
    field.press_sequentially("a red circle above a blue square", delay=10)
    understood(page, "subject", "object", "above", "blue square")  # all: words of an earlier text only read anew
    words = page.locator("#cvg-read .highlighted", has_text="above")
    words.click()
    understood(page, "below")
    subject = page.locator("#cvg-read .highlighted", has_text=re.compile("subject", re.IGNORECASE))
    subject.first.click()
    page.wait_for_function(
        r"() => /blue square\s*subject/i.test(document.querySelector('#cvg-read')?.innerText)", polling=200
    )
    field.press_sequentially(" and", delay=10)  # what is typed is read anew
    understood(page, "above")


def test_fields_say_what_the_prompt_does_not(page: Any) -> None:
    page.locator("#cvg-prompt textarea").fill("ein roter Kreis über einem Quadrat")
    page.locator("#cvg-notes").get_by_text("no known relation").wait_for()
    page.locator("#cvg-correct > button").click()
    page.get_by_role("button", name="Another relation").click()
    for name, value in (("Label", "above"), ("Subject", "roter Kreis"), ("Object", "Quadrat")):
        field = page.get_by_label(name, exact=True).first
        field.fill(value)
        field.press("Enter")
        field.blur()
    understood(page, "subject", "object")


def test_a_video_denoises_and_can_be_downloaded(page: Any, tmp_path: Path) -> None:
    page.locator("#cvg-make").click()
    page.locator("#cvg-stage img").first.wait_for()  # a preview
    page.locator("#cvg-chart img").wait_for()
    assert len(pictures(page, "#cvg-stage")) == 2
    assert len(pictures(page, "#cvg-chart")) == len(pictures(page, "#cvg-maps")) == 1
    assert "up (red circle): probability" in page.locator("#cvg-status").inner_text()
    links = page.locator("#cvg-files a")
    assert [Path(links.nth(number).get_attribute("download")).suffix for number in range(links.count())] == [
        ".mp4",
        ".mp4",
        ".gif",
        ".json",
    ]
    with page.expect_download() as waited:
        links.first.click()
    waited.value.save_as(tmp_path / "video.mp4")
    assert picture_size(tmp_path / "video.mp4") == (192, 192)


def test_a_wrong_wish_is_told_in_the_page(page: Any) -> None:
    page.locator("#cvg-prompt textarea").fill("a zebra moving up")  # no word of the generator's
    understood(page, "up")
    page.locator("#cvg-make").click()
    page.get_by_text("zebra").and_(page.locator(".toast-text, .toast-body *")).first.wait_for()


def test_an_evaluation_is_looked_at_by_what_guidance_changed(page: Any) -> None:
    page.get_by_role("tab", name="Evaluation").click()
    shown = page.locator("#cvg-evaluation")
    shown.locator("video").nth(1).wait_for()
    assert "unguided: wrong" in shown.inner_text() and "guided: right" in shown.inner_text()
    page.locator("#cvg-change").get_by_text("right → wrong").click()
    shown.get_by_text("unguided: right").wait_for()
    page.locator("#cvg-change").get_by_text("wrong → wrong").click()
    shown.get_by_text("The videos of this evaluation are not here").first.wait_for()
    assert HOSTILE in shown.inner_text()  # as text: nothing of it is run
    assert page.evaluate("window.hacked") is None and not shown.locator("h3 img").count()
    page.locator("#cvg-change").get_by_text("all (3)").click()
    page.locator("#cvg-next").click()
    shown.get_by_text("{{7 * 7}}").wait_for()


def test_records_of_shards_are_looked_into(page: Any) -> None:
    page.get_by_role("tab", name="Shards").click()
    shown = page.locator("#cvg-shards")
    shown.get_by_text("Sample val-0000").wait_for()
    assert "40 val" in page.locator("#cvg-shards-note").inner_text()
    assert len(pictures(page, "#cvg-shards")) == 1
    page.get_by_text("test", exact=True).first.click()
    shown.get_by_text("Sample test-0000").wait_for()
