"""Shards -> batches: deterministic, the same for any number of processes, and resumable at any step."""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from collections.abc import Iterator
from dataclasses import replace
from functools import cached_property
from typing import Any

import lightning as L
from torch.utils.data import DataLoader

from cvg.common.errors import DataError, SettingsError
from cvg.common.fingerprint import first_difference
from cvg.shards.mirror import Mirror
from cvg.shards.shards import ShardInfo, merge_licences
from cvg.shards.stream import Batch, Source, Stream

# Fields of shards.json that must be the same in folders that are mixed.
_SHARED = ("generator", "layers", "heads", "sigmas", "grid", "token_grid", "slots", "labels")


def merge_infos(infos: dict[str, ShardInfo]) -> ShardInfo:
    """The one info that folders share. Raises DataError naming the first field in which two differ."""
    (first, info), *others = infos.items()
    for folder, other in others:
        if name := first_difference(info, other, _SHARED):
            raise DataError(
                f"shards {first} and {folder} differ in `{name}` ({getattr(info, name)!r} and "
                f"{getattr(other, name)!r}); mix only folders made with the same generator, taps and labels"
            )
    return info


def _chosen(name: str, wanted: list[int] | None, available: list[int]) -> list[int]:
    """``wanted``, or everything; SettingsError unless it is an ascending choice of what is available."""
    if wanted is None:
        return available
    if not wanted or wanted != sorted(set(wanted)) or not set(wanted) <= set(available):
        raise SettingsError(f"data.{name} {wanted}: expected some of the shards' {available}, in ascending order")
    return wanted


class Loader:
    """A `Stream` behind a `DataLoader`, started where the trainer stands.

    Lightning asks for the iterator long before it takes the first batch; the position is read only then, so that a run
    resumed in the middle of an epoch goes on with the very next batch.
    """

    def __init__(self, stream: Stream, workers: int, trainer: L.Trainer | None) -> None:
        self.stream, self.workers, self.trainer = stream, workers, trainer

    def __len__(self) -> int:
        return self.stream.batches

    def __iter__(self) -> Iterator[Batch]:
        if self.trainer is not None and self.stream.training:
            self.stream.epoch = self.trainer.current_epoch
            self.stream.start = self.trainer.fit_loop.epoch_loop.batch_progress.current.ready
        yield from DataLoader(self.stream, batch_size=None, num_workers=self.workers)

    def state_dict(self) -> dict[str, Any]:
        """Nothing: the position is the trainer's. That the method exists tells Lightning this loader can resume."""
        return {}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Nothing to load."""


class CompositionDataModule(L.LightningDataModule):
    """Batches of records from folders of shards.

    Args:
        shards: folders written by `make invert`; several are mixed and must agree on generator, taps and labels.
        weights: how often an epoch shows each folder's training samples, one number per folder (1: once, 0.5: a
            random half, 2: twice); all 1 when not given.
        batch_size: samples of a training batch, over all processes together; each sample brings its p+ and its p-.
        eval_batch_size: the same in validation and test.
        layers: of the shards' layers, the ones the classifier is to read; all when not given.
        at: positions, among the shards' noise levels, of the steps T that are to be guided; all when not given.
        hold_out: labels that training never sees, neither as what a record shows (nor its mirror image) nor as what it
            does not; validation and test do, and report on them apart. For anchored heads.
        mirror: how the maps of training samples are mirrored at random: ``horizontal``, ``vertical``, ``diagonal``,
            ``time``; the labels follow as the label set says, see :class:`cvg.shards.mirror.Mirror`. None: not at all.
        shuffle: samples in the shuffle buffer; an epoch is a full shuffle when it holds them all.
        cache_gb: keep decoded records in memory when the tars of a split are no larger than this; 0 never does.
        num_workers: reading processes; 0 is fastest for cached records, which each worker would hold again.
        seed: of the order, flips, step subsets and noise.

    Raises:
        DataError: shards that are missing, malformed or do not go together.
    """

    def __init__(
        self,
        shards: list[str],
        weights: list[float] | None = None,
        batch_size: int = 64,
        eval_batch_size: int = 128,
        layers: list[int] | None = None,
        at: list[int] | None = None,
        hold_out: list[str] | None = None,
        mirror: list[str] | None = None,
        shuffle: int = 5000,
        cache_gb: float = 4.0,
        num_workers: int = 0,
        seed: int = 0,
    ) -> None:
        super().__init__()
        self.folders = list(shards)
        self.weights = weights or [1.0] * len(self.folders)
        if not self.folders:
            raise SettingsError("data.shards: no folder given; name at least one folder of shards")
        if len(self.weights) != len(self.folders) or min(self.weights) <= 0:
            raise SettingsError(f"data.weights {self.weights}: expected one positive number for each of {self.folders}")
        if min(batch_size, eval_batch_size, shuffle) < 1:
            raise SettingsError("data: batch_size, eval_batch_size and shuffle must be at least 1")
        self.batch_size, self.eval_batch_size, self.shuffle = batch_size, eval_batch_size, shuffle
        self.layers, self.at, self.hold_out = layers, at, hold_out or None
        self.mirror, self.cache_gb, self.num_workers, self.seed = mirror, cache_gb, num_workers, seed

    @cached_property
    def stored(self) -> ShardInfo:
        """What all records of the folders share."""
        return merge_infos({folder: ShardInfo.load(folder) for folder in self.folders})

    @property
    def info(self) -> ShardInfo:
        """The same, of the chosen layers and steps: what batches hold."""
        layers = _chosen("layers", self.layers, self.stored.layers)
        at = _chosen("at", self.at, list(range(len(self.stored.sigmas))))
        return replace(self.stored, layers=layers, sigmas=[self.stored.sigmas[i] for i in at])

    @property
    def seen(self) -> dict[str, int]:
        """Per label that training sees, the training records that show it or whose mirror image does."""
        held, mirror = frozenset(self.hold_out or ()), self._mirror()
        found: Counter[str] = Counter()
        for folder in self.folders:
            for label, count in ShardInfo.load(folder).counts.get("train", {}).items():
                if label not in held:
                    found.update(dict.fromkeys(mirror.made_of(label) if mirror else (label,), count))
        return {name: found[name] for name in self.info.label_set.names if found[name]}

    @property
    def licences(self) -> dict[str, dict[str, int]] | None:
        """Records of the folders by the licence of their videos, and by data set; None where none is stated."""
        return merge_licences(ShardInfo.load(folder).terms() for folder in self.folders)

    def _mirror(self) -> Mirror | None:
        if not self.mirror:
            return None
        return Mirror(self.mirror, self.info.label_set, self.info.grid, sorted(self.hold_out or ()))

    def setup(self, stage: str) -> None:
        """Check the folders before anything is built."""
        self._check_hold_out()

    def _check_hold_out(self) -> None:
        labels = self.info.label_set
        held = {labels[name].name for name in self.hold_out or ()}
        for group, members in labels.groups.items():
            kept = [label.name for label in members if label.name not in held]
            if held and len(kept) == 1:
                raise SettingsError(
                    f"data.hold_out {self.hold_out}: leaves {kept} of the group {group!r}, and nothing to tell apart; "
                    "hold out fewer of its labels, or all"
                )

    def state_dict(self) -> dict[str, Any]:
        """What the order of training samples depends on, for the checkpoint."""
        names = ("seed", "batch_size", "shuffle", "weights", "layers", "at", "hold_out", "mirror")
        infos = [ShardInfo.load(folder) for folder in self.folders]
        tars = [{name: info.tars[name] for name in sorted(info.tars) if name.startswith("train-")} for info in infos]
        contents = [hashlib.sha256(json.dumps(each).encode()).hexdigest()[:16] for each in tars]
        found = {"records": [info.count("train") for info in infos], "contents": contents}
        return {name: getattr(self, name) for name in names} | found

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Raise DataError when a resumed training would see other samples than the one it continues."""
        if self.trainer is None or self.trainer.state.fn != "fit":
            return
        for name, value in self.state_dict().items():
            if state_dict.get(name) != value:
                raise DataError(
                    f"checkpoint: its training had {name} {state_dict.get(name)}, this one has {value}; resume with "
                    "the data and options of that training, or start a new one from its classifier (model.warm_start)"
                )

    def _loader(self, split: str, training: bool) -> Loader:
        hold_out = frozenset(self.hold_out or ())
        found = [
            Source.find(folder, split, weight if training else 1.0, hold_out)
            for folder, weight in zip(self.folders, self.weights, strict=True)
        ]
        sources = [source for source in found if source.tars]
        if not sum(source.used for source in sources):
            but = f" but those of {', '.join(sorted(hold_out))}" if sources else ""
            raise DataError(
                f"shards {', '.join(self.folders)}: no {split} records{but}; make some first (`make invert`)"
            )
        size = self.batch_size if training else self.eval_batch_size
        rank, ranks = (self.trainer.global_rank, self.trainer.world_size) if self.trainer else (0, 1)
        if size % ranks:
            raise SettingsError(f"data: a batch of {size} cannot be shared by {ranks} processes; choose a multiple")
        bytes_on_disk = sum(tar.stat().st_size for source in sources for tar in source.tars)
        stream = Stream(
            sources=sources,
            info=self.info,
            stored=self.stored,
            batch_size=size,
            training=training,
            mirror=self._mirror(),
            hold_out=hold_out if training else frozenset(),
            seed=self.seed,
            buffer=self.shuffle,
            cached=bytes_on_disk <= self.cache_gb * 1e9,
            rank=rank,
            ranks=ranks,
        )
        return Loader(stream, self.num_workers, self.trainer)

    def train_dataloader(self) -> Loader:
        """Training batches."""
        return self._loader("train", training=True)

    def val_dataloader(self) -> Loader:
        """Validation records, each exactly once."""
        return self._loader("val", training=False)

    def test_dataloader(self) -> Loader:
        """Test records, each exactly once."""
        return self._loader("test", training=False)
