"""Reading records while training: how fast from tars beside from memory, and how many bytes.

python -m benchmarks.reading --shards runs/demo/shards
"""

from __future__ import annotations

import tempfile
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from statistics import median
from typing import Any

import lightning as L
import torch
from lightning.pytorch.callbacks import Callback

from cvg.common.cli import run
from cvg.common.errors import require
from cvg.common.files import write_json
from cvg.shards.records import Record
from cvg.shards.shards import ShardInfo, ShardWriter
from cvg.shards.stream import read_records
from cvg.training.datamodule import CompositionDataModule
from cvg.training.module import CompositionModule

_TOO_SMALL = 1e-9
"""GB of memory into which no set fits."""


class _Clock(Callback):
    """Seconds from one step's end to the next one's: what a step takes, with what it waited for."""

    def __init__(self) -> None:
        self.seconds: list[float] = []
        self.last: float | None = None

    def on_train_batch_end(self, *_: Any) -> None:
        """Note a step."""
        now = time.perf_counter()
        if self.last is not None:
            self.seconds.append(now - self.last)
        self.last = now


def _copies(records: list[Record], count: int) -> Iterator[Record]:
    for number in range(-(-count // len(records))):
        for record in records[: count - number * len(records)]:
            yield replace(record, key=f"{record.key[:60]}-{number}")


def repack(shards: Path, folder: Path, tars: int, samples: int) -> None:
    """Write the training records of some shards, as often as needed, into so many tars of so many records."""
    info, records = ShardInfo.load(shards), read_records(shards, ["train"])
    counts: dict[str, int] = {}
    with ShardWriter(folder, "train", samples) as writer:
        for record in _copies(records, tars * samples):
            counts[record.label] = counts.get(record.label, 0) + 1
            writer.write(record)
    replace(info, counts={"train": counts}, tars=writer.tars, records=writer.records, licences=None).save(folder)


def bytes_read(folder: Path, ranks: int) -> float:
    """Bytes that all ranks read in one epoch, in units of the set's own."""
    data = CompositionDataModule([str(folder)], batch_size=ranks * 4, cache_gb=_TOO_SMALL, num_workers=0)
    loader = data.train_dataloader()
    before = _read_so_far()
    for rank in range(ranks):
        loader.stream.rank, loader.stream.ranks = rank, ranks
        for _ in loader:
            pass
    stored = sum(path.stat().st_size for path in folder.glob("train-*.tar"))
    return (_read_so_far() - before) / stored


def _read_so_far() -> int:
    """Bytes that this process has read, as Linux counts them."""
    lines = Path("/proc/self/io").read_text().splitlines()
    return int(dict(line.split(": ") for line in lines)["rchar"])


def seconds_a_step(folder: Path, steps: int, batch_size: int, workers: int, model: dict[str, Any]) -> dict[str, float]:
    """Median seconds of a training step on records kept in memory, and on streamed ones, in turns."""
    clocks = {"memory": _Clock(), "streamed": _Clock()}
    for name in ["memory", "streamed"] * 2:
        data = CompositionDataModule(
            [str(folder)],
            batch_size=batch_size,
            cache_gb=1e3 if name == "memory" else _TOO_SMALL,
            num_workers=0 if name == "memory" else workers,
        )
        clocks[name].last = None
        _Steps(steps, clocks[name]).fit(CompositionModule(**model), data)
    return {name: median(clock.seconds) for name, clock in clocks.items()}


class _Steps(L.Trainer):
    """A trainer of so many steps, of which nothing is kept."""

    def __init__(self, steps: int, clock: Callback) -> None:
        super().__init__(
            max_steps=steps,
            callbacks=[clock],
            logger=False,
            limit_val_batches=0,
            enable_checkpointing=False,
            enable_progress_bar=False,
            enable_model_summary=False,
        )


def main(
    shards: Path = Path("runs/demo/shards"),
    out: Path = Path("runs/reading.json"),
    ranks: int = 8,
    tars: int = 165,
    samples: int = 5,
    steps: int = 30,
    batch_size: int = 32,
    workers: int = 0,
    backbone: str | None = "shapes-clip",
) -> None:
    """Measure and print, and write the figures.

    Args:
        shards: a folder of shards whose training records are read.
        out: file for the figures.
        ranks: processes whose bytes are counted, one after the other.
        tars: how many are made of the records, for that.
        samples: records of each.
        steps: training steps of each of four trainings, two from memory and two from tars.
        batch_size: records of a step.
        workers: reading processes of the streamed trainings.
        backbone: the classifier's frozen VLM; none when null.
    """
    require(1, ranks=ranks, tars=tars, samples=samples, steps=steps, batch_size=batch_size)
    torch.manual_seed(0)
    model: dict[str, Any] = {"depth": 0}
    model |= {"backbone": "vlm", "backbone_path": backbone, "backbone_layer": 1} if backbone else {}
    with tempfile.TemporaryDirectory() as folder:
        repack(shards, Path(folder), tars, samples)
        amplification = bytes_read(Path(folder), ranks)
        seconds = seconds_a_step(Path(folder), steps, batch_size, workers, model)
    rate = seconds["memory"] / seconds["streamed"]
    print(f"bytes read by {ranks} ranks in an epoch: {amplification:.3f} times those of {tars} tars")
    print(
        f"a training step of {batch_size} records: {seconds['memory']:.3f} s from memory, {seconds['streamed']:.3f} s "
        f"streamed; {rate:.1%} of the rate"
    )
    write_json(out, {"ranks": ranks, "tars": tars, "bytes": amplification, "seconds": seconds, "rate": rate})


if __name__ == "__main__":
    run(main, prog="python -m benchmarks.reading")
