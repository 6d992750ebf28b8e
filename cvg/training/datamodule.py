"""Shards -> batches: deterministic, and resumable at any step; where they fit into memory, on any number of ranks."""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from dataclasses import replace
from functools import cached_property
from pathlib import Path
from typing import Any

import lightning as L

from cvg.common.errors import DataError, SettingsError
from cvg.common.fingerprint import first_difference
from cvg.diffusion.trajectory import same_way
from cvg.shards import mixing
from cvg.shards.folders import folder_at
from cvg.shards.mirror import Mirror
from cvg.shards.records import most_maps
from cvg.shards.remote import DiskCache
from cvg.shards.shards import ShardInfo, merge_licences
from cvg.shards.stream import Shared, Source
from cvg.shards.streaming import Streamed, buffer_for
from cvg.training.loader import Loader, begun

# Fields of shards.json that must be the same in folders that are mixed.
_SHARED = ("generator", "layers", "heads", "sigmas", "grid", "token_grid", "slots", "labels", "guidance_scale")


def merge_infos(infos: dict[str, ShardInfo]) -> ShardInfo:
    """The one info that folders share. Raises DataError naming the first field in which two differ."""
    (first, info), *others = infos.items()
    for folder, other in others:
        if name := first_difference(info, other, _SHARED):
            raise DataError(
                f"shards {first} and {folder} differ in `{name}` ({getattr(info, name)!r} and "
                f"{getattr(other, name)!r}); mix only folders made with the same generator, taps and labels"
            )
        if info.levels is not None and other.levels is not None and not same_way(info.levels, other.levels):
            raise DataError(
                f"shards {first} and {folder} are of other denoising steps ({info.steps} and {other.steps}, of a model "
                "for few); mix only folders made with the same"
            )
    known = all(each.levels is not None for each in infos.values())
    return info if known else replace(info, levels=None)


def _chosen(name: str, wanted: list[int] | None, available: list[int]) -> list[int]:
    """``wanted``, or everything; SettingsError unless it is an ascending choice of what is available."""
    if wanted is None:
        return available
    if not wanted or wanted != sorted(set(wanted)) or not set(wanted) <= set(available):
        raise SettingsError(f"data.{name} {wanted}: expected some of the shards' {available}, in ascending order")
    return wanted


class CompositionDataModule(L.LightningDataModule):
    """Batches of records from folders of shards.

    Args:
        shards: folders written by `make invert`, on this machine or as URLs that fsspec reads (``s3://bucket/folder``;
            gs, hf, https, ...); several are mixed and must agree on generator, taps and labels.
        weights: how often an epoch shows each folder's training samples, one number per folder (1: once, 0.5: a
            random half, 2: twice); all 1 when not given.
        shares: in place of weights: what part of an epoch's training samples each folder has, in proportion (0.7 and
            0.3), however many records it has; an epoch is as long as all records together.
        batch_size: samples of a training batch, over all processes together; each sample brings its p+ and its p-.
        eval_batch_size: the same in validation and test.
        layers: of the shards' layers, the ones the classifier is to read; all when not given.
        at: positions, among the shards' noise levels, of the steps T that are to be guided; all when not given.
        hold_out: labels that training never sees, neither as what a record shows (nor its mirror image) nor as what it
            does not; validation and test do, and report on them apart. For anchored heads.
        mirror: how the maps of training samples are mirrored at random: ``horizontal``, ``vertical``, ``diagonal``,
            ``time``; the labels follow as the label set says, see :class:`cvg.shards.mirror.Mirror`. None: not at all.
        cache_gb: a split whose records have no more than this is kept in memory by every rank, decoded; then the order
            of samples is the same on any number of ranks, and an epoch is a full shuffle. A larger one is streamed:
            each rank reads its own part of the tars. 0 always streams.
        shuffle_gb: of a streamed split, the records that a rank shuffles at a time (its workers share them).
        num_workers: reading processes of a rank; None: none where records are kept in memory, as each would hold them
            again, two where they are streamed.
        disk: folder in which tars behind URLs are kept; processes, and machines, can share it.
        disk_gb: what they may have there together; those that were not read for longest go.
        seed: of the order, flips, step subsets and noise.

    Raises:
        DataError: shards that are missing, malformed or do not go together.
    """

    def __init__(
        self,
        shards: list[str],
        weights: list[float] | None = None,
        shares: list[float] | None = None,
        batch_size: int = 64,
        eval_batch_size: int = 128,
        layers: list[int] | None = None,
        at: list[int] | None = None,
        hold_out: list[str] | None = None,
        mirror: list[str] | None = None,
        cache_gb: float = 4.0,
        shuffle_gb: float = 1.0,
        num_workers: int | None = None,
        disk: str = "runs/cache",
        disk_gb: float = 50.0,
        seed: int = 0,
    ) -> None:
        super().__init__()
        self.folders = list(shards)
        if not self.folders:
            raise SettingsError("data.shards: no folder given; name at least one folder of shards")
        self.weights, self.shares = mixing.checked(weights, shares, self.folders), shares
        if min(batch_size, eval_batch_size) < 1:
            raise SettingsError("data: batch_size and eval_batch_size must be at least 1")
        if not all(0 <= size < 1e9 for size in (cache_gb, shuffle_gb, disk_gb, num_workers or 0)):
            raise SettingsError("data: cache_gb, shuffle_gb, disk_gb and num_workers must be at least 0, and finite")
        self.batch_size, self.eval_batch_size = batch_size, eval_batch_size
        self.layers, self.at, self.hold_out = layers, at, hold_out or None
        self.mirror, self.cache_gb, self.shuffle_gb, self.seed = mirror, cache_gb, shuffle_gb, seed
        self.num_workers = num_workers
        cache = DiskCache(Path(disk), int(disk_gb * 1e9))
        self.places = [folder_at(place, cache) for place in self.folders]

    @cached_property
    def stored(self) -> ShardInfo:
        """What all records of the folders share."""
        return merge_infos({folder.place: folder.info for folder in self.places})

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
        for folder in self.places:
            for label, count in folder.info.counts.get("train", {}).items():
                if label not in held:
                    found.update(dict.fromkeys(mirror.made_of(label) if mirror else (label,), count))
        return {name: found[name] for name in self.info.label_set.names if found[name]}

    @cached_property
    def mixture(self) -> list[float]:
        """How often an epoch shows the training records of each folder. Raises DataError where shares cannot be."""
        return self.weights if self.shares is None else mixing.weights_for(self.shares, self._counts, self.folders)

    @property
    def _counts(self) -> list[int]:
        """Records of each folder that training sees."""
        held = self.hold_out or ()
        infos = [folder.info for folder in self.places]
        return [info.count("train") - sum(info.counts.get("train", {}).get(name, 0) for name in held) for info in infos]

    @property
    def licences(self) -> dict[str, dict[str, int]] | None:
        """Records of the folders by the licence of their videos, and by data set; None where none is stated."""
        return merge_licences(folder.info.terms() for folder in self.places)

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
        names = ("seed", "batch_size", "weights", "shares", "layers", "at", "hold_out", "mirror")
        infos = [folder.info for folder in self.places]
        tars = [{name: info.tars[name] for name in sorted(info.tars) if name.startswith("train-")} for info in infos]
        contents = [hashlib.sha256(json.dumps(each).encode()).hexdigest()[:16] for each in tars]
        found = {"records": [info.count("train") for info in infos], "contents": contents}
        found |= {name: getattr(self, name) for name in names}
        found["streamed"] = not self.fits("train")
        if found["streamed"]:
            found["shuffle_gb"] = self.shuffle_gb
            found["readers"] = [self._world()[1], self._workers("train")]
            found["within"] = self.trainer is not None and 0 < begun(self.trainer) < self.trainer.num_training_batches
        return found

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Raise DataError when a resumed training would see other samples than the one it continues.

        Between epochs a streamed training can go on with another number of readers.
        """
        if self.trainer is None or self.trainer.state.fn != "fit":
            return
        ours = self.state_dict()
        ours.pop("within", None)
        if not state_dict.get("within"):
            ours.pop("readers", None)
        for name, value in ours.items():
            if state_dict.get(name) != value:
                raise DataError(
                    f"checkpoint: its training had {name} {state_dict.get(name)}, this one has {value}; resume with "
                    "the data and options of that training, or start a new one from its classifier (model.warm_start)"
                )

    def fits(self, split: str) -> bool:
        """Whether the records of a split are kept in memory."""
        return self._size(split) <= self.cache_gb * 1e9

    def _size(self, split: str) -> int:
        """Bytes of a split's records, at most."""
        return sum(folder.info.count(split) for folder in self.places) * most_maps(self.stored.shape)

    def _world(self) -> tuple[int, int]:
        return (self.trainer.global_rank, self.trainer.world_size) if self.trainer else (0, 1)

    def _workers(self, split: str) -> int:
        return self.num_workers if self.num_workers is not None else 0 if self.fits(split) else 2

    def check_shared(self, ranks: int, training: bool) -> None:
        """Raise SettingsError unless so many processes can share a batch, of training or of validation and test."""
        name = "batch_size" if training else "eval_batch_size"
        if (size := getattr(self, name)) % ranks:
            raise SettingsError(
                f"data.{name} {size}: cannot be shared by {ranks} processes; choose a multiple of {ranks}"
            )

    def reading(self, split: str, ranks: int = 1) -> str:
        """In one line, how so many processes read a split, and why."""
        size = self._size(split)
        sizes = f"{sum(folder.info.count(split) for folder in self.places)} {split} records, {size / 1e9:.3g} GB, "
        if self.fits(split):
            return f"{sizes}are kept in memory by every process (data.cache_gb {self.cache_gb:g})"
        readers = max(1, self._workers(split))
        return (
            f"{sizes}do not fit into data.cache_gb {self.cache_gb:g} and are streamed: {ranks * readers} readers, each "
            f"its own part, shuffled by {self.shuffle_gb:g} GB a process"
        )

    def mixed(self) -> str | None:
        """In one line, what an epoch's training samples are of; None where that is one folder alone, or nothing."""
        several = len(self.folders) > 1 and any(self._counts)
        return mixing.told(self.mixture, self._counts, self.folders) if several else None

    def _loader(self, split: str, training: bool) -> Loader:
        hold_out = frozenset(self.hold_out or ())
        weights = self.mixture if training else [1.0] * len(self.places)
        found = [
            Source.find(folder, split, weight, hold_out) for folder, weight in zip(self.places, weights, strict=True)
        ]
        sources = [source for source in found if source.tars]
        if not sum(source.used for source in sources):
            but = f" but those of {', '.join(sorted(hold_out))}" if sources else ""
            raise DataError(
                f"shards {', '.join(self.folders)}: no {split} records{but}; make some first (`make invert`)"
            )
        rank, ranks = self._world()
        self.check_shared(ranks, training)
        stream = (Shared if self.fits(split) else Streamed)(
            sources=sources,
            info=self.info,
            stored=self.stored,
            batch_size=self.batch_size if training else self.eval_batch_size,
            training=training,
            mirror=self._mirror(),
            hold_out=hold_out if training else frozenset(),
            seed=self.seed,
            rank=rank,
            ranks=ranks,
        )
        workers = self._workers(split)
        if isinstance(stream, Streamed):
            stream.held  # noqa: B018  (counted, where need be, before workers are started)
            stream.buffer = buffer_for(stream, self.shuffle_gb * 1e9, workers) if training else 1
        return Loader(stream, workers, self.trainer)

    def train_dataloader(self) -> Loader:
        """Training batches."""
        return self._loader("train", training=True)

    def val_dataloader(self) -> Loader:
        """Validation records, each exactly once."""
        return self._loader("val", training=False)

    def test_dataloader(self) -> Loader:
        """Test records, each exactly once."""
        return self._loader("test", training=False)
