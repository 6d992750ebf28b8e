"""Videos with captions, as OpenVid, Panda and WebVid are and many others: what is written may be so, a judge must say.

Any of these files, anywhere below the folder:

- ``.csv``, ``.parquet`` or ``.jsonl``, a row a video: ``video`` (or ``path``, ``file``, ``file_name``, ``video_path``,
  ``videoid``) names the file, ``caption`` (or ``text``, ``name``) says what it shows; ``start`` and ``end`` in seconds
  and ``licence`` (or ``license``) are read where they are there;
- ``.tar`` in WebDataset's form: ``KEY.mp4`` beside ``KEY.txt``, or ``KEY.json`` with the same keys.

Parquet needs pyarrow (``pip install 'cvg[parquet]'``).
"""

from __future__ import annotations

import csv
import json
import math
import tarfile
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path, PurePosixPath
from typing import Any

from cvg.common.errors import DataError, NothingToGuide, UserError
from cvg.composition import LabelSet, parse
from data_prep.claims import understood
from data_prep.sources.base import Entity, Found, Member, Reject, each
from data_prep.sources.files import SUFFIXES, Refused, Root

VIDEO = ("video", "video_path", "path", "file", "file_name", "filename", "videoid", "videoID")
CAPTION = ("caption", "text", "name")
LICENCE = ("licence", "license")
MOST_CAPTION = 4000
"""Letters of a caption that is read."""
_MOST_TEXT = 1 << 20  # bytes of a caption's file in a tar
Entry = tuple[str, Mapping[str, Any]]


def read(root: Root, labels: LabelSet) -> Iterator[Found | Reject]:
    """See `data_prep.sources.base.Reader`."""
    paths = root.files("*.csv", "*.parquet", "*.jsonl", "*.tar")
    if not paths:
        raise DataError(f"{root.folder}: no .csv, .parquet, .jsonl or .tar file; give the folder of the captions")
    readers = {".csv": _csv, ".parquet": _parquet, ".jsonl": _jsonl, ".tar": _tar}
    for path in paths:
        entries = readers[path.suffix.lower()](path)
        yield from each(entries, lambda entry: _found(entry, root, labels), lambda entry: entry[0])


def _found(entry: Entry, root: Root, labels: LabelSet) -> Iterator[Found | Reject]:
    where, values = entry
    if isinstance(values.get("fault"), Refused):
        raise values["fault"]
    caption, name = _first(values, CAPTION), _first(values, VIDEO)
    if not isinstance(caption, str) or not isinstance(name, Member | str | int) or isinstance(name, bool):
        raise Refused("malformed", f"needs a video ({', '.join(VIDEO)}) and a caption ({', '.join(CAPTION)}), texts")
    if len(caption) > MOST_CAPTION:
        raise Refused("malformed", f"a caption of {len(caption)} letters; {MOST_CAPTION} are read at most")
    begin, end = _seconds(values.get("start"), "start"), _seconds(values.get("end"), "end")
    if end is not None and end <= (begin or 0.0):
        raise Refused("malformed", f"{begin or 0:g} to {end:g} s is empty")
    if end is None and begin is not None:
        raise Refused("malformed", "has a start and no end")
    licence = _first(values, LICENCE)
    video = name if isinstance(name, Member) else root.video(str(name))
    try:
        said = understood({"caption": " ".join(caption.split())}, labels, parse)
    except UserError as error:
        raise Refused("nothing" if isinstance(error, NothingToGuide) else "prompt", str(error)) from error
    yield Found(
        video=video,
        where=where,
        entities=tuple(Entity(phrase) for phrase in said["entities"]),
        relations=tuple((each["label"], tuple(each["entities"])) for each in said["relations"]),
        begin=begin if end is None else begin or 0.0,
        end=end,
        template=said["template"],
        wordings=tuple(said["wordings"]) if "wordings" in said else None,
        caption=caption,
        sure=False,
        licence=licence if isinstance(licence, str) and licence.strip() else None,
        name=Path(video.name).stem,
    )


def _first(values: Mapping[str, Any], names: Iterable[str]) -> Any:
    return next((values[name] for name in names if values.get(name) not in (None, "")), None)


def _seconds(value: Any, name: str) -> float | None:
    if value in (None, ""):
        return None
    try:
        seconds = float(value)
    except (TypeError, ValueError, OverflowError) as error:
        raise Refused("malformed", f"{name} {value!r:.40}: give seconds") from error
    if not (math.isfinite(seconds) and seconds >= 0):
        raise Refused("malformed", f"{name} {seconds}: give seconds, 0 or more")
    return seconds


def _csv(path: Path) -> Iterator[Entry]:
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            reader = csv.DictReader(file, strict=True)
            for cells in reader:
                where = f"{path}:{reader.line_num}"
                if None in cells or None in cells.values():
                    yield where, {"fault": Refused("malformed", "has more or fewer cells than the first line")}
                else:
                    yield where, cells
    except csv.Error as error:
        raise DataError(f"{path}:{reader.line_num}: not valid CSV ({error}); download it again") from error
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"{path}: cannot be read ({error}); download it again") from error


def _jsonl(path: Path) -> Iterator[Entry]:
    try:
        with path.open(encoding="utf-8-sig") as file:
            for number, line in enumerate(file, start=1):
                if line.strip():
                    yield f"{path}:{number}", _object(line)
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"{path}: cannot be read ({error}); download it again") from error


def _object(text: str | bytes) -> Mapping[str, Any]:
    """The keys of a JSON object, or what is wrong with it."""
    try:
        values = json.loads(text)
    except (ValueError, RecursionError) as error:
        return {"fault": Refused("malformed", f"not valid JSON ({error})")}
    return values if isinstance(values, dict) else {"fault": Refused("malformed", "not a JSON object")}


def _parquet(path: Path) -> Iterator[Entry]:
    try:
        import pyarrow
        import pyarrow.parquet
    except ImportError as error:
        raise DataError(f"{path}: Parquet needs pyarrow; pip install 'cvg[parquet]', or give it as CSV") from error
    try:
        file = pyarrow.parquet.ParquetFile(path)
        chosen = [name for name in file.schema_arrow.names if name in (*VIDEO, *CAPTION, *LICENCE, "start", "end")]
        number = 0
        for batch in file.iter_batches(batch_size=4096, columns=chosen):
            for values in batch.to_pylist():
                yield f"{path}:{number}", values
                number += 1
    except (pyarrow.ArrowException, OSError, ValueError) as error:
        raise DataError(f"{path}: cannot be read ({str(error).splitlines()[0]}); download it again") from error


def _tar(path: Path) -> Iterator[Entry]:
    """Members are in order: those of a key stand together. Where the tar is damaged the rest of it is one reject."""
    key, values = "", dict[str, Any]()
    try:
        with tarfile.open(path, "r:") as tar:
            for member in tar:
                stem, _, extension = PurePosixPath(member.name).name.partition(".")
                own = str(PurePosixPath(member.name).with_name(stem)) if stem else ""
                if own != key:
                    if values:
                        yield f"{path}: {key}", values
                    key, values = own, {}
                if member.isfile():
                    values |= _member(tar, path, member, extension.lower())
            if values:
                yield f"{path}: {key}", values
    except (tarfile.TarError, OSError, EOFError, ValueError) as error:
        if _first(values, VIDEO) and _first(values, CAPTION):
            yield f"{path}: {key}", values
        yield f"{path}: after {key or 'its beginning'}", {"fault": Refused("malformed", f"damaged ({error})")}


def _member(tar: tarfile.TarFile, path: Path, member: tarfile.TarInfo, extension: str) -> dict[str, Any]:
    """What a member has to say of its key."""
    if f".{extension}" in SUFFIXES:
        return {"video": Member(path, member.name, member.offset_data, member.size)}
    if extension not in ("txt", "caption", "json"):
        return {}
    if member.size > _MOST_TEXT:
        return {"fault": Refused("malformed", f"{member.name}: {member.size} bytes of text")}
    file = tar.extractfile(member)
    data = b"" if file is None else file.read()
    if len(data) < member.size:
        return {"fault": Refused("malformed", f"{member.name}: the tar ends in it")}
    if extension == "json":
        return {name: value for name, value in _object(data).items() if name not in VIDEO}
    return {"caption": data.decode("utf-8", errors="replace")}
