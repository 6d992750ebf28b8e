"""Batches of a split that does not fit into memory: each reader reads its own part of the tars, once an epoch."""

from __future__ import annotations

import contextlib
import itertools
import math
import random
from collections.abc import Generator, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from functools import cached_property
from io import BufferedReader
from typing import Any

import webdataset as wds
from torch.utils.data import get_worker_info

from cvg.common.errors import DataError
from cvg.shards.stream import Batch, Source, Stream
from cvg.shards.tars import read_part


@dataclass(frozen=True)
class _Piece:
    """Some records of one tar, as one reader reads them."""

    source: Source
    tar: str
    records: Sequence[int]  # their places in the tar, ascending
    whole: bool  # it is this reader that reads all of the tar, and checks its digest


@dataclass
class Streamed(Stream):
    """Each reader (a worker of a rank) reads its own part of the records, through a shuffle buffer of its own.

    An epoch lays the tars of all folders in a row, in an order drawn from (seed, epoch), and parts the records among
    the readers in proportion to what they have to give, so that every rank has as many batches. A tar that lies across
    a border is read by the readers on both sides, each its own records; the first reads on to the end, for the digest.
    So an epoch shows each record once (but for less than one batch), and its order is a function of seed, epoch,
    batch size, buffer, and the numbers of ranks and workers. Where labels are held out, or a folder's weight is broken,
    a reader whose part falls short begins it again.

    A start in the middle of an epoch gives the batches that an unbroken one gives: the order is drawn before anything
    is read, and what lies before is not read where it need not be.
    """

    buffer: int = 1  # records of a reader's shuffle buffer

    def __iter__(self) -> Iterator[Batch]:
        """The batches of an epoch, from ``start`` on, of this rank and worker."""
        worker = get_worker_info()
        workers, worker_id = (worker.num_workers, worker.id) if worker else (1, 0)
        share = self.batch_size // self.ranks
        # DataLoader takes one batch of each worker in turn, beginning with the first, also where it starts later.
        mine = range((self.start + worker_id) % workers, self.batches, workers)
        skipped = len(range(mine.start, min(self.start, self.batches), workers))
        items = self._mine(workers, mine.start, skipped * share)
        for number in mine[skipped:]:
            chosen = list(itertools.islice(items, share))
            if number == mine[-1]:
                for _ in items:  # to the tars' ends, whose digests are checked before the last batch is given out
                    raise AssertionError("more than was asked")
            first = number * self.batch_size + self.rank * share
            yield self._collate([(item, first + i, True) for i, item in enumerate(chosen)], share)

    def _mine(self, workers: int, worker: int, skip: int) -> Iterator[Any]:
        """What one reader reads, but for the first samples."""
        needs = self._needs(workers)
        reader = self.rank * workers + worker
        need = needs[reader]
        if not self.training:
            begin = sum(needs[:reader])
            pieces = self._cut(self._row(), begin, begin + need)
            return self._take(pieces, range(skip, need))
        row = self._row()
        length, total = sum(len(piece.records) for piece in row), sum(needs)
        begin, end = (length * sum(needs[:n]) // total for n in (reader, reader + 1))
        return self._endless(self._cut(row, begin, end), row, reader, skip, need)

    def _needs(self, workers: int) -> list[int]:
        """How many samples each reader gives in an epoch, the workers of a rank one after the other."""
        share = self.batch_size // self.ranks
        most = [share * len(range(worker, self.batches, workers)) for worker in range(workers)]
        if self.training:
            return most * self.ranks
        needs = []
        for rank in range(self.ranks):  # evenly, so that no rank's batches are empty while others' are full
            left = self.count * (rank + 1) // self.ranks - self.count * rank // self.ranks
            for room in most:
                needs.append(min(room, left))
                left -= needs[-1]
        return needs

    @cached_property
    def held(self) -> list[list[int]]:
        """How many records each tar of each source holds. Raises DataError where they are not those of shards.json."""
        held = [source.folder.records(list(source.tars)) for source in self.sources]
        self._check_count(sum(map(sum, held)), self.count)
        return held

    def _row(self) -> list[_Piece]:
        """All tars of the epoch in their order, as often as their folder's weight says."""
        rng = random.Random(f"{self.seed}/{self.epoch}")
        row = []
        for source, held in zip(self.sources, self.held, strict=True):
            for copy in range(math.ceil(source.weight) if self.training else 1):
                keep = source.weight - copy if self.training else 1.0
                for tar, count in zip(source.tars, held, strict=True):
                    kept = range(count) if keep >= 1 else [i for i in range(count) if rng.random() < keep]
                    row.append(_Piece(source, tar, kept, True))
        if self.training:
            rng.shuffle(row)
        return row

    @staticmethod
    def _cut(row: list[_Piece], begin: int, end: int) -> list[_Piece]:
        """The pieces of a row's records from one place to another."""
        pieces, passed = [], 0
        for piece in row:
            inside = range(len(piece.records))[max(0, begin - passed) : max(0, end - passed)]
            passed += len(piece.records)
            if inside:
                chosen = piece.records[inside.start : inside.stop]
                pieces.append(_Piece(piece.source, piece.tar, chosen, inside.start == 0))
        return pieces

    def _endless(self, pieces: list[_Piece], row: list[_Piece], reader: int, skip: int, need: int) -> Iterator[Any]:
        """Samples ``skip`` to ``need`` of shuffled passes over the pieces."""
        done, pass_ = 0, 0
        while done < need:
            before, count = done, sum(len(piece.records) for piece in pieces)
            rng = random.Random(f"{self.seed}/{self.epoch}/{reader}/{pass_}")
            order = list(wds.shuffle(self.buffer, initial=self.buffer, rng=rng)(iter(range(count))))
            if not self.hold_out:  # all will be used: what lies before the start need not be read
                yield from self._take(pieces, order[max(0, skip - done) : need - done])
                done += min(count, need - done)
            else:
                for item in self._take(pieces, order):
                    if not self._held_out(item):
                        if skip <= done < need:
                            yield item
                        done += 1
                    if pass_ and done >= need:
                        return
            if done == before:  # nothing but held-out labels, or nothing at all
                pieces = row
            pass_ += 1

    def _take(self, pieces: list[_Piece], order: Sequence[int]) -> Iterator[Any]:
        """Records of the pieces in some order of their places; read in the pieces' order, and held until their turn."""
        wanted, held = frozenset(order), dict[int, Any]()
        coming = self._read(pieces, wanted)
        for place in order:
            while place not in held:
                found, item = next(coming)
                held[found] = item
            yield held.pop(place)
        for _ in coming:
            raise AssertionError("more than was asked")

    def _read(self, pieces: list[_Piece], wanted: frozenset[int]) -> Iterator[tuple[int, Any]]:
        """Place and members of the records that are wanted, while the next tar is opened, which may fetch it."""
        jobs, passed = [], 0
        for piece in pieces:
            places = {record: passed + i for i, record in enumerate(piece.records) if passed + i in wanted}
            passed += len(piece.records)
            if places:
                jobs.append((piece, places))
        files = _opened_ahead([piece for piece, _ in jobs])
        with contextlib.closing(files):
            for (piece, places), file in zip(jobs, files, strict=True):
                name, digest = piece.source.folder.name(piece.tar), piece.source.tars[piece.tar]
                checked = digest if piece.whole else None
                for record, members in read_part(file, name, places.keys(), self.record_bytes, checked):
                    yield places[record], members


def _opened_ahead(pieces: list[_Piece]) -> Generator[BufferedReader]:
    """The pieces' tars, each opened while the one before is read: where it comes from elsewhere, that takes a while."""
    coming: Future[BufferedReader] | None = None
    with ThreadPoolExecutor(1) as ahead:
        try:
            for number, piece in enumerate(pieces):
                file = coming.result() if coming else piece.source.folder.open(piece.tar)
                after = pieces[number + 1 :][:1]
                coming = ahead.submit(after[0].source.folder.open, after[0].tar) if after else None
                yield file
        finally:
            if coming:
                with contextlib.suppress(DataError):
                    coming.result().close()


def buffer_for(stream: Stream, size: float, workers: int) -> int:
    """Records that a reader's shuffle buffer can have.

    Args:
        stream: whose records they are.
        size: bytes of the buffers of one rank.
        workers: readers of a rank, which share them.

    Raises:
        DataError: not even one record fits.
    """
    most = int(size / max(1, workers) / stream.record_bytes)
    if most < 1:
        raise DataError(
            f"shards: a record has {stream.record_bytes} bytes, more than a shuffle buffer of {size:g} for "
            f"{max(1, workers)} readers has room for; raise data.shuffle_gb"
        )
    return most
