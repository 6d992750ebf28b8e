"""Records -> tars, row by row, so that a run that was stopped goes on after the last finished row.

Finished rows are kept in ``OUT/parts``. When every row is done the parts are packed into tars in the manifest's order:
the bytes are those of a run that was not stopped.
"""

from __future__ import annotations

import json
import shutil
from collections import Counter
from dataclasses import asdict
from pathlib import Path
from typing import Any

from tqdm import tqdm

from cvg.common.errors import DataError
from cvg.common.files import atomic, read_json, write_json
from cvg.composition import LabelSet
from cvg.composition.labels import SLOTS
from cvg.generators import Dtype, Generator
from cvg.shards.records import MAPS, META, decode, encode
from cvg.shards.shards import SPLITS, ShardInfo, ShardWriter
from data_prep.latents import Settings
from data_prep.manifest import Row
from data_prep.recording import Rejected, check_grid, make_records


def invert_row(row: Row, parts: Path, generator: Generator, labels: LabelSet, settings: Settings) -> None:
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


def pack(
    out: Path,
    rows: list[Row],
    generator: Generator,
    labels: LabelSet,
    settings: Settings,
    tokens: list[int],
) -> ShardInfo:
    """Write the tars, ``rejects.jsonl`` and last ``shards.json`` from the parts."""
    parts = out / "parts"
    outcomes = [read_json(parts / f"{row.id}.outcome.json") for row in rows]
    counts: dict[str, Counter[str]] = {split: Counter() for split in SPLITS}
    tars: dict[str, str] = {}
    for split in SPLITS:
        with ShardWriter(out, split) as writer:
            for key in (key for outcome in outcomes if outcome.get("split") == split for key in outcome["keys"]):
                members = {ext: (parts / f"{key}.{ext}").read_bytes() for ext in (MAPS, META)}
                record = decode({"__key__": key, **members})
                counts[split][record.label] += 1
                writer.write(record)
        tars |= writer.tars
    rejected = [outcome for outcome in outcomes if "rejected" in outcome]
    with atomic(out / "rejects.jsonl") as path:
        path.write_text("".join(json.dumps(outcome, ensure_ascii=False) + "\n" for outcome in rejected))
    levels = generator.schedule(settings.steps, settings.size).levels
    info = ShardInfo(
        generator=generator.identity(),
        layers=settings.layers,
        heads=settings.heads,
        sigmas=[float(levels[i]) for i in settings.at],
        steps=settings.steps,
        grid=list(settings.grid or tokens),
        slots=SLOTS,
        labels=labels.to_dict(),
        source=settings.method,
        counts={split: dict(sorted(counter.items())) for split, counter in counts.items()},
        tars=tars,
        rejected=dict(sorted(Counter(outcome["rejected"] for outcome in rejected).items())),
        token_grid=tokens,
    )
    info.save(out)
    return info


def shard(
    rows: list[Row], out: Path, model: Generator, labels: LabelSet, settings: Settings, dtype: Dtype
) -> ShardInfo:
    """Make the shards of some videos, or go on with them, or find them done.

    Raises:
        DataError: the folder holds shards of other settings or videos.
    """
    fingerprint = {"settings": asdict(settings), "generator": model.identity(), "rows": [asdict(row) for row in rows]}
    fingerprint = json.loads(json.dumps(fingerprint, default=str)) | {"labels": labels.to_dict(), "dtype": dtype}
    if (out / "run.json").exists() and read_json(out / "run.json") != fingerprint:
        raise DataError(f"out {out}: holds shards of other settings or videos; choose another folder or remove it")
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
