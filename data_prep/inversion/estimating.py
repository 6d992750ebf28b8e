"""What an inversion will take, from a few of its videos."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass

from cvg.composition import LabelSet
from cvg.generators import Generator
from data_prep.inversion.latents import Settings
from data_prep.inversion.outcomes import Outcome
from data_prep.inversion.recording import Recorder, check_grid
from data_prep.inversion.working import Worker
from data_prep.manifest import Row

GROUPS = 3
"""Of videos that go through together; the first is a warm-up and not counted."""


@dataclass(frozen=True)
class Estimate:
    """What one process needs.

    Attributes:
        videos: that were counted.
        seconds: of a video.
        network: share of them in the network.
        bytes: of a video's records.
    """

    videos: int
    seconds: float
    network: float
    bytes: float

    def told(self, total: int, counts: Sequence[int]) -> str:
        """Lines about all videos, for numbers of devices."""
        hours = ", ".join(
            f"{_hours(total * self.seconds / count)} on {count} device{'s' if count > 1 else ''}" for count in counts
        )
        return (
            f"estimate from {self.videos} videos: {self.seconds:.2f} s each, {100 * self.network:.0f} % of it in the "
            f"network; {_bytes(self.bytes)} of records each\n"
            f"{total} videos: {hours}; {_bytes(total * self.bytes)} of tars"
        )


def estimate(
    rows: Sequence[Row], model: Generator, labels: LabelSet, settings: Settings, group: int, beside: bool
) -> Estimate | Outcome:
    """Time some rows, from all over the manifest. Nothing is written.

    Args:
        rows: of the manifest.
        model: the frozen generator.
        labels: the label set.
        settings: how videos become records.
        group: videos that go through the network together.
        beside: whether decoding, VAE and text encoder work beside the network.

    Returns:
        What one process needs; where all rows that were tried are left out, what became of the last.
    """
    check_grid(model, settings)
    good = [number for number, row in enumerate(rows) if not row.fault] or [0]
    tried = [good[len(good) * i // min(GROUPS * group, len(good))] for i in range(min(GROUPS * group, len(good)))]
    groups = [tried[i : i + group] for i in range(0, len(tried), group)]
    outcomes: list[Outcome] = []
    with Worker(rows, Recorder(model, labels, settings), beside) as worker:
        began, before, network = time.perf_counter(), 0, 0.0
        for found in worker.through(groups, lambda numbers, outcomes: None):
            outcomes += found
            if len(groups) > 1 and not before:  # what is loaded or compiled with the first video takes its time once
                began, before, network = time.perf_counter(), len(outcomes), worker.seconds
        seconds = time.perf_counter() - began
    kept = [outcome for outcome in outcomes if outcome.rejected is None]
    if not kept:
        return outcomes[-1]
    videos = len(outcomes) - before
    return Estimate(videos, seconds / videos, (worker.seconds - network) / seconds, worker.bytes / len(kept))


def _hours(seconds: float) -> str:
    return f"{seconds / 3600:.1f} hours" if seconds >= 3600 else f"{seconds / 60:.1f} minutes"


def _bytes(count: float) -> str:
    for unit in ("bytes", "kB", "MB", "GB"):
        if count < 1000:
            return f"{count:.3g} {unit}"
        count /= 1000
    return f"{count:.3g} TB"
