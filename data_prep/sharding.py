"""Records -> tars, row by row, so that a run that was stopped goes on after the last finished row.

Finished rows are kept in ``OUT/parts``. When every row is done the parts are packed into tars in the manifest's order:
the bytes are those of a run that was not stopped. A part that is damaged or gone is made again; a row whose video has
changed since is done again. One process at a time works on a folder.
"""

from __future__ import annotations

import hashlib
import json
import shutil
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from tqdm import tqdm

from cvg.common.cli import is_out_of_memory
from cvg.common.errors import DataError, ModelError
from cvg.common.files import alone, atomic, read_json, sweep, write_json
from cvg.composition import LabelSet
from cvg.composition.labels import SLOTS
from cvg.generators import Dtype, Generator
from cvg.shards.records import MAPS, META, Record, decode, encode
from cvg.shards.shards import NOT_STATED, SPLITS, ShardInfo, ShardWriter, files_of, merge_licences
from data_prep.latents import Settings
from data_prep.manifest import Row
from data_prep.recording import Rejected, check_grid, make_records

FIRST = 8
"""When so many rows at the beginning all fail for one reason, it is likely to be that of the others too."""
_SEEN = 1 << 16
"""Bytes at the beginning and at the end of a file that tell it from another of its size."""


class AllRejected(DataError):
    """None of the first rows gave a record, all for the same reason."""

    def __init__(self, reason: str, message: str) -> None:
        super().__init__(message)
        self.reason = reason


class _Work:
    """Rows, and how they become parts in a folder.

    Args:
        rows: of the manifest.
        parts: the folder of finished rows.
        generator: the frozen generator.
        labels: the label set.
        settings: how videos become records.
    """

    def __init__(
        self, rows: list[Row], parts: Path, generator: Generator, labels: LabelSet, settings: Settings
    ) -> None:
        self.rows, self.parts, self.generator, self.labels, self.settings = rows, parts, generator, labels, settings

    def outcome_file(self, row: Row) -> Path:
        return self.parts / f"{row.id}.outcome.json"

    def invert(self, row: Row) -> dict[str, Any]:
        """Make and keep the records of a row; the outcome file is written last, so it vouches for all."""
        try:
            with _model_may_fail():
                records = make_records(row, self.generator, self.labels, self.settings)
            try:
                encoded = {record.key: encode(record) for record in records}
            except DataError as error:
                raise Rejected("maps", str(error)) from error
        except Rejected as rejected:
            outcome: dict[str, Any] = {"id": row.id, "line": row.line, "video": str(row.video)}
            outcome |= {"rejected": rejected.reason, "detail": rejected.detail}
        else:
            for key, members in encoded.items():
                for extension, data in members.items():
                    with atomic(self.parts / f"{key}.{extension}") as path:
                        path.write_bytes(data)
            outcome = {"split": row.split, "keys": row.keys}
        write_json(self.outcome_file(row), outcome)
        return outcome

    def outcome(self, row: Row) -> dict[str, Any] | None:
        """What became of a row, None where it is to be done, or done again as its parts are damaged or gone."""
        try:
            found = read_json(self.outcome_file(row))
        except DataError:
            return None
        if not isinstance(found, dict):
            return None
        made = found.get("keys") == row.keys and found.get("split") == row.split
        if made and all(
            (self.parts / f"{key}.{extension}").is_file() for key in row.keys for extension in (MAPS, META)
        ):
            return found
        return found if isinstance(found.get("rejected"), str) else None

    def records(self, row: Row) -> list[Record]:
        """The records of a row from its parts, made again where they cannot be read; none where it was rejected."""
        outcome = self.outcome(row) or self.invert(row)
        if "rejected" in outcome:
            return []
        try:
            return self._read(row)
        except (DataError, OSError):
            return [] if "rejected" in self.invert(row) else self._read(row)

    def _read(self, row: Row) -> list[Record]:
        return [
            decode({"__key__": key} | {end: (self.parts / f"{key}.{end}").read_bytes() for end in (MAPS, META)})
            for key in row.keys
        ]


@contextmanager
def _model_may_fail() -> Iterator[None]:
    """Within it what PyTorch cannot do is the row's fault; not where memory runs out, or the device is of no more use.

    Raises:
        Rejected: naming what PyTorch says.
        ModelError: every further row would fail too.
    """
    try:
        yield
    except RuntimeError as error:
        reason = (str(error) or type(error).__name__).splitlines()[0]
        if is_out_of_memory(error):
            raise
        if isinstance(error, torch.AcceleratorError):
            raise ModelError(
                f"the device failed ({reason}), and is of use again in a new process only; the same command goes on "
                "after the rows that are done"
            ) from error
        raise Rejected("model", f"the generator failed on it ({reason})") from error


def pack(work: _Work, out: Path, tokens: list[int]) -> ShardInfo:
    """Write the tars, ``rejects.jsonl`` and last ``shards.json`` from the parts."""
    settings, counts = work.settings, {split: Counter[str]() for split in SPLITS}
    licences: dict[str, Counter[str]] = {}
    tars: dict[str, str] = {}
    for left in files_of(out):  # of a packing that was stopped
        left.unlink()
    for split in SPLITS:
        with ShardWriter(out, split) as writer:
            for row in work.rows:
                for record in work.records(row) if row.split == split else ():
                    counts[split][record.label] += 1
                    licences.setdefault(row.licence or NOT_STATED, Counter())[row.dataset or row.source] += 1
                    writer.write(record)
        tars |= writer.tars
    outcomes = [work.outcome(row) or work.invert(row) for row in work.rows]
    rejected = [outcome for outcome in outcomes if "rejected" in outcome]
    with atomic(out / "rejects.jsonl") as path:
        lines = "".join(json.dumps(outcome, ensure_ascii=False) + "\n" for outcome in rejected)
        path.write_text(lines, encoding="utf-8", errors="backslashreplace")
    levels = work.generator.schedule(settings.steps, settings.size).levels
    info = ShardInfo(
        generator=work.generator.identity(),
        layers=settings.layers,
        heads=settings.heads,
        sigmas=[float(levels[i]) for i in settings.at],
        steps=settings.steps,
        grid=list(settings.grid or tokens),
        slots=SLOTS,
        labels=work.labels.to_dict(),
        source=settings.method,
        counts={split: dict(sorted(counter.items())) for split, counter in counts.items()},
        tars=tars,
        rejected=dict(sorted(Counter(outcome["rejected"] for outcome in rejected).items())),
        token_grid=tokens,
        licences=merge_licences([licences]),
    )
    info.save(out)
    return info


def shard(
    rows: list[Row], out: Path, model: Generator, labels: LabelSet, settings: Settings, dtype: Dtype
) -> ShardInfo:
    """Make the shards of some videos, or go on with them, or find them done.

    Raises:
        AllRejected: none of the first rows gave a record, all for one reason; called again it goes on with the others.
        DataError: the folder holds shards of other settings or videos, or another process is at work in it.
    """
    if settings.method == "trajectory" and not any(row.trajectory for row in rows):
        raise DataError(
            "no row of the manifest has a saved trajectory; choose another method, or synthesize the videos"
        )
    tokens = [] if (out / "shards.json").exists() else check_grid(model, settings)
    with alone(out):
        work = _Work(rows, out / "parts", model, labels, settings)
        _begin(work, out, _asked(work, dtype))
        if (out / "shards.json").exists():
            info = ShardInfo.load(out)
        else:
            _invert_all(work)
            info = pack(work, out, tokens or check_grid(model, settings))
        shutil.rmtree(out / "parts", ignore_errors=True)
    return info


def _invert_all(work: _Work) -> None:
    """Do what is to be done; see :func:`shard`."""
    todo = [row for row in work.rows if work.outcome(row) is None]
    done = len(work.rows) - len(todo)
    reasons: Counter[str] = Counter()
    for number, row in enumerate(tqdm(todo, desc="invert", unit="video", initial=done, total=len(work.rows)), start=1):
        outcome = work.invert(row)
        reasons[outcome.get("rejected", "")] += 1
        if number == FIRST < len(todo) and not done and len(reasons) == 1 and "" not in reasons:
            raise AllRejected(
                outcome["rejected"],
                f"the first {FIRST} videos are all left out, for the same reason ({outcome['rejected']}; the last, "
                f"{row.id} of line {row.line}: {outcome['detail']}); the same again goes on with the others",
            )


def _asked(work: _Work, dtype: Dtype) -> dict[str, Any]:
    """What fixes the bytes of the shards, as JSON: the settings; and, as ``files``, what is known of each row's."""
    settings = asdict(work.settings)
    if settings["fit"] == "crop":  # as ever
        del settings["fit"]
    rows = [{name: value for name, value in asdict(row).items() if _fixes(name, value)} for row in work.rows]
    asked = {"settings": settings, "generator": work.generator.identity(), "rows": rows}
    asked = json.loads(json.dumps(asked, default=str)) | {"labels": work.labels.to_dict(), "dtype": dtype}
    return asked | {"files": {row.id: [_digest(path) for path in (row.video, row.trajectory)] for row in work.rows}}


def _fixes(name: str, value: Any) -> bool:
    """Whether a field of a row has to do with bytes of the shards: terms do where they are stated."""
    return name not in ("line", "fault", "unconfirmed") and (name not in ("dataset", "licence") or bool(value))


def _begin(work: _Work, out: Path, asked: dict[str, Any]) -> None:
    """Note in ``run.json`` what the folder is for, or see that it is for the same. Raises DataError where it is not."""
    for folder in (out, work.parts):
        sweep(folder, older=0)
    finished, noted = (out / "shards.json").exists(), out / "run.json"
    records = finished or bool(files_of(out)) or any(work.parts.glob(f"*.{MAPS}"))
    other = "choose another folder or remove it"
    try:
        found = read_json(noted)
    except DataError as error:
        if records:
            raise DataError(f"out {out}: holds shards of settings that are not known ({error}); {other}") from error
        found = {}
    same = isinstance(found, dict) and {**found, "files": None} == {**asked, "files": None}
    if not same and records:
        raise DataError(f"out {out}: holds shards of other settings or videos; {other}")
    if not same:
        shutil.rmtree(work.parts, ignore_errors=True)  # at most rejects, which others may not be
    changed = [
        row for row in work.rows if same and found.get("files", asked["files"])[row.id] != asked["files"][row.id]
    ]
    if changed and finished:
        raise DataError(
            f"out {out}: {len(changed)} of its videos have changed since, {changed[0].video} among them; {other}"
        )
    for row in changed:
        work.outcome_file(row).unlink(missing_ok=True)
    if not finished:
        write_json(noted, asked)


def _digest(path: Path | None) -> str | None:
    """Of a file's size, beginning and end; None where there is none. A copy has the same, another encoding has not."""
    try:
        if path is None or not path.is_file():
            return None
        with path.open("rb") as file:
            size = path.stat().st_size
            head = file.read(_SEEN)
            file.seek(max(size - _SEEN, 0))
            return hashlib.sha256(f"{size} ".encode() + head + file.read(_SEEN)).hexdigest()[:16]
    except (OSError, ValueError):
        return None
