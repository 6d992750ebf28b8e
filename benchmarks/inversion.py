"""What dual inversion of one video costs, and the bytes of its record."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any
from unittest.mock import patch

import numpy as np

from benchmarks.case import Case
from benchmarks.figures import Figure, spread
from benchmarks.measure import clock
from cvg.grounding.capture import AttentionTap
from cvg.media.video import write_video
from cvg.shapes.renderer import FPS, render
from cvg.shapes.world import LABELS, sample_scene, sample_spec
from cvg.shards.records import Record, encode
from data_prep import recording
from data_prep.latents import Settings
from data_prep.manifest import Row

SHARE_GOAL = ">= 90"
AT = [1, 2, 3, 4]
"""Recorded steps; those of ``data_prep.invert``."""


def row_of(folder: Path, size: tuple[int, int, int]) -> Row:
    """A rendered clip of two entities and one relation; again and again, and larger, until it fills the size."""
    rng = np.random.default_rng(0)
    spec = sample_spec(rng, "spatial", False)
    frames_FHWC = render(sample_scene(spec, rng))
    repeated = np.resize(frames_FHWC, (max(size[0], len(frames_FHWC)), *frames_FHWC.shape[1:]))
    scale = math.ceil(max(size[1] / frames_FHWC.shape[1], size[2] / frames_FHWC.shape[2]))
    write_video(folder / "clip.mp4", repeated, FPS, scale=scale)
    relations = tuple((relation.label, relation.entities) for relation in spec.relations)
    return Row("clip", folder / "clip.mp4", spec.template, spec.entities, relations, spec.wordings)


@contextmanager
def parts(case: Case) -> Iterator[dict[str, float]]:
    """Within it the seconds of the parts of ``make_records`` are added up, by name."""
    generator, spent = case.generator, dict.fromkeys(("transformer", "capture", "VAE", "text", "video"), 0.0)

    def timed(name: str, function: Callable[..., Any]) -> Callable[..., Any]:
        def call(*args: Any, **options: Any) -> Any:
            began = clock(case.device)
            try:
                return function(*args, **options)
            finally:
                spent[name] += clock(case.device) - began

        return call

    record = AttentionTap.record
    with ExitStack() as patches:
        for owner, attribute, name in (
            (generator.network, "forward", "transformer"),
            (generator, "encode_video", "VAE"),
            (generator, "decode_latents", "VAE"),
            (generator, "encode", "text"),
            (recording, "read_video", "video"),
        ):
            patches.enter_context(patch.object(owner, attribute, timed(name, getattr(owner, attribute))))
        patches.enter_context(patch.object(AttentionTap, "record", timed_method(record, timed)))
        yield spent
    spent["transformer"] -= spent["capture"]  # it happens inside


def timed_method(method: Callable[..., Any], timed: Callable[[str, Callable[..., Any]], Callable[..., Any]]) -> Any:
    """``AttentionTap.record``, timed as capture; a plain function, so that it still binds."""
    inner = timed("capture", method)

    def record(tap: AttentionTap, *args: Any, **options: Any) -> None:
        inner(tap, *args, **options)

    return record


def inversion(case: Case, rounds: int, steps: int) -> list[Figure]:
    """Videos per minute, where the time goes, and the bytes of a record of all layers and heads and of the tapped."""
    depth, heads = len(case.generator.blocks), case.generator.heads
    at = [index for index in AT if index < steps]
    settings = Settings(
        "inversion", steps, at, 1, list(range(depth)), list(range(heads)), list(case.size), float("-inf"), 0
    )
    totals, shares, record = [], [], None
    with TemporaryDirectory() as folder:
        row = row_of(Path(folder), case.size)
        for _ in range(rounds):
            with parts(case) as spent:
                began = clock(case.device)
                (record,) = recording.make_records(row, case.generator, LABELS, settings)
                made = clock(case.device)
                size = _bytes(record)
                total = clock(case.device) - began
            spent["record"] = began + total - made
            totals.append(total)
            shares.append({name: 100 * value / total for name, value in spent.items()})
    assert record is not None
    tapped_heads = case.classifier.config.heads
    chosen = replace(
        record,
        positive_SLAKFHW=record.positive_SLAKFHW[:, case.layers][:, :, tapped_heads],
        negative_SLAKFHW=record.negative_SLAKFHW[:, case.layers][:, :, tapped_heads],
    )
    figures = [spread("dual inversion, videos", [60 / total for total in totals], unit="per minute")]
    for name in shares[0]:
        values = [share[name] for share in shares]
        goal = SHARE_GOAL if name == "transformer" else ""
        figures.append(spread(f"dual inversion, time in {name}", values, unit="%", goal=goal))
    tapped = f"{len(case.layers)} layers, {len(tapped_heads)} heads"
    return [
        *figures,
        Figure(f"record of a video: all {depth} layers, {heads} heads", size / 2**20, "MiB"),
        Figure(f"record of a video: {tapped}", _bytes(chosen) / 2**20, "MiB"),
    ]


def _bytes(record: Record) -> int:
    return sum(len(data) for data in encode(record).values())
