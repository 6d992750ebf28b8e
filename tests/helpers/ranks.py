"""Callbacks of trainings by several processes: what each did, and one that dies."""

from __future__ import annotations

import json
import os
import signal
from pathlib import Path
from typing import Any

from lightning.pytorch.callbacks import Callback


class Dies(Callback):
    """Kills its process, where it is of a rank, after so many batches, as the system does when memory runs out."""

    def __init__(self, rank: int, batch: int) -> None:
        self.rank, self.left = rank, batch

    def on_train_batch_end(self, trainer: Any, *_: Any, **__: Any) -> None:
        self.left -= 1
        if trainer.global_rank == self.rank and self.left == 0:
            os.kill(os.getpid(), signal.SIGKILL)


class Tells(Callback):
    """Writes what each process did into FOLDER/RANK.json: its steps, its batches, and the samples that it saw."""

    def __init__(self, folder: str) -> None:
        self.folder, self.seeds = Path(folder), []

    def on_train_batch_end(self, trainer: Any, module: Any, outputs: Any, batch: Any, batch_idx: int) -> None:
        self.seeds.append(batch["seed"].tolist())

    def on_train_end(self, trainer: Any, module: Any) -> None:
        self.folder.mkdir(parents=True, exist_ok=True)
        told = {"steps": trainer.global_step, "seeds": self.seeds}
        (self.folder / f"{trainer.global_rank}.json").write_text(json.dumps(told))
