"""Fixtures: tiny shards, a tiny generator and its classifier; and how memory is looked after while tests run."""

from __future__ import annotations

import gc
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

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
