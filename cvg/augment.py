"""Mirroring maps with their labels: new training samples without a new inversion."""

from __future__ import annotations

import random

from torch import Tensor

from cvg.errors import UserError
from cvg.labels import LabelSet
from cvg.records import Record

_AXIS = {"horizontal": -1, "vertical": -2}


class Mirror:
    """Flip maps left-right and up-down, each with probability 1/2, and swap the labels that a flip exchanges.

    The flipped map is exactly the map of the mirrored scene as far as positions go; labels that are not named stay
    what they are, so every label that a flip changes must be named.

    Args:
        swaps: by ``horizontal`` and ``vertical``, pairs of labels that the flip exchanges (either direction is enough),
            e.g. ``{"horizontal": {"left": "right"}}``. Axes that are not named are not flipped.
        labels: the label set.

    Raises:
        UserError: an unknown axis or label, a label in two pairs, or a pair across groups.
    """

    def __init__(self, swaps: dict[str, dict[str, str]], labels: LabelSet) -> None:
        self.swaps: dict[str, dict[str, str]] = {}
        for axis, pairs in swaps.items():
            if axis not in _AXIS:
                raise UserError(f"mirror: axis {axis!r}; expected {' or '.join(_AXIS)}")
            swap: dict[str, str] = {}
            for a, b in pairs.items():
                if labels[a].group != labels[b].group:
                    raise UserError(
                        f"mirror: {a!r} and {b!r} are in different groups; a mirror image stays in its group"
                    )
                if swap.get(a, b) != b or swap.get(b, a) != a:
                    raise UserError(f"mirror: {a!r} or {b!r} is in two {axis} pairs; name each label once")
                swap |= {a: b, b: a}
            self.swaps[axis] = swap

    def __call__(self, record: Record, rng: random.Random) -> tuple[Tensor, Tensor, str]:
        """Positive maps, negative maps and label of a randomly mirrored record."""
        positive, negative, label = record.positive_SLAKFHW, record.negative_SLAKFHW, record.label
        for axis, swap in self.swaps.items():
            if rng.random() < 0.5:
                positive, negative = positive.flip(_AXIS[axis]), negative.flip(_AXIS[axis])
                label = swap.get(label, label)
        return positive, negative, label
