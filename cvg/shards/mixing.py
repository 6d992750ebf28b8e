"""How often an epoch shows the training records of each of several folders that are mixed."""

from __future__ import annotations

import math
from collections.abc import Sequence

from cvg.common.errors import DataError, SettingsError

MOST = 1000.0
"""Times that an epoch shows a record at most."""


def checked(weights: Sequence[float] | None, shares: Sequence[float] | None, folders: Sequence[str]) -> list[float]:
    """The weights, each 1 where none are given.

    Raises:
        SettingsError: both are given, or not a positive number, of at most ``MOST``, for each folder.
    """
    if weights and shares:
        raise SettingsError(f"data.weights {weights} and data.shares {shares}: give one of the two")
    given = list(weights or [1.0] * len(folders))
    for name, numbers in {"weights": given, "shares": given if shares is None else shares}.items():
        if len(numbers) != len(folders) or not all(math.isfinite(n) and 0 < n <= MOST for n in numbers):
            raise SettingsError(
                f"data.{name} {numbers}: expected one positive number, of {MOST:g} at most, for each of {list(folders)}"
            )
    return given


def weights_for(shares: Sequence[float], counts: Sequence[int], folders: Sequence[str]) -> list[float]:
    """The weights by which folders have their shares of an epoch that is as long as all of their records together.

    Args:
        shares: of the folders, in proportion.
        counts: training records of each.
        folders: their names.

    Raises:
        DataError: a folder has no records, or so few that an epoch would show each more than ``MOST`` times.
    """
    weights = []
    for share, count, folder in zip(shares, counts, folders, strict=True):
        samples = share / sum(shares) * sum(counts)
        if not count or samples > MOST * count:
            raise DataError(
                f"shards {folder}: {count} training records cannot be {samples:.0f} samples of an epoch, its share of "
                f"{share / sum(shares):.3g}; leave the folder out, or give it a smaller one of data.shares"
            )
        weights.append(samples / count)
    return weights


def told(weights: Sequence[float], counts: Sequence[int], folders: Sequence[str]) -> str:
    """In one line, of what an epoch consists."""
    samples = [weight * count for weight, count in zip(weights, counts, strict=True)]
    parts = [
        f"{each / sum(samples):.1%} of {folder} ({count} records, each {weight:.3g} times)"
        for each, folder, count, weight in zip(samples, folders, counts, weights, strict=True)
    ]
    return f"an epoch has {round(sum(samples))} training samples: {', '.join(parts)}"
