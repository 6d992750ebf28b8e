"""The processes of one run, each with a device of its own, which Lightning Fabric starts or joins.

They share a folder and nothing else: none waits for another, and none ends because another did.
"""

from __future__ import annotations

import os
import signal
import socket
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch

from cvg.common.errors import SettingsError

THREADS = "OMP_NUM_THREADS"


@dataclass(frozen=True)
class Place:
    """Which of the processes this one is.

    Attributes:
        rank: its place among all, from 0.
        count: how many there are.
        device: that it computes on.
        fabric: what starts the others; None of one alone.
    """

    rank: int = 0
    count: int = 1
    device: str = "cpu"
    fabric: Any = None

    @property
    def name(self) -> str:
        """The process in words."""
        return f"process {self.rank + 1} of {self.count} ({socket.gethostname()}, {self.device})"

    @contextmanager
    def together(self, tell: Callable[[str], None]) -> Iterator[Callable[[], None]]:
        """Within it the other processes of this machine are at work, started here unless something else started them.

        The first process of a machine ends after those that it started; told to end (SIGTERM), it tells them too.

        Args:
            tell: takes a line where some of them ended in an error.

        Yields:
            What ends those that were started here.
        """
        if self.fabric is None:
            yield lambda: None
            return
        self.fabric.launch()
        started = self.fabric.strategy.launcher.procs

        def end(*_: Any) -> None:
            for process in started:
                process.terminate()

        def told(number: int, frame: Any) -> None:
            end()
            raise SystemExit(128 + number)

        before = signal.signal(signal.SIGTERM, told) if started else None
        try:
            yield end
        finally:
            codes = [process.wait() for process in started]
            if started:
                signal.signal(signal.SIGTERM, before)
        if failed := [str(code) for code in codes if code]:
            tell(
                f"{len(failed)} of {self.count} processes ended early (exit code {', '.join(failed)}), the rest went on"
            )


def place(device: str, devices: int | None, nodes: int | None) -> Place:
    """Find which process this is: of those that torchrun, SLURM or another process of this run started, or the first.

    Of several each computes on one thread of the CPU, unless the environment says otherwise (``OMP_NUM_THREADS``): more
    would fight for the same cores, and change the last digits.

    Args:
        device: of the run; ``cuda`` is one each.
        devices: processes on each machine; as many as were started, or one, when None.
        nodes: machines; as many as there are, or one, when None.

    Raises:
        SettingsError: there are not as many devices, or other numbers were started than asked for.
    """
    there = _started(os.environ)
    devices, nodes = devices or (there or (1, 1))[0], nodes or (there or (1, 1))[1]
    if devices * nodes == 1 and there is None:
        return Place(device=device)
    kind, _, number = device.partition(":")
    if number:
        raise SettingsError(f"device {device}: is a single one; give {kind}, of which each process takes its own")
    from lightning.fabric import Fabric  # only here: it takes seconds

    from data_prep.inversion.apart import Apart

    try:
        apart = Apart()
        fabric = Fabric(accelerator=kind, devices=devices, num_nodes=nodes, strategy=apart)
        assert apart.cluster_environment is not None
        apart.cluster_environment.validate_settings(num_devices=devices, num_nodes=nodes)
    except (ValueError, RuntimeError) as error:  # of wrong settings it raises both
        reason = str(error).splitlines()[0].rstrip(".")
        raise SettingsError(
            f"devices {devices}, num_nodes {nodes}: cannot be, on {device} ({reason}); give as many as there are, or "
            "as were started"
        ) from error
    if THREADS not in os.environ:
        os.environ[THREADS] = "1"  # of those that are started here, too
        torch.set_num_threads(1)
    return Place(fabric.global_rank, fabric.world_size, str(fabric.device), fabric)


def _started(environment: Mapping[str, str]) -> tuple[int, int] | None:
    """How many processes a machine, and machines, something else has started; None where nothing has."""
    if "TORCHELASTIC_RUN_ID" in environment:
        local = int(environment.get("LOCAL_WORLD_SIZE", "1"))
        return local, int(environment.get("WORLD_SIZE", "1")) // local
    if int(environment.get("SLURM_NTASKS", "1")) > 1 and "SLURM_PROCID" in environment:
        tasks, nodes = environment.get("SLURM_NTASKS_PER_NODE", ""), environment.get("SLURM_NNODES", "1")
        return (int(tasks) if tasks.isdigit() else 1), int(nodes)
    return None
