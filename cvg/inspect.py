"""``python -m cvg.inspect``: what a classifier sees in stored shards. No generator is needed, or loaded."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal

from cvg.classifier import CompositionClassifier
from cvg.common.cli import run
from cvg.common.errors import UserError
from cvg.common.files import write_json
from cvg.probing.probe import Probe
from cvg.reporting import page
from cvg.reporting.views import Part, probe_part, sample_part, weights_part
from cvg.shards.records import Record
from cvg.shards.shards import SPLITS, ShardInfo
from cvg.shards.stream import read_records

Split = Literal["train", "val", "test"]


def read_by(classifier: CompositionClassifier | None, stored: ShardInfo, folder: Path) -> ShardInfo:
    """The part of the shards that a classifier reads; all of them when there is none.

    Raises:
        UserError: it reads what they do not hold.
    """
    if classifier is None:
        return stored
    config = classifier.config
    problems = {
        "another generator": config.generator["fingerprint"] != stored.generator["fingerprint"],
        f"heads {config.heads}": config.heads != stored.heads,
        f"layers {config.layers}": not set(config.layers) <= set(stored.layers),
        f"noise levels {config.sigmas}": not set(config.sigmas) <= set(stored.sigmas),
        f"maps of {config.grid}": config.grid != stored.grid,
        "other labels": classifier.labels != stored.label_set,
    }
    for problem, found in problems.items():
        if found:
            raise UserError(
                f"shards {folder}: the classifier reads {problem}; give the shards that it was trained on, or leave "
                "--classifier out"
            )
    return replace(stored, layers=config.layers, sigmas=config.sigmas)


def choose(found: Sequence[Record], keys: Sequence[str], indices: Sequence[int], where: str) -> list[Record]:
    """Records by key and by position; the first of each label group when neither is given.

    Raises:
        UserError: one is not there.
    """
    by_key = {record.key: record for record in found}
    for key in keys:
        if key not in by_key:
            raise UserError(f"sample {key!r}: not among {where}; there are {', '.join(list(by_key)[:5])}, ...")
    for index in indices:
        if not 0 <= index < len(found):
            raise UserError(f"index {index}: {where} are numbered 0 to {len(found) - 1}; choose one of these")
    if keys or indices:
        return [by_key[key] for key in keys] + [found[index] for index in indices]
    return list({record.meta["group"]: record for record in reversed(found)}.values())[::-1]


def probed(shards: Path, split: str) -> Part:
    """Which maps tell the label, over all records of a split.

    Raises:
        TooFewVideos: to say anything.
        UserError: the split has no records, or they cannot be read.
    """
    info = ShardInfo.load(shards)
    return probe_part(Probe(read_records(shards, [split]), info.label_set), info)


def seen(
    shards: Path,
    classifier: CompositionClassifier | None,
    split: str,
    keys: Sequence[str] = (),
    indices: Sequence[int] = (),
    only: tuple[int | None, int | None] = (None, None),
) -> list[Part]:
    """What the classifier weighs, if there is one, and each of some records as it sees it; see :func:`main`."""
    info = read_by(classifier, ShardInfo.load(shards), shards)
    for what, number, available in (("layer", only[0], info.layers), ("head", only[1], info.heads)):
        if number is not None and number not in available:
            raise UserError(f"{what} {number}: not among the {what}s read here, {available}; choose one of these")
    chosen = choose(read_records(shards, [split], info), keys, indices, f"the {split} records of {shards}")
    weights = [] if classifier is None else [weights_part(classifier)]
    return weights + [sample_part(record, info, classifier, only) for record in chosen]


def main(
    shards: Path,
    out: Path = Path("runs/inspect"),
    classifier: str | None = None,
    sample: str | list[str] | None = None,
    index: int | list[int] | None = None,
    split: Split = "val",
    probe: Literal["train", "val", "test", "none"] = "train",
    layer: int | None = None,
    head: int | None = None,
) -> Path:
    """Show what a classifier sees: PNG pictures, inspect.html with all of them, and inspect.json with all numbers.

    Args:
        shards: folder written by ``make invert``.
        out: folder for the pictures, the page and the numbers.
        classifier: exported classifier folder, hub id, or shipped name; without one, the maps alone are shown.
        sample: key of a record to show, or a list of them.
        index: position of a record in its split, or a list of them. The first record of each label group when neither
            is given.
        split: where the shown records are; the classifier was trained on those of train.
        probe: split whose records tell which layers and heads know the label; none leaves that out.
        layer: a layer whose maps are shown on their own, besides the mean.
        head: the same of a head.
    """
    model = CompositionClassifier.from_pretrained(classifier) if classifier is not None else None
    keys = [sample] if isinstance(sample, str) else sample or []
    indices = [index] if isinstance(index, int) else index or []
    found = seen(shards, model, split, keys, indices, (layer, head))
    if probe != "none":
        found.insert(0, probed(shards, probe))
    info = ShardInfo.load(shards)
    for part in found:
        part.write(out)
    alone = {part.name: part.numbers for part in found if part.name != "sample"}
    numbers: dict[str, Any] = {
        "schema": 1,
        "shards": str(shards),
        "classifier": classifier,
        "generator": info.generator,
        "split": split,
        "probe_split": probe,
        "sigmas": info.sigmas,
        "layers": info.layers,
        "heads": info.heads,
        "samples": [part.numbers for part in found if part.name == "sample"],
    }
    write_json(out / "inspect.json", numbers | alone)
    key = [("records", str(sum(info.count(name) for name in SPLITS))), ("noise levels", str(len(info.sigmas)))]
    key += [("layers", str(len(info.layers))), ("heads", str(len(info.heads)))]
    subtitle = f"Shards {shards}, of {info.generator['name']}; classifier: {classifier or 'none'}."
    page.write(out / "inspect.html", "What the classifier sees", subtitle, key, [part.section() for part in found])
    print(f"wrote {out / 'inspect.html'}")
    return out / "inspect.html"


if __name__ == "__main__":
    run(main, prog="python -m cvg.inspect")
