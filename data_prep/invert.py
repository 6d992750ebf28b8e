"""``make invert DATA=<manifest>``: videos under right and wrong prompts -> entity maps in WebDataset tars.

One row at a time: decode, VAE-encode, make {z_t} for p+ and p- (in one batch), capture the entity maps, keep the record
in ``OUT/parts``. When every row is done the parts are packed into tars in the manifest's order. A run that was stopped
goes on after the last finished row, and ends in the same bytes as one that was not.
"""

from __future__ import annotations

import json
import random
import shutil
import sys
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from tqdm import tqdm

from cvg.common.cli import run
from cvg.common.errors import UserError
from cvg.common.files import atomic, read_json, write_json
from cvg.composition import LabelSet, contradict
from cvg.diffusion.trajectory import psnr
from cvg.generators import Dtype, Generator, Offload, load_generator
from cvg.grounding.maps import resample
from cvg.grounding.slots import slot_maps
from cvg.media.pixels import to_video
from cvg.media.video import read_video
from cvg.shards.records import Record, decode, encode
from cvg.shards.shards import SPLITS, ShardInfo, ShardWriter
from data_prep import manifest
from data_prep.latents import Method, Settings, latents_at


class Rejected(Exception):
    """A row that gives no record, with the reason that is counted and the detail that is listed."""

    def __init__(self, reason: str, detail: str) -> None:
        super().__init__(detail)
        self.reason, self.detail = reason, detail


def make_records(row: manifest.Row, generator: Generator, labels: LabelSet, settings: Settings) -> list[Record]:
    """The records of one video, one per relation.

    Raises:
        Rejected: the video cannot be read, or its replay misses it.
    """
    rng = random.Random(f"{settings.seed}:{row.id}")
    positive = row.composition(labels, rng)
    negative = contradict(positive, labels, rng)
    frames, height, width = settings.size
    try:
        pixels = read_video(row.video, frames, height, width, start=row.start, end=row.end)
    except UserError as error:
        raise Rejected("unreadable", str(error)) from error
    video = to_video(pixels)[None]
    clean = generator.encode_video(video.to(generator.device))
    conditioning = generator.encode([positive, negative])
    taken, replayed = latents_at(settings, row, generator, clean, conditioning)
    quality = None
    if replayed is not None:
        decoded = generator.decode_latents(replayed).cpu()
        quality = psnr(decoded, video.expand_as(decoded)).tolist()
        if min(quality) < settings.min_psnr or not torch.isfinite(replayed).all():
            raise Rejected("replay", f"replay PSNR {min(quality):.1f} dB is below {settings.min_psnr:g} dB")
    schedule = generator.schedule(settings.steps, settings.pixels)
    steps = []
    for index, latents in zip(settings.at, taken, strict=True):
        timestep = schedule.timesteps[index]
        maps, _ = generator.entity_maps(latents, timestep, conditioning, settings.layers, settings.heads)
        steps.append((maps if settings.grid is None else resample(maps, settings.grid)).cpu())
    maps_2SLAEFHW = torch.stack(steps, dim=1)
    records = []
    for number, relation in enumerate(positive.relations):
        slots: list[int | None] = [positive.entities.index(entity) for entity in relation.entities]
        slots += [None] * (2 - len(slots))
        both = slot_maps(maps_2SLAEFHW.flatten(1, 2), [0, 1], [slots, slots])
        both = both.unflatten(1, maps_2SLAEFHW.shape[1:3]).half()
        meta = {
            "group": labels[relation.label].group,
            "prompt_positive": positive.prompt,
            "prompt_negative": negative.prompt,
            "negative_label": negative.relations[number].label,
            "entities_positive": [asdict(entity) for entity in relation.entities],
            "entities_negative": [asdict(entity) for entity in negative.relations[number].entities],
            "video": Path(row.video).name,
            "source": row.source,
            "method": settings.method,
            "sigmas": [float(schedule.levels[i]) for i in settings.at],
            "psnr": None if quality is None else [round(value, 3) for value in quality],
        }
        key = row.id if len(positive.relations) == 1 else f"{row.id}_r{number}"
        present = tuple(slot is not None for slot in slots)
        records.append(Record(key, both[0], both[1], present, relation.label, meta))
    return records


def invert_row(row: manifest.Row, parts: Path, generator: Generator, labels: LabelSet, settings: Settings) -> None:
    """Make the records of a row and keep them in ``parts``; the outcome file is written last, so it vouches for all."""
    try:
        records = make_records(row, generator, labels, settings)
    except Rejected as rejected:
        outcome: dict[str, Any] = {"id": row.id, "video": str(row.video)}
        outcome |= {"rejected": rejected.reason, "detail": rejected.detail}
    else:
        for record in records:
            for extension, data in encode(record).items():
                with atomic(parts / f"{record.key}.{extension}") as path:
                    path.write_bytes(data)
        outcome = {"split": row.split, "keys": [record.key for record in records]}
    write_json(parts / f"{row.id}.outcome.json", outcome)


def token_grid(generator: Generator, size: Sequence[int]) -> tuple[int, int, int]:
    """Latent tokens (F, H, W) of a video of (frames, height, width) pixels."""
    return generator.token_grid(generator.encode_video(torch.zeros(1, 3, *size, device=generator.device)))


def check_grid(generator: Generator, settings: Settings) -> list[int]:
    """The video's latent tokens [F, H, W]. Raises UserError where maps are to be stored on a finer grid."""
    tokens = token_grid(generator, settings.size)
    if settings.grid and not all(1 <= side <= most for side, most in zip(settings.grid, tokens, strict=True)):
        raise UserError(
            f"grid {list(settings.grid)}: a video of size {settings.size} has {list(tokens)} latent frames, rows and "
            "columns; give at most as many of each"
        )
    return list(tokens)


def pack(
    out: Path,
    rows: list[manifest.Row],
    generator: Generator,
    labels: LabelSet,
    settings: Settings,
    tokens: list[int],
) -> ShardInfo:
    """Write the tars, ``rejects.jsonl`` and last ``shards.json`` from the parts."""
    parts = out / "parts"
    outcomes = [read_json(parts / f"{row.id}.outcome.json") for row in rows]
    counts: dict[str, Counter[str]] = {split: Counter() for split in SPLITS}
    for split in SPLITS:
        with ShardWriter(out, split) as writer:
            for key in (key for outcome in outcomes if outcome.get("split") == split for key in outcome["keys"]):
                members = {ext: (parts / f"{key}.{ext}").read_bytes() for ext in ("maps.safetensors", "json")}
                record = decode({"__key__": key, **members})
                counts[split][record.label] += 1
                writer.write(record)
    rejected = [outcome for outcome in outcomes if "rejected" in outcome]
    with atomic(out / "rejects.jsonl") as path:
        path.write_text("".join(json.dumps(outcome, ensure_ascii=False) + "\n" for outcome in rejected))
    levels = generator.schedule(settings.steps, settings.pixels).levels
    info = ShardInfo(
        generator=generator.identity(),
        layers=settings.layers,
        heads=settings.heads,
        sigmas=[float(levels[i]) for i in settings.at],
        steps=settings.steps,
        grid=list(settings.grid or tokens),
        slots=2,
        labels=labels.to_dict(),
        source=settings.method,
        counts={split: dict(sorted(counter.items())) for split, counter in counts.items()},
        rejected=dict(sorted(Counter(outcome["rejected"] for outcome in rejected).items())),
        token_grid=tokens,
    )
    info.save(out)
    return info


def taps(model: Generator, layers: list[int] | None, heads: list[int] | None) -> tuple[list[int], list[int]]:
    """Tapped layers and recorded heads; all of the generator's for None. Raises UserError where it has no such ones."""
    layers = layers if layers is not None else list(range(len(model.blocks)))
    model.check_layers(layers)
    heads = heads if heads is not None else list(range(model.heads))
    if not heads or heads != sorted(set(heads)) or not 0 <= heads[0] <= heads[-1] < model.heads:
        raise UserError(
            f"heads {heads}: expected ascending numbers from 0 to {model.heads - 1}, the heads of {model.name}"
        )
    return layers, heads


def check_steps(at: list[int], steps: int) -> None:
    """Raise UserError unless ``at`` are ascending steps of a schedule of ``steps``."""
    if not at or any(not 0 <= index < steps for index in at) or at != sorted(set(at)):
        raise UserError(f"at {at}: expected ascending step indices below steps={steps}")


def shard(
    rows: list[manifest.Row], out: Path, model: Generator, labels: LabelSet, settings: Settings, dtype: Dtype
) -> ShardInfo:
    """Make the shards of some videos, or go on with them, or find them done.

    Raises:
        UserError: the folder holds shards of other settings or videos.
    """
    fingerprint = {"settings": asdict(settings), "generator": model.identity(), "rows": [asdict(row) for row in rows]}
    fingerprint = json.loads(json.dumps(fingerprint, default=str)) | {"labels": labels.to_dict(), "dtype": dtype}
    if (out / "run.json").exists() and read_json(out / "run.json") != fingerprint:
        raise UserError(f"out {out}: holds shards of other settings or videos; choose another folder or remove it")
    if (out / "shards.json").exists():
        info = ShardInfo.load(out)
    else:
        tokens = check_grid(model, settings)
        parts = out / "parts"
        parts.mkdir(parents=True, exist_ok=True)
        write_json(out / "run.json", fingerprint)
        todo = [row for row in rows if not (parts / f"{row.id}.outcome.json").exists()]
        bar = tqdm(todo, desc="invert", unit="video", initial=len(rows) - len(todo), total=len(rows))
        for row in bar:
            invert_row(row, parts, model, labels, settings)
        info = pack(out, rows, model, labels, settings, tokens)
    shutil.rmtree(out / "parts", ignore_errors=True)
    return info


def main(
    data: Path,
    out: Path = Path("runs/shards"),
    generator: str = "shapes-wan",
    labels: str = "shapes",
    method: Method = "inversion",
    steps: int = 12,
    at: list[int] = [1, 2, 3, 4],  # noqa: B006  (never changed)
    iterations: int = 1,
    layers: list[int] | None = None,
    heads: list[int] | None = None,
    size: tuple[int, int, int] = (13, 64, 64),
    grid: tuple[int, int, int] | None = None,
    min_psnr: float = 18.0,
    seed: int = 0,
    limit: int | None = None,
    device: str = "cpu",
    dtype: Dtype = "float32",
    offload: Offload = "none",
    tiling: bool = False,
    compile: bool = False,
) -> None:
    """Invert the videos of a manifest under p+ and p- and shard the entity maps.

    Args:
        data: manifest (JSON Lines), or a folder with a manifest.jsonl.
        out: folder of the tars, shards.json and rejects.jsonl.
        generator: pipeline folder, hub id, or shipped name.
        labels: label set: a YAML file, or the name of one that ships.
        method: inversion (the paper's), noising (z_t = (1 - sigma) x0 + sigma eps), or trajectory (of videos that the
            generator made: the latents it was sampled through).
        steps: steps of the schedule on which videos are inverted and replayed.
        at: indices of the steps in T, 0 the noisiest; there, inverted noise is not yet like the noise of sampling.
        iterations: fixed-point corrections per inversion step.
        layers: tapped layers; all when left out.
        heads: recorded heads; all when left out.
        size: frames, height, width to which videos are resampled and cropped.
        grid: latent frames, rows, columns to which maps are averaged before they are stored; the generator's own when
            left out.
        min_psnr: a video whose replay has a lower PSNR (dB) under either prompt is left out. Inversion only.
        seed: of wordings, wrong labels and noise.
        limit: use only the first rows.
        device: torch device.
        dtype: weights' dtype of the generator.
        offload: weights that are not in use rest in main memory: model moves whole components, group single layers.
        tiling: the VAE takes one video at a time, in tiles.
        compile: compile the generator's blocks, which takes a minute; recording runs without.
    """
    label_set = LabelSet.load(labels)
    rows = manifest.load(data, label_set)[:limit]
    model = load_generator(generator, device, dtype, offload, tiling=tiling, compile=compile)
    layers, heads = taps(model, layers, heads)
    check_steps(at, steps)
    settings = Settings(method, steps, at, iterations, layers, heads, list(size), min_psnr, seed, grid)
    info = shard(rows, out, model, label_set, settings, dtype)
    total, rejected = sum(info.count(split) for split in SPLITS), sum(info.rejected.values())
    counts = ", ".join(f"{split} {info.count(split)}" for split in SPLITS)
    print(
        f"{total} records ({counts}) in {out}; {rejected} of {len(rows)} videos left out {info.rejected or ''}".strip()
    )
    if rejected == len(rows):
        print(f"error: every video was left out; see {out / 'rejects.jsonl'}", file=sys.stderr)
        raise SystemExit(1)


if __name__ == "__main__":
    run(main, prog="python -m data_prep.invert")
