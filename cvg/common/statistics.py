"""Intervals for shares and for paired differences."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from scipy import stats

Interval = tuple[float, float]

Z95 = 1.959963984540054
"""Two-sided 95% quantile of the normal distribution."""
RESAMPLES = 10_000


def wilson(successes: float, count: int, z: float = Z95) -> Interval:
    """Score interval of a share (Wilson, J. Am. Stat. Assoc. 1927); (0, 1) of nothing.

    Args:
        successes: how many of the items; where an item is right in part, its share.
        count: all items.
        z: two-sided quantile of the normal distribution, for 95% when left out.
    """
    if count == 0:
        return 0.0, 1.0
    # By hand: scipy's (`binomtest(...).proportion_ci`) takes whole successes only.
    share, z2 = successes / count, z**2
    centre = (share + z2 / (2 * count)) / (1 + z2 / count)
    half = z / (1 + z2 / count) * math.sqrt(share * (1 - share) / count + z2 / (4 * count**2))
    return max(0.0, centre - half), min(1.0, centre + half)


def paired_shares(won: int, lost: int, count: int) -> Interval:
    """95% interval of the difference of two shares of the same items (Bonett and Price, J. Educ. Behav. Stat. 2012).

    Unlike a bootstrap it does not shrink to a point when few items differ.

    Args:
        won: items right the second time only.
        lost: items right the first time only.
        count: all items.
    """
    up, down = (won + 1) / (count + 2), (lost + 1) / (count + 2)
    half = Z95 * math.sqrt((up + down - (up - down) ** 2) / (count + 2))
    return max(-1.0, up - down - half), min(1.0, up - down + half)


def mcnemar(won: int, lost: int) -> float:
    """Exact two-sided p-value that items change for better and for worse equally often (McNemar 1947).

    Args:
        won: items right the second time only.
        lost: items right the first time only.
    """
    changed = won + lost
    return float(stats.binomtest(won, changed, 0.5).pvalue) if changed else 1.0


def paired_bootstrap(differences: Sequence[float], seed: int = 0) -> Interval:
    """95% percentile bootstrap interval of a mean of paired differences; (0, 0) of nothing.

    Args:
        differences: one per pair.
        seed: of the resampling.
    """
    if len(differences) < 2:  # nothing to resample
        return (float(differences[0]), float(differences[0])) if len(differences) else (0.0, 0.0)
    # One resample at a time would be slow and all at once large: blocks of a million draws.
    found = stats.bootstrap(
        (np.asarray(differences, np.float64),),
        np.mean,
        n_resamples=RESAMPLES,
        batch=max(1, 1_000_000 // len(differences)),
        confidence_level=0.95,
        method="percentile",
        rng=np.random.default_rng(seed),
    )
    return float(found.confidence_interval.low), float(found.confidence_interval.high)


def mean(values: Sequence[float]) -> float | None:
    """The mean, None of nothing."""
    return float(np.mean(values)) if len(values) else None
