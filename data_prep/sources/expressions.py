"""MeViS and Ref-YouTube-VOS: a sentence about one thing of a video, and where that is, by masks.

    meta_expressions.json: {"videos": {"VIDEO": {"frames": ["00000", ...],
      "expressions": {"0": {"exp": "the dog walking to the left", "obj_id": [3], "anno_id": [17]}}}}}
    MeViS:           mask_dict.json: {"17": [{"size": [height, width], "counts": "RLE of COCO"}, null, ...]}
    Ref-YouTube-VOS: Annotations/VIDEO/00000.png, whose pixels have the number ``obj_id``

There is a mask for every frame. The pictures are ``JPEGImages/VIDEO/00000.jpg``. Ref-YouTube-VOS has six of them a
second; for MeViS the same is taken on trust where the command does not say another rate.

What a sentence says of the way that its thing goes is seen from the masks. Of all else a judge is to say whether it is
so.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image
from pydantic import Field

from cvg.common.errors import DataError, NothingToGuide, UserError
from cvg.composition import LabelSet, parse
from cvg.judging.showing import rule_of
from cvg.media.video import MAX_PIXELS
from data_prep.claims import understood
from data_prep.sources.base import Entity, Form, Found, Reject, boxes, checked, each
from data_prep.sources.coco import Box, shown
from data_prep.sources.files import Refused, Root
from data_prep.sources.segments import WAYS

RATE = 6.0


class _Expression(Form):
    exp: str = Field(min_length=1, max_length=1000)
    obj_id: list[int] | int | str = Field(default=[])
    anno_id: list[int] = Field(default=[])


class _Video(Form):
    expressions: dict[str, Any]
    frames: list[str] = Field(min_length=1, max_length=100_000)


class _Rle(Form):
    size: tuple[int, int]
    counts: str | list[int]


def read(root: Root, labels: LabelSet) -> Iterator[Found | Reject]:
    """See `data_prep.sources.base.Reader`."""
    paths = root.files("meta_expressions.json")
    if not paths:
        raise DataError(f"{root.folder}: no meta_expressions.json; give the folder that the data set was unpacked into")
    for path in paths:
        data = root.json(path)
        videos = data.get("videos") if isinstance(data, dict) else None
        if not isinstance(videos, dict):
            raise DataError(f"{path}: has no object 'videos'; download it again")
        masks = root.json(path.with_name("mask_dict.json")) if path.with_name("mask_dict.json").exists() else None
        if masks is not None and not isinstance(masks, dict):
            raise DataError(f"{path.with_name('mask_dict.json')}: no object; download it again")
        reader = _Reading(path, root, labels, masks)
        yield from each(sorted(videos.items()), reader.video, reader.place)


class _Reading:
    """One file of expressions, with the masks beside it, None where these are pictures."""

    def __init__(self, path: Path, root: Root, labels: LabelSet, masks: dict[str, Any] | None) -> None:
        self.path, self.root, self.labels, self.masks = path, root, labels, masks

    def place(self, entry: tuple[str, Any]) -> str:
        """Where a video stands in the file."""
        return f"{self.path}: videos.{entry[0]}"

    def video(self, entry: tuple[str, Any]) -> Iterator[Found | Reject]:
        """What is said of one video."""
        name, data = entry
        video = checked(_Video, data)
        pictures = shown(self.root, f"JPEGImages/{name}", self.root.rate or RATE)
        order = {path.stem: place for place, path in enumerate(pictures.pictures)}
        places = [order.get(frame, -1) for frame in video.frames]
        if min(places) < 0:
            raise Refused("no video", f"picture {video.frames[places.index(-1)]!r:.40} of {name} is not there")

        def one(item: tuple[str, Any]) -> Iterator[Found | Reject]:
            said = checked(_Expression, item[1])
            found = self._said(said, f"{self.path}: videos.{name}.expressions.{item[0]}")
            boxes_F4, aspect = self._boxes(said, name, video.frames, places)
            subject = found.relations[0][1][0]
            entities = list(found.entities)
            entities[subject] = replace(entities[subject], boxes_F4=boxes_F4)
            yield replace(
                found,
                video=pictures,
                entities=tuple(entities),
                rate=pictures.rate,
                aspect=aspect,
                name=name,
                begin=0.0,
                end=len(pictures.pictures) / pictures.rate,
            )

        items = video.expressions.items()
        yield from each(items, one, lambda item: f"{self.path}: videos.{name}.expressions.{item[0]}")

    def _said(self, said: _Expression, where: str) -> Found:
        """What a sentence states, of things without boxes yet."""
        try:
            values = understood({"caption": " ".join(said.exp.split())}, self.labels, parse)
        except UserError as error:
            raise Refused("nothing" if isinstance(error, NothingToGuide) else "prompt", str(error)) from error
        relations = tuple((one["label"], tuple(one["entities"])) for one in values["relations"])
        return Found(
            video=self.path,
            where=where,
            entities=tuple(Entity(phrase) for phrase in values["entities"]),
            relations=relations,
            template=values["template"],
            wordings=tuple(values["wordings"]) if "wordings" in values else None,
            caption=said.exp,
            sure=all(rule_of(self.labels[label]) in WAYS for label, _ in relations),
        )

    def _boxes(
        self, said: _Expression, name: str, frames: list[str], places: list[int]
    ) -> tuple[np.ndarray[Any, Any], float]:
        """The boxes of what a sentence is about, in each picture, and the pictures' aspect."""
        numbers = said.anno_id if self.masks is not None else said.obj_id
        listed = numbers if isinstance(numbers, list) else [numbers]
        if len(listed) != 1:
            raise Refused("ambiguous", f"is about {len(listed)} things")
        placed: list[tuple[int, Box]] = []
        size = (0.0, 0.0)
        if self.masks is not None:
            masks = checked(list[_Rle | None], self.masks.get(str(listed[0])))
            if len(masks) != len(frames):
                raise Refused("malformed", f"{len(masks)} masks for {len(frames)} frames")
            for place, mask in zip(places, masks, strict=True):
                if mask is not None:
                    size = float(mask.size[1]), float(mask.size[0])
                    if (box := box_of_rle(mask.size, mask.counts)) is not None:
                        placed.append((place, box))
        else:
            folder = self.root.folder_of(f"Annotations/{name}")
            for place, frame in zip(places, frames, strict=True):
                path = self.root.checked(folder / f"{frame}.png")
                size, found = _box_of_picture(path, int(listed[0]))
                if found is not None:
                    placed.append((place, found))
        if not placed:
            raise Refused("not seen", "has no mask that is not empty")
        return boxes(placed, *size), size[0] / size[1]


def _box_of_picture(path: Path, number: int) -> tuple[tuple[float, float], Box | None]:
    """Width and height of a picture of numbers, and the box of one of them."""
    try:
        with Image.open(path) as image:
            if image.width * image.height > MAX_PIXELS:
                raise Refused("malformed", f"{path}: {image.width} x {image.height} pixels")
            pixels = np.asarray(image)
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError) as error:
        raise Refused("unreadable", f"{path}: {error}") from error
    rows, columns = np.nonzero(pixels.reshape(*pixels.shape[:2], -1)[..., 0] == number)
    size = float(pixels.shape[1]), float(pixels.shape[0])
    if not len(rows):
        return size, None
    return size, (float(columns.min()), float(rows.min()), float(columns.max()) + 1, float(rows.max()) + 1)


def box_of_rle(size: tuple[int, int], counts: str | list[int]) -> Box | None:
    """The box of a mask as COCO writes it: lengths of runs of pixels, column by column, outside first.

    Args:
        size: height and width.
        counts: the lengths; or these as text, six bits a letter with five of them of the number, where from the fourth
            on each is what it is more than the one two before.

    Returns:
        Left, top, right, bottom in pixels; None where nothing is inside.

    Raises:
        Refused: it is not of the size, or no such text.
    """
    height, width = size
    if min(height, width) < 1 or height * width > MAX_PIXELS:
        raise Refused("malformed", f"a mask of {width} x {height} pixels")
    lengths = np.array(_lengths(counts) if isinstance(counts, str) else counts, object)
    if any(length < 0 for length in lengths) or sum(lengths) != height * width:
        raise Refused("malformed", f"a mask's runs are not those of {width} x {height} pixels")
    ends = np.cumsum(lengths.astype(np.int64))
    first, last = ends[:-1:2], ends[1::2] - 1  # of the runs inside
    inside = first <= last
    first, last = first[inside], last[inside]
    if not len(first):
        return None
    whole = bool((last // height > first // height).any())  # goes on in the next column
    top, bottom = (0, height) if whole else (int((first % height).min()), int((last % height).max()) + 1)
    return float((first // height).min()), float(top), float((last // height).max() + 1), float(bottom)


def _lengths(text: str) -> list[int]:
    lengths: list[int] = []
    value = shift = 0
    for letter in text:
        bits = ord(letter) - 48
        if not 0 <= bits < 64 or shift > 35:
            raise Refused("malformed", f"a mask's text {json.dumps(text[:20])} is none of COCO's")
        value |= (bits & 31) << shift
        shift += 5
        if not bits & 32:
            if bits & 16:
                value -= 1 << shift
            lengths.append(value + (lengths[-2] if len(lengths) > 2 else 0))
            value = shift = 0
    return lengths
