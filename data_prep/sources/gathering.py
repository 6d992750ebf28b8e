"""Of all that a reader gives, the rows of a manifest: chosen, looked at, balanced, and what became of the rest."""

from __future__ import annotations

import hashlib
import math
import random
import re
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from pathlib import Path

from tqdm import tqdm

from cvg.common.errors import UserError
from cvg.judging.showing import rule_of
from data_prep import manifest, splits
from data_prep.sources.base import Entity, Found, Member, Reject
from data_prep.sources.copies import Copies
from data_prep.sources.framing import Wanted
from data_prep.sources.looks import Looks
from data_prep.sources.pictures import Looked
from data_prep.sources.segments import MOVING, Piece, pieces

SHOWN = 3
"""Clips of a label that are kept for pictures."""


@dataclass(frozen=True)
class Terms:
    """A data set's name and licence, and which licences are wanted.

    Attributes:
        dataset: its name.
        licence: of all of it, where its entries have none of their own; empty: not known.
        wanted: the licences that a row may be under; all when None.
    """

    dataset: str
    licence: str = ""
    wanted: tuple[str, ...] | None = None

    def of(self, found: Found) -> str:
        """The licence of what was found; empty where none is known."""
        return found.licence or self.licence

    def refused(self, found: Found) -> Reject | None:
        """A reject where the licence is none of those wanted."""
        licence = self.of(found)
        if self.wanted is None or licence.lower() in (each.lower() for each in self.wanted):
            return None
        return Reject("licence", f"is under {licence or 'a licence that is not known'}", found.where)


@dataclass
class Gathered:
    """What a data set gives.

    Attributes:
        rows: of the manifest.
        negatives: rows whose labels their videos do *not* show.
        rejects: what gives no row.
        looked: of each label a few clips, with the rows that they are of.
        lengths: seconds of each row.
        sizes: height and width of the pictures of each row's video.
    """

    rows: list[manifest.Row] = field(default_factory=list)
    negatives: list[manifest.Row] = field(default_factory=list)
    rejects: list[Reject] = field(default_factory=list)
    looked: dict[str, list[tuple[manifest.Row, Looked]]] = field(default_factory=dict)
    lengths: list[float] = field(default_factory=list)
    sizes: list[tuple[int, int]] = field(default_factory=list)

    @property
    def reasons(self) -> dict[str, int]:
        """Rejects by reason, the most frequent first."""
        return dict(Counter(reject.reason for reject in self.rejects).most_common())


@dataclass(frozen=True)
class _Candidate:
    """A row that is to be looked at."""

    row: manifest.Row
    piece: Piece

    @property
    def labels(self) -> list[str]:
        return [label for label, _ in self.row.relations]


def gather(
    found: Iterable[Found | Reject], wanted: Wanted, terms: Terms, looks: Looks, per_label: int | None, workers: int
) -> Gathered:
    """Choose rows.

    Args:
        found: what a reader gives.
        wanted: what the generator's videos are like.
        terms: of the data set.
        looks: what looks at videos, or did in an earlier run.
        per_label: rows of a label at most; all when None. Which ones is by chance, the same each time.
        workers: videos that are read at a time; they change nothing of what comes.

    Raises:
        DataError: of the reader.
    """
    gathered = Gathered()
    candidates = list(_candidates(tqdm(found, desc="collect", unit="found"), wanted, terms, gathered))
    candidates.sort(key=lambda each: hashlib.sha256(each.row.id.encode()).digest())
    copies, counts = Copies(), Counter[str]()

    def full(candidate: _Candidate) -> bool:
        return per_label is not None and all(counts[label] >= per_label for label in candidate.labels)

    bar = tqdm(total=len(candidates), desc="look", unit="video")
    with ThreadPoolExecutor(workers) as pool:
        at = 0
        while at < len(candidates):
            begin, batch = at, list[_Candidate]()
            while at < len(candidates) and len(batch) < 4 * workers:
                batch += [] if full(candidates[at]) else [candidates[at]]
                at += 1
            looked = [*pool.map(lambda each: looks.at(each.piece), batch)]
            looks.keep((each.piece, seen) for each, seen in zip(batch, looked, strict=True))
            coming = iter(looked)
            for candidate in candidates[begin:at]:
                seen = next(coming) if candidate in batch else None
                where = candidate.piece.found.where
                if seen is None or full(candidate):
                    seen = Reject("enough", "of its label", where)
                elif isinstance(seen, Looked) and (same := copies.of(seen.video, seen.hash_B)):
                    seen = Reject("copy", f"looks like {same}", where)
                if isinstance(seen, Reject):
                    gathered.rejects.append(seen)
                else:
                    counts.update(candidate.labels)
                    _keep(candidate, seen, looks, gathered)
            bar.update(at - bar.n)
    bar.close()
    gathered.rows, gathered.negatives = _split(gathered.rows), _split(gathered.negatives)
    return gathered


def _candidates(
    found: Iterable[Found | Reject], wanted: Wanted, terms: Terms, gathered: Gathered
) -> Iterator[_Candidate]:
    """The pieces that show what they should as far as annotations tell; rejects and negatives are noted."""
    taken: Counter[str] = Counter()
    told: dict[tuple[object, ...], list[tuple[float, float]]] = {}
    for each in found:
        refused = each if isinstance(each, Reject) else terms.refused(each)
        if refused is not None:
            gathered.rejects.append(refused)
            continue
        assert isinstance(each, Found)
        negative = [Piece(each, each.relations, each.begin, each.end, sure=False)] if each.negative else None
        for piece in negative or pieces(each, wanted):
            made = piece if isinstance(piece, Reject) else _row(piece, wanted, terms, taken)
            if isinstance(made, Reject):
                gathered.rejects.append(made)
            elif not negative and _again(made, told):
                gathered.rejects.append(Reject("copy", "the same of the same piece of video is there", each.where))
            elif not negative:
                assert isinstance(piece, Piece)
                yield _Candidate(made, _light(piece, wanted))
            else:
                why = f"shows no {', '.join(repr(label) for label, _ in made.relations)}, though it is spoken of"
                gathered.rejects.append(Reject("negative", why, each.where))
                if isinstance(each.video, Path):
                    gathered.negatives.append(made)


def _again(row: manifest.Row, told: dict[tuple[object, ...], list[tuple[float, float]]]) -> bool:
    """Whether an earlier row says the same of a time that overlaps; if not this one is noted."""
    key = (row.video, *((label, *(row.entities[i] for i in indices)) for label, indices in row.relations))
    start, end = row.start or 0.0, math.inf if row.end is None else row.end
    spans = told.setdefault(key, [])
    if any(start < other_end and other_start < end for other_start, other_end in spans):
        return True
    spans.append((start, end))
    return False


def _row(piece: Piece, wanted: Wanted, terms: Terms, taken: Counter[str]) -> manifest.Row | Reject:
    """The row of a piece; a reject where its words make no prompt."""
    found = piece.found
    video = found.video if isinstance(found.video, Path) else Path(found.name)
    if found.template is None:  # the plain sentence has the subject first
        chosen = list(piece.relations[0][1])
    else:
        chosen = sorted({index for _, indices in piece.relations for index in indices})
    entities = [found.entities[index] for index in chosen]
    stem = re.sub(r"[^A-Za-z0-9_-]+", "-", f"{terms.dataset}-{found.name or video.stem}")[:58].strip("-")
    taken[stem] += 1
    row = manifest.Row(
        id=f"{stem}-{taken[stem]}",
        video=video,
        template=found.template or _template(entities, len(piece.relations)),
        entities=tuple(entity.phrase for entity in entities),
        relations=tuple((label, tuple(chosen.index(index) for index in indices)) for label, indices in piece.relations),
        wordings=found.wordings,
        start=piece.start,
        end=piece.end,
        split=found.split or "",
        dataset=terms.dataset,
        licence=terms.of(found),
        unconfirmed=not piece.sure,
    )
    try:
        row.composition(wanted.labels, random.Random(row.id))
    except UserError as error:
        return Reject("prompt", str(error), found.where)
    return row


def _template(entities: Sequence[Entity], relations: int) -> str:
    """A plain sentence: ``a {e0} {r0} the {e1}``."""
    assert relations == 1
    first, *others = (f"{entity.article} {{e{index}}}".strip() for index, entity in enumerate(entities))
    return " ".join([first, "{r0}", *others])


def _light(piece: Piece, wanted: Wanted) -> Piece:
    """A piece without the tracks that are not looked at again: a data set's together need gigabytes."""
    if any(rule_of(wanted.labels[label]) in MOVING for label, _ in piece.relations):
        kept = {index for _, indices in piece.relations for index in indices}
    else:
        kept = set()
    entities = tuple(
        entity if index in kept else replace(entity, boxes_F4=None) for index, entity in enumerate(piece.found.entities)
    )
    return replace(piece, found=replace(piece.found, entities=entities))


def _keep(candidate: _Candidate, seen: Looked, looks: Looks, gathered: Gathered) -> None:
    """Note a row, and its clip where there are few of its label."""
    whole = seen.start is None or not isinstance(candidate.piece.found.video, Path | Member)
    row = replace(
        candidate.row,
        video=seen.video,
        start=None if whole or seen.start is None else round(seen.start, 4),
        end=None if whole or seen.end is None else round(seen.end, 4),
        unconfirmed=not seen.sure,
    )
    gathered.rows.append(row)
    gathered.lengths.append(seen.seconds)
    gathered.sizes.append(seen.size)
    for label in candidate.labels:
        if len(gathered.looked.setdefault(label, [])) < SHOWN:
            seen = looks.with_pictures(candidate.piece, seen)
            gathered.looked[label].append((row, seen))


def _split(rows: list[manifest.Row]) -> list[manifest.Row]:
    """Rows with their splits: the data set's own where it has two, else by chance, all pieces of a video together."""
    if {"train", "val"} <= {row.split for row in rows} and all(row.split for row in rows):
        return sorted(rows, key=lambda row: row.id)
    return [replace(row, split=splits.split_of(row.video.name, None, None)) for row in sorted(rows, key=lambda r: r.id)]
