"""Manifests and outcomes of many rows, for real: time, memory and files, on any machine.

python -m benchmarks.rows --rows 1000000 --records 200000

No video is decoded and no network runs: what is measured is all that an inversion does beside them.
"""

from __future__ import annotations

import json
import multiprocessing
import resource
import time
from collections.abc import Callable
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import torch

from benchmarks.figures import Figure, markdown
from cvg.common.cli import run
from cvg.common.errors import require
from cvg.composition import LabelSet
from cvg.shards.records import Record, encode
from data_prep import manifest
from data_prep.inversion.folder import digest_of_rows
from data_prep.inversion.outcomes import Journal, Outcome
from data_prep.inversion.packing import Packer
from data_prep.inversion.stores import Here
from data_prep.inversion.taking import Taking

MIB = 2**20
TAKEN = "taken"
SHAPE = (1, 1, 2, 2, 2, 4, 4)
"""Of a tiny record's maps."""


def apart(work: Callable[..., Any], *args: Any) -> tuple[Any, float, float]:
    """What work gives in a process of its own, the processor's seconds for it, and the memory (MiB) of that process."""
    context = multiprocessing.get_context("fork")
    found = context.Queue()

    def measured() -> None:
        before, began = _peak(), _seconds()
        result = work(*args)
        found.put((result, _seconds() - began, _peak() - before))

    process = context.Process(target=measured)
    process.start()
    process.join()
    if process.exitcode:
        raise SystemExit(process.exitcode)  # it has said why
    result: tuple[Any, float, float] = found.get()
    return result


def _seconds() -> float:
    """Of the processor, by this process and those that it began and that have ended."""
    used = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(each.ru_utime + each.ru_stime for each in used)


def _peak() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def write_manifest(path: Path, count: int) -> None:
    """A manifest of so many rows, of two entities and one relation each."""
    with path.open("w") as file:
        for number in range(count):
            row: dict[str, Any] = {"video": f"videos/{number // 1000:04d}/{number:07d}.mp4", "label": "left of"}
            row |= {"template": "a {e0} {r0} a {e1}", "entities": ["red circle", "blue square"]}
            file.write(json.dumps(row | {"start": number % 7, "end": number % 7 + 3.5}) + "\n")


def load(path: Path) -> int:
    """Read a manifest and take the digest of its rows, as each process does."""
    rows = manifest.load(path, LabelSet.load("shapes"))
    digest_of_rows(rows)
    return len(rows)


def invert(path: Path, out: Path, count: int, processes: int) -> tuple[int, int]:
    """Let processes do rows that cost nothing, one of them packing. Returns the most files at a time, and bytes."""
    rows = manifest.load(path, LabelSet.load("shapes"))[:count]
    parts = out / "parts"
    parts.mkdir(parents=True)
    (parts / TAKEN).write_bytes(bytes(count))
    context = multiprocessing.get_context("fork")
    others = [context.Process(target=_work, args=(rows, out, None)) for _ in range(processes - 1)]
    for process in others:
        process.start()
    most = _work(rows, out, Packer(rows, Here(out), parts))
    for process in others:
        process.join()
    return most


def _work(rows: list[manifest.Row], out: Path, packer: Packer | None) -> tuple[int, int]:
    taking, maps, most, looked = Taking(out / "parts" / TAKEN, len(rows)), torch.zeros(SHAPE).half(), (0, 0), 0.0
    meta = {"group": "spatial", "prompt_positive": "", "prompt_negative": "", "negative_label": "above"}
    with Journal(out / "parts") as journal:
        while (taken := taking.take()) is not None:
            for number in taken:
                row = rows[number]
                records = [Record(key, maps, maps.clone(), (True, True), "left of", meta) for key in row.keys]
                journal.add([Outcome(number, row.split, "-", [encode(record) for record in records])])
            taking.done(taken)
            if packer is not None and time.monotonic() - looked > 2:
                packer.advance(taking)
                most, looked = max(most, _files(out)), time.monotonic()
        while packer is not None and not packer.finish(taking):
            time.sleep(0.1)
    return most


def _files(out: Path) -> tuple[int, int]:
    sizes = [path.stat().st_size for path in out.rglob("*") if path.is_file()]
    return len(sizes), sum(sizes)


def begin(path: Path, out: Path, count: int) -> int:
    """What a run that goes on does before its first row: read all outcomes."""
    rows = manifest.load(path, LabelSet.load("shapes"))[:count]
    return Packer(rows, Here(out), out / "parts").outcomes.known.count(1)


def main(rows: int = 1_000_000, records: int = 200_000, processes: int = 2) -> None:
    """Print what a manifest of many rows and the outcomes of many videos cost.

    Args:
        rows: of the manifest that is read.
        records: tiny ones, kept by processes and packed.
        processes: that do so, one of which packs.
    """
    require(1, rows=rows, records=records, processes=processes)
    with TemporaryDirectory() as folder:
        path, out = Path(folder) / "manifest.jsonl", Path(folder) / "out"
        write_manifest(path, rows)
        read, seconds, memory = apart(load, path)
        assert read == rows
        figures = [
            Figure(f"manifest of {rows} rows", path.stat().st_size / MIB, "MiB"),
            Figure("processor time to read it", seconds, "s"),
            Figure("memory of a process for it", memory, "MiB"),
        ]
        write_manifest(path, records)
        (files, size), seconds, memory = apart(invert, path, out, records, processes)
        tars = list(out.glob("*.tar"))
        figures += [
            Figure(f"{records} records, {processes} processes: processor time to keep and pack them", seconds, "s"),
            Figure("a record", 1000 * seconds / records, "ms"),
            Figure("memory of the process that packs", memory, "MiB"),
            Figure("tars", len(tars), ""),
            Figure("bytes of the tars", sum(tar.stat().st_size for tar in tars) / MIB, "MiB"),
            Figure("most files at a time", files, ""),
            Figure("most bytes at a time", size / MIB, "MiB"),
        ]
        done, seconds, memory = apart(begin, path, out, records)
        assert done == records
        figures += [
            Figure("processor time to go on: manifest and outcomes are read", seconds, "s"),
            Figure("its memory", memory, "MiB"),
        ]
        print(markdown(figures))


if __name__ == "__main__":
    run(main, prog="python -m benchmarks.rows")
