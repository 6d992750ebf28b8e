"""Copies are those that comparing all with all finds."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from data_prep.sources.copies import _ORDER, BYTES, MOST, Copies


def brute(videos: list[Path], hashes: NDArray[np.uint8]) -> list[Path | None]:
    kept: list[int] = []
    found: list[Path | None] = []
    for index, video in enumerate(videos):
        near = [k for k in kept if np.bitwise_count(hashes[k] ^ hashes[index]).sum() <= MOST and videos[k] != video]
        found.append(videos[near[0]] if near else None)
        if not near:
            kept.append(index)
    return found


def made(rng: np.random.Generator, count: int, ones: float, spread: bool) -> NDArray[np.uint8]:
    """Hashes many of which differ by about as many bits as copies may, of any parts or of as many as can be."""
    bits = rng.random((count, 8 * BYTES)) < ones
    for index in range(1, count):
        if rng.random() < 0.7:
            bits[index] = bits[rng.integers(index)]
            number = int(rng.integers(MOST - 2, MOST + 4))
            places = (
                _ORDER[np.arange(number) * (8 * BYTES // number)] if spread else rng.permutation(8 * BYTES)[:number]
            )
            bits[index, places] ^= True
    return np.packbits(bits, axis=1)


@pytest.mark.parametrize("step", [0, 100])
@settings(deadline=None, max_examples=40)
@given(
    seed=st.integers(0, 1 << 32), count=st.integers(1, 80), ones=st.sampled_from([0.0, 0.02, 0.5]),
    spread=st.booleans(), same=st.integers(1, 100),
)  # fmt: skip
def test_copies_are_those_of_all_with_all(
    step: int, seed: int, count: int, ones: float, spread: bool, same: int
) -> None:
    rng = np.random.default_rng(seed)
    hashes = made(rng, count, ones, spread)
    videos = [Path(f"{number}.mp4") for number in rng.integers(0, same, count)]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("data_prep.sources.copies._STEP", step)  # 0: never all of them
        copies = Copies()
        found = [copies.of(video, each) for video, each in zip(videos, hashes, strict=True)]
    assert found == brute(videos, hashes)


@pytest.mark.parametrize("more", [0, 1])
def test_the_last_bit_decides(more: int) -> None:
    """As many differing bits as there may be lie in parts of their own; among thousands of others."""
    rng = np.random.default_rng(1)
    copies, others = Copies(), rng.integers(0, 256, (3000, BYTES), np.uint8)
    for number, each in enumerate(others):
        assert copies.of(Path(f"{number}"), each) is None
    changed = np.unpackbits(others[1234])
    changed[_ORDER[16 * np.arange(MOST + more)]] ^= 1
    assert copies.of(Path("new"), np.packbits(changed)) == (None if more else Path("1234"))
