"""VidOR and ImageNet-VidVRD: relations with spans of frames, and a box of every thing in every frame.

One JSON file a video, in folders whose names tell the split::

    {"video_id": "12", "video_path": "0001/12.mp4", "fps": 30.0, "frame_count": 90, "width": 640, "height": 360,
     "subject/objects": [{"tid": 0, "category": "dog"}, ...],
     "trajectories": [[{"tid": 0, "bbox": {"xmin": 1, "ymin": 2, "xmax": 30, "ymax": 40}}, ...], ...],
     "relation_instances": [{"subject_tid": 0, "object_tid": 1, "predicate": "next_to", "begin_fid": 0, "end_fid": 90}]}

``trajectories`` has a list for every frame; ``begin_fid`` is the first frame of a relation, ``end_fid`` the first after
it. Boxes of VidVRD end with the last pixel that is theirs, and are a pixel smaller here than in truth.

VidOR says nothing of left and right, and neither of the way things go: these are read off the boxes.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from pydantic import Field

from cvg.common.errors import DataError
from cvg.composition import LabelSet
from data_prep.sources.base import Entity, Form, Found, Reject, boxes, checked, each
from data_prep.sources.files import Refused, Root

SYNONYMS = {
    "left": "left of",
    "right": "right of",
    "beneath": "below",
    "front": "in front of",
    "away": "away from",
    "toward": "towards",
    "follow": "following",
    "caress": "pet",
    "bite": "bite into",
    "shake hand with": "shake hands",
}
"""What predicates call labels that have other names here."""


class Thing(Form):
    """One of the things in a video."""

    tid: int
    category: str = Field(min_length=1, max_length=100)


class _Corners(Form):
    xmin: float
    ymin: float
    xmax: float
    ymax: float


class _Box(Form):
    tid: int
    bbox: _Corners


class Instance(Form):
    """Between which things what holds, from its first frame to the first after it."""

    subject_tid: int
    object_tid: int
    predicate: str = Field(min_length=1, max_length=100)
    begin_fid: int = Field(ge=0)
    end_fid: int = Field(ge=0)


class Video(Form):
    """The annotation of one video."""

    video_id: str | int
    video_path: str | None = None
    fps: float = Field(gt=0, le=1000)
    width: float = Field(gt=0)
    height: float = Field(gt=0)
    things: list[Thing] = Field(alias="subject/objects", max_length=10_000)
    trajectories: list[list[_Box]]
    relation_instances: list[Instance] = Field(default=[])


def vidor(root: Root, labels: LabelSet) -> Iterator[Found | Reject]:
    """VidOR; see `data_prep.sources.base.Reader`."""
    return _read(root, labels)


def vidvrd(root: Root, labels: LabelSet) -> Iterator[Found | Reject]:
    """ImageNet-VidVRD; see `data_prep.sources.base.Reader`."""
    return _read(root, labels)


def _read(root: Root, labels: LabelSet) -> Iterator[Found | Reject]:
    paths = root.files("*.json")
    if not paths:
        raise DataError(f"{root.folder}: no annotation (*.json, one a video); give the folder it was unpacked into")
    return each(paths, lambda path: _video(path, root, labels), str)


def _video(path: Path, root: Root, labels: LabelSet) -> Iterator[Found | Reject]:
    try:
        data = root.json(path)
    except DataError as error:  # of one of thousands of videos
        raise Refused("malformed", str(error)) from error
    video = checked(Video, data)
    file = root.video(video.video_path or str(video.video_id))
    entities = things(video)
    places = {thing.tid: index for index, thing in enumerate(video.things)}
    common: dict[str, Any] = {"video": file, "entities": entities, "rate": video.fps}
    common |= {"aspect": video.width / video.height, "split": split_of(path, root), "name": file.stem}
    yield Found(where=f"{path}: trajectories", **common)
    for number, one in enumerate(video.relation_instances):
        where = f"{path}: relation_instances.{number}"
        if {one.subject_tid, one.object_tid} - set(places):
            yield Reject("malformed", f"{one.subject_tid} or {one.object_tid} is none of the subject/objects", where)
            continue
        name = label_of(one.predicate, labels)
        if name is None:
            yield Reject("label", f"{one.predicate!r} states none of the labels", where)
            continue
        begin, end = clear(one.begin_fid, one.end_fid, others(video, one, name, labels))
        indices = (places[one.subject_tid], places[one.object_tid])[: labels[name].entities]
        if end <= begin:
            yield Reject("unclear", f"{one.predicate!r} holds for no time at which no other of its kind does", where)
        else:
            common |= {"begin": begin / video.fps, "end": end / video.fps}
            yield Found(where=where, relations=((name, indices),), **common)


def things(video: Video) -> tuple[Entity, ...]:
    """The entities of a video with their boxes. Raises Refused where one has two boxes of a frame, or none that is."""
    placed: dict[int, dict[int, tuple[float, float, float, float]]] = {thing.tid: {} for thing in video.things}
    if len(placed) < len(video.things):
        raise Refused("malformed", "subject/objects: a tid is there twice")
    for frame, listed in enumerate(video.trajectories):
        for box in listed:
            if box.tid not in placed:
                raise Refused("malformed", f"trajectories.{frame}: tid {box.tid} is none of the subject/objects")
            corners = box.bbox
            placed[box.tid][frame] = corners.xmin, corners.ymin, corners.xmax, corners.ymax
    return tuple(
        Entity(phrase_of(thing.category), boxes(placed[thing.tid].items(), video.width, video.height))
        for thing in video.things
    )


def phrase_of(category: str) -> str:
    """A category as a phrase: the first of several names with slashes between, words apart."""
    return " ".join(category.split("/")[0].replace("_", " ").split()) or category


def label_of(predicate: str, labels: LabelSet) -> str | None:
    """The label that a predicate states: of ``walk_next_to`` it is that of its last words that are one."""
    words = predicate.replace("_", " ").split()
    for first in range(len(words)):
        text = " ".join(words[first:])
        name = text if text in labels else SYNONYMS.get(text)
        if name is not None and name in labels and labels[name].entities <= 2:
            return name
    return None


def split_of(path: Path, root: Root) -> Any:
    """train or val, as the folders' names say; None where they do not."""
    for part in path.relative_to(root.folder).parts[:-1]:
        if part.lower() in ("train", "training"):
            return "train"
        if part.lower() in ("val", "valid", "validation", "test"):
            return "val"
    return None


def clear(begin: int, end: int, others: list[tuple[int, int]]) -> tuple[int, int]:
    """The longest part of a span of frames in which none of the others is; an empty one where there is none."""
    best, at = (begin, begin), begin
    for start, stop in sorted([*others, (end, end)]):
        if start > at and min(start, end) - at > best[1] - best[0]:
            best = at, min(start, end)
        at = max(at, stop)
    return best


def others(video: Video, one: Instance, name: str, labels: LabelSet) -> list[tuple[int, int]]:
    """When another label of the same group is stated of the same two."""
    spans = []
    for other in video.relation_instances:
        if (other.subject_tid, other.object_tid) == (one.subject_tid, one.object_tid) and other is not one:
            label = label_of(other.predicate, labels)
            if label is not None and label != name and labels[label].group == labels[name].group:
                spans.append((other.begin_fid, other.end_fid))
    return spans
