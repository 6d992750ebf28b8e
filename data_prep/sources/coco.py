"""TAO, and any tracks of COCO's form: boxes with the number of a track, and categories; labels are read off the boxes.

    {"videos": [{"id": 1, "name": "train/a/v_1"}],
     "images": [{"id": 7, "video_id": 1, "file_name": "train/a/v_1/frame0031.jpg", "frame_index": 30,
                 "width": 640, "height": 480}],
     "tracks": [{"id": 3, "category_id": 5, "video_id": 1}],
     "annotations": [{"image_id": 7, "track_id": 3, "bbox": [left, top, width, height], "category_id": 5}],
     "categories": [{"id": 5, "name": "dog"}]}

A track goes by ``track_id`` or ``instance_id``, a picture's place by ``frame_index`` or ``frame_id`` or, where there is
none, by its name. Between two frames a second apart at most, boxes go straight from one to the other: TAO has one a
second.

A video is a file of its name, or the folder of its pictures. How many of these are shown a second is ``fps`` of the
video, or what the command says, or 30, as in TAO; this is taken on trust.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np
from pydantic import Field

from cvg.common.errors import DataError
from cvg.composition import LabelSet
from data_prep.sources.base import MOST_FRAMES, Entity, Form, Found, Frames, Reject, boxes, checked, each
from data_prep.sources.files import Refused, Root

RATE = 30.0
PICTURES = frozenset({".jpg", ".jpeg", ".png"})
Box = tuple[float, float, float, float]


class _Video(Form):
    id: int | str
    name: str | None = None
    file_name: str | None = None
    fps: float | None = Field(default=None, gt=0, le=1000)


class _Image(Form):
    id: int | str
    video_id: int | str
    file_name: str = ""
    frame_index: int | None = None
    frame_id: int | None = None
    width: float = Field(gt=0)
    height: float = Field(gt=0)


class _Annotation(Form):
    image_id: int | str
    track_id: int | str | None = None
    instance_id: int | str | None = None
    category_id: int | str
    bbox: tuple[float, float, float, float]


class _Category(Form):
    id: int | str
    name: str = Field(min_length=1, max_length=100)


def read(root: Root, labels: LabelSet) -> Iterator[Found | Reject]:
    """See `data_prep.sources.base.Reader`."""
    paths = root.files("*.json")
    if not paths:
        raise DataError(f"{root.folder}: no annotation (*.json); give the folder that it was unpacked into")
    read_any = False
    for path in paths:
        data = root.json(path)
        if isinstance(data, dict) and {"videos", "images", "annotations", "categories"} <= set(data):
            read_any = True
            yield from _file(path, data, root)
    if not read_any:
        raise DataError(f"{paths[0]}: has not the lists videos, images, annotations and categories; download it again")


def _file(path: Path, data: dict[str, Any], root: Root) -> Iterator[Found | Reject]:
    """What a file holds. Raises DataError where its lists are none."""
    for name in ("videos", "images", "annotations", "categories"):
        if not isinstance(data[name], list):
            raise DataError(f"{path}: {name} is a {type(data[name]).__name__}, not a list; download it again")
    names, images, rejects = {}, {}, []
    of_video: dict[int | str, list[_Image]] = {}
    for kind, name in ((_Category, "categories"), (_Image, "images")):
        for number, entry in enumerate(data[name]):
            try:
                one: Any = checked(kind, entry)
            except Refused as refused:
                rejects.append(Reject("malformed", str(refused), f"{path}: {name}.{number}"))
                continue
            if kind is _Category:
                names[one.id] = phrase_of(one.name)
            else:
                images[one.id] = one
                of_video.setdefault(one.video_id, []).append(one)
    found: dict[int | str, dict[int | str, list[_Annotation]]] = {}
    for number, entry in enumerate(data["annotations"]):
        try:
            box = checked(_Annotation, entry)
            track = box.instance_id if box.track_id is None else box.track_id
            if box.image_id not in images or track is None or box.category_id not in names:
                raise Refused("malformed", "names no image, track or category that is there")
        except Refused as refused:
            rejects.append(Reject("malformed", str(refused), f"{path}: annotations.{number}"))
            continue
        found.setdefault(images[box.image_id].video_id, {}).setdefault(track, []).append(box)
    yield from rejects
    listed = [(number, entry) for number, entry in enumerate(data["videos"])]

    def video(entry: tuple[int, Any]) -> Iterator[Found | Reject]:
        one = checked(_Video, entry[1])
        return _video(one, of_video.get(one.id, []), found.get(one.id, {}), images, names, root, f"{path}: {one.id}")

    yield from each(listed, video, lambda entry: f"{path}: videos.{entry[0]}")


def _video(
    video: _Video,
    pictures: list[_Image],
    tracks: dict[int | str, list[_Annotation]],
    images: dict[int | str, _Image],
    names: dict[int | str, str],
    root: Root,
    where: str,
) -> Iterator[Found | Reject]:
    name = video.name or video.file_name or str(video.id)
    if not tracks:
        raise Refused("nothing", "has no tracks")
    try:
        file: Path | Frames = root.video(name)
        order: dict[str, int] = {}
    except Refused as refused:
        if refused.reason != "no video":
            raise
        file = shown(root, name, video.fps or root.rate or RATE)
        order = {path.name: place for place, path in enumerate(file.pictures)}
    rate = file.rate if isinstance(file, Frames) else video.fps or root.rate or RATE
    ranks = {one.id: place for place, one in enumerate(sorted(pictures, key=lambda one: one.file_name))}
    entities = []
    for listed in tracks.values():
        placed: dict[int, Box] = {}
        for box in listed:
            image = images[box.image_id]
            index = next((i for i in (image.frame_index, image.frame_id) if i is not None), ranks[image.id])
            frame = order.get(PurePosixPath(image.file_name).name, index)
            left, top, width, height = box.bbox
            placed[frame] = left, top, left + width, top + height
        size = images[listed[0].image_id]
        known = boxes(placed.items(), size.width, size.height)
        entities.append(Entity(names[listed[0].category_id], bridged(known, rate)))
    size = pictures[0]
    yield Found(
        video=file,
        where=where,
        entities=tuple(entities),
        rate=rate,
        aspect=size.width / size.height,
        name=PurePosixPath(name).stem,
    )


def phrase_of(category: str) -> str:
    """A category as a phrase: ``car_(automobile)`` is a car."""
    return " ".join(category.split("(")[0].split("/")[0].replace("_", " ").split()) or category


def shown(root: Root, name: str, rate: float) -> Frames:
    """The pictures in a folder of a name, in order. Raises Refused where there are none, or a link leads out."""
    folder = root.folder_of(name)
    paths = sorted(path for path in folder.iterdir() if path.suffix.lower() in PICTURES)
    if not paths or len(paths) > MOST_FRAMES:
        raise Refused("no video", f"{folder}: {len(paths)} pictures")
    return Frames(tuple(root.checked(path) for path in paths), rate)


def bridged(boxes_F4: np.ndarray[Any, Any], rate: float) -> np.ndarray[Any, Any]:
    """Boxes with those of the frames between two that are known, where these are a second apart at most."""
    known = np.nonzero(~np.isnan(boxes_F4[:, 0]))[0]
    found = boxes_F4.copy()
    for before, after in itertools.pairwise(known):
        if 1 < after - before <= 1.05 * rate:
            share = (np.arange(before + 1, after) - before)[:, None] / (after - before)
            found[before + 1 : after] = (1 - share) * boxes_F4[before] + share * boxes_F4[after]
    return found
