"""What Lightning writes of a training, written so that nobody sees half of it."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import lightning as L
import torch
from lightning.fabric.plugins import TorchCheckpointIO
from lightning.pytorch.cli import SaveConfigCallback

from cvg.common.files import atomic


class WholeCheckpoints(TorchCheckpointIO):
    """Checkpoints that have their names once they are whole.

    Lightning's own are copied to their names, from a temporary folder that may lie on another disk: one that is full,
    or a process that is killed, leaves half of a ``last.ckpt``.
    """

    def save_checkpoint(self, checkpoint: dict[str, Any], path: Any, storage_options: Any = None) -> None:
        """Write a checkpoint. Raises DataError where it cannot be written."""
        buffer = io.BytesIO()
        torch.save(checkpoint, buffer)
        with atomic(path) as temporary:
            temporary.write_bytes(buffer.getbuffer())


class WholeConfig(SaveConfigCallback):
    """The options of a training in its log folder, as Lightning writes them, but never half of them."""

    folder: str | None = None

    def setup(self, trainer: L.Trainer, pl_module: L.LightningModule, stage: str) -> None:
        """Find the folder, which all processes have to do together, and write the options."""
        self.folder = trainer.log_dir
        super().setup(trainer, pl_module, stage)

    def save_config(self, trainer: L.Trainer, pl_module: L.LightningModule, stage: str) -> None:
        """Write them. Raises DataError where they cannot be written."""
        if self.folder is not None:
            with atomic(Path(self.folder) / self.config_filename) as temporary:
                self.parser.save(self.config, temporary, overwrite=True, multifile=self.multifile)
