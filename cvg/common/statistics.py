"""Intervals for shares and for paired differences, of items that may come in clusters, as videos of one prompt do."""

from __future__ import annotations

import math
from collections.abc import Hashable, Sequence

import numpy as np
from numpy.typing import NDArray
from scipy import stats

Interval = tuple[float, float]

Z95 = 1.959963984540054
"""Two-sided 95% quantile of the normal distribution."""
RESAMPLES = 10_000


def wilson(successes: float, count: float, z: float = Z95) -> Interval:
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


def paired_shares(won: float, lost: float, count: float) -> Interval:
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


def independent(values: Sequence[float], clusters: Sequence[Hashable]) -> float:
    """How many independent items would tell as much of the mean as these.

    Items of one cluster tend to be alike, so that ten videos of ten prompts tell more than ten of two. The variance of
    the mean is measured between clusters and compared with that of independent items (the design effect: Kish, Survey
    Sampling, 1965); that it is measured on few clusters counts by Student's t (Korn and Graubard, Surv. Method. 1998).

    Args:
        values: one per item.
        clusters: which cluster each is of.

    Returns:
        The number of items where each is a cluster by itself; else at most that. Where all values are the same, the
        items of a cluster count as one.
    """
    index = _numbers(clusters)
    count, groups = len(values), len(np.unique(index))
    if groups == count:
        return float(count)
    if groups == 1:
        return 1.0
    rest_N = np.asarray(values, np.float64) - np.mean(np.asarray(values, np.float64))
    sums_G = np.bincount(index, rest_N)
    between = groups / (groups - 1) * (sums_G**2).sum() / count**2
    within = (rest_N**2).sum() / (count - 1) / count
    found = float(np.clip(count * within / between, groups, count)) if between > 0 else float(groups)
    return found * (Z95 / float(stats.t.ppf(0.975, groups - 1))) ** 2


def mcnemar(won: int, lost: int) -> float:
    """Exact two-sided p-value that items change for better and for worse equally often (McNemar 1947).

    Args:
        won: items right the second time only.
        lost: items right the first time only.
    """
    changed = won + lost
    return float(stats.binomtest(won, changed, 0.5).pvalue) if changed else 1.0


def sign_flips(differences: Sequence[float], clusters: Sequence[Hashable], seed: int = 0) -> float:
    """Two-sided p-value that whole clusters change for better and for worse equally often, by flipping their signs.

    Exact up to 13 clusters that change, and then by ``RESAMPLES`` random flips.

    Args:
        differences: one per item.
        clusters: which cluster each is of.
        seed: of the flips.
    """
    sums_G = np.bincount(_numbers(clusters), np.asarray(differences, np.float64))
    changed = sums_G[sums_G != 0]
    if len(changed) < 2:
        return 1.0
    found = stats.permutation_test(
        (changed,),
        np.sum,
        permutation_type="samples",
        vectorized=True,
        n_resamples=RESAMPLES,
        rng=np.random.default_rng(seed),
    )
    return float(found.pvalue)


def paired_bootstrap(differences: Sequence[float], clusters: Sequence[Hashable], seed: int = 0) -> Interval:
    """95% percentile bootstrap interval of a mean of paired differences, whole clusters drawn; (0, 0) of nothing.

    Args:
        differences: one per pair.
        clusters: which cluster each pair is of.
        seed: of the resampling.
    """
    index = _numbers(clusters)
    groups = len(np.unique(index))
    if groups < 2:  # nothing to resample
        middle = float(np.mean(differences)) if len(differences) else 0.0
        return middle, middle
    sums_G, sizes_G = np.bincount(index, np.asarray(differences, np.float64)), np.bincount(index)
    alone = groups == len(differences)
    # One resample at a time would be slow and all at once large: blocks of a million draws.
    found = stats.bootstrap(
        (sums_G,) if alone else (sums_G, sizes_G),
        np.mean if alone else _ratio,
        paired=not alone,
        vectorized=True,
        n_resamples=RESAMPLES,
        batch=max(1, 1_000_000 // groups),
        confidence_level=0.95,
        method="percentile",
        rng=np.random.default_rng(seed),
    )
    return float(found.confidence_interval.low), float(found.confidence_interval.high)


def _ratio(sums: NDArray[np.float64], sizes: NDArray[np.float64], axis: int = -1) -> NDArray[np.float64]:
    """The mean over all items of clusters, by their sums and sizes."""
    return np.asarray(sums.sum(axis) / sizes.sum(axis))


def _numbers(clusters: Sequence[Hashable]) -> NDArray[np.intp]:
    """The clusters by number, in order of appearance; one per item."""
    places = {name: place for place, name in enumerate(dict.fromkeys(clusters))}
    return np.array([places[name] for name in clusters], np.intp)


def mean(values: Sequence[float]) -> float | None:
    """The mean, None of nothing."""
    return float(np.mean(values)) if len(values) else None
