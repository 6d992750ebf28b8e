"""Intervals of items in clusters, against simulations whose truth is known."""

from __future__ import annotations

import numpy as np
import pytest

from cvg.common import statistics
from cvg.common.statistics import independent, mcnemar, paired_bootstrap, paired_shares, sign_flips, wilson

PROMPTS, SAMPLES, RUNS = 40, 5, 1500
NAMES = [prompt for prompt in range(PROMPTS) for _ in range(SAMPLES)]


def hits(rng: np.random.Generator, share: float, alike: float) -> np.ndarray:
    """Right or wrong (runs, items): prompts have shares of their own about a common one, the more ``alike``."""
    if alike == 0:
        return rng.random((RUNS, PROMPTS * SAMPLES)) < share
    known = (1 - alike) / alike
    shares_RP = rng.beta(share * known, (1 - share) * known, (RUNS, PROMPTS))
    return rng.random((RUNS, PROMPTS * SAMPLES)) < shares_RP.repeat(SAMPLES, axis=1)


@pytest.mark.parametrize("alike", [0.0, 0.2, 0.6])
@pytest.mark.parametrize("share", [0.5, 0.85])
def test_the_interval_of_a_share_holds_the_truth(share: float, alike: float) -> None:
    covered, naive = 0, 0
    for row in hits(np.random.default_rng(7), share, alike):
        part = independent(row, NAMES) / len(row)
        low, high = wilson(row.sum() * part, len(row) * part)
        covered += low <= share <= high
        low, high = wilson(row.sum(), len(row))
        naive += low <= share <= high
    assert 0.93 <= covered / RUNS <= 0.98
    assert alike < 0.5 or naive / RUNS < 0.85  # what this is for


@pytest.mark.parametrize("alike", [0.0, 0.5])
def test_the_interval_of_a_gain_holds_the_truth(alike: float) -> None:
    rng, covered, naive = np.random.default_rng(8), 0, 0
    for before, after in zip(hits(rng, 0.5, alike), hits(rng, 0.8, alike), strict=True):
        change = after.astype(int) - before.astype(int)
        won, lost, part = (change == 1).sum(), (change == -1).sum(), independent(change, NAMES) / len(change)
        low, high = paired_shares(won * part, lost * part, len(change) * part)
        covered += low <= 0.3 <= high
        low, high = paired_shares(won, lost, len(change))
        naive += low <= 0.3 <= high
    assert 0.93 <= covered / RUNS <= 0.98
    assert alike == 0 or naive / RUNS < 0.85


def test_the_bootstrap_draws_whole_clusters(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(statistics, "RESAMPLES", 400)
    rng, covered, runs = np.random.default_rng(9), 0, 300
    for _ in range(runs):
        own_P = rng.normal(0.0, 1.0, PROMPTS)
        values = own_P.repeat(SAMPLES) + rng.normal(0.0, 0.5, PROMPTS * SAMPLES)
        low, high = paired_bootstrap(values.tolist(), NAMES)
        covered += low <= 0 <= high
    assert 0.91 <= covered / runs <= 0.98
    # Of clusters of different sizes it is still the mean over all items.
    uneven = paired_bootstrap([0.0, 0.0, 0.0, 4.0], ["a", "a", "a", "b"])
    assert uneven[0] == 0 and uneven[1] == 4
    assert paired_bootstrap([1.0, 3.0], ["a", "a"]) == (2.0, 2.0)


def test_p_is_of_clusters() -> None:
    won, names = [1] * 12, [prompt for prompt in range(4) for _ in range(3)]
    assert mcnemar(12, 0) < 0.001 and sign_flips(won, names) == pytest.approx(2 / 2**4)
    assert sign_flips([1, -1, 0, 1], ["a", "a", "b", "c"]) == 1.0
    # Of one item a cluster it is McNemar's.
    change = [1] * 8 + [-1] * 2 + [0] * 5
    assert sign_flips(change, range(len(change))) == pytest.approx(mcnemar(8, 2))


def test_how_many_count() -> None:
    assert independent([1, 0, 1], "abc") == 3
    assert independent([1, 1, 1, 1], "aabb") < 2  # nothing is known of how prompts differ
    assert independent([1, 0], "aa") == 1
    same = independent([1, 1, 0, 0] * 20, [index // 2 for index in range(80)])
    assert 36 < same < 40  # the second of a pair tells nothing
