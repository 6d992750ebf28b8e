"""Tiny shards whose maps really contain what their labels say."""

from __future__ import annotations

import random
from pathlib import Path
from typing import Any

import torch

from cvg.composition import LabelSet
from cvg.shards.records import Record
from cvg.shards.shards import ShardInfo, ShardWriter

STEPS, LAYERS, HEADS, SLOTS, FRAMES, SIDE = 2, 2, 2, 2, 4, 8
GRID = [FRAMES, SIDE, SIDE]
LABELS: dict[str, Any] = {
    "motion": {"entities": 1, "labels": {name: [f"moving {name}"] for name in ("left", "right", "up", "down")}},
    "spatial": {"entities": 2, "labels": {name: [name] for name in ("left of", "right of", "above", "below")}},
}
# For each label: (row, column) of the subject at the first and last frame, and of the object; in units of the side.
_PLACES: dict[str, tuple[tuple[float, float], tuple[float, float], tuple[float, float] | None]] = {
    "left": ((0.5, 0.9), (0.5, 0.1), None),
    "right": ((0.5, 0.1), (0.5, 0.9), None),
    "up": ((0.9, 0.5), (0.1, 0.5), None),
    "down": ((0.1, 0.5), (0.9, 0.5), None),
    "left of": ((0.5, 0.2), (0.5, 0.2), (0.5, 0.8)),
    "right of": ((0.5, 0.8), (0.5, 0.8), (0.5, 0.2)),
    "above": ((0.2, 0.5), (0.2, 0.5), (0.8, 0.5)),
    "below": ((0.8, 0.5), (0.8, 0.5), (0.2, 0.5)),
}


def _blob(start: tuple[float, float], end: tuple[float, float], shift: tuple[float, float]) -> torch.Tensor:
    time = torch.linspace(0, 1, FRAMES)[:, None, None]
    rows, columns = torch.meshgrid(torch.arange(SIDE) + 0.5, torch.arange(SIDE) + 0.5, indexing="ij")
    row = SIDE * (start[0] + time * (end[0] - start[0]) + shift[0])
    column = SIDE * (start[1] + time * (end[1] - start[1]) + shift[1])
    return torch.exp(-((rows - row) ** 2 + (columns - column) ** 2) / 3)


def make_record(key: str, label: str, seed: int) -> Record:
    """A record: blobs that move or lie as the label says in one head of each layer, noise in the other."""
    rng, generator = random.Random(seed), torch.Generator().manual_seed(seed)
    start, end, other = _PLACES[label]
    shape = (STEPS, LAYERS, HEADS, SLOTS, FRAMES, SIDE, SIDE)
    maps = {}
    for side in ("positive", "negative"):
        shift = (rng.uniform(-0.1, 0.1), rng.uniform(-0.1, 0.1))
        noise = torch.rand(shape, generator=generator)
        noise[:, :, 0, 0] += 3 * _blob(start, end, shift)
        if other is None:
            noise[:, :, :, 1] = 0
        else:
            noise[:, :, 0, 1] += 3 * _blob(other, other, shift)
        maps[side] = (0.01 * noise).half()
    labels = LabelSet(LABELS)
    meta = {
        "group": labels[label].group,
        "prompt_positive": f"a red circle {labels[label].wordings[0]}",
        "prompt_negative": "a red circle",
        "negative_label": labels.wrong(label, rng).name,
    }
    return Record(key, maps["positive"], maps["negative"], (True, other is not None), label, meta)


def make_shards(folder: Path, counts: dict[str, int], samples: int = 10, seed: int = 0, changes: Any = None) -> Path:
    """Write shards with ``counts[split]`` records, labels in turn. ``changes``: fields of shards.json to set."""
    names = list(_PLACES)
    info: dict[str, Any] = {
        "generator": {"name": "tiny", "class": "Tiny", "fingerprint": "0"},
        "layers": list(range(LAYERS)),
        "heads": list(range(HEADS)),
        "sigmas": [0.99, 0.9],
        "steps": 10,
        "grid": GRID,
        "token_grid": GRID,
        "slots": SLOTS,
        "labels": LABELS,
        "source": "test",
        "counts": {},
        "tars": {},
        "records": {},
    }
    for number, (split, count) in enumerate(counts.items()):
        with ShardWriter(folder, split, samples) as writer:
            for i in range(count):
                writer.write(make_record(f"{split}-{i:04d}", names[i % len(names)], 10000 * (seed + number) + i))
        info["tars"] |= writer.tars
        info["records"] |= writer.records
        info["counts"][split] = {name: len(range(i, count, len(names))) for i, name in enumerate(names)}
    if "counts" in (changes or {}):  # and not the same, which is refused
        del info["records"]
    ShardInfo(**info | (changes or {})).save(folder)
    return folder
