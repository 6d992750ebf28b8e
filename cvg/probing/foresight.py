"""Which layers and heads show early where entities will be: for rules, which have no training and so no data to probe.

Late in sampling the maps of all layers and heads together lie where the entities are in the finished video. How well
the maps of some layers and heads at the guided steps foretell those places is then known from videos that are sampled
plainly, of prompts alone: no labels, no judge, no gradients.

Axes beside the package's: V videos, E entities of a video, F latent frames, H and W of the maps.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from cvg.common.errors import DataError
from cvg.guidance.formulas import seen
from cvg.guidance.places import place

LEAST_ENTITIES = 12
"""Entities of all videos together, below which correlations are too rough to choose by."""
_RESAMPLES = 200


@dataclass(frozen=True)
class Foretold:
    """How well maps foretell where entities will be.

    Attributes:
        place: correlation, over all entities, of where they are on the whole with where they will be; mean of x and y.
        motion: the same of how far they get from the first latent frame to the last; 0 where there is one frame alone.
        error: standard error of :attr:`score`, over resampled videos.
    """

    place: float
    motion: float
    error: float

    @property
    def score(self) -> float:
        """Mean of both."""
        return (self.place + self.motion) / 2


@dataclass(frozen=True)
class Tapped:
    """What rules are to read, as positions among what was looked at, and why.

    Attributes:
        layers: tapped layers.
        heads: tapped heads, the same in all layers.
        by_layer: of each layer, all heads.
        by_head: of each head, in the chosen layers.
        by_depth: of the layers up to each, all heads.
        chosen: of the chosen layers and heads together.
        default: of what rules read where nothing is chosen.
    """

    layers: list[int]
    heads: list[int]
    by_layer: list[Foretold]
    by_head: list[Foretold]
    by_depth: list[Foretold]
    chosen: Foretold
    default: Foretold


class Foresight:
    """Maps of plainly sampled videos, early and late.

    Args:
        early_SVLAEFHW: at the guided steps, of all layers and heads that are to be chosen from.
        late_VLAEFHW: at a late step, of the same.
        present_VE: which entities there are; the maps of others are anything.

    Raises:
        DataError: too few entities.
    """

    def __init__(self, early_SVLAEFHW: Tensor, late_VLAEFHW: Tensor, present_VE: Tensor) -> None:
        if present_VE.sum() < LEAST_ENTITIES:
            raise DataError(f"{int(present_VE.sum())} entities: give prompts that name {LEAST_ENTITIES} or more in all")
        self.early_SVLAEFHW, self.present_VE = early_SVLAEFHW, present_VE
        self.layers, self.heads = early_SVLAEFHW.shape[2:4]
        self.truth_VEF2 = centres(late_VLAEFHW)
        videos, source = len(present_VE), torch.Generator().manual_seed(0)
        self.resamples = torch.randint(videos, (_RESAMPLES, videos), generator=source)

    def of(self, layers: Sequence[int], heads: Sequence[int]) -> Foretold:
        """How well some layers and heads together foretell, mean over the guided steps."""
        tracks = [centres(maps[:, list(layers)][:, :, list(heads)]) for maps in self.early_SVLAEFHW]
        everyone = torch.arange(len(self.present_VE))[None]
        place, motion = self._correlations(tracks, everyone)[0].tolist()
        resampled = self._correlations(tracks, self.resamples).mean(1)
        return Foretold(place, motion, float(resampled.std()))

    def _correlations(self, tracks: Sequence[Tensor], videos_BV: Tensor) -> Tensor:
        """Place and motion (B, 2) of B samples of the videos, mean over the tracks (V, E, F, 2) of the steps."""
        found = []
        for track in tracks:
            weight = self.present_VE[videos_BV].flatten(1).to(track)[..., None]
            pairs = [(_whole(side), _travelled(side)) for side in (track, self.truth_VEF2)]
            found.append(
                torch.stack(
                    [
                        _correlation(mine[videos_BV].flatten(1, 2), theirs[videos_BV].flatten(1, 2), weight)
                        for mine, theirs in zip(*pairs, strict=True)
                    ],
                    dim=1,
                )
            )
        return torch.stack(found).mean(0)


def centres(maps_VLAEFHW: Tensor) -> Tensor:
    """Where entities are by the mean map of layers and heads: (V, E, F, 2), as rules see it."""
    place_VEFHW = place(maps_VLAEFHW)
    return seen(place_VEFHW.flatten(0, 1)).centre_RF2.unflatten(0, place_VEFHW.shape[:2])


def choose_taps(foresight: Foresight, default: Sequence[int]) -> Tapped:
    """The layers and heads that rules are to read.

    Layers: as few of the first ones as foretell within one standard error of what any number does, since a guided pass
    runs up to the last of them; of these, one that is missed least is left out at a time while it gets no worse than
    that. Heads: likewise, of all, in these layers.

    Args:
        foresight: the maps.
        default: layers that rules read where nothing is chosen.
    """
    everything, heads = range(foresight.layers), list(range(foresight.heads))
    by_depth = [foresight.of(range(depth + 1), heads) for depth in everything]
    best = max(by_depth, key=lambda found: found.score)
    enough = best.score - best.error
    layers = list(range(next(depth for depth, found in enumerate(by_depth) if found.score >= enough) + 1))
    while len(layers) > 1:
        fewer = max(_without(layers), key=lambda left: foresight.of(left, heads).score)
        if foresight.of(fewer, heads).score < enough:
            break
        layers = fewer
    while len(heads) > 1:
        fewer = max(_without(heads), key=lambda left: foresight.of(layers, left).score)
        if foresight.of(layers, fewer).score < enough:
            break
        heads = fewer
    return Tapped(
        layers,
        heads,
        [foresight.of([layer], range(foresight.heads)) for layer in everything],
        [foresight.of(layers, [head]) for head in range(foresight.heads)],
        by_depth,
        foresight.of(layers, heads),
        foresight.of(default, range(foresight.heads)),
    )


def _without(kept: Sequence[int]) -> list[list[int]]:
    """With each of them left out, the last one first: of equals it costs most."""
    return [[other for other in kept if other != one] for one in reversed(kept)]


def _whole(track_VEF2: Tensor) -> Tensor:
    return track_VEF2.mean(2)


def _travelled(track_VEF2: Tensor) -> Tensor:
    return track_VEF2[:, :, -1] - track_VEF2[:, :, 0]


def _correlation(one_BN2: Tensor, other_BN2: Tensor, weight_BN1: Tensor) -> Tensor:
    """Pearson's, over the items that have weight, mean of both axes: (B,). Of what does not vary it is 0."""
    count = weight_BN1.sum(1, keepdim=True).clamp(min=1)
    centred = [(side - (weight_BN1 * side).sum(1, keepdim=True) / count) * weight_BN1 for side in (one_BN2, other_BN2)]
    sizes = [side.norm(dim=1) for side in centred]
    return ((centred[0] * centred[1]).sum(1) / (sizes[0] * sizes[1]).clamp(min=1e-9)).mean(-1)
