"""How much the maps of single layers and heads tell about the label: linear probes, cross-validated.

A probe is a ridge regression from one step's, layer's and head's maps, coarse and normalised as the aggregator does it,
to the labels of one group, one number per label; the largest wins. Kernel form (the number of samples is below that of
map values), so that a probe of several layers and heads together is one on the sum of their kernels. Folds are made of
whole videos: p+ and p- of one video, and its several relations, never lie on both sides.
"""

from __future__ import annotations

import math
import random
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from statistics import NormalDist

import torch
import torch.nn.functional as F
from torch import Tensor

from cvg.common.errors import DataError
from cvg.common.sizes import Grid
from cvg.common.statistics import wilson
from cvg.composition import LabelSet
from cvg.grounding.maps import normalise, resample
from cvg.shards.records import Record

GRID = Grid(4, 8, 8)
"""Latent frames, rows and columns that maps are averaged to, at most: enough for where things are and go."""
FOLDS = 5
RIDGE = 1.0  # of the mean of the centred kernel's diagonal, i.e. of a sample's variance; scores hardly depend on it
LEVEL = 0.025  # one-sided, of all comparisons of a table together


class TooFewVideos(DataError):
    """No label group has enough videos for cross-validation: two for each fold, and two labels among them.

    The message says how many videos each group has. More records, or a split that has more, are the remedy.
    """


@dataclass(frozen=True)
class Score:
    """How often a probe is right on videos that it has not seen.

    Attributes:
        accuracy: share of maps, p+ and p- alike.
        low: lower end of its 95% interval, in which a video counts once, whatever the number of its maps.
        high: the upper end.
        chance: share of the most frequent label, which one is right with without looking.
        above: whether it is clearly above chance: the interval still is when widened for the number of probes in the
            table that this is one of.
        error: standard error of the accuracy.
        leak: of a probe that is trained under p+ alone: its accuracy under p+ less that under p-, of the same videos.
            Near 0 it reads the video, near 1 the prompt's words.
    """

    accuracy: float
    low: float
    high: float
    chance: float
    above: bool
    error: float
    leak: float


@dataclass
class Group:
    """What probes of one label group read.

    Attributes:
        features_NSLAD: float16, coarse normalised maps.
        targets_N: index of the label in the group.
        videos_N: number of the video, the same in all groups.
        positive_N: whether the maps are those under p+.
        folds_N: the fold in which a sample is held out.
        chance: share of the most frequent label.
    """

    features_NSLAD: Tensor
    targets_N: Tensor
    videos_N: Tensor
    positive_N: Tensor
    folds_N: Tensor
    chance: float


def coarse(maps_LAKFHW: Tensor) -> Tensor:
    """Maps as probes read them, flattened over entity slots and places: float16 (..., D)."""
    grid = Grid(*(min(new, old) for new, old in zip(GRID, maps_LAKFHW.shape[-3:], strict=True)))
    return normalise(resample(maps_LAKFHW.float(), grid)).flatten(-4).half()


def deal(labels: Sequence[int], videos: Sequence[str], seed: int = 0) -> list[int]:
    """A fold for each sample: videos whole, and each label's videos spread evenly over the folds.

    Args:
        labels: of the samples.
        videos: of the samples.
        seed: of the order in which videos are dealt.
    """
    first = dict(zip(reversed(videos), reversed(labels), strict=True))  # the label of a video's first sample
    order = sorted(first)
    random.Random(seed).shuffle(order)
    order.sort(key=lambda video: first[video])  # stable
    place = {video: number % FOLDS for number, video in enumerate(order)}
    return [place[video] for video in videos]


class Probe:
    """Maps of all records of a split, and linear probes on any of their steps, layers and heads.

    Args:
        records: whose maps have one shape.
        labels: the label set. Groups of which fewer than two labels occur, or with fewer than two videos a fold, are
            left out.

    Attributes:
        groups: what is probed, by name.
        left_out: groups that are not, and how many videos they have.

    Raises:
        TooFewVideos: no group is left.
    """

    def __init__(self, records: Iterable[Record], labels: LabelSet) -> None:
        samples: dict[str, list[tuple[Tensor, int, str, bool]]] = {name: [] for name in labels.groups}
        for record in records:
            group = labels[record.label].group
            video = str(record.meta.get("video", record.key))
            for maps, positive in ((record.positive_SLAKFHW, True), (record.negative_SLAKFHW, False)):
                samples[group].append((coarse(maps), labels.index(record.label), video, positive))
        numbers = {
            video: i for i, video in enumerate(dict.fromkeys(v for found in samples.values() for *_, v, _ in found))
        }
        self.groups = {name: _group(found, numbers) for name, found in samples.items() if _enough(found)}
        counts = {name: len({video for *_, video, _ in found}) for name, found in samples.items()}
        self.left_out = {name: count for name, count in counts.items() if name not in self.groups}
        if not self.groups:
            listed = ", ".join(f"{name} {count}" for name, count in counts.items())
            raise TooFewVideos(
                f"probe: too few videos ({listed}); it takes at least {2 * FOLDS} of one group, and two of its labels"
            )
        _, self.steps, self.layers, self.heads, _ = next(iter(self.groups.values())).features_NSLAD.shape

    def kernel(self, group: Group, step: int, layer: int, heads: Sequence[int] | None = None) -> Tensor:
        """Inner products between samples, of each head's maps: (A, N, N)."""
        maps_AND = group.features_NSLAD[:, step, layer].transpose(0, 1).float()
        chosen = maps_AND if heads is None else maps_AND[list(heads)]
        return chosen @ chosen.transpose(1, 2) / chosen.shape[-1]

    def each(self) -> dict[str, list[list[list[Score]]]]:
        """Scores of every step, layer and head alone, by group (see :meth:`score` for ``all``)."""
        comparisons = self.steps * self.layers * self.heads
        found: dict[str, list[list[list[Score]]]] = {}
        for step in range(self.steps):
            for layer in range(self.layers):
                kernels = {name: self.kernel(group, step, layer) for name, group in self.groups.items()}
                for name, scores in self.score(kernels, comparisons).items():
                    rows = found.setdefault(name, [[] for _ in range(self.steps)])
                    rows[step].append(scores)
        return found

    def together(
        self, steps: Sequence[int], layers: Sequence[int], heads: Sequence[int] | None = None
    ) -> dict[str, Tensor]:
        """Kernels, by group and of shape (1, N, N), of the maps of several steps, layers and heads together."""
        kernels = {}
        for name, group in self.groups.items():
            total = torch.zeros(1, len(group.targets_N), len(group.targets_N))
            for step in steps:
                for layer in layers:
                    total += self.kernel(group, step, layer, heads).sum(0)
            kernels[name] = total
        return kernels

    def score(self, kernels: dict[str, Tensor], comparisons: int = 1) -> dict[str, list[Score]]:
        """Cross-validated scores of probes on kernels.

        Args:
            kernels: by group, (C, N, N) of C probes.
            comparisons: how many probes the table has that these are of.

        Returns:
            The scores of the C probes by group, and, where there are several groups, of all samples together as
            ``all``, each told within its own group.
        """
        right, leak = {}, {}
        for name, group in self.groups.items():
            right[name] = predict(kernels[name], group.targets_N, group.folds_N) == group.targets_N
            alone = predict(kernels[name], group.targets_N, group.folds_N, group.positive_N) == group.targets_N
            leak[name] = alone.float() @ (2 * group.positive_N - 1.0) / len(group.targets_N) * 2
        found = {
            name: [
                _score(row, group.videos_N, group.chance, comparisons, float(gap))
                for row, gap in zip(right[name], leak[name], strict=True)
            ]
            for name, group in self.groups.items()
        }
        if len(self.groups) > 1:
            sizes = torch.tensor([len(group.targets_N) for group in self.groups.values()])
            chance = float((torch.tensor([group.chance for group in self.groups.values()]) * sizes).sum() / sizes.sum())
            videos = torch.cat([group.videos_N for group in self.groups.values()])
            gaps = torch.stack(list(leak.values()), dim=1) @ (sizes / sizes.sum())
            rows = torch.cat(list(right.values()), dim=1)
            found["all"] = [
                _score(row, videos, chance, comparisons, float(gap)) for row, gap in zip(rows, gaps, strict=True)
            ]
        return found

    def overall(self, kernels: dict[str, Tensor], comparisons: int = 1) -> Score:
        """The score of one probe on the samples of all groups, from kernels as :meth:`together` gives them."""
        found = self.score(kernels, comparisons)
        return found["all" if "all" in found else next(iter(found))][0]


def predict(kernel_CNN: Tensor, targets_N: Tensor, folds_N: Tensor, learn_N: Tensor | None = None) -> Tensor:
    """Labels that ridge regressions, trained on the other folds, give each sample.

    Args:
        kernel_CNN: inner products of the samples' features, of C probes.
        targets_N: the true labels.
        folds_N: the fold in which each sample is held out.
        learn_N: whether a sample may be trained on; all when None.

    Returns:
        (C, N)
    """
    found = torch.zeros(kernel_CNN.shape[:2], dtype=torch.long)
    wanted_NY = F.one_hot(targets_N).to(kernel_CNN.dtype)
    for fold in folds_N.unique():
        seen = folds_N != fold if learn_N is None else (folds_N != fold) & learn_N
        inside, outside = seen.nonzero()[:, 0], (folds_N == fold).nonzero()[:, 0]
        train, test = kernel_CNN[:, inside][:, :, inside], kernel_CNN[:, outside][:, :, inside]
        # Features, and what is predicted, are counted from the training samples' means.
        column, overall = train.mean(1, keepdim=True), train.mean((1, 2), keepdim=True)
        centred = train - train.mean(2, keepdim=True) - column + overall
        size = centred.diagonal(dim1=1, dim2=2).mean(1).clamp_min(torch.finfo(train.dtype).tiny)
        ridge = RIDGE * size[:, None, None] * torch.eye(len(inside))
        weights_CNY = torch.linalg.solve(centred + ridge, wanted_NY[inside] - wanted_NY[inside].mean(0))
        held_out = test - test.mean(2, keepdim=True) - column + overall
        found[:, outside] = (held_out @ weights_CNY + wanted_NY[inside].mean(0)).argmax(-1)
    return found


def _enough(samples: Sequence[tuple[Tensor, int, str, bool]]) -> bool:
    return len({label for _, label, *_ in samples}) > 1 and len({video for *_, video, _ in samples}) >= 2 * FOLDS


def _group(samples: Sequence[tuple[Tensor, int, str, bool]], numbers: dict[str, int]) -> Group:
    features, labels, videos, positive = zip(*samples, strict=True)
    _, targets_N, counts = torch.tensor(labels).unique(return_inverse=True, return_counts=True)
    return Group(
        torch.stack(features),
        targets_N,
        torch.tensor([numbers[video] for video in videos]),
        torch.tensor(positive),
        torch.tensor(deal(labels, videos)),
        float(counts.max() / counts.sum()),
    )


def _score(right_N: Tensor, videos_N: Tensor, chance: float, comparisons: int, leak: float) -> Score:
    accuracy, videos = float(right_N.float().mean()), len(videos_N.unique())
    low, high = wilson(accuracy * videos, videos)
    strict, _ = wilson(accuracy * videos, videos, NormalDist().inv_cdf(1 - LEVEL / comparisons))
    error = math.sqrt(accuracy * (1 - accuracy) / videos)
    return Score(accuracy, low, high, chance, strict > chance, error, leak)
