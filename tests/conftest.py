"""Fixtures: tiny shards, a tiny generator and its classifier; and what spares time while tests run."""

from __future__ import annotations

import gc
import io
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from PIL import Image

from cvg.shards.records import Record
from tests.helpers.shards import make_record, make_shards

if TYPE_CHECKING:
    from cvg.classifier import CompositionClassifier
    from cvg.generators import Generator


@pytest.hookimpl(wrapper=True)
def pytest_collection() -> Iterator[None]:
    """No garbage is looked for while libraries are imported, which make millions of objects, nor later among these."""
    gc.disable()
    try:
        return (yield)  # what was collected
    finally:
        gc.freeze()
        gc.enable()


def _group_offloading(module: Any) -> Any:
    """diffusers' own look for what offloads a network in groups, without a name and an exception for each of its parts.

    A pipeline looks whenever it is asked for its device: a fifth of the time of the tests that sample.
    """
    parts, seen = [module], {None}
    while parts:
        own = vars(parts.pop())
        if "_diffusers_hook" in own and (found := own["_diffusers_hook"].get_hook("group_offloading")) is not None:
            return found
        new = {*own["_modules"].values()} - seen
        seen |= new
        parts += new
    return None


def pytest_collection_finish() -> None:
    """Of what the chosen tests have imported."""
    if "diffusers" in sys.modules:
        from diffusers.hooks import group_offloading

        assert group_offloading._GROUP_OFFLOADING == "group_offloading"
        group_offloading._get_top_level_group_offload_hook = _group_offloading
    for name in ("cvg.reporting.charts", "cvg.reporting.page"):
        if name in sys.modules:
            sys.modules[name].DPI = 48  # type: ignore[attr-defined]  (a ninth of the pixels to draw)


@pytest.fixture(scope="module")
def generator() -> Generator:
    """A narrow Wan with random weights, for the tests of one file."""
    from cvg.generators import wrap_pipeline
    from tests.helpers.tiny import tiny_pipeline  # here: the libraries behind it take seconds, and few files need them

    return wrap_pipeline(tiny_pipeline(), "tiny")


@pytest.fixture(scope="module")
def classifier(generator: Generator) -> CompositionClassifier:
    """A random classifier for the generator, whose gradient is not zero."""
    from tests.helpers.tiny import tiny_classifier

    return tiny_classifier(generator)


@pytest.fixture(scope="session")
def shards(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Shards of 160 training, 40 validation and 24 test records."""
    return make_shards(tmp_path_factory.mktemp("shards"), {"train": 160, "val": 40, "test": 24}, samples=64)


@pytest.fixture
def shard_factory() -> Callable[..., Path]:
    """`make_shards`, for tests that need shards of their own."""
    return make_shards


@pytest.fixture
def record_factory() -> Callable[[str, str, int], Record]:
    """`make_record`: (key, label, seed) -> record."""
    return make_record


@pytest.fixture
def pasted_strips(monkeypatch: pytest.MonkeyPatch) -> None:
    """The pictures of a collected data set's page, pixel after pixel: to draw them takes longer than all the rest."""
    from data_prep.sources import report

    def paste(rows: Sequence[tuple[str, Sequence[Any]]]) -> bytes:
        pixels_N3 = np.concatenate([frames.reshape(-1, 3) for _, blocks in rows for frames in blocks])
        buffer = io.BytesIO()
        Image.fromarray((255 * pixels_N3[None]).round().astype(np.uint8)).save(buffer, "PNG", compress_level=1)
        return buffer.getvalue()

    monkeypatch.setattr(report, "strips", paste)
