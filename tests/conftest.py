"""Fixtures: tiny shards, and what makes them."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from cvg.shards.records import Record
from tests.helpers.shards import make_record, make_shards


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
