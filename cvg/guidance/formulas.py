"""What labels mean, as differentiable formulas on the places of entities' attention. No weights, no training.

A formula gives its label a score: the higher, the more the maps of one denoising step show it. Lengths are in sides of
a square frame of the same area; scores of the labels of one group can be compared. Names are those of the rules by
which finished videos show labels, so a label set names both at once.

Axes: R relations, F latent frames, 2 a point (x to the right, y down).
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

NEAR = 0.15
"""How far from where it should be an entity may lie, for labels that want it at one place (on, inside, next to)."""
BODY = 2.0
"""Sides of an entity by the deviation of its attention: sqrt(12) for an even square, less for a peak."""
IN_ONE_PLACE = 0.25
"""Side of an entity, in sides of the frame, whose attention counts as half in one place."""
LEAST_VARIANCE = 1e-6
DIAGONAL = 0.5**0.5


@dataclass(frozen=True)
class Seen:
    """Where one entity of each relation is.

    Attributes:
        centre_RF2: centres of its attention.
        side_RF: of a square as large as it.
    """

    centre_RF2: Tensor
    side_RF: Tensor

    @property
    def displacement_R2(self) -> Tensor:
        """How far it comes from the first latent frame to the last, by a line through its centres."""
        return travelled(self.centre_RF2)


Formula = Callable[..., Tensor]
"""formula(subject: Seen, object: Seen) -> (R,); of one entity: formula(subject: Seen)."""


def seen(place_RFHW: Tensor) -> Seen:
    """Centre and size of a distribution over places in each frame.

    Args:
        place_RFHW: sums to 1 over H and W, or is zero.
    """
    height, width = place_RFHW.shape[-2:]
    unit_x, unit_y = math.sqrt(width / height), math.sqrt(height / width)
    y = (torch.arange(height, device=place_RFHW.device) + 0.5)[:, None] * (unit_y / height)
    x = (torch.arange(width, device=place_RFHW.device) + 0.5) * (unit_x / width)
    centre_y, centre_x = (place_RFHW * y).sum((-1, -2)), (place_RFHW * x).sum((-1, -2))
    around = (y - centre_y[..., None, None]).square() + (x - centre_x[..., None, None]).square()
    variance = (place_RFHW * around).sum((-1, -2)).clamp(min=LEAST_VARIANCE) / 2
    return Seen(torch.stack([centre_x, centre_y], -1), BODY * variance.sqrt())


def gathered(subject: Seen) -> Tensor:
    """Log of how much an entity's attention is in one place: (R,), below 0, the lower the more it is spread.

    Of an entity of side s, -log(1 + (s / IN_ONE_PLACE)^2), mean over latent frames: what guides towards attributes,
    which have no geometry of their own. Where entities' attention mixes, so do their colours; an entity that is kept in
    one place keeps its own (docs/history/experiments.md, what guides colours).
    """
    return -(subject.side_RF / IN_ONE_PLACE).square().log1p().mean(1)


def travelled(track_RFD: Tensor) -> Tensor:
    """Change from the first frame to the last, by a least-squares line: (R, D); zero for a single frame."""
    frames = track_RFD.shape[1]
    time_F = torch.arange(frames, device=track_RFD.device, dtype=track_RFD.dtype) - (frames - 1) / 2
    slope = torch.einsum("f,rfd->rd", time_F, track_RFD) / time_F.square().sum().clamp(min=1)
    return slope * (frames - 1)


def _moves(x: float, y: float) -> Formula:
    return lambda subject: subject.displacement_R2 @ subject.centre_RF2.new_tensor([x, y])


def _grows(sign: int) -> Formula:
    """Its side grows, as of what comes towards the camera, or shrinks."""
    return lambda subject: sign * travelled(subject.side_RF.log()[..., None])[:, 0]


def _returns(*names: str) -> Formula:
    """It goes in one of some directions and comes back: the shorter of the ways there and back."""

    def score(subject: Seen) -> Tensor:
        ways = []
        for name in names:
            along_RF = subject.centre_RF2 @ subject.centre_RF2.new_tensor(_DIRECTIONS[name])
            ways.append(_there_and_back(along_RF))
        return torch.stack(ways).amax(0)

    return score


def _there_and_back(along_RF: Tensor) -> Tensor:
    """Of how far it gets and how far it comes back from there, the less."""
    farthest_R = along_RF.amax(1)
    return torch.minimum(farthest_R - along_RF[:, 0], farthest_R - along_RF[:, -1])


def _rests(sign: int) -> Formula:
    """It goes in the first half and rests in the second (1), or the other way round (-1): how much farther it goes."""

    def score(subject: Seen) -> Tensor:
        half = (subject.centre_RF2.shape[1] + 1) // 2
        ways = (subject.centre_RF2[:, :half], subject.centre_RF2[:, -half:])
        before_R, after_R = (_length(travelled(way_RF2)) for way_RF2 in ways)
        return sign * (before_R - after_R)

    return score


def _corner(first: str, then: str) -> Formula:
    """It goes one way in the first half and another one in the second: of these two ways, the shorter."""

    def score(subject: Seen) -> Tensor:
        half = (subject.centre_RF2.shape[1] + 1) // 2
        legs = (subject.centre_RF2[:, :half], subject.centre_RF2[:, -half:])
        ways = [leg_RF2.new_tensor(_DIRECTIONS[name]) for name, leg_RF2 in zip((first, then), legs, strict=True)]
        return torch.minimum(travelled(legs[0]) @ ways[0], travelled(legs[1]) @ ways[1])

    return score


def _lies(x: float, y: float) -> Formula:
    return lambda subject, other: _offset(subject, other).mean(1) @ subject.centre_RF2.new_tensor([x, y])


def _comes(sign: int) -> Formula:
    """To where the object is on the whole: it is the subject that must come or go."""

    def score(subject: Seen, other: Seen) -> Tensor:
        middle_R12 = other.centre_RF2.mean(1, keepdim=True)
        return -sign * travelled(_length(subject.centre_RF2 - middle_R12)[..., None])[:, 0]

    return score


def _on(subject: Seen, other: Seen) -> Tensor:
    """Its middle is above the object's by half of both sides."""
    return NEAR - _length(_offset(subject, other) + _up(subject, (subject.side_RF + other.side_RF) / 2)).mean(1)


def _inside(subject: Seen, other: Seen) -> Tensor:
    return NEAR - _length(_offset(subject, other)).mean(1)


def _next_to(subject: Seen, other: Seen) -> Tensor:
    """Level, and sideways by half of both sides, on either side."""
    x, y = _offset(subject, other).unbind(-1)
    gap_RF = x.abs() - (subject.side_RF + other.side_RF) / 2
    return NEAR - _length(torch.stack([gap_RF, y], -1)).mean(1)


def _past(subject: Seen, other: Seen) -> Tensor:
    """On its way relative to the object, the subject is first on one side of it and then on the other."""
    way_RF2 = _offset(subject, other)
    moved_R2 = travelled(way_RF2)
    forward_R2 = moved_R2 / _length(moved_R2)[:, None]
    along_RF = torch.einsum("rfd,rd->rf", way_RF2, forward_R2)
    return torch.minimum(-along_RF[:, 0], along_RF[:, -1])


def _around(subject: Seen, other: Seen) -> Tensor:
    """Turns that it sweeps about the object, either way, beyond the half turn of what goes past."""
    way_RF2 = _offset(subject, other)
    before, after = way_RF2[:, :-1], way_RF2[:, 1:]
    sine = before[..., 0] * after[..., 1] - before[..., 1] * after[..., 0]
    return torch.atan2(sine, (before * after).sum(-1)).sum(1).abs() / (2 * math.pi) - 0.5


def _following(subject: Seen, other: Seen) -> Tensor:
    """Both move along the object's way, the subject behind; by more than it comes nearer to where the object was."""
    theirs_R2 = other.displacement_R2
    length_R = _length(theirs_R2)
    forward_R2 = theirs_R2 / length_R[:, None]
    along_R = (subject.displacement_R2 * forward_R2).sum(-1)
    behind_R = -(_offset(subject, other).mean(1) * forward_R2).sum(-1)
    return NEAR + torch.minimum(torch.minimum(length_R, along_R), behind_R)


def _swaps(subject: Seen, other: Seen) -> Tensor:
    """Each ends where the other began: by how much less both miss that than they are apart, before and after."""
    apart_R = torch.minimum(_apart(subject, other, 0), _apart(subject, other, -1))
    return 2 * apart_R - _missed(subject, other).sum(-1)


def _bumps(subject: Seen, other: Seen) -> Tensor:
    """The subject comes up to the object and goes back the way it came; the object stays."""
    near_RF = -_length(subject.centre_RF2 - other.centre_RF2.mean(1, keepdim=True))
    strayed_R = _length(subject.centre_RF2[:, -1] - subject.centre_RF2[:, 0])
    return _there_and_back(near_RF) - strayed_R - _length(other.displacement_R2)


def _meets(subject: Seen, other: Seen) -> Tensor:
    """Both come nearer to where the other began, and to one another."""
    left_R = torch.maximum(_missed(subject, other).amax(-1), _apart(subject, other, -1))
    return _apart(subject, other, 0) - left_R


def _apart(subject: Seen, other: Seen, frame: int) -> Tensor:
    return _length(subject.centre_RF2[:, frame] - other.centre_RF2[:, frame])


def _missed(subject: Seen, other: Seen) -> Tensor:
    """How far from where the other began each of them ends: (R, 2)."""
    ours_RF2, theirs_RF2 = subject.centre_RF2, other.centre_RF2
    ways = [ours_RF2[:, -1] - theirs_RF2[:, 0], theirs_RF2[:, -1] - ours_RF2[:, 0]]
    return _length(torch.stack(ways, 1))


def _offset(subject: Seen, other: Seen) -> Tensor:
    return subject.centre_RF2 - other.centre_RF2


def _up(subject: Seen, by_RF: Tensor) -> Tensor:
    return by_RF[..., None] * subject.centre_RF2.new_tensor([0.0, 1.0])


def _length(vector: Tensor) -> Tensor:
    """Euclidean, with a gradient at zero."""
    return (vector.square().sum(-1) + LEAST_VARIANCE).sqrt()


_DIRECTIONS = {"left": (-1.0, 0.0), "right": (1.0, 0.0), "up": (0.0, -1.0), "down": (0.0, 1.0)}
_DIAGONALS = {
    f"{vertical} {sideways}": (DIAGONAL * _DIRECTIONS[sideways][0], DIAGONAL * _DIRECTIONS[vertical][1])
    for vertical in ("up", "down")
    for sideways in ("left", "right")
}
_CORNERS = [
    (first, then) for first, (x, y) in _DIRECTIONS.items() for then, (u, v) in _DIRECTIONS.items() if x * u + y * v == 0
]
ALONE: dict[str, Formula] = {
    **{f"moves {name}": _moves(*way) for name, way in {**_DIRECTIONS, **_DIAGONALS}.items()},
    **{f"moves {first} then {then}": _corner(first, then) for first, then in _CORNERS},
    "towards the camera": _grows(1),
    "away from the camera": _grows(-1),
    "grows": _grows(1),
    "shrinks": _grows(-1),
    "bounces": _returns("down"),
    "goes and returns": _returns("left", "right"),
    "stops": _rests(1),
    "sets off": _rests(-1),
}
"""Formulas of one entity, by the names of rules."""
BETWEEN: dict[str, Formula] = {
    "left of": _lies(-1, 0),
    "right of": _lies(1, 0),
    "above": _lies(0, -1),
    "below": _lies(0, 1),
    "on": _on,
    "inside": _inside,
    "next to": _next_to,
    "towards": _comes(1),
    "away from": _comes(-1),
    "past": _past,
    "around": _around,
    "following": _following,
    "swaps with": _swaps,
    "bumps into": _bumps,
    "meets": _meets,
}
"""Formulas of subject and object, by the names of rules."""
FORMULAS: tuple[dict[str, Formula], ...] = (ALONE, BETWEEN)
"""By the number of entities, from one on."""
