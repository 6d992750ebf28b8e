"""The report in a real browser, as narrow as a telephone and as wide as a screen."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from cvg.media.video import write_gif, write_video
from cvg.report import main
from cvg.shapes.renderer import FPS, render
from cvg.shapes.world import sample_scene, sample_spec
from tests.helpers import tiny

BROWSERS = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
# A frame is as narrow as it is asked to be, which a window need not be.
FRAME = """<!doctype html><iframe id="f" style="border:0;height:4000px;width:{width}px" srcdoc="{page}"></iframe>
<pre id="found"></pre><script>
document.getElementById("f").onload = (event) => {{
  const inner = event.target.contentDocument, limit = event.target.contentWindow.innerWidth;
  const boxes = [...inner.body.querySelectorAll("*")].filter((e) => !e.parentElement.closest(".scroll, details"));
  const out = boxes.filter((e) => e.getBoundingClientRect().right > limit + 0.5).map((e) => e.outerHTML.slice(0, 80));
  const sizes = boxes.map((e) => parseFloat(inner.defaultView.getComputedStyle(e).fontSize));
  const wide = [...inner.querySelectorAll(".wide img")].map((e) => e.getBoundingClientRect().width);
  document.getElementById("found").textContent = JSON.stringify({{
    limit, scroll: inner.documentElement.scrollWidth, out, letters: Math.min(...sizes), wide,
    images: [...inner.images].every((e) => e.complete && e.naturalWidth > 0),
  }});
}};
</script>"""


@pytest.fixture(scope="module")
def browser() -> str:
    found = next(filter(None, map(shutil.which, BROWSERS)), None)
    if found is None:
        pytest.skip(f"no browser is installed here: {', '.join(BROWSERS)}")
    return found


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A report with all that one can have, but for shards."""
    folder, rng = tmp_path_factory.mktemp("browser"), np.random.default_rng(0)
    samples, training = folder / "samples", folder / "log"
    samples.mkdir()
    training.mkdir()
    (training / "metrics.csv").write_text("epoch,step,train/loss,val/loss\n0,9,2.5,\n0,9,,2.4\n1,19,1.5,\n1,19,,1.4\n")
    frames = np.concatenate([render(sample_scene(sample_spec(rng, "motion"), rng)) for _ in range(2)], axis=2)
    write_video(samples / "a.side-by-side.mp4", frames, FPS, scale=4)
    write_gif(samples / "a.side-by-side.gif", frames, FPS, scale=4)
    prompt = "a red circle moving left, " + "very" * 60  # no place to break it
    (samples / "a.json").write_text(json.dumps({"prompt": prompt, "seed": 0}))
    evaluation = tiny.make_evaluation(tmp_path_factory.getbasetemp() / "tiny")
    return main(evaluation, folder / "report.html", training=training, samples=samples, maps=1)


def measured(browser: str, page: Path, width: int) -> dict[str, Any]:
    """What a browser makes of the page in a frame of this width."""
    frame = page.with_name(f"frame{width}.html")
    text = page.read_text(encoding="utf-8").replace("&", "&amp;").replace('"', "&quot;")
    frame.write_text(FRAME.format(width=width, page=text), encoding="utf-8")
    options = ["--headless", "--no-sandbox", "--disable-gpu", f"--user-data-dir={page.parent / 'profile'}"]
    command = [browser, *options, "--virtual-time-budget=10000", "--dump-dom", frame.as_uri()]
    shown = subprocess.run(command, capture_output=True, text=True, timeout=120, check=True).stdout
    found = re.search(r'<pre id="found">(\{.*?\})</pre>', shown, re.DOTALL)
    assert found, shown[-2000:]
    loaded: dict[str, Any] = json.loads(found[1].replace("&lt;", "<").replace("&gt;", ">").replace("&amp;", "&"))
    return loaded


@pytest.mark.parametrize("width", [400, 1280])
def test_a_page_is_as_wide_as_its_window_and_its_letters_are_large_enough(browser: str, page: Path, width: int) -> None:
    found = measured(browser, page, width)
    assert found["limit"] == width and found["images"]
    assert found["scroll"] <= width and found["out"] == []
    assert found["letters"] >= 13
    assert found["wide"] and min(found["wide"]) >= 640  # wide pictures scroll: shrunk they cannot be read
