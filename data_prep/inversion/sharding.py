"""Rows -> records -> tars, by one process or by many, so that what was stopped goes on after the last finished row.

Finished rows are kept in ``OUT/parts`` until they are packed, in the manifest's order: the bytes are those of one
process that was not stopped. A part that is damaged or gone is made again; a row whose video has changed since is done
again. Processes take rows as they get free; any of them may end, and the others do what it has left.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

from tqdm import tqdm

from cvg.common.errors import DataError
from cvg.composition import LabelSet
from cvg.composition.labels import SLOTS
from cvg.generators import Dtype, Generator
from cvg.shards.shards import ShardInfo, merge_licences
from cvg.shards.uploads import Uploads
from data_prep.inversion.folder import TAKEN, Folder, asked_of
from data_prep.inversion.latents import Settings
from data_prep.inversion.outcomes import Journal, Outcome
from data_prep.inversion.packing import Packer
from data_prep.inversion.recording import Recorder, check_grid
from data_prep.inversion.stores import Here, There
from data_prep.inversion.taking import Taking, joined, let_go, locked
from data_prep.inversion.working import Worker
from data_prep.manifest import Row

FIRST = 8
"""When so many rows at the beginning all fail for one reason, it is likely to be that of the others too."""
PACKED_S = 2.0
"""Seconds between two times that what is finished is looked through for whole tars."""
WAIT_S = 0.3
"""The same between two times that a process with nothing to do looks for rows that another one left."""
_PACKING = "packing.lock"


class AllRejected(DataError):
    """None of the first rows gave a record, all for the same reason."""

    def __init__(self, reason: str, message: str) -> None:
        super().__init__(message)
        self.reason = reason


@dataclass(frozen=True)
class Crew:
    """How the rows are done, which changes nothing about what comes of them but last digits.

    Attributes:
        others: whether other processes may be at work in the folder.
        first: whether this process is the one that shows how far all are.
        group: videos that go through the network together.
        beside: whether decoding, VAE and text encoder work beside the network; not where weights come and go.
        tell: takes a line about what this process did.
    """

    others: bool = False
    first: bool = True
    group: int = 1
    beside: bool = True
    tell: Callable[[str], None] | None = None


def shard(
    rows: list[Row],
    out: Path,
    model: Generator,
    labels: LabelSet,
    settings: Settings,
    dtype: Dtype,
    crew: Crew = Crew(),
    uploads: Uploads | None = None,
) -> ShardInfo:
    """Make the shards of some videos, or go on with them, or find them done; beside other processes that do the same.

    Args:
        rows: of the manifest.
        out: the folder of the work, and of the tars where they do not go elsewhere.
        model: the generator.
        labels: the label set.
        settings: how the videos are inverted.
        dtype: of the generator's weights.
        crew: how the rows are done.
        uploads: where the tars go to, in place of ``out``.

    Raises:
        AllRejected: none of the first rows gave a record, all for one reason; called again it goes on with the others.
        DataError: the folder holds shards of other settings or videos, or another command is at work in it.
    """
    if settings.method == "trajectory" and not any(row.trajectory for row in rows):
        raise DataError(
            "no row of the manifest has a saved trajectory; choose another method, or synthesize the videos"
        )
    store = Here(out) if uploads is None else There(out, uploads)
    folder = Folder(rows, store, asked_of(rows, model, labels, settings, dtype))
    tokens = [] if folder.finished else check_grid(model, settings)
    with joined(out, folder.begin), ExitStack() as stack:
        if not folder.finished:
            _Job(folder, model, labels, settings, crew).work(stack, tokens or check_grid(model, settings))
        info = ShardInfo.load(out)
        folder.tidy()
    return info


class _Job:
    """One process's part of the shards of a folder."""

    def __init__(self, folder: Folder, model: Generator, labels: LabelSet, settings: Settings, crew: Crew) -> None:
        self.folder, self.rows, self.parts = folder, folder.rows, folder.parts
        self.model, self.labels, self.settings, self.crew = model, labels, settings, crew
        self.packer: Packer | None = None
        self._packed = 0.0

    def work(self, stack: ExitStack, tokens: list[int]) -> None:
        """Do rows until all are done, by whomever, and packed."""
        crew, rows = self.crew, self.rows
        try:
            taking = Taking(self.parts / TAKEN, len(rows), crew.group, alone=not crew.others)
        except FileNotFoundError:
            return  # another process packed the last of it just now
        stack.callback(taking.close)
        journal = stack.enter_context(Journal(self.parts))
        recorder = Recorder(self.model, self.labels, self.settings)
        worker = stack.enter_context(Worker(rows, recorder, crew.beside))
        todo, began, worked = taking.left(), time.monotonic(), 0.0
        first = todo == len(rows)
        bar = stack.enter_context(
            tqdm(desc="invert", unit="video", initial=len(rows) - todo, total=len(rows), disable=not crew.first)
        )

        def keep(numbers: Sequence[int], outcomes: list[Outcome]) -> None:
            journal.add(outcomes)
            taking.done(range(numbers[0], numbers[-1] + 1))
            self._pack(stack, taking)

        def lag() -> int:  # none follows the first rows while it is not known whether all are left out
            return 0 if first else 1

        while not self.folder.finished:
            for outcomes in worker.through(iter(taking.take, None), keep, lag):
                bar.update(len(rows) - taking.left() - bar.n)
                worked = time.monotonic() - began
                if first and worker.reasons.total() >= FIRST:
                    first = False
                    if worker.reasons.total() < todo:
                        _require_one(worker.reasons, outcomes[-1])
            if taking.left() == 0 and self._finish(stack, taking, tokens):
                break
            time.sleep(WAIT_S)  # what others have taken they finish, or end and leave
            bar.update(len(rows) - taking.left() - bar.n)
        bar.update(len(rows) - bar.n)
        if crew.tell is not None:
            crew.tell(_line(worker, worked))

    def _pack(self, stack: ExitStack, taking: Taking) -> None:
        """Write the tars that are whole, now and then, where no other process does it."""
        if time.monotonic() - self._packed > PACKED_S:
            if packer := self._packs(stack):
                packer.advance(taking)
            self._packed = time.monotonic()

    def _packs(self, stack: ExitStack) -> Packer | None:
        """What packs, where this process is the one that does: it stays so until it ends."""
        if self.packer is None:
            try:
                lock = locked(self.parts / _PACKING)
            except DataError:
                if self.folder.finished:
                    return None  # nothing is left of the parts
                raise
            if lock is not None:
                stack.callback(let_go, lock, self.parts / _PACKING)
                self.packer = self.folder.packer()
        return self.packer

    def _finish(self, stack: ExitStack, taking: Taking, tokens: list[int]) -> bool:
        """Write what is left, and last ``shards.json``. Whether it could be, by this process."""
        packer = self._packs(stack)
        if packer is None or not packer.finish(taking):
            return False
        outcomes = packer.outcomes
        reasons = Counter(told["rejected"] for told in outcomes.rejects.values())
        settings = self.settings
        levels = self.model.schedule(settings.steps, settings.size).levels.tolist()[:-1]
        info = ShardInfo(
            generator=self.model.identity(),
            layers=settings.layers,
            heads=settings.heads,
            sigmas=[levels[i] for i in settings.at],
            steps=settings.steps,
            levels=levels,
            guidance_scale=None if settings.guidance_scale is None else float(settings.guidance_scale),
            grid=list(settings.grid or tokens),
            slots=SLOTS,
            labels=self.labels.to_dict(),
            source=settings.method,
            counts=packer.counts(),
            tars=packer.written(),
            records={tar.name: sum(tar.counts.values()) for tars in packer.tars.values() for tar in tars},
            rejected=dict(sorted(reasons.items())),
            token_grid=tokens,
            licences=merge_licences([tar.licences for tars in packer.tars.values() for tar in tars]),
        )
        self.folder.close(outcomes, info)
        return True


def _require_one(reasons: Counter[str], last: Outcome) -> None:
    """Raise AllRejected if all rows so far were left out, for one reason."""
    if len(reasons) == 1 and last.rejected is not None:
        told = last.rejected
        raise AllRejected(
            told["rejected"],
            f"the first {reasons.total()} videos are all left out, for the same reason ({told['rejected']}; the last, "
            f"{told['id']} of line {told['line']}: {told['detail']}); the same again goes on with the others",
        )


def _line(worker: Worker, seconds: float) -> str:
    """What a process did, in a line."""
    videos = worker.reasons.total()
    if not videos:
        return "no video was left for it"
    return (
        f"{videos} videos, {videos - worker.reasons['']} of them left out, {seconds / videos:.2f} s each, "
        f"{100 * worker.seconds / seconds:.0f} % of the time in the network"
    )
