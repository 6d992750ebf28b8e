"""Action Genome: what is where around a person, in some frames of the videos of Charades.

    object_bbox_and_relationship.pkl:
    {"VIDEO.mp4/000123.png": [{"class": "table", "bbox": (left, top, width, height), "visible": True,
                               "spatial_relationship": ["in_front_of"], "metadata": {"set": "train"}}, ...]}

A pickle can run anything. This one is read by an unpickler that knows plain values only (numbers, texts, lists, tuples,
dictionaries) and refuses a file that asks for any class or function; ``person_bbox.pkl``, whose boxes are arrays of
NumPy, is not read at all.

That the *thing* is in front of the person, and not the person of it, is how the relation is read here; the files do not
say it. So a judge must confirm all of it. A relation holds from the first to the last of the frames that are annotated
with it in a row, where these are two seconds apart at most.
"""

from __future__ import annotations

import pickle
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NoReturn

from pydantic import Field

from cvg.common.errors import DataError
from cvg.composition import LabelSet
from cvg.media.length import length
from cvg.media.video import VideoError
from data_prep.sources.base import Entity, Form, Found, Reject, checked, each
from data_prep.sources.files import MOST_ANNOTATION, Refused, Root

SPATIAL = {
    "above": "above",
    "beneath": "below",
    "in front of": "in front of",
    "behind": "behind",
    "on the side of": "next to",
    "in": "inside",
}
GAP = 2.0
"""Seconds between two annotated frames in a row."""


class _Plain(pickle.Unpickler):
    """Reads numbers, texts, lists, tuples, sets and dictionaries."""

    def find_class(self, module: str, name: str) -> NoReturn:
        raise pickle.UnpicklingError(f"asks for {module}.{name}, which is no plain value")

    def persistent_load(self, pid: Any) -> NoReturn:
        raise pickle.UnpicklingError("asks for an object that is stored elsewhere")


class _Thing(Form):
    kind: str = Field(alias="class", min_length=1, max_length=100)
    visible: bool = True
    spatial_relationship: list[str] | None = None
    metadata: dict[str, Any] = Field(default={})


def load_plain(path: Path) -> Any:
    """What a pickle of plain values holds.

    Raises:
        DataError: it is damaged, or asks for more than plain values; nothing that it asks for was run.
    """
    try:
        if path.stat().st_size > MOST_ANNOTATION:
            raise DataError(f"{path}: has more than the {MOST_ANNOTATION} bytes that are read")
        with path.open("rb") as file:
            return _Plain(file).load()
    except (pickle.UnpicklingError, OSError) as error:
        raise DataError(f"{path}: not read ({error}); download it again") from error
    except Exception as error:  # damaged pickles raise nearly anything
        reason = (str(error) or type(error).__name__).splitlines()[0][:200]
        raise DataError(f"{path}: damaged ({reason}); download it again") from error


def read(root: Root, labels: LabelSet) -> Iterator[Found | Reject]:
    """See `data_prep.sources.base.Reader`."""
    path = root.one("annotation", "object_bbox_and_relationship.pkl")
    data = load_plain(path)
    if not isinstance(data, dict):
        raise DataError(f"{path}: a {type(data).__name__}, not a dictionary of frames; download it again")
    frames: dict[str, dict[int, Any]] = {}
    for key, things in data.items():
        video, _, picture = key.rpartition("/") if isinstance(key, str) else ("", "", "")
        number = picture.partition(".")[0]
        if not video or not (number.isascii() and number.isdigit()) or len(number) > 9:
            yield Reject("malformed", "expected VIDEO.mp4/NUMBER.png", f"{path}: {key!r:.80}")
        else:
            frames.setdefault(video, {})[int(number)] = things

    def found(video: str) -> Iterator[Found | Reject]:
        return _video(video, frames[video], root, labels, f"{path}: {video}")

    yield from each(sorted(frames), found, lambda video: f"{path}: {video}")


def _video(video: str, frames: dict[int, Any], root: Root, labels: LabelSet, where: str) -> Iterator[Found | Reject]:
    file = root.video(video)
    when: dict[tuple[str, str], list[int]] = {}
    kinds: dict[str, Entity] = {}
    split: Any = None
    for number in sorted(frames):
        for thing in checked(list[_Thing], frames[number]):
            stated = [SPATIAL.get(each.replace("_", " ")) for each in thing.spatial_relationship or ()]
            name = thing.kind.split("/")[0].replace("_", " ")
            split = "train" if thing.metadata.get("set") == "train" else "val"
            if thing.visible:
                kinds.setdefault(name, Entity(name))
                for label in {label for label in stated if label in labels}:
                    when.setdefault((name, str(label)), []).append(number)
    if not when:
        raise Refused("nothing", "no thing that is seen has a place of the label set")
    try:
        count, rate = length(file)
    except VideoError as error:
        raise Refused("unreadable", str(error)) from error
    for (name, label), numbers in sorted(when.items()):
        others = {
            number for (other, another), found in when.items() if other == name and another != label for number in found
        }
        for first, last in runs([number for number in numbers if number < count], sorted(frames), others, GAP * rate):
            yield Found(
                video=file,
                where=f"{where}: {name} {label}, frames {first} to {last}",
                entities=(kinds[name], Entity("person", article="a")),
                relations=((label, (0, 1)),),
                begin=first / rate,
                end=(last + 1) / rate,
                sure=False,
                split=split,
                name=file.stem,
            )


def runs(numbers: list[int], annotated: list[int], others: set[int], gap: float) -> Iterator[tuple[int, int]]:
    """First and last frame of the runs of a relation: frames that are annotated one after the other, all with it.

    Args:
        numbers: frames that are annotated with it, in order.
        annotated: all frames that are annotated, in order.
        others: frames in which another place is stated of the same thing.
        gap: frames between two at most.
    """
    place = {number: index for index, number in enumerate(annotated)}
    run: list[int] = []
    for number in [number for number in numbers if number not in others]:
        if run and (place[number] != place[run[-1]] + 1 or number - run[-1] > gap):
            if len(run) > 1:
                yield run[0], run[-1]
            run = []
        run.append(number)
    if len(run) > 1:
        yield run[0], run[-1]
