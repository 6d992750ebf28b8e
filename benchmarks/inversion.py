"""What dual inversion of one video costs, and the bytes of its record."""

from __future__ import annotations

import copy
import math
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, ClassVar, cast

import numpy as np
import torch
from torch import Tensor

from benchmarks.case import Case
from benchmarks.figures import Figure, spread
from benchmarks.measure import clock
from cvg.common.sizes import Size
from cvg.generators import Generator
from cvg.grounding.cross_attention import CrossAttention
from cvg.media.video import write_video
from cvg.shapes.renderer import FPS, render
from cvg.shapes.world import LABELS, sample_scene, sample_spec
from cvg.shards.records import Record, encode
from data_prep.inversion import recording
from data_prep.inversion.latents import Settings
from data_prep.manifest import Row

SHARE_GOAL = ">= 90"
AT = [1, 2, 3, 4]
"""Recorded steps; those of ``data_prep.invert``."""


def row_of(folder: Path, size: Size) -> Row:
    """A rendered clip of two entities and one relation; again and again, and larger, until it fills the size."""
    rng = np.random.default_rng(0)
    spec = sample_spec(rng, "spatial", False)
    frames_FHWC = render(sample_scene(spec, rng))
    repeated = np.resize(frames_FHWC, (max(size[0], len(frames_FHWC)), *frames_FHWC.shape[1:]))
    scale = math.ceil(max(size[1] / frames_FHWC.shape[1], size[2] / frames_FHWC.shape[2]))
    write_video(folder / "clip.mp4", repeated, FPS, scale=scale)
    relations = tuple((relation.label, relation.entities) for relation in spec.relations)
    return Row("clip", folder / "clip.mp4", spec.template, spec.entities, relations, spec.wordings)


class Stopwatch:
    """Seconds of named parts, added up."""

    def __init__(self, device: torch.device) -> None:
        self.device = device
        self.spent = dict.fromkeys(("transformer", "capture", "VAE", "text", "record"), 0.0)

    @contextmanager
    def timing(self, name: str) -> Iterator[None]:
        """What runs within it counts for the part."""
        began = clock(self.device)
        try:
            yield
        finally:
            self.spent[name] += clock(self.device) - began

    def shares(self, total: float) -> dict[str, float]:
        """Percent of a total, with what no part accounts for; capture happens inside the transformer."""
        seconds = self.spent | {"transformer": self.spent["transformer"] - self.spent["capture"]}
        seconds["everything else"] = total - sum(seconds.values())
        return {name: 100 * value / total for name, value in seconds.items()}


class TimedGenerator:
    """Hands everything on to a generator, and times what its text encoder, VAE, transformer and capture do."""

    PARTS: ClassVar[dict[str, str]] = {"encode": "text", "encode_video": "VAE", "decode_latents": "VAE"}
    """Method of a generator -> what it counts for."""

    def __init__(self, generator: Generator, watch: Stopwatch) -> None:
        self.watch = watch
        self.generator = copy.copy(generator)
        self.generator.grounding = self._timed_grounding()

    def __getattr__(self, name: str) -> Any:
        found = getattr(self.generator, name)
        return self.watch.timing(self.PARTS[name])(found) if name in self.PARTS else found

    def predict(self, *args: Any) -> Tensor:
        """``Generator.predict``, timed."""
        with self.watch.timing("transformer"):
            return self.generator.predict(*args)

    def entity_maps(self, *args: Any) -> Tensor:
        """``Generator.entity_maps``, timed: the transformer's forward pass, and capture within it."""
        with self.watch.timing("transformer"):
            return self.generator.entity_maps(*args)

    def _timed_grounding(self) -> type[CrossAttention]:
        watch = self.watch

        class TimedCrossAttention(CrossAttention):
            def record(self, *args: Any, **options: Any) -> None:
                with watch.timing("capture"):
                    super().record(*args, **options)

        return TimedCrossAttention


def inversion(case: Case, rounds: int, steps: int) -> list[Figure]:
    """Videos per minute, where the time goes, and the bytes of a record of all layers and heads and of the tapped."""
    depth, heads = len(case.generator.blocks), case.generator.num_heads
    at = [index for index in AT if index < steps]
    settings = Settings("inversion", steps, at, 1, list(range(depth)), list(range(heads)), case.size, float("-inf"), 0)
    totals, shares, record = [], [], None
    with TemporaryDirectory() as folder:
        row = row_of(Path(folder), case.size)
        for _ in range(rounds):
            watch = Stopwatch(case.device)
            timed = cast(Generator, TimedGenerator(case.generator, watch))
            began = clock(case.device)
            (record,) = recording.make_records(row, timed, LABELS, settings)
            with watch.timing("record"):
                size = _bytes(record)
            totals.append(clock(case.device) - began)
            shares.append(watch.shares(totals[-1]))
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
