"""What videos show, against what is claimed of them: captions or labels -> a manifest that training can believe.

    python -m data_prep.label --videos claims.jsonl --out manifest.jsonl --judge shapes --labels shapes

A judge reads each video. Where it shows what is claimed, the claim is confirmed; where it shows another label, it is
contradicted, and the row gets the label that is shown; where it cannot be told, it is unclear, and left out.
"""

from __future__ import annotations

import hashlib
import math
import sys
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Annotated, Any, Literal

import numpy as np
from pydantic import Field, StrictFloat, StrictInt
from tqdm import tqdm

from cvg.common.cli import run
from cvg.common.errors import PromptError, SettingsError, require
from cvg.common.files import alone, require_writable
from cvg.common.typed import read, record, to_dict
from cvg.composition import LabelSet
from cvg.composition import parse as parse_caption
from cvg.judging import Frames, Judge, Reading, load_judge
from cvg.media.video import VideoError, picture_size, read_video
from data_prep import manifest
from data_prep.claims import Claim, load
from data_prep.journal import Journal

Status = Literal["confirmed", "contradicted", "unclear", "rejected"]
USABLE = ("confirmed", "contradicted")


@record
class Finding:
    """What became of one line of the claims.

    Attributes:
        line: its number.
        status: confirmed, contradicted, unclear or rejected.
        reason: why it is unclear (not found, entities, cannot tell, confidence) or rejected (malformed, prompt,
            nothing, unreadable).
        detail: the same in words.
        claimed: the labels that were claimed.
        shown: those that the video shows; None where that cannot be told.
        confidence: of each.
    """

    line: Annotated[StrictInt, Field(ge=1)]
    status: Status
    reason: str = ""
    detail: str = ""
    claimed: tuple[str, ...] = ()
    shown: tuple[str | None, ...] = ()
    confidence: tuple[StrictFloat, ...] = ()


def finding(claim: Claim, reading: Reading, least: float = 0.0) -> Finding:
    """What a reading makes of a claim.

    Args:
        claim: one without a fault.
        reading: of its video, asked for what is claimed.
        least: confidence below which a label is not believed.
    """
    assert claim.composition is not None
    claimed = tuple(relation.label for relation in claim.composition.relations)
    status: Status = "unclear"
    if not all(reading.found):
        reason = "not found"
    elif not reading.entities_right:
        reason = "entities"
    elif None in reading.labels:
        reason = "cannot tell"
    elif min(reading.confidence) < least:
        reason = "confidence"
    else:
        reason, status = "", "confirmed" if reading.labels == claimed else "contradicted"
    return Finding(
        line=claim.line,
        status=status,
        reason=reason,
        detail="; ".join(reading.problems),
        claimed=claimed,
        shown=reading.labels,
        confidence=reading.confidence,
    )


def row(claim: Claim, found: Finding) -> manifest.Row:
    """The manifest's row of a video that shows what a finding says."""
    assert claim.row is not None
    labels = [label for label in found.shown if label is not None]
    relations = zip(labels, claim.row.relations, strict=True)
    return replace(
        claim.row,
        relations=tuple((label, entities) for label, (_, entities) in relations),
        wordings=claim.row.wordings if found.status == "confirmed" else None,
        unconfirmed=False,
    )


class Findings:
    """The findings of a run, one per line of a file that is added to as they are made.

    Args:
        path: the file; made where there is none.
        settings: what findings depend on, the file's first line.

    Raises:
        DataError: the file is of other settings, or cannot be read.
    """

    def __init__(self, path: Path, settings: dict[str, Any]) -> None:
        self._journal = Journal(path, settings, lambda line: read(Finding, line), "findings", "judge anew")
        self.found = {each.line: each for each in self._journal.done}

    def add(self, findings: Sequence[Finding]) -> None:
        """Keep some more; they are on the disk when this returns."""
        self._journal.add(map(_complete, findings))
        self.found |= {each.line: each for each in findings}


def _complete(found: Finding) -> dict[str, Any]:
    return to_dict(found) | {"shown": list(found.shown)}


def judged(claims: Sequence[Claim], judge: Judge, frames: int, side: int, least: float) -> list[Finding]:
    """The findings on a batch of claims; a fault of one is its own.

    Args:
        claims: of which some may have a fault.
        judge: who reads the videos.
        frames: of each video that are read, evenly spaced.
        side: pixels of the shorter side of a frame at most.
        least: see :func:`finding`.
    """
    findings, readable, videos = [], [], []
    for claim in claims:
        if claim.row is None:
            findings.append(_rejected(claim, claim.reason, claim.fault))
            continue
        try:
            videos.append(_frames(claim.row, frames, side))
            readable.append(claim)
        except (VideoError, OSError) as error:
            findings.append(_rejected(claim, "unreadable", error))
    for claim, reading in zip(readable, _readings(judge, videos, readable), strict=True):
        if isinstance(reading, Reading):
            findings.append(finding(claim, reading, least))
        else:
            findings.append(_rejected(claim, "prompt", reading))
    return sorted(findings, key=lambda each: each.line)


def _rejected(claim: Claim, reason: str, detail: str | Exception) -> Finding:
    return Finding(line=claim.line, status="rejected", reason=reason, detail=str(detail))


def _readings(judge: Judge, videos: list[Frames], claims: list[Claim]) -> list[Reading | PromptError]:
    """Of each video its reading, or why the judge cannot read it."""
    asked = [claim.composition for claim in claims if claim.composition is not None]
    try:
        return [*judge(videos, asked)] if videos else []
    except PromptError as error:
        if len(videos) == 1:
            return [error]
    return [_readings(judge, [video], [claim])[0] for video, claim in zip(videos, claims, strict=True)]


def _frames(video: manifest.Row, frames: int, side: int) -> np.ndarray[Any, np.dtype[np.uint8]]:
    """Whole frames of a row's segment, of their own shape."""
    height, width = picture_size(video.video)
    scale = min(1.0, side / min(height, width))
    size = round(height * scale), round(width * scale)
    return read_video(video.video, frames, *size, start=video.start, end=video.end, fit="letterbox")


def main(
    videos: Path,
    out: Path,
    judge: str,
    labels: str = "world",
    frames: int = 13,
    side: int = 480,
    least: float = 0.0,
    batch_size: int = 8,
    device: str = "cpu",
    judge_cache: Path | None = None,
) -> None:
    """Judge videos by what is claimed of them, and write a manifest of those of which it can be told.

    Args:
        videos: what is claimed: JSON Lines or CSV of video and caption, or of video, template, entities and label.
        out: the manifest to write. Beside it lies NAME.findings.jsonl, with what became of every line; a run that was
            stopped goes on by it.
        judge: who reads the videos: a judge's name, with a model after a colon where it takes one (vlm:FOLDER); or
            several with plus signs between them, of which the first that can reads a label.
        labels: label set: a YAML file, or the name of one that ships.
        frames: how many of a video's frames are read, evenly spaced.
        side: pixels of the shorter side of the frames at most.
        least: confidence from 0 to 1 below which a label is not believed.
        batch_size: videos at a time.
        device: where the judge's models are computed.
        judge_cache: folder that keeps what a detector found in a video, for other labels, margins or runs on the same
            videos: 2 to 50 kB a
            video and prompt, of all together with no bound. It may be deleted at any time.
    """
    require(1, batch_size=batch_size, side=side)
    require(3, frames=frames)
    if not (math.isfinite(least) and 0 <= least <= 1):
        raise SettingsError(f"least {least}: give a confidence from 0 to 1")
    kept = out.with_name(f"{out.stem}.findings.jsonl")
    require_writable(out, kept, judge_cache and judge_cache / "entry")
    label_set = LabelSet.load(labels)
    claims = load(videos, label_set, parse_caption)
    reader = load_judge(judge, label_set, device, judge_cache)
    settings = {
        **{"claims": hashlib.sha256(videos.read_bytes()).hexdigest(), "labels": label_set.to_dict(), "judge": judge},
        **{"frames": frames, "side": side, "least": least},
    }
    with alone(out.parent):
        findings = Findings(kept, settings)
        todo = [claim for claim in claims if claim.line not in findings.found]
        for start in tqdm(range(0, len(todo), batch_size), desc="label", unit="batch"):
            findings.add(judged(todo[start : start + batch_size], reader, frames, side, least))
        found = [(claim, findings.found[claim.line]) for claim in claims]
        rows = [row(claim, each) for claim, each in found if each.status in USABLE]
        if rows:
            manifest.write(out, rows)
    _tell([each for _, each in found], out if rows else None, kept)


def _tell(findings: Sequence[Finding], out: Path | None, kept: Path) -> None:
    """Print the counts; end with an error where no video can be used."""
    counts = Counter(each.status for each in findings)
    parts = []
    for status in ("confirmed", "contradicted", "unclear", "rejected"):
        reasons = Counter(each.reason for each in findings if each.status == status and each.reason)
        why = f" ({', '.join(f'{reason} {count}' for reason, count in sorted(reasons.items()))})" if reasons else ""
        parts.append(f"{counts[status]} {status}{why}")
    print(f"{len(findings)} videos: {', '.join(parts)}; each in {kept}")
    if out is None:
        first = next(each for each in findings if each.status not in USABLE)
        print(f"error: no video can be used; line {first.line}: {first.detail or first.reason}", file=sys.stderr)
        raise SystemExit(1)
    print(f"{counts['confirmed'] + counts['contradicted']} rows in {out}")


if __name__ == "__main__":
    run(main, prog="python -m data_prep.label")
