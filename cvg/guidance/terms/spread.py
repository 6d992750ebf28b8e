"""How far an entity's attention is spread over the frame: large where the model is about to draw it twice.

An addition to the paper. An edit that raises a label's probability may leave an entity where it was and give it
evidence in a second place; the classifier, which reads where entities are on the whole, is content. The variance of the
attended place tells the two apart.
"""

from __future__ import annotations

import torch
from torch import Tensor

from cvg.guidance.places import place
from cvg.guidance.terms.base import EntityMaps, Taps
from cvg.guidance.verdict import Verdict

LEAST_VARIANCE = 1e-4  # of a peak within one token; keeps the logarithm finite


class SpreadTerm:
    """lambda * log spread, summed over entities. It counts from the second guided step on.

    The first guided step decides where entities go, and a penalty on being in two places would hold them where they
    are.

    Args:
        weight: lambda.
        taps: layers and heads whose mean map tells where an entity is.
    """

    first_guided_step = 1

    def __init__(self, weight: float, taps: Taps) -> None:
        self.weight, self.taps = weight, taps

    def __call__(self, maps: EntityMaps, verdict: Verdict) -> Tensor:
        """See :class:`cvg.guidance.terms.base.Term`."""
        return self.weight * log_spread(maps.of(self.taps)).sum()


def log_spread(maps_BLAEFHW: Tensor) -> Tensor:
    """Log of the spatial variance of each entity's attention, mean over latent frames.

    :func:`cvg.guidance.places.place` is the distribution of a place (y, x) in [-1, 1]^2; its variance is that of y plus
    that of x. The logarithm makes large and small entities count alike: its gradient is the relative change.

    Args:
        maps_BLAEFHW: attention probabilities, non-negative.

    Returns:
        (B, E), at most log 2; of an absent entity, whose maps are zero, a constant.
    """
    place_BEFHW = place(maps_BLAEFHW)
    height, width = place_BEFHW.shape[-2:]
    y = torch.linspace(-1, 1, height, device=place_BEFHW.device)[:, None]
    x = torch.linspace(-1, 1, width, device=place_BEFHW.device)
    squares = (place_BEFHW * (y.square() + x.square())).sum((-1, -2))
    means = (place_BEFHW * y).sum((-1, -2)).square() + (place_BEFHW * x).sum((-1, -2)).square()
    return (squares - means).clamp(min=LEAST_VARIANCE).log().mean(-1)
