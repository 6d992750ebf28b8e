"""``make probe DATA=<manifest>``: which steps, layers and heads of a generator tell the composition.

Records the maps of some of a manifest's videos at many steps, in all layers and heads (as ``data_prep.invert`` does,
coarsely), reads the label off them with linear probes, and writes what `make invert` and `make train` are to use.
"""

from __future__ import annotations

import random
from dataclasses import asdict
from pathlib import Path
from typing import Any

from cvg.common import hub
from cvg.common.cli import run
from cvg.common.errors import require
from cvg.common.files import require_writable, write_json
from cvg.common.sizes import Grid, Size
from cvg.composition import LabelSet
from cvg.generators import Loading, load_generator
from cvg.media.video import Fit
from cvg.probing.choice import Choice, choose
from cvg.probing.probe import GRID, Probe
from cvg.reporting.views import probe_part
from cvg.shards.shards import SPLITS
from cvg.shards.stream import read_records
from data_prep import manifest
from data_prep.inversion.latents import Method, Settings
from data_prep.inversion.recording import check_steps, taps, token_grid
from data_prep.inversion.sharding import Crew, shard
from data_prep.options import write_yaml


def write_configurations(out: Path, inversion: dict[str, Any], labels: str) -> None:
    """OUT/invert.yaml and OUT/train.yaml, each with the command that takes it.

    Args:
        out: folder to write.
        inversion: options of data_prep.invert that were chosen.
        labels: label set: a YAML file, or the name of one that ships.
    """
    shards, own_labels = out / "shards", Path(labels).is_file()
    inversion = inversion | {"labels": str(Path(labels).absolute()) if own_labels else labels}
    comment = f'make invert DATA=manifest.jsonl OUT={shards} ARGS="--config {out / "invert.yaml"}"'
    write_yaml(out / "invert.yaml", comment, inversion)
    training: dict[str, Any] = {"data": {"shards": [str(shards)]}}
    if own_labels and not any(label.mirrors for label in LabelSet.load(labels).labels):
        training["data"]["mirror"] = None
    below = f"lightning_configs/{'shapes' if hub.is_shipped_name(inversion['generator']) else 'video'}.yaml"
    write_yaml(out / "train.yaml", f'make train CONFIG="{below} {out / "train.yaml"}"', training)


def main(
    data: Path,
    out: Path = Path("runs/probe"),
    generator: str = "shapes-wan",
    labels: str = "shapes",
    method: Method = "noising",
    videos: int = 96,
    steps: int = 12,
    at: list[int] | None = None,
    layers: list[int] | None = None,
    heads: list[int] | None = None,
    guided: int = 4,
    size: Size = Size(13, 64, 64),
    fit: Fit = "crop",
    grid: Grid | None = None,
    seed: int = 0,
    loading: Loading = Loading(),  # noqa: B008  (frozen)
) -> Choice:
    """Choose steps, layers and heads of a generator, and write them as configurations.

    OUT/invert.yaml is for ``make invert``, OUT/train.yaml for ``make train``, OUT/probe.json has all scores, and
    OUT/probe-GROUP.png shows them. OUT/maps has the maps, as shards (``python -m cvg.inspect`` shows them).

    Args:
        data: manifest (JSON Lines), or a folder with a manifest.jsonl.
        out: folder to write; maps that are there are not made again.
        generator: pipeline folder, hub id, or shipped name.
        labels: label set: a YAML file, or the name of one that ships.
        method: where noisy latents come from, as in data_prep.invert. Noising is quick; its noise is that of sampling.
        videos: how many of the manifest's videos are used, drawn at random.
        steps: steps of the schedule.
        at: indices of the steps to choose from, 0 the noisiest; the first two thirds when left out.
        layers: layers to choose from; all when left out.
        heads: heads to choose from; all when left out.
        guided: steps wanted, at most.
        size: frames, height, width to which videos are resampled and cropped.
        fit: crop (pictures of another shape lose what lies beyond it) or letterbox (they get black bars).
        grid: the grid that OUT/invert.yaml names, see data_prep.invert; probes read coarser maps.
        seed: of the videos that are drawn, of wordings, wrong labels and noise.
        loading: where and how the generator is computed.
    """
    require(1, videos=videos, guided=guided, steps=steps, **Size(*size)._asdict())
    label_set = LabelSet.load(labels)
    rows = manifest.load(data, label_set)
    rows = [rows[i] for i in sorted(random.Random(seed).sample(range(len(rows)), min(videos, len(rows))))]
    require_writable(out / "probe.json")
    at = at if at is not None else list(range(-(-2 * steps // 3)))
    check_steps(at, steps)
    model = load_generator(generator, loading)
    layers, heads = taps(model, layers, heads)
    model.check_size(size)
    probed = Grid(*(min(most, side) for most, side in zip(GRID, token_grid(model, size), strict=True)))
    settings = Settings(method, steps, at, 1, layers, heads, size, 18.0, seed, probed, fit)
    crew = Crew(beside=loading.offload == "none")
    info = shard(rows, out / "maps", model, label_set, settings, loading.dtype, crew)
    probe = Probe(read_records(out / "maps", SPLITS), label_set)
    part = probe_part(probe, info)
    part.write(out)
    choice = choose(probe, guided)
    chosen = {
        "at": [at[i] for i in choice.steps],
        "layers": [layers[i] for i in choice.layers],
        "heads": [heads[i] for i in choice.heads],
    }
    write_json(
        out / "probe.json",
        {
            "schema": 1,
            "generator": info.generator,
            "videos": len(rows),
            "method": method,
            "steps": steps,
            "chosen": chosen,
        }
        | {"probed": {"at": at, "sigmas": info.sigmas, "layers": layers, "heads": heads}}
        | {"why": asdict(choice), "groups": part.numbers},
    )
    inversion: dict[str, Any] = {"generator": generator, "loading": {"dtype": loading.dtype}, "size": list(size)}
    inversion |= {"steps": steps} | chosen | ({} if fit == "crop" else {"fit": fit})
    inversion |= {"grid": list(grid)} if grid else {}
    write_configurations(out, inversion, labels)
    score = choice.chosen
    spread = f"{score.accuracy:.2f} [{score.low:.2f}, {score.high:.2f}]"
    print(f"at {chosen['at']}, layers {chosen['layers']}, heads {chosen['heads']}: {out / 'invert.yaml'}")
    print(
        f"label read from these maps: {spread}, chance {score.chance:.2f}; "
        f"read off the prompt's words: {score.leak:.2f}"
    )
    return choice


if __name__ == "__main__":
    run(main, prog="python -m data_prep.probe")
