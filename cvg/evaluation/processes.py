"""The processes of one run: as many as ``torchrun --nproc_per_node N`` started, or this one alone."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, TypeVar

from torch import distributed

from cvg.common.errors import DataError

T = TypeVar("T")
_ENDED = "another process of this run has ended, see its message; the same command goes on after the rows that are done"
_LONGEST = timedelta(days=30)
"""How long a process waits for the others: none knows how long these have to sample."""


@dataclass(frozen=True)
class Processes:
    """Which one this is, of how many.

    Attributes:
        rank: its place among all, from 0.
        count: how many there are.
        local: its place among those of this machine, which is the number of its accelerator.
        group: by which they wait for each other; None of one alone.
    """

    rank: int = 0
    count: int = 1
    local: int = 0
    group: Any = None

    @property
    def first(self) -> bool:
        """Whether this is the one that speaks, and writes what there is one of."""
        return self.rank == 0

    def share(self, items: Sequence[T]) -> Sequence[T]:
        """Those of the items that are this process's: dealt in turn."""
        return items[self.rank :: self.count]

    def device(self, name: str) -> str:
        """The device of this process where the run's is ``name``: ``cuda`` is one each."""
        return f"{name}:{self.local}" if self.count > 1 and name not in ("cpu", "mps") and ":" not in name else name

    def meet(self) -> None:
        """Wait until all processes are here.

        Raises:
            DataError: one of them has ended.
        """
        if self.count > 1:
            try:
                distributed.barrier(self.group)
            except RuntimeError as error:
                raise DataError(_ENDED) from error


@contextmanager
def processes() -> Iterator[Processes]:
    """Within it, the processes of the run know of each other.

    Raises:
        DataError: they cannot be reached; or, at any time, another one has ended and this one was told to end too.
    """
    if int(os.environ.get("WORLD_SIZE", "1")) == 1:
        yield Processes()
        return
    try:
        # Only their meetings go through it, so that it needs no accelerator.
        distributed.init_process_group("gloo")
        group = distributed.new_group(timeout=_LONGEST)
    except (RuntimeError, ValueError) as error:
        raise DataError(f"processes: cannot reach each other ({str(error).splitlines()[0]}); use torchrun") from error
    before = signal.signal(signal.SIGTERM, _told_to_end)
    try:
        rank = distributed.get_rank()
        yield Processes(rank, distributed.get_world_size(), int(os.environ.get("LOCAL_RANK", rank)), group)
    finally:
        signal.signal(signal.SIGTERM, before)
        distributed.destroy_process_group()


def _told_to_end(number: int, frame: Any) -> None:
    """What torchrun does to all others when one has ended."""
    raise DataError(_ENDED)
