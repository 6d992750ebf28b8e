"""``python -m cvg.inspect``: what a classifier sees in stored shards. No generator is needed, or loaded."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal

from cvg.classifier import CompositionClassifier
from cvg.common.cli import run
from cvg.common.files import require_writable, write_json
from cvg.reporting import page
from cvg.reporting.inspection import probed, seen
from cvg.shards.shards import SPLITS, ShardInfo, Split


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
    require_writable(out / "inspect.json")
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
