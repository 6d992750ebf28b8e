"""What a training of several processes does where one of them ends early: the others end too, and one tells."""

from __future__ import annotations

import os
import sys
import threading
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import lightning as L
import torch.distributed as dist
from lightning.pytorch.callbacks import Checkpoint
from lightning.pytorch.strategies.launchers.subprocess_script import _SubprocessScriptLauncher

_PATIENCE = 2.0
"""Seconds in which the system hands the children of a process that was killed to another one."""

_GRACE = 2.0
"""Seconds in which a process that waits for others usually comes to know that one of them is gone; Lightning ends all
after five."""
_TOLD = threading.Lock()
"""Taken by who tells in this process, and never given back."""


class Watch(threading.Thread):
    """Ends a training one of whose processes ended in an error, where that does not end it by itself.

    What a process that was killed had open is held open by its reading workers for some seconds, so that the others
    wait; and one that computes waits for nobody.

    Args:
        trainer: of the first process of a machine, whose others Lightning starts.
        tell: tells the user.
    """

    def __init__(self, trainer: L.Trainer, tell: Callable[[], None]) -> None:
        super().__init__(daemon=True, name="watch")
        self.trainer, self.tell = trainer, tell

    def run(self) -> None:
        """Watch until all is well, or over."""
        launcher = self.trainer.strategy.launcher
        assert isinstance(launcher, _SubprocessScriptLauncher)
        while not any(process.poll() for process in launcher.procs):
            if launcher.procs and all(process.returncode == 0 for process in launcher.procs):
                return
            time.sleep(0.2)
        time.sleep(_GRACE)
        if self.trainer.interrupted or not first_to_tell():  # as on Ctrl-C: it ends by itself
            return
        self.tell()
        for process in launcher.procs:
            process.kill()
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(2)


def watch(trainer: L.Trainer, tell: Callable[[], None]) -> None:
    """Start to watch the processes that Lightning is going to start, if it is and this is the first; see `Watch`."""
    if isinstance(trainer.strategy.launcher, _SubprocessScriptLauncher) and trainer.local_rank == 0:
        Watch(trainer, tell).start()


def first_to_tell() -> bool:
    """Whether nothing in this process told the user yet."""
    return _TOLD.acquire(blocking=False)


def lost(error: BaseException) -> bool:
    """Whether an error is that another process of the training does not answer any more."""
    # Those of gloo are plain RuntimeErrors, which name a file of its source.
    return isinstance(error, dist.DistError) or (isinstance(error, RuntimeError) and "/gloo/" in str(error))


def is_to_tell(parent: int) -> bool:
    """Whether it is for this process to tell the user: the first of its machine, or, where that is gone, the second.

    Args:
        parent: id of the process that started this one: the first, of those that Lightning started.
    """
    place = int(os.environ.get("LOCAL_RANK", "0"))
    if place != 1:
        return place == 0
    end = time.monotonic() + _PATIENCE
    while os.getppid() == parent:
        if time.monotonic() > end:
            return False
        time.sleep(0.05)
    return True


def newest(callbacks: Iterable[Any]) -> Path | None:
    """The newest checkpoint of a training, by its trainer's callbacks; None where none is written yet."""
    folders = {getattr(each, "dirpath", None) for each in callbacks if isinstance(each, Checkpoint)}
    paths = [path for folder in folders if folder for path in Path(folder).glob("*.ckpt")]
    return max(paths, key=lambda path: path.stat().st_mtime, default=None)
