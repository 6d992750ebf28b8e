"""Clips of different videos that look the same, found among a hundred thousand without comparing each with each.

Hashes that differ in at most d bits are equal in at least one of any d + 1 parts of them. So of 48 parts of two bytes
those d + 1 are looked up that the fewest others share, and only what is found there is compared. A part has bits from
all over the pictures, since neighbours are much alike.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

SAME = 0.04
"""Greatest share of the bits of two hashes in which copies differ."""
BYTES = 96
"""Of a hash."""
MOST = int(SAME * 8 * BYTES)
_PARTS = BYTES // 2
_STEP = 100
_PLACES = np.arange(_PARTS)
_ORDER = np.random.default_rng(0).permutation(8 * BYTES)
assert _PARTS > MOST


class Copies:
    """Hashes of clips by the video that they are of, to know a clip of another video that looks the same.

    What is found is what comparing with all of them finds. Where most of them share parts, as hashes of empty pictures
    do, all are compared.
    """

    def __init__(self) -> None:
        self._hashes = np.zeros((64, BYTES), np.uint8)
        self._before = np.zeros((64, _PARTS), np.int32)  # per hash and part, the last hash before it with the same part
        self._last = np.full((_PARTS, 1 << 16), -1, np.int32)
        self._shared = np.zeros((_PARTS, 1 << 16), np.int32)
        self._videos: list[Path] = []

    def of(self, video: Path, hash_B: NDArray[np.uint8]) -> Path | None:
        """The other video that a clip is a copy of, the first; None, remembering it, where there is none.

        Args:
            video: that the clip is of.
            hash_B: of the clip, 96 bytes.
        """
        parts = np.packbits(np.unpackbits(hash_B)[_ORDER]).view(np.uint16)
        for index in self._alike(hash_B, parts):
            if self._videos[index] != video:
                return self._videos[index]
        count = len(self._videos)
        if count == len(self._hashes):
            self._hashes = np.concatenate([self._hashes, np.zeros_like(self._hashes)])
            self._before = np.concatenate([self._before, np.zeros_like(self._before)])
        self._hashes[count] = hash_B
        self._before[count] = self._last[_PLACES, parts]
        self._last[_PLACES, parts] = count
        self._shared[_PLACES, parts] += 1
        self._videos.append(video)
        return None

    def _alike(self, hash_B: NDArray[np.uint8], parts: NDArray[np.uint16]) -> NDArray[np.intp]:
        """The hashes that differ in few enough bits, in order."""
        count = len(self._videos)
        rare = np.argpartition(self._shared[_PLACES, parts], MOST)[: MOST + 1]
        longest = int(self._shared[rare, parts[rare]].max())
        # A step along the chains takes as long as comparing some hundred.
        near = np.arange(count) if _STEP * longest >= count else self._chained(rare, parts)
        different = np.bitwise_count((self._hashes[near] if len(near) < count else self._hashes[:count]) ^ hash_B)
        return np.asarray(near[different.sum(axis=1) <= MOST])

    def _chained(self, rare: NDArray[np.intp], parts: NDArray[np.uint16]) -> NDArray[np.intp]:
        """The hashes with one of some parts, in order."""
        found, places, at = [], rare, self._last[rare, parts[rare]]
        while len(at := at[(going := at >= 0)]):
            places = places[going]
            found.append(at)
            at = self._before[at, places]
        return np.unique(np.concatenate(found)) if found else np.zeros(0, np.intp)
