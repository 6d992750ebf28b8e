"""``make invert DATA=<manifest>``: videos under right and wrong prompts -> entity maps in WebDataset tars."""

from __future__ import annotations

import math
import sys
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from cvg.common.cli import run
from cvg.common.errors import DataError, SettingsError, check_guidance_scale, require
from cvg.common.files import require_writable, slug
from cvg.common.sizes import Grid, Size
from cvg.composition import LabelSet
from cvg.generators import Loading, load_generator
from cvg.media.video import Fit, VideoError, picture_size
from cvg.shards.shards import SPLITS, ShardInfo
from cvg.shards.uploads import Uploads
from cvg.shards.urls import local_path
from data_prep import manifest
from data_prep.inversion.estimating import Estimate
from data_prep.inversion.estimating import estimate as estimated
from data_prep.inversion.latents import Method, Settings
from data_prep.inversion.processes import Place, place
from data_prep.inversion.recording import check_steps, taps
from data_prep.inversion.sharding import AllRejected, Crew, shard

REMEDIES = {
    "replay": "this generator cannot show these videos: choose one that can (--generator), take --method noising, "
    "which replays nothing, or accept a lower --min_psnr",
    "unreadable": "see that the paths, relative to the manifest, lead to whole videos of at least as many frames as "
    "--size asks for",
    "trajectory": "take --method inversion or noising, other steps (--at, --steps), or videos of data_prep.synthesize",
    "prompt": "write the templates as the detail says, or choose another --generator",
    "malformed": "write the lines as docs/tutorials/add_a_data_set.md says, with labels of --labels",
    "model": "the detail is what PyTorch says of it; take another --device or --dtype, or another --generator",
    "not finite": "take --dtype float32, or another --generator",
}
"""What helps where all videos are left out for one reason."""


def before_work(rows: list[manifest.Row], size: Size, fit: Fit) -> list[str]:
    """What is better known before hours of work: malformed rows, splits without a row, what is cut off of videos."""
    notes = []
    if faulty := [row for row in rows if row.fault]:
        notes.append(
            f"{len(faulty)} of {len(rows)} rows are malformed and will be left out; line {faulty[0].line}: "
            f"{faulty[0].fault}"
        )
        rows = [row for row in rows if not row.fault]
    if unsure := sum(row.unconfirmed for row in rows):
        notes.append(
            f"of {unsure} of {len(rows)} rows nobody has said yet that the video shows what their captions say; cvg "
            "label lets a judge say so"
        )
    counts = Counter(row.split for row in rows)
    if missing := [split for split in ("train", "val") if not counts[split]]:
        notes.append(
            f"no row of the split {' or '.join(missing)} ({', '.join(f'{s} {counts[s]}' for s in SPLITS)}); training "
            'needs both, of this folder or another: name them in the manifest ("split")'
        )
    for row in rows[:3] if fit == "crop" else []:
        try:
            height, width = picture_size(row.video)
        except VideoError:
            continue
        ratio = (width * size.height) / (height * size.width)
        if (lost := 1 - min(ratio, 1 / ratio)) > 0.005:
            sides = "left and right" if ratio > 1 else "top and bottom"
            notes.append(
                f"videos of {width} x {height} pixels lose {100 * lost:.0f} % of each picture, at its {sides}, to fill "
                f"{size.width} x {size.height}; --fit letterbox keeps all, between black bars"
            )
        break
    return notes


def main(
    data: Path,
    out: str = "runs/shards",
    generator: str = "shapes-wan",
    labels: str = "shapes",
    groups: list[str] | None = None,
    method: Method = "inversion",
    steps: int = 12,
    at: list[int] = [1, 2, 3, 4],  # noqa: B006  (never changed)
    iterations: int = 1,
    layers: list[int] | None = None,
    heads: list[int] | None = None,
    size: Size = Size(13, 64, 64),
    fit: Fit = "crop",
    grid: Grid | None = None,
    min_psnr: float = 18.0,
    guidance_scale: float | None = None,
    seed: int = 0,
    limit: int | None = None,
    batch_size: int = 1,
    devices: int | None = None,
    num_nodes: int | None = None,
    work: Path | None = None,
    estimate: bool = False,
    loading: Loading = Loading(),  # noqa: B008  (frozen)
) -> None:
    """Invert the videos of a manifest under p+ and p- and shard the entity maps.

    Args:
        data: manifest (JSON Lines), or a folder with a manifest.jsonl.
        out: folder of the tars, shards.json and rejects.jsonl, or a URL of one that fsspec writes to, such as
            s3://bucket/folder. There each tar goes as soon as it is whole, and shards.json last.
        generator: pipeline folder, hub id, or shipped name.
        labels: label set: a YAML file, or the name of one that ships.
        groups: its groups that the classifier is to know; all when left out. No video may show a label of another one.
        method: inversion (the paper's), noising (z_t = (1 - sigma) x0 + sigma eps), or trajectory (of videos that the
            generator made: the latents it was sampled through).
        steps: steps of the schedule on which videos are inverted and replayed.
        at: indices of the steps in T, 0 the noisiest; there, inverted noise is not yet like the noise of sampling.
        iterations: fixed-point corrections per inversion step.
        layers: tapped layers; all when left out.
        heads: recorded heads; all when left out.
        size: frames, height, width to which videos are resampled and cropped.
        fit: crop (pictures of another shape lose what lies beyond it) or letterbox (they get black bars).
        grid: latent frames, rows, columns to which maps are averaged before they are stored; the generator's own when
            left out.
        min_psnr: a video whose replay has a lower PSNR (dB) under either prompt is left out. Inversion only.
        guidance_scale: of classifier-free guidance that videos will be sampled with, which classifiers then take for
            their own. Each record is of one prompt alone, so that it changes those alone whose network is told the
            scale (HunyuanVideo's).
        seed: of wordings, wrong labels and noise.
        limit: use only the first rows.
        batch_size: videos that go through the network together, each under both of its prompts.
        devices: processes on each machine, each with a device of its own; one when left out, or as many as torchrun or
            SLURM started.
        num_nodes: machines, on each of which the same command is given, with a folder that all of them share; one when
            left out, or as many as torchrun or SLURM started the command on.
        work: folder of what is not packed yet, where out is a URL; one below runs/work, named by it, when left out. All
            processes, of all machines, share it, and the same command goes on by it.
        estimate: time a few videos, say what all will take, and write nothing.
        loading: where and how the generator is computed.
    """
    label_set = LabelSet.load(labels)
    if groups is not None:
        label_set = label_set.of_groups(groups)
    require(1, steps=steps, limit=limit, batch_size=batch_size, devices=devices, num_nodes=num_nodes)
    require(1, **Size(*size)._asdict())
    require(0, iterations=iterations)
    if not math.isfinite(min_psnr):
        raise SettingsError(f"min_psnr {min_psnr}: give a number of dB")
    check_guidance_scale(guidance_scale)
    uploads, folder = target(out, work)
    rows = manifest.load(data, label_set)[:limit]
    if not estimate:
        require_writable(folder / "run.json")
        if uploads is not None:
            uploads.require_writable()
    here = Place(device=loading.device) if estimate else place(loading.device, devices, num_nodes)
    model = load_generator(generator, replace(loading, device=here.device))
    layers, heads = taps(model, layers, heads)
    check_steps(at, steps)
    model.check_size(size)
    settings = Settings(method, steps, at, iterations, layers, heads, size, min_psnr, seed, grid, fit, guidance_scale)
    beside = loading.offload == "none"
    if estimate:
        found = estimated(rows, model, label_set, settings, batch_size, beside)
        if not isinstance(found, Estimate):
            raise DataError(_advised(f"all videos that were tried are left out: {found.detail}", found.reason))
        print(found.told(len(rows), sorted({1, (devices or 1) * (num_nodes or 1)})))
        return
    if here.rank == 0:
        for note in before_work(rows, Size(*size), fit):
            tell(f"note: {note}")
        if uploads is not None:
            tell(f"note: what is not packed yet is kept in {folder}; the same command goes on by it")
    crew = Crew(here.count > 1, here.rank == 0, batch_size, beside, lambda line: tell(f"{here.name}: {line}"))
    with here.together(tell) as end, model.guided_by(guidance_scale):
        try:
            info = shard(rows, folder, model, label_set, settings, loading.dtype, crew, uploads)
        except AllRejected as error:
            end()
            raise DataError(_advised(str(error), error.reason)) from error
    if here.rank == 0:
        summarise(info, rows, out, folder)


def target(out: str, work: Path | None) -> tuple[Uploads | None, Path]:
    """Where the tars go, if that is behind a URL, and the folder of the work."""
    path = local_path(out)
    if path is None:
        return Uploads(out), work or Path("runs/work") / slug(out)
    if work is not None:
        raise SettingsError(f"work {work}: is for tars that go to a URL; {out} holds the work too, so leave it out")
    return None, Path(path)


def tell(line: str) -> None:
    """Print a line beside the bar."""
    print(line, file=sys.stderr, flush=True)


def _advised(message: str, *reasons: str) -> str:
    return "; ".join([message, *filter(None, map(REMEDIES.get, reasons))])


def summarise(info: ShardInfo, rows: Sequence[manifest.Row], out: str, folder: Path) -> None:
    """Say what came of all rows. Ends with code 1 where no video gave a record."""
    total, rejected = sum(info.count(split) for split in SPLITS), sum(info.rejected.values())
    counts = ", ".join(f"{split} {info.count(split)}" for split in SPLITS)
    print(
        f"{total} records ({counts}) in {out}; {rejected} of {len(rows)} videos left out {info.rejected or ''}".strip()
    )
    if rejected == len(rows):
        tell(_advised(f"error: every video was left out; see {folder / 'rejects.jsonl'}", *info.rejected))
        raise SystemExit(1)


if __name__ == "__main__":
    run(main, prog="python -m data_prep.invert")
