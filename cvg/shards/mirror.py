"""Mirroring maps with their labels: new training samples without a new inversion."""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence

from torch import Tensor

from cvg.common.errors import SettingsError
from cvg.composition import LabelSet
from cvg.shards.records import Record

_MIRRORS: dict[str, Callable[[Tensor], Tensor]] = {
    "horizontal": lambda maps: maps.flip(-1),
    "vertical": lambda maps: maps.flip(-2),
    "diagonal": lambda maps: maps.transpose(-1, -2),
    "time": lambda maps: maps.flip(-3),
}


class Mirror:
    """Mirror maps in space and time, each mirror with probability 1/2, and swap the labels that it exchanges.

    The mirrored map is exactly the map of the mirrored scene as far as positions go; labels that are not named stay
    what they are, so every label that a mirror changes must be named.

    Args:
        swaps: by mirror, pairs of labels that it exchanges (either direction is enough), e.g.
            ``{"horizontal": {"left": "right"}}``. ``horizontal`` exchanges left and right, ``vertical`` up and down,
            ``diagonal`` rows and columns (square maps only), ``time`` the order of frames. Others are not used.
        labels: the label set.
        grid: the maps' (F, H, W).
        hold_out: labels that no mirror may make; a record that one would turn into such a label is not mirrored so.

    Raises:
        SettingsError: an unknown mirror or label, a diagonal one of maps that are not square, a label in two pairs, or
            a pair across groups.
    """

    def __init__(
        self, swaps: dict[str, dict[str, str]], labels: LabelSet, grid: Sequence[int], hold_out: Sequence[str] = ()
    ) -> None:
        self.hold_out = frozenset(hold_out)
        self.swaps: dict[str, dict[str, str]] = {}
        for axis, pairs in swaps.items():
            if axis not in _MIRRORS:
                raise SettingsError(f"mirror: {axis!r} is unknown; expected {', '.join(_MIRRORS)}")
            if axis == "diagonal" and grid[1] != grid[2]:
                raise SettingsError(
                    f"mirror: the maps are {grid[1]} x {grid[2]}; the diagonal mirror needs square ones"
                )
            swap: dict[str, str] = {}
            for a, b in pairs.items():
                if unknown := [name for name in (a, b) if name not in labels.names]:
                    raise SettingsError(
                        f"mirror: {unknown[0]!r} is no label of these shards (they are {', '.join(labels.names)}); set "
                        "data.mirror to the pairs of labels that a mirror exchanges, or to null for none"
                    )
                if labels[a].group != labels[b].group:
                    raise SettingsError(
                        f"mirror: {a!r} and {b!r} are in different groups; a mirror image stays in its group"
                    )
                if swap.get(a, b) != b or swap.get(b, a) != a:
                    raise SettingsError(f"mirror: {a!r} or {b!r} is in two {axis} pairs; name each label once")
                swap |= {a: b, b: a}
            self.swaps[axis] = swap

    def __call__(self, record: Record, rng: random.Random) -> tuple[Tensor, Tensor, str]:
        """Positive maps, negative maps and label of a randomly mirrored record."""
        positive, negative, label = record.positive_SLAKFHW, record.negative_SLAKFHW, record.label
        for axis, swap in self.swaps.items():
            mirrored = swap.get(label, label)
            if rng.random() < 0.5 and mirrored not in self.hold_out:
                positive, negative = _MIRRORS[axis](positive), _MIRRORS[axis](negative)
                label = mirrored
        return positive, negative, label
