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
from lightning.fabric.utilities.distributed import _set_num_threads_if_needed
from lightning.pytorch.callbacks import Checkpoint
from lightning.pytorch.strategies.launchers.subprocess_script import _SubprocessScriptLauncher
from typing_extensions import override

_PATIENCE = 2.0
"""Seconds in which the system hands the children of a process that was killed to another one."""

_GRACE = 2.0
"""Seconds in which a process that waits for others usually comes to know that one of them is gone."""
_TO_END = 30.0
"""Seconds that a process which knows it has to end."""
_TOLD = threading.Lock()
"""Taken by who tells in this process, and never given back."""


class Launcher(_SubprocessScriptLauncher):
    """Lightning's, but that where one of the processes ends in an error the user is told, and the first ends in order.

    Lightning's own kills all of them at once, the first too.

    Args:
        trainer: whose launcher it is to be.
        tell: tells the user.
    """

    def __init__(self, trainer: L.Trainer, tell: Callable[[], None]) -> None:
        old = trainer.strategy.launcher
        assert isinstance(old, _SubprocessScriptLauncher)
        super().__init__(old.cluster_environment, old.num_processes, old.num_nodes)
        self.trainer, self.tell = trainer, tell

    @override
    def launch(self, function: Callable[..., Any], *args: Any, trainer: L.Trainer | None = None, **kwargs: Any) -> Any:
        self.cluster_environment.validate_settings(num_devices=self.num_processes, num_nodes=self.num_nodes)
        if not self.cluster_environment.creates_processes_externally:
            self._call_children_scripts()
            threading.Thread(target=self._watch, daemon=True, name="watch").start()
        _set_num_threads_if_needed(num_processes=self.num_processes)
        return function(*args, **kwargs)

    def _watch(self) -> None:
        """End all processes where one has ended in an error, and they do not by themselves.

        What a process that was killed had open is held open by its reading workers for some seconds, so that the others
        wait; and one that computes waits for nobody.
        """
        while not any(process.poll() for process in self.procs):
            if all(process.returncode == 0 for process in self.procs):
                return
            time.sleep(0.2)
        time.sleep(_GRACE)
        if not self.trainer.interrupted and first_to_tell():  # it is where Ctrl-C ends it, or an error of its own
            self.tell()
        else:
            time.sleep(_TO_END)
        for process in self.procs:
            process.kill()
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(2)


def watch(trainer: L.Trainer, tell: Callable[[], None]) -> None:
    """Have the processes watched that Lightning is going to start, if it is; see `Launcher`."""
    if type(trainer.strategy.launcher) is _SubprocessScriptLauncher:
        trainer.strategy._launcher = Launcher(trainer, tell)


def first_to_tell() -> bool:
    """Whether nothing in this process told the user yet."""
    return _TOLD.acquire(blocking=False)


def lost(error: BaseException) -> bool:
    """Whether an error is that another process of the training, or one that reads for this one, is gone."""
    # Those of gloo are plain RuntimeErrors, which name a file of its source, and so are those of torch's readers.
    told = isinstance(error, RuntimeError) and ("/gloo/" in str(error) or str(error).startswith("DataLoader worker"))
    return told or isinstance(error, dist.DistError)


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
