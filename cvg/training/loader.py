"""Batches as the trainer takes them, from where it stands."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import lightning as L
from torch.utils.data import DataLoader

from cvg.shards.stream import Batch, Stream


def begun(trainer: L.Trainer) -> int:
    """Batches of the epoch that were begun."""
    return trainer.fit_loop.epoch_loop.batch_progress.current.ready


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
            self.stream.start = begun(self.trainer)
        yield from DataLoader(self.stream, batch_size=None, num_workers=self.workers)

    def state_dict(self) -> dict[str, Any]:
        """Nothing: the position is the trainer's. That the method exists tells Lightning this loader can resume."""
        return {}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Nothing to load."""
