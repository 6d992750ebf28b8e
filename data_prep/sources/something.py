"""Something-Something v2: what a hand does with things, in sentences of fixed templates.

    train.json, validation.json:
    [{"id": "12", "label": "pushing a cup from left to right", "template": "Pushing [something] from left to right",
      "placeholders": ["a cup"]}, ...]

The videos are ``ID.webm``. Names of these files vary between releases (``labels/train.json``,
``something-something-v2-train.json``): any whose name has train or validation in it is read.

A template is read once, with plain nouns in the places of its things, by the project's own parser; what it states is so
of all videos of it. Whoever pretends or fails to do something, or turns the camera, shows it not: such videos are told
apart as negatives. Where their sentence says after a comma, or after "but" or "so", what happens instead, that is
stated. It is not known when in a video a thing comes to be in its place; of all that is no motion a judge is to say
whether it is to be seen.

Something-Else has boxes of the same videos, at twelve a second; with them ways and sides are seen from these::

    bounding_box*.json: {"12": [{"name": "12/0001.jpg", "labels": [
      {"box2d": {"x1": 1, "y1": 2, "x2": 30, "y2": 40}, "category": "cup", "standard_category": "0000"}]}, ...]}

A number in ``standard_category`` is that of a placeholder. Boxes are in pixels of the video.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from pydantic import Field

from cvg.common.errors import DataError, NothingToGuide, UserError
from cvg.composition import LabelSet, parse
from cvg.composition.phrases import plain
from cvg.judging.showing import rule_of
from cvg.media.video import VideoError, picture_size
from data_prep.sources.base import Entity, Form, Found, Reject, boxes, checked, each
from data_prep.sources.files import Refused, Root
from data_prep.sources.segments import MOVING

NOUNS = ("cup", "box", "book", "ball")
"""Stand for the things of a template while it is parsed."""
RATE = 12.0
"""Pictures a second that Something-Else's boxes are of."""
_HOLE = re.compile(r"\[([^\[\]]*)\]")
_NOT_SO = re.compile(r"^(pretend|fail|try)", re.IGNORECASE)
_INSTEAD = re.compile(r",|\b(?:but|so|because)\b", re.IGNORECASE)
_CAMERA = re.compile(r"^\w+ (?:the|your) camera (?:to the )?(left|right|up|down)", re.IGNORECASE)
_WITH_CAMERA = re.compile(
    r"^(approach|mov\w+ (?:closer|towards?)|mov\w+ away)\b.* with (?:the|your) camera$", re.IGNORECASE
)
_ALL_ALONG = re.compile(r"^(show|hold)", re.IGNORECASE)
_IN_TURN = re.compile(r"\b(until|then|before|after)\b", re.IGNORECASE)
_ARTICLE = re.compile(r"^(an?|the|some|my|two|three)\s+(?=\S)", re.IGNORECASE)
_OPPOSITE = {"left": "moves right", "right": "moves left", "up": "moves down", "down": "moves up"}
"""The way that all things seem to go when the camera turns one way."""


class _Line(Form):
    id: str | int
    template: str = Field(min_length=1, max_length=500)
    label: str = Field(default="", max_length=1000)
    placeholders: list[str] = Field(default=[], max_length=20)


class _Corners(Form):
    x1: float
    y1: float
    x2: float
    y2: float


class _Box(Form):
    box2d: _Corners
    standard_category: str


class _Picture(Form):
    name: str
    labels: list[_Box]


@dataclass(frozen=True)
class Statement:
    """What a template states.

    Attributes:
        label: a label's name.
        places: which of the template's things it is of.
        sure: whether it is so all along.
        negative: whether the template says that it is not so.
    """

    label: str
    places: tuple[int, ...]
    sure: bool = True
    negative: bool = False


def read(root: Root, labels: LabelSet) -> Iterator[Found | Reject]:
    """Something-Something v2; see `data_prep.sources.base.Reader`."""
    return _Reading(root, labels).all()


def with_boxes(root: Root, labels: LabelSet) -> Iterator[Found | Reject]:
    """The same with Something-Else's boxes; see `data_prep.sources.base.Reader`."""
    paths = root.files("bounding_box*.json")
    if not paths:
        raise DataError(f"{root.folder}: no boxes (bounding_box*.json); download those of Something-Else")
    tracked: dict[str, Any] = {}
    for path in paths:
        found = root.json(path)
        if not isinstance(found, dict):
            raise DataError(f"{path}: a {type(found).__name__}, not an object of videos; download it again")
        tracked |= found
    return _Reading(root, labels, tracked).all()


@dataclass
class _Reading:
    """The sentences of a folder.

    Attributes:
        root: the folder.
        labels: the label set.
        tracked: by a video's id its boxes, as they are stored; None where sentences alone are read.
        known: what templates state, as they have come up.
    """

    root: Root
    labels: LabelSet
    tracked: Mapping[str, Any] | None = None
    known: dict[str, tuple[Statement, ...] | Refused] = field(default_factory=dict)

    def all(self) -> Iterator[Found | Reject]:
        """What all of them state."""
        paths = [path for path in self.root.files("*.json") if re.search("train|valid", path.name, re.IGNORECASE)]
        if not paths:
            raise DataError(f"{self.root.folder}: no labels (*train*.json, *validation*.json); give the folder of both")
        for path in paths:
            listed = self.root.json(path)
            if not isinstance(listed, list):
                raise DataError(f"{path}: a {type(listed).__name__}, not a list of videos; download it again")
            entries = [(f"{path}: {number}", path, data) for number, data in enumerate(listed)]
            yield from each(entries, self.found, lambda entry: entry[0])

    def found(self, entry: tuple[str, Path, Any]) -> Iterator[Found | Reject]:
        """What one sentence states of its video."""
        where, path, data = entry
        line = checked(_Line, data)
        template = " ".join(line.template.split())
        holes = _HOLE.findall(template)
        if len(holes) != len(line.placeholders) or not all(text.strip() for text in line.placeholders):
            raise Refused("malformed", f"{len(line.placeholders)} placeholders for {len(holes)} places of the template")
        if template not in self.known:
            self.known[template] = stated(template, self.labels)
        statements = self.known[template]
        if isinstance(statements, Refused):
            raise statements
        file = self.root.video(str(line.id))
        entities = tuple(_entity(text) for text in line.placeholders)
        common: dict[str, Any] = {"video": file, "where": where, "caption": line.label, "name": str(line.id)}
        common["split"] = "train" if "train" in path.name.lower() else "val"
        if self.tracked is not None:
            entities, common["aspect"] = self._boxed(entities, str(line.id), file)
            common["rate"] = RATE
        for statement in statements:
            relation = statement.label, statement.places
            yield Found(
                entities=entities,
                relations=(relation,),
                sure=statement.sure,
                negative=statement.negative,
                **common,
            )

    def _boxed(self, entities: tuple[Entity, ...], name: str, file: Path) -> tuple[tuple[Entity, ...], float]:
        """The things of a video with their boxes, and the aspect of its pictures."""
        assert self.tracked is not None
        if name not in self.tracked:
            raise Refused("not seen", "there are no boxes of it")
        pictures = checked(list[_Picture], self.tracked[name])
        try:
            height, width = picture_size(file)
        except VideoError as error:
            raise Refused("unreadable", str(error)) from error
        placed: list[dict[int, tuple[float, float, float, float]]] = [{} for _ in entities]
        for picture in pictures:
            number = re.search(r"(\d{1,9})\.\w+$", picture.name)
            if number is None:
                raise Refused("malformed", f"picture {picture.name!r:.60} has no number")
            for box in picture.labels:
                place = int(box.standard_category) if re.fullmatch(r"\d{1,4}", box.standard_category) else len(entities)
                if place < len(entities):
                    corners = box.box2d
                    placed[place][int(number[1]) - 1] = corners.x1, corners.y1, corners.x2, corners.y2
        found = (
            replace(one, boxes_F4=boxes(at.items(), width, height)) for one, at in zip(entities, placed, strict=True)
        )
        return tuple(found), width / height


def _entity(text: str) -> Entity:
    """What a placeholder calls a thing."""
    text = " ".join(text.split())
    article = _ARTICLE.match(text)
    return Entity(text[article.end() :], article=article[1].lower()) if article else Entity(text, article="")


def stated(template: str, labels: LabelSet) -> tuple[Statement, ...] | Refused:
    """What a template states; or why it gives nothing."""
    holes = iter(range(len(NOUNS)))
    if len(_HOLE.findall(template)) > len(NOUNS) or re.search(r"\[number", template, re.IGNORECASE):
        return Refused("prompt", f"template {template!r:.80}: its things are not to be told apart")
    sentence = _HOLE.sub(lambda _: f"a {NOUNS[next(holes)]}", template)
    sentence = sentence[0].lower() + sentence[1:]
    if rule := _of_the_camera(sentence):
        names = [label.name for label in labels.labels if rule_of(label) == rule and label.entities == 1]
        if names:
            return (Statement(names[0], (0,), negative=True),)
        return Refused("nothing", f"template {template!r:.80}: it is the camera that moves")
    if not _NOT_SO.match(sentence):
        said = _said(sentence, labels)
        return said if isinstance(said, Refused) else (said,)
    claim, *instead = _INSTEAD.split(sentence, maxsplit=1)
    found = []
    if isinstance(said := _said(claim, labels), Statement):
        found.append(replace(said, negative=True))
    if instead and isinstance(said := _said(_named(instead[0]), labels), Statement):
        found.append(replace(said, sure=False))
    return tuple(found) or Refused("nothing", f"template {template!r:.80}: states none of the labels")


def _of_the_camera(sentence: str) -> str | None:
    """The rule by which things seem to move as the camera does; None where it is none that moves it."""
    if turned := _CAMERA.match(sentence):
        return _OPPOSITE[turned[1].lower()]
    if moved := _WITH_CAMERA.match(sentence):
        return "away from the camera" if "away" in moved[1] else "towards the camera"
    return None


def _named(sentence: str) -> str:
    """A clause in which "it" is the thing that was named first, and a second "it" the one after."""
    nouns = iter(NOUNS)
    return re.sub(r"\bit\b", lambda _: f"the {next(nouns, NOUNS[-1])}", sentence).strip(" ,")


def _said(sentence: str, labels: LabelSet) -> Statement | Refused:
    """The one thing that a sentence states of the plain nouns."""
    try:
        relations = parse(sentence, labels).relations
    except UserError as error:
        return Refused("nothing" if isinstance(error, NothingToGuide) else "prompt", str(error)[:200])
    known = []
    for relation in relations:
        phrases = [plain(entity.phrase) for entity in relation.entities]
        if all(phrase in NOUNS for phrase in phrases):
            known.append((labels[relation.label], tuple(map(NOUNS.index, phrases))))
    ruled = [each for each in known if rule_of(each[0])]
    if len(ruled or known) != 1:
        return Refused("prompt", f"{sentence!r:.80} states {len(ruled or known)} things of what a hand does it with")
    label, places = (ruled or known)[0]
    moving = rule_of(label) in (*MOVING, "towards the camera", "away from the camera", None)
    sure = bool(moving or _ALL_ALONG.match(sentence)) and not _IN_TURN.search(sentence)
    return Statement(label.name, places, sure)
