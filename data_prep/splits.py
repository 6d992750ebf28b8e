"""Which split the rows of a manifest go into that name none: by a hash, so that it is the same each time."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Mapping, Sequence

from cvg.shards.shards import Split

_TRAIN, _VAL = 0.8, 0.9
"""Where the shares of train and val end."""


def split_of(video: str, start: float | None, end: float | None) -> Split:
    """The split of a row that names none: fixed by its video's path, as written in the manifest, and its segment."""
    return at(share(video, start, end))


def share(video: str, start: float | None, end: float | None) -> float:
    """Where in [0, 1) a hash puts such a row."""
    text = f"{video}|{start}|{end}".encode(errors="backslashreplace")
    return int.from_bytes(hashlib.sha256(text).digest()[:8], "big") / 2**64


def at(share: float) -> Split:
    """The split at a place in [0, 1)."""
    return "train" if share < _TRAIN else "val" if share < _VAL else "test"


def spread(given: Sequence[str | None], drawn: Mapping[int, float]) -> dict[int, Split]:
    """Who changes splits, so that each split is held by one row at least, as far as there are rows that were drawn.

    A row comes over from the drawn ones of the split that has most of them: the one whose hash is nearest.

    Args:
        given: the split of each row; None of rows that give no record.
        drawn: the hash of each row, by its place, that names no split.

    Returns:
        The new splits, by the rows' places.
    """
    now = list(given)
    moved: dict[int, Split] = {}
    if sum(split is not None for split in now) < 2:
        return moved
    middles: dict[Split, float] = {"train": 0.0, "val": (_TRAIN + _VAL) / 2, "test": 1.0}
    for split, middle in middles.items():
        counts = Counter(each for each in now if each is not None)
        if counts[split]:
            continue
        many = Counter(each for i in drawn if (each := now[i]) is not None and (counts[each] > 1 or split == "train"))
        if many:
            most = many.most_common(1)[0][0]
            nearest = min((i for i in drawn if now[i] == most), key=lambda i: abs(drawn[i] - middle))
            now[nearest] = moved[nearest] = split
    return moved
