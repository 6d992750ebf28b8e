"""All rivals on the same prompts: the search for their step sizes, the batches, and what is kept of both."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from torch import Tensor

from benchmarks.measure import clock, peak_bytes, weight_bytes
from benchmarks.rivals.base import Ring, Rival
from cvg.evaluation.suites import Case, Score, Suite, scores
from cvg.media.pixels import to_frames

Results = dict[str, Any]
"""What is known of one generator, as JSON has it: ``tuning`` by rival, ``batches`` (of each the rows by rival) and
``memory`` by rival, in bytes."""


def empty() -> Results:
    """Before anything is known."""
    return {"tuning": {}, "batches": [], "memory": {}}


class Arena:
    """Runs rivals on one generator; what it knows already it does not run again.

    Args:
        suite: prompts and their judge.
        ring: what the rivals have in common.
        rivals: in the order of the table; the first is the pipeline as it is, whose time the others' is a multiple of.
        results: of an earlier run that was stopped, or :func:`empty`.
        keep: called whenever there is more in ``results``.
    """

    def __init__(
        self, suite: Suite, ring: Ring, rivals: Sequence[Rival], results: Results, keep: Callable[[], None]
    ) -> None:
        self.suite, self.ring, self.rivals, self.results, self.keep = suite, ring, rivals, results, keep

    def tune(self, rival: Rival, cases: Sequence[Case], batch_size: int, told: Callable[[str], None]) -> None:
        """Give a rival the step size that has most videos right.

        Of equals it is the one with most entities right, of these the one with the fewest looks, then the smallest.

        Args:
            rival: one of them, which has step sizes to choose from.
            cases: for choosing alone.
            batch_size: cases at a time.
            told: shown every figure.
        """
        known = self.results["tuning"].setdefault(rival.name, {"measured": None, "step_sizes": {}})
        if known["measured"] is None:
            known["measured"] = rival.prepare(cases)
        rival.adopt(known["measured"])
        shares = known["step_sizes"]
        for step_size in rival.step_sizes:
            if str(step_size) not in shares:
                rival.step_size, before = step_size, rival.looks
                parts = [cases[at : at + batch_size] for at in range(0, len(cases), batch_size)]
                found = [score for part in parts for score in self._judged(rival(part), part)]
                shares[str(step_size)] = _counts(found) | {"looks": rival.looks - before}
                self.keep()
            told(f"{rival.name}: step size {step_size}: {shares[str(step_size)]['right']} of {len(cases)} right")

        def merit(step_size: float) -> tuple[float, ...]:
            of = shares[str(step_size)]
            return of["right"], of["entities_right"], -of["looks"], -step_size

        rival.step_size = known["chosen"] = max(rival.step_sizes, key=merit)
        self.keep()

    def run(self, rivals: Sequence[Rival], cases: Sequence[Case], batch_size: int, told: Callable[[str], None]) -> None:
        """Run the cases, batch after batch, each by some rivals in turn.

        The pipeline as it is goes with them, whether it is among them or not, since the machine's speed drifts: a row's
        time is a multiple of its in the same turn.

        Args:
            rivals: some of them, the first of all before the others.
            cases: the prompts that count.
            batch_size: cases at a time.
            told: shown how far it is.
        """
        batches = self.results["batches"]
        for number, at in enumerate(range(0, len(cases), batch_size)):
            if number == len(batches):
                batches.append({})
            part = cases[at : at + batch_size]
            plain: float | None = None
            for rival in rivals:
                row = batches[number].get(rival.name)
                if row is None or len(row["right"]) < len(part):
                    if rival is not self.rivals[0] and plain is None:
                        plain = self._row(self.rivals[0], part)["seconds"]
                    row = self._row(rival, part)
                    plain = row["seconds"] if plain is None else plain
                    batches[number][rival.name] = row | {"plain_seconds": plain}
                    self.keep()
                counts = f"{sum(row['right'])} of {len(row['right'])} right"
                told(f"batch {number}: {rival.name}: {counts}, {row['seconds']:.0f} s")

    def measure(self, case: Case, short: Sequence[Rival]) -> None:
        """Peak memory of sampling one case, with the weights of the network and of what a rival needs beside it.

        Args:
            case: any.
            short: the same rivals with fewer denoising steps, which have the same peak.
        """
        network = weight_bytes(*self.ring.generator.networks)
        for rival, other in zip(self.rivals, short, strict=True):
            if rival.name in self.results["memory"]:
                continue
            other.step_size = rival.step_size
            if rival.name in self.results["tuning"]:
                other.adopt(self.results["tuning"][rival.name]["measured"])
            peak = peak_bytes(lambda other=other: other([case]), self.ring.generator.device)  # type: ignore[misc]
            total = None if peak is None else network + weight_bytes(*rival.weights) + peak
            self.results["memory"][rival.name] = total
            self.keep()

    def _row(self, rival: Rival, cases: Sequence[Case]) -> dict[str, Any]:
        began = clock(self.ring.generator.device)
        video_BCFHW = rival(cases)
        seconds = clock(self.ring.generator.device) - began
        found = self._judged(video_BCFHW, cases)
        rows = {name: [getattr(score, name) for score in found] for name in ("right", "entities_right")}
        return rows | {"seconds": seconds, "kinds": [case.group for case in cases]}

    def _judged(self, video_BCFHW: Tensor, cases: Sequence[Case]) -> list[Score]:
        return scores(self.suite, [to_frames(video) for video in video_BCFHW], [case.asked for case in cases])


def _counts(found: Sequence[Score]) -> dict[str, int]:
    return {
        "right": sum(score.right for score in found),
        "entities_right": sum(score.entities_right for score in found),
        "n": len(found),
    }
