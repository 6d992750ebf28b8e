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

    A record whose label has no known image in a mirror is not mirrored so.

    The mirrored map is exactly the map of the mirrored scene as far as positions go; which label the mirrored scene
    shows is said by the label set.

    Args:
        axes: the mirrors: ``horizontal`` exchanges left and right, ``vertical`` up and down, ``diagonal`` rows and
            columns (square maps only), ``time`` the order of frames.
        labels: the label set, in which a label names its mirror images where they show another one.
        grid: the maps' (F, H, W).
        hold_out: labels that no mirror may make; a record that one would turn into such a label is not mirrored so.

    Raises:
        SettingsError: an unknown mirror, one for which no label names an image, or a diagonal one of maps that are not
            square.
    """

    def __init__(
        self, axes: Sequence[str], labels: LabelSet, grid: Sequence[int], hold_out: Sequence[str] = ()
    ) -> None:
        self.hold_out = frozenset(hold_out)
        self.swaps: dict[str, dict[str, str | None]] = {}
        for axis in axes:
            if axis not in _MIRRORS:
                raise SettingsError(f"mirror: {axis!r} is unknown; expected {', '.join(_MIRRORS)}")
            if axis == "diagonal" and grid[1] != grid[2]:
                raise SettingsError(
                    f"mirror: the maps are {grid[1]} x {grid[2]}; the diagonal mirror needs square ones"
                )
            swap = {label.name: label.image(axis) for label in labels.labels}
            if all(image in (name, None) for name, image in swap.items()):
                raise SettingsError(
                    f"mirror: no label of these shards ({', '.join(labels.names)}) names its {axis} mirror image, so "
                    "that it would stay what it is; set data.mirror to null, or say `mirror` in the label set"
                )
            self.swaps[axis] = swap

    def made_of(self, label: str) -> frozenset[str]:
        """The labels that a record of a label may have after it was mirrored, its own among them."""
        found = {label}
        for swap in self.swaps.values():
            found |= {image for name in found if (image := swap[name]) is not None} - self.hold_out
        return frozenset(found)

    def __call__(self, record: Record, rng: random.Random) -> tuple[Tensor, Tensor, str]:
        """Positive maps, negative maps and label of a randomly mirrored record."""
        positive, negative, label = record.positive_SLAKFHW, record.negative_SLAKFHW, record.label
        for axis, swap in self.swaps.items():
            mirrored = swap[label]
            if rng.random() < 0.5 and mirrored is not None and mirrored not in self.hold_out:
                positive, negative = _MIRRORS[axis](positive), _MIRRORS[axis](negative)
                label = mirrored
        return positive, negative, label
