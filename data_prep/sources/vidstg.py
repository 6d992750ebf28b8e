"""VidSTG: relations of VidOR's videos, each with a sentence that somebody wrote of it.

Three lists, ``train_annotations.json``, ``val_annotations.json`` and ``test_annotations.json``::

    [{"vid": "12", "fps": 30.0, "frame_count": 90, "width": 640, "height": 360,
      "subject/objects": [{"tid": 0, "category": "dog"}, {"tid": 1, "category": "adult"}],
      "used_segment": {"begin_fid": 0, "end_fid": 90},
      "used_relation": {"subject_tid": 0, "object_tid": 1, "predicate": "behind", "begin_fid": 10, "end_fid": 80},
      "temporal_gt": {"begin_fid": 10, "end_fid": 80},
      "captions": [{"description": "a white dog is behind an adult", "type": "dog", "target_id": 0}]}, ...]

Boxes are those of VidOR's own annotation of the video, ``12.json``, anywhere below the same folder. As in VidOR the
last frame is taken to be the first that is no longer meant. Questions are not read: they name one of two things only.

A sentence gives the words where the parser reads in it what the relation states, and nothing else; where it does not,
the words are the things' categories. Left, right, and the way things go are not among the relations: `vidor` has them.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import lru_cache
from pathlib import Path
from typing import Any

from pydantic import Field

from cvg.common.errors import DataError, UserError
from cvg.composition import LabelSet, parse
from data_prep.claims import understood
from data_prep.sources import vidor
from data_prep.sources.base import Entity, Form, Found, Reject, checked, each
from data_prep.sources.files import Refused, Root

MOST_CAPTION = 1000
"""Letters of a sentence that is read."""
_KEPT = 64
"""Annotations of VidOR that are kept: entries of one video stand together."""


class _Span(Form):
    begin_fid: int = Field(ge=0)
    end_fid: int = Field(ge=0)


class _Caption(Form):
    description: str = Field(max_length=MOST_CAPTION)


class _Entry(Form):
    vid: str | int
    used_relation: vidor.Instance
    temporal_gt: _Span | None = None
    captions: list[_Caption] = Field(default=[], max_length=1000)


def read(root: Root, labels: LabelSet) -> Iterator[Found | Reject]:
    """See `data_prep.sources.base.Reader`."""
    paths = root.files("*_annotations.json")
    if not paths:
        raise DataError(
            f"{root.folder}: no list of sentences (train_annotations.json, ...); give the folder that has them, and "
            "VidOR's own annotations below it"
        )
    own = set(paths)
    reader = _Reader(root, labels, {path.stem: path for path in root.files("*.json") if path not in own})
    for path in paths:
        entries = root.json(path)
        if not isinstance(entries, list):
            raise DataError(f"{path}: a {type(entries).__name__}, not a list; download it again")
        split = path.name.removesuffix("_annotations.json").rpartition("_")[2]
        numbered = ((f"{path}: {number}", split, entry) for number, entry in enumerate(entries))
        yield from each(numbered, lambda item: reader.found(*item), lambda item: item[0])


class _Reader:
    """Puts sentences, relations and boxes together."""

    def __init__(self, root: Root, labels: LabelSet, annotations: dict[str, Path]) -> None:
        self.root, self.labels, self.annotations = root, labels, annotations
        self.annotation = lru_cache(_KEPT)(self._annotation)

    def _annotation(self, name: str) -> tuple[vidor.Video, tuple[Entity, ...]]:
        """VidOR's annotation of a video, and its things with their boxes."""
        if name not in self.annotations:
            raise Refused("not seen", f"{name}.json of VidOR, which has the boxes, is not in {self.root.folder}")
        try:
            data = self.root.json(self.annotations[name])
        except DataError as error:
            raise Refused("malformed", str(error)) from error
        video = checked(vidor.Video, data)
        return video, vidor.things(video)

    def found(self, where: str, split: str, data: Any) -> Iterator[Found | Reject]:
        """What an entry states. Raises Refused where nothing can be made of it."""
        entry = checked(_Entry, data)
        one, name = entry.used_relation, str(entry.vid)
        label = vidor.label_of(one.predicate, self.labels)
        if label is None:
            raise Refused("label", f"{one.predicate!r} states none of the labels")
        video, things = self.annotation(name)
        file = self.root.video(video.video_path or name)
        places = {thing.tid: index for index, thing in enumerate(video.things)}
        tids = (one.subject_tid, one.object_tid)[: self.labels[label].entities]
        if set(tids) - set(places):
            raise Refused("malformed", f"{' or '.join(map(str, tids))} is none of the things of {name}.json")
        begin, end = one.begin_fid, one.end_fid
        if entry.temporal_gt is not None:
            begin, end = max(begin, entry.temporal_gt.begin_fid), min(end, entry.temporal_gt.end_fid)
        begin, end = vidor.clear(begin, end, vidor.others(video, one, label, self.labels))
        if end <= begin:
            raise Refused("unclear", f"{one.predicate!r} holds for no time at which no other of its kind does")
        related = [things[places[tid]] for tid in tids]
        said = self._said(entry, label)
        phrases = [each.phrase for each in related] if said is None else said["entities"]
        entities = [Entity(phrase, thing.boxes_F4) for phrase, thing in zip(phrases, related, strict=True)]
        yield Found(
            video=file,
            where=where,
            entities=(*entities, *(thing for tid, thing in zip(places, things, strict=True) if tid not in tids)),
            relations=((label, tuple(range(len(tids)))),),
            begin=begin / video.fps,
            end=end / video.fps,
            rate=video.fps,
            aspect=video.width / video.height,
            template=None if said is None else said["template"],
            wordings=None if said is None or "wordings" not in said else tuple(said["wordings"]),
            caption="" if said is None else said["caption"],
            split="train" if split == "train" else "val" if split in ("val", "test") else None,
            name=file.stem,
        )

    def _said(self, entry: _Entry, label: str) -> dict[str, Any] | None:
        """The first sentence that states the relation and nothing else, with the subject first; None without one."""
        for one in entry.captions:
            caption = " ".join(one.description.split())
            try:
                values = understood({"caption": caption}, self.labels, parse)
            except UserError:
                continue
            count = self.labels[label].entities
            stated = [(said["label"], list(said["entities"])) for said in values["relations"]]
            if stated == [(label, list(range(count)))] and len(values["entities"]) == count:
                return values | {"caption": caption}
        return None
