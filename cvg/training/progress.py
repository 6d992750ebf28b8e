"""How far a training is, as a whole, and how long the rest of it takes."""

from __future__ import annotations

import math
import sys
import time
from typing import Any

import lightning as L
from lightning.pytorch.callbacks import ProgressBar
from tqdm import tqdm

SHOWN = ("train/loss", "val/loss", "val/accuracy_positive", "val/accuracy_negative")


class TrainingProgress(ProgressBar):
    """A line after each epoch, and on a terminal a bar over all steps of the training.

    Lightning's own bars start over with each epoch and fill a log with what moves a terminal's cursor.
    """

    def __init__(self) -> None:
        super().__init__()
        self.enabled = True
        self._bar: tqdm[Any] | None = None

    def enable(self) -> None:
        """Show progress."""
        self.enabled = True

    def disable(self) -> None:
        """Show nothing, as in all processes but the first."""
        self.enabled = False

    def _open(self, name: str, total: float, done: int = 0) -> None:
        steps = int(total) if math.isfinite(total) else None
        # None: on a terminal only.
        self._bar = tqdm(
            total=steps,
            initial=done,
            desc=name,
            unit="step",
            disable=None if self.enabled else True,
            dynamic_ncols=True,
        )
        self._began, self._resumed = time.monotonic(), done

    def _close(self) -> None:
        if self._bar is not None:
            self._bar.close()
            self._bar = None

    def on_train_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Begin."""
        self._open("train", trainer.estimated_stepping_batches, trainer.global_step)

    def on_train_batch_end(
        self, trainer: L.Trainer, pl_module: L.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Count a step."""
        if self._bar is not None:
            self._bar.update(trainer.global_step - self._bar.n)

    def on_train_epoch_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """One line: the epoch, what was measured, time gone and time left."""
        if not self.enabled:
            return
        gone = time.monotonic() - self._began
        total, done = trainer.estimated_stepping_batches, trainer.global_step
        values = [f"{name} {trainer.callback_metrics[name]:.3f}" for name in SHOWN if name in trainer.callback_metrics]
        parts = [*values, f"{tqdm.format_interval(gone)} gone"]
        if math.isfinite(total) and done > self._resumed:
            left = gone / (done - self._resumed) * max(0, total - done)
            parts.append(f"about {tqdm.format_interval(left)} left")
        epochs = trainer.max_epochs if trainer.max_epochs is not None and trainer.max_epochs > 0 else "?"
        tqdm.write(f"epoch {trainer.current_epoch + 1}/{epochs}: {', '.join(parts)}")
        sys.stdout.flush()  # what goes into a pipe or a file would wait there

    def on_train_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """End."""
        self._close()

    def on_exception(self, trainer: L.Trainer, pl_module: L.LightningModule, exception: BaseException) -> None:
        """End early."""
        self._close()

    def on_validation_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Begin a validation of its own; those within a training are part of its epochs."""
        if trainer.state.fn == "validate":
            self._open("validate", sum(trainer.num_val_batches))

    def on_test_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Begin."""
        self._open("test", sum(trainer.num_test_batches))

    def on_validation_batch_end(self, trainer: L.Trainer, *_: Any, **__: Any) -> None:
        """Count a batch."""
        if trainer.state.fn == "validate" and self._bar is not None:
            self._bar.update()

    def on_test_batch_end(self, trainer: L.Trainer, *_: Any, **__: Any) -> None:
        """Count a batch."""
        if self._bar is not None:
            self._bar.update()

    def on_validation_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """End."""
        if trainer.state.fn == "validate":
            self._close()

    def on_test_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """End."""
        self._close()
