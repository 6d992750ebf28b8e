"""A data set as it was downloaded -> a manifest of what its videos show, for inversion.

    python -m data_prep.collect --source vidor --root vidor-dataset --out runs/vidor/manifest.jsonl

Pieces of the generator's length are chosen in which a label holds all along; entities that the crop cuts off, copies of
other videos, and what cannot be known are left out, each with its reason.
"""

from __future__ import annotations

import itertools
import json
import math
from collections.abc import Iterable, Iterator
from dataclasses import asdict
from pathlib import Path

from cvg.common.cli import run
from cvg.common.errors import DataError, SettingsError, require
from cvg.common.files import alone, atomic, require_writable
from cvg.common.sizes import Size
from cvg.composition import LabelSet
from cvg.media.video import Fit
from data_prep import manifest
from data_prep.sources import report
from data_prep.sources.base import Found, Reject
from data_prep.sources.files import Root
from data_prep.sources.framing import Wanted
from data_prep.sources.gathering import Gathered, Terms, gather
from data_prep.sources.looks import Looks
from data_prep.sources.registry import SOURCES, find


def main(
    source: str,
    root: Path,
    out: Path = Path("runs/collected/manifest.jsonl"),
    videos: Path | None = None,
    labels: str = "world",
    size: Size = Size(13, 64, 64),
    fps: float = 8.0,
    seconds: float | None = None,
    fit: Fit = "crop",
    stretch: float = 2.0,
    per_label: int | None = None,
    licence: str | None = None,
    licences: list[str] | None = None,
    rate: float | None = None,
    limit: int | None = None,
    workers: int = 2,
) -> None:
    """Collect training videos from a data set.

    Beside the manifest lie NAME.rejects.jsonl (what was left out, and why), NAME.report.json and NAME.report.html (what
    there is, with pictures), NAME.negatives.jsonl where the data set tells what is *not* shown, and NAME.videos where
    videos had to be written from pictures or taken out of tars. NAME.looked.jsonl has what was seen of each video: the
    same command goes on by it after a stop, and other options are refused there.

    Args:
        source: the data set, or its form: SOURCES.
        root: folder that it was unpacked into. Nothing outside of it is read.
        out: the manifest to write.
        videos: folder of the videos where they are not below root.
        labels: label set: a YAML file, or the name of one that ships.
        size: frames, height and width of the generator's videos; pieces have as many frames at least, and entities
            that the crop to this shape cuts off are left out.
        fps: frames of the generator's videos a second.
        seconds: length of a piece; frames by fps when left out.
        fit: crop or letterbox, as in inversion.
        stretch: how many times shorter than a piece what holds may last, and a whole video longer.
        per_label: rows of a label at most.
        licence: of all of the data set, where it is known better than by its name.
        licences: leave out what is under another licence than these.
        rate: pictures a second of videos that lie there as pictures, where the data set does not say it.
        limit: stop after so many of what the annotations hold.
        workers: videos that are read at a time; any number, also after a stop.
    """
    require(1, per_label=per_label, limit=limit, workers=workers, **Size(*size)._asdict())
    for name, value in {"fps": fps, "seconds": seconds, "rate": rate}.items():
        if value is not None and not (math.isfinite(value) and value > 0):
            raise SettingsError(f"{name} {value}: give a number above 0")
    if not (math.isfinite(stretch) and stretch >= 1):
        raise SettingsError(f"stretch {stretch}: give 1 or more")
    known, label_set = find(source), LabelSet.load(labels)
    folder = Root(root, videos, rate)
    beside = {name: out.with_name(f"{out.stem}.{name}") for name in _BESIDE}
    require_writable(out, *beside.values(), out.with_name(f"{out.stem}.videos") / "video")
    wanted = Wanted(label_set, Size(*size), seconds or Size(*size).frames / fps, fit, stretch)
    terms = Terms(source, known.licence if licence is None else licence, None if licences is None else tuple(licences))
    settings = {
        **{"source": source, "root": str(root.resolve()), "videos": videos and str(videos.resolve()), "rate": rate},
        **{"labels": label_set.to_dict(), "size": wanted.size, "seconds": wanted.seconds, "fit": fit},
        **{"stretch": stretch, "per_label": per_label, "limit": limit, "licence": terms.licence, "licences": licences},
    }
    with alone(out.parent, out.name):
        found: Iterable[Found | Reject] = itertools.islice(known.read(folder, label_set), limit)
        looks = Looks(beside["looked.jsonl"], settings, wanted, out.with_name(f"{out.stem}.videos"))
        gathered = gather(found, wanted, terms, looks, per_label, workers)
        _lines(beside["rejects.jsonl"], (asdict(reject) for reject in gathered.rejects))
        report.save(gathered, source, beside["report.json"], beside["report.html"])
        if gathered.negatives:
            manifest.write(beside["negatives.jsonl"], gathered.negatives)
        if not gathered.rows:
            raise DataError(_none(gathered, root))
        manifest.write(out, gathered.rows)
    print(_told(gathered, out, beside["report.html"]))


_BESIDE = ("looked.jsonl", "rejects.jsonl", "report.json", "report.html", "negatives.jsonl")
main.__doc__ = (main.__doc__ or "").replace(
    "SOURCES", "; ".join(f"{name} ({each.what})" for name, each in SOURCES.items())
)


def _lines(path: Path, values: Iterable[object]) -> None:
    with atomic(path) as temporary:
        lines: Iterator[str] = (json.dumps(value, ensure_ascii=True) + "\n" for value in values)
        temporary.write_text("".join(lines), encoding="utf-8")


def _none(gathered: Gathered, root: Path) -> str:
    """Why there is no row at all."""
    if not gathered.rejects:
        return f"{root}: holds nothing; give the folder that the data set was unpacked into"
    reason = next(iter(gathered.reasons))
    first = next(reject for reject in gathered.rejects if reject.reason == reason)
    counts = ", ".join(f"{name} {count}" for name, count in gathered.reasons.items())
    return f"{root}: gives no row ({counts}); {first.where}: {first.detail}"


def _told(gathered: Gathered, out: Path, page: Path) -> str:
    """What there is, in a few lines."""
    counts = ", ".join(f"{name} {count}" for name, count in gathered.reasons.items())
    told = [f"{len(gathered.rows)} rows in {out}; {len(gathered.rejects)} left out{f' ({counts})' if counts else ''}"]
    if unsure := sum(row.unconfirmed for row in gathered.rows):
        told.append(f"{unsure} of them are to be confirmed by a judge: cvg label --videos {out}")
    if gathered.negatives:
        told.append(f"{len(gathered.negatives)} videos that do not show what they speak of: {out.stem}.negatives.jsonl")
    return "\n".join([*told, f"all of it, with pictures: {page}"])


if __name__ == "__main__":
    run(main, prog="python -m data_prep.collect")
