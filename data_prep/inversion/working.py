"""One process's way from rows to outcomes: what comes before the network and after it goes on in a thread beside it."""

from __future__ import annotations

import time
from collections import Counter, deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Executor, Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, TypeVar

import torch

from cvg.common.cli import is_out_of_memory
from cvg.common.errors import DataError, ModelError
from cvg.generators import Conditioning
from cvg.shards.records import encode
from data_prep.inversion.outcomes import Outcome
from data_prep.inversion.recording import Passed, Prepared, Recorder, Rejected
from data_prep.inversion.signatures import signature
from data_prep.manifest import Row

T = TypeVar("T")


@dataclass
class Ready:
    """Rows that go through the network together.

    Attributes:
        numbers: their places in the manifest.
        signatures: of their files.
        outcomes: by number, of those that were left out.
        videos: by number, of the others.
        conditioning: of the others' prompts; None where there are none.
    """

    numbers: Sequence[int]
    signatures: dict[int, str] = field(default_factory=dict)
    outcomes: dict[int, Outcome] = field(default_factory=dict)
    videos: dict[int, Prepared] = field(default_factory=dict)
    conditioning: Conditioning | None = None


class _Inline(Executor):
    """Does at once what is handed to it."""

    def submit(self, fn: Callable[..., T], /, *args: Any, **options: Any) -> Future[T]:
        future: Future[T] = Future()
        future.set_result(fn(*args, **options))
        return future


class Worker:
    """Takes rows through; a context manager.

    Reading, encoding and the texts of the next rows, and judging, encoding and keeping the records of the last ones, go
    on in one thread while the network is at work in the caller's.

    Args:
        rows: of the manifest.
        recorder: makes records of them.
        beside: whether there is that thread; without it all is done in turn, as is needed where weights come and go.

    Attributes:
        seconds: in the network, so far.
        bytes: of records, so far.
        reasons: number of rows by why they were left out; of the empty reason, of those that were not.
    """

    def __init__(self, rows: Sequence[Row], recorder: Recorder, beside: bool = True) -> None:
        self.rows, self.recorder = rows, recorder
        self.seconds, self.bytes, self.reasons = 0.0, 0, Counter[str]()
        self._thread: Executor = ThreadPoolExecutor(1, "beside-the-network") if beside else _Inline()

    def __enter__(self) -> Worker:
        return self

    def __exit__(self, *error: object) -> None:
        self._thread.shutdown(cancel_futures=True)

    def through(
        self,
        groups: Iterable[Sequence[int] | None],
        keep: Callable[[Sequence[int], list[Outcome]], None],
        lag: Callable[[], int] = lambda: 1,
    ) -> Iterator[list[Outcome]]:
        """Take groups of rows through, one after the other.

        Args:
            groups: of rows, by their places in the manifest; asked for one group ahead. None: there is nothing now.
            keep: called beside the network with each group and its outcomes.
            lag: how many groups may be unfinished while the next is in the network.

        Yields:
            The outcomes of each group, once they are kept.
        """
        source, ahead, behind = iter(groups), deque[Future[Ready]](), deque[Future[list[Outcome]]]()
        while True:
            while len(ahead) < 2 and (group := next(source, None)) is not None:
                ahead.append(self._thread.submit(self._prepare, group))
            if ahead:
                ready = ahead.popleft().result()
                behind.append(self._thread.submit(self._finish, ready, self._run(ready), keep))
            while len(behind) > (lag() if ahead else 0):
                yield behind.popleft().result()
            if not ahead and not behind:
                return

    def _prepare(self, numbers: Sequence[int]) -> Ready:
        ready = Ready(numbers)
        for number in numbers:
            row = self.rows[number]
            ready.signatures[number] = signature(row)
            try:
                with _model_may_fail():
                    ready.videos[number] = self.recorder.prepare(row)
            except Rejected as rejected:
                ready.outcomes[number] = self._left_out(ready, number, rejected)
        if ready.videos:
            ready.conditioning = self.recorder.together(list(ready.videos.values()))
        return ready

    def _run(self, ready: Ready) -> dict[int, Passed]:
        """Take rows through the network: all at once, or where that fails one by one, to find which are at fault."""
        began = time.perf_counter()
        passed: dict[int, Passed] = {}
        videos = list(ready.videos.values())
        try:
            if videos:
                with _model_may_fail():
                    passed = dict(zip(ready.videos, self.recorder.run(videos, ready.conditioning), strict=True))
        except Rejected as rejected:
            for number, video in ready.videos.items():
                try:
                    if len(videos) == 1:
                        raise rejected
                    with _model_may_fail():
                        (passed[number],) = self.recorder.run([video])
                except Rejected as alone:
                    ready.outcomes[number] = self._left_out(ready, number, alone)
        self.seconds += time.perf_counter() - began
        return passed

    def _finish(
        self, ready: Ready, passed: dict[int, Passed], keep: Callable[[Sequence[int], list[Outcome]], None]
    ) -> list[Outcome]:
        outcomes = dict(ready.outcomes)
        for number, each in passed.items():
            try:
                with _model_may_fail():
                    records = self.recorder.finish(each)
                try:
                    members = [encode(record) for record in records]
                except DataError as error:
                    raise Rejected("maps", str(error)) from error
                outcomes[number] = Outcome(number, self.rows[number].split, ready.signatures[number], members)
                self.bytes += sum(len(data) for record in members for data in record.values())
            except Rejected as rejected:
                outcomes[number] = self._left_out(ready, number, rejected)
        found = [outcomes[number] for number in ready.numbers]
        keep(ready.numbers, found)
        self.reasons.update(outcome.reason for outcome in found)
        return found

    def _left_out(self, ready: Ready, number: int, rejected: Rejected) -> Outcome:
        row = self.rows[number]
        told: dict[str, Any] = {"id": row.id, "line": row.line, "video": str(row.video)}
        told |= {"rejected": rejected.reason, "detail": rejected.detail}
        return Outcome(number, row.split, ready.signatures[number], rejected=told)


@contextmanager
def _model_may_fail() -> Iterator[None]:
    """Within it what PyTorch cannot do is the row's fault; not where memory runs out, or the device is of no more use.

    Raises:
        Rejected: naming what PyTorch says.
        ModelError: every further row would fail too.
    """
    try:
        yield
    except RuntimeError as error:
        reason = (str(error) or type(error).__name__).splitlines()[0]
        if is_out_of_memory(error):
            raise
        if isinstance(error, torch.AcceleratorError):
            raise ModelError(
                f"the device failed ({reason}), and is of use again in a new process only; the same command goes on "
                "after the rows that are done"
            ) from error
        raise Rejected("model", f"the generator failed on it ({reason})") from error
