"""Which pieces of a video show what, all along: the judges' rules over a data set's tracks, as the generator sees them.

A piece is as long as the generator's videos. Its boxes are those of the picture that inversion makes of it, cropped or
between black bars. Places must hold in every frame of a piece whose boxes are known, motion in each of its halves.
"""

from __future__ import annotations

import hashlib
import itertools
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from cvg.composition import Label
from cvg.judging.geometry import APPROACH, Floats
from cvg.judging.rules.places import SIDES
from cvg.judging.showing import rule_of, shown
from cvg.judging.tracks import Camera, Track, Tracks
from data_prep.sources.base import Entity, Found, Reject
from data_prep.sources.framing import Wanted, area, boxes_at, moments, tracks_of

WAYS = ("moves left", "moves right", "moves up", "moves down")
MOVING = frozenset({*WAYS, *APPROACH})
READ_OFF = frozenset({*SIDES, *MOVING})
"""Rules that boxes alone can tell. Those of depth, and of what is in or on what, need more than boxes."""
MOST_ENTITIES = 12
"""Of a video whose relations are read off, the largest ones."""


@dataclass(frozen=True, eq=False)
class Piece:
    """A piece of a video, and what it shows.

    Attributes:
        found: what it is of.
        relations: as of `Found`, but never empty.
        start: in seconds; with ``end`` None: the whole video.
        end: in seconds.
        sure: whether no judge needs to confirm it.
    """

    found: Found
    relations: tuple[tuple[str, tuple[int, ...]], ...]
    start: float | None
    end: float | None
    sure: bool


def pieces(found: Found, wanted: Wanted) -> Iterator[Piece | Reject]:
    """The pieces of what was found that can be used: one where relations are stated, else one per relation."""
    if not found.relations:
        yield from _read_off(found, wanted)
        return
    for label, indices in found.relations:
        if label not in wanted.labels:
            yield Reject("label", f"{label!r} is none of the label set", found.where)
            return
        if len(indices) != wanted.labels[label].entities:
            yield Reject("label", f"{label!r} relates {wanted.labels[label].entities} entities", found.where)
            return
    if found.begin is None or found.end is None:
        windows: list[tuple[float, float] | None] = [None]
    else:
        length = found.end - found.begin
        if length < wanted.seconds / wanted.stretch:
            why = f"holds for {length:.2f} s; {wanted.seconds / wanted.stretch:.2f} s are needed at least"
            yield Reject("short", why, found.where)
            return
        windows = [*_within(found.begin, found.end, wanted.seconds)]
    refused = None
    for window in windows:
        refused = _refused(found, wanted, window)
        if refused is None:
            start, end = window or (None, None)
            yield Piece(found, found.relations, start, end, found.sure)
            return
    assert refused is not None
    yield refused


def agrees(
    label: Label, phrases: Sequence[str], tracks: Tracks, wanted: Wanted, least: float = 1.0
) -> tuple[bool, float]:
    """Whether tracks show a label all along, and how clearly, in margins; NaN where they cannot tell.

    Args:
        label: of the label set.
        phrases: the entities' keys in ``tracks``.
        tracks: of a piece.
        wanted: with the label set and the margins.
        least: score from which on it is shown, where the tracks can tell: -1 for no more than not to contradict it.
    """
    group, rule = wanted.labels.groups[label.group], rule_of(label)
    found = shown(group, tracks, phrases, label.name, wanted.margins)
    score = found.scores[label.name]
    if score is None:
        return least < 1, math.nan
    if least < 1:
        return score > least, score
    if found.label != label.name:
        return False, score
    if rule in MOVING:
        weaker = replace(wanted.margins, motion=wanted.margins.motion / 3, approach=wanted.margins.approach / 3)
        for half in _halves(tracks):
            part = shown(group, half, phrases, label.name, weaker).scores[label.name]
            if part is None or part < 1:
                return False, score
    return True, score


def _refused(found: Found, wanted: Wanted, window: tuple[float, float] | None) -> Reject | None:
    """Why a piece does not show what is stated; None where it does, as far as the tracks tell."""
    if found.rate <= 0:
        return _ambiguous(found, found.relations, None, wanted)
    longest = max((len(each.boxes_F4) for each in found.entities if each.boxes_F4 is not None), default=0)
    start, end = window or (0.0, longest / found.rate)
    times = moments(start, end)
    if reject := _ambiguous(found, found.relations, times, wanted):
        return reject
    for label, indices in found.relations:
        known = [index for index in indices if found.entities[index].boxes_F4 is not None]
        tracks = tracks_of(found, known, times, wanted) if known else None
        if isinstance(tracks, Reject):
            return tracks
        rule = rule_of(wanted.labels[label])
        if tracks is None or len(known) < len(indices) or rule is None:
            continue
        # Boxes alone tell left from right. What comes nearer may do so in depth, which they do not show.
        least = 1.0 if rule in SIDES or rule in WAYS else -1.0
        right, score = agrees(wanted.labels[label], [str(index) for index in indices], tracks, wanted, least)
        if not right:
            return Reject("unclear", f"the boxes do not show {label!r} (score {score:.2f})", found.where)
    return None


def _ambiguous(
    found: Found, relations: Sequence[tuple[str, tuple[int, ...]]], times: Floats | None, wanted: Wanted
) -> Reject | None:
    """A reject where the words for an entity could mean another that is in sight too."""
    chosen = {index for _, indices in relations for index in indices}
    for index, other in itertools.product(chosen, range(len(found.entities))):
        one, two = found.entities[index], found.entities[other]
        if index == other or one.phrase.lower() != two.phrase.lower():
            continue
        seen = times is None or two.boxes_F4 is None or not np.isnan(boxes_at(two, found.rate, times)).all()
        if seen:
            return Reject("ambiguous", f"there is more than one {one.phrase}", found.where)
    return None


def _read_off(found: Found, wanted: Wanted) -> Iterator[Piece | Reject]:
    """The clearest piece for every relation between entities that boxes can tell."""
    sized = [(_size(entity), index) for index, entity in enumerate(found.entities) if entity.boxes_F4 is not None]
    largest = sorted(index for _, index in sorted(sized, key=lambda each: (-each[0], each[1]))[:MOST_ENTITIES])
    total = max((len(entity.boxes_F4) for entity in found.entities if entity.boxes_F4 is not None), default=0)
    windows = _cut(found.begin or 0.0, total / found.rate if found.end is None else found.end, wanted)
    if not windows:
        yield Reject("short", f"tracks of {total} frames, {found.rate:g} a second, are too short", found.where)
    best: dict[tuple[str, tuple[int, ...]], tuple[float, tuple[float, float]]] = {}
    refused: dict[str, Reject] = {}
    for window in windows:
        times = moments(*window)
        tracked: dict[int, Tracks] = {}
        for index in largest:
            tracks = tracks_of(found, [index], times, wanted)
            if isinstance(tracks, Reject):
                refused.setdefault(tracks.reason, tracks)
            elif reject := _ambiguous(found, [("", (index,))], times, wanted):
                refused.setdefault(reject.reason, reject)
            else:
                tracked[index] = tracks
        for label, indices in _candidates(found, tracked, wanted):
            tracks = Tracks({str(i): tracked[i].entities[str(i)] for i in indices}, None, wanted.aspect)
            right, score = agrees(label, [str(index) for index in indices], tracks, wanted)
            key = (label.name, indices)
            if right and score > best.get(key, (0.0,))[0]:
                best[key] = score, window
    for (name, indices), (_, (start, end)) in sorted(best.items()):
        yield Piece(found, ((name, indices),), start, end, found.sure)
    if windows and not best:
        yield next(iter(refused.values()), None) or Reject("unclear", "no relation is clear all along", found.where)


def _candidates(found: Found, tracked: dict[int, Tracks], wanted: Wanted) -> Iterator[tuple[Label, tuple[int, ...]]]:
    """The labels that may hold, with their entities. Of a pair's places one is told, from either side by turns."""
    readable = [label for label in wanted.labels.labels if rule_of(label) in READ_OFF]
    middles = {i: np.nanmean(tracks.entities[str(i)].centres, axis=0) for i, tracks in tracked.items()}
    for label in readable:
        rule = rule_of(label)
        if label.entities == 1:
            yield from ((label, (index,)) for index in tracked)
            continue
        for one, two in itertools.combinations(tracked, 2):
            if rule in SIDES:
                order = (one, two) if _even(f"{_name(found)} {one} {two}") else (two, one)
                x, y = map(float, middles[order[0]] - middles[order[1]])
                sideways = abs(x) * wanted.aspect > abs(y)
                if rule == (("left of" if x < 0 else "right of") if sideways else ("above" if y < 0 else "below")):
                    yield label, order
            else:
                yield from ((label, order) for order in ((one, two), (two, one)))


def _name(found: Found) -> str:
    """What a video is called wherever the data set lies."""
    return found.video.stem if isinstance(found.video, Path) else found.name


def _even(text: str) -> bool:
    return hashlib.sha256(text.encode(errors="backslashreplace")).digest()[0] % 2 == 0


def _within(begin: float, end: float, seconds: float) -> list[tuple[float, float]]:
    """Pieces of a span: the middle, and its ends. All of it where it is no longer than one."""
    if end - begin <= seconds:
        return [(begin, end)]
    starts = ((begin + end - seconds) / 2, begin, end - seconds)
    return [(start, start + seconds) for start in starts]


def _cut(begin: float, end: float, wanted: Wanted) -> list[tuple[float, float]]:
    """A span in pieces, one after the other."""
    if end - begin < wanted.seconds:
        return [(begin, end)] if end - begin >= wanted.seconds / wanted.stretch else []
    count = int((end - begin) / wanted.seconds + 1e-6)
    return [(begin + i * wanted.seconds, begin + (i + 1) * wanted.seconds) for i in range(count)]


def _size(entity: Entity) -> float:
    assert entity.boxes_F4 is not None
    area_F = area(entity.boxes_F4)
    return 0.0 if np.isnan(area_F).all() else float(np.nanmean(area_F))


def _halves(tracks: Tracks) -> list[Tracks]:
    """The first and the second half of some tracks, with the frame in the middle in both."""
    count = len(next(iter(tracks.entities.values())).boxes_F4)
    parts = []
    for chosen in (slice(0, count // 2 + 1), slice((count - 1) // 2, count)):
        camera = tracks.camera
        if camera is not None:
            camera = Camera(camera.shift_F2[chosen], camera.scale[chosen])
        made = {name: Track(track.boxes_F4[chosen]) for name, track in tracks.entities.items()}
        parts.append(replace(tracks, entities=made, camera=camera))
    return parts
