"""What T2V-CompBench and VBench say that their prompts state, read from their own metadata."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Final

from cvg.common.errors import DataError
from cvg.common.files import read_json
from cvg.evaluation.exam import Exam, Expected

_PLACES: Final = {"left": "left of", "right": "right of", "under": "below"}
"""T2V-CompBench's places that the label set calls otherwise."""
_NUMBERS: Final = ("one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten")
_REMEDY = "give a checkout of the benchmark"

_NEWER: Final = "VBench-2.0"
_MATERIAL: Final = re.compile(r"is the material of|made of")
_CHANGES: Final = (
    (
        re.compile(r"Finally, is the colou?r of (?:the )?(.+?) mostly (\w+)"),
        {"grey": "turn gray", "golden": "turn gold", "blonde": "turn gold"},
    ),
    (re.compile(r"Does the size of the (.+?) (increase|decrease)\b"), {"increase": "grow", "decrease": "shrink"}),
    (
        re.compile(
            r"Does the (?:(?:light from|brightness of) the )?(.+?) (increase|turn on|become brighter|become darker)\b"
        ),
        {"become darker": "fade", "increase": "light up", "turn on": "light up", "become brighter": "light up"},
    ),
)
"""VBench-2.0's questions about what changes: of what, and how, with the label of each way."""

Told = dict[str, Any]


def compbench(folder: Path) -> list[Exam]:
    """The prompts of T2V-CompBench whose metadata say what they state.

    Args:
        folder: a checkout, or a folder with its folder ``meta_data``.

    Raises:
        DataError: there is no such file, or an entry has another form; the message names it.
    """
    exams = []
    for name, (category, expected) in _COMPBENCH.items():
        path = folder / "meta_data" / f"{name}.json"
        if not path.exists():
            continue
        for place, told in _entries(path):
            try:
                exams.append(Exam(prompt=told["prompt"], category=category, relations=expected(told)))
            except (KeyError, TypeError, ValueError, AttributeError, IndexError) as error:
                raise DataError(f"{place}: not of the benchmark's form ({_reason(error)}); {_REMEDY}") from error
    if not exams:
        known = ", ".join(f"{name}.json" for name in _COMPBENCH)
        raise DataError(f"suite_dir {folder}: none of {known} is in its folder meta_data; {_REMEDY}")
    return exams


def vbench(folder: Path) -> list[Exam]:
    """The prompts of VBench that ask for places and colours, and those of VBench-2.0 that ask for what changes.

    VBench-2.0's prompts of ``Dynamic_Spatial_Relationship`` put an entity in two places one after the other, and those
    of ``Dynamic_Attribute`` that replace a material say of it what holds for a part of the video: neither is a relation
    of the video, so none may be found. Their part is "VBench-2.0".

    Args:
        folder: a checkout of either, or a folder with its ``VBench_full_info.json`` or ``VBench2_full_info.json``.

    Raises:
        DataError: there is no such file, or an entry has another form; the message names it.
    """
    names = {"VBench_full_info.json": _first, "VBench2_full_info.json": _second}
    parents = (folder, folder / "vbench", folder / "vbench2", folder / "VBench-2.0" / "vbench2")
    found = {name: [parent / name for parent in parents if (parent / name).exists()] for name in names}
    paths = [places[0] for places in found.values() if places]
    if not paths:
        raise DataError(f"suite_dir {folder}: has no {' or '.join(names)}; {_REMEDY}")
    exams: list[Exam] = []
    for path in paths:
        for place, told in _entries(path):
            try:
                exams += names[path.name](told)
            except (KeyError, TypeError, ValueError, AttributeError, IndexError) as error:
                raise DataError(f"{place}: not of the benchmark's form ({_reason(error)}); {_REMEDY}") from error
    if not exams:
        raise DataError(
            f"{' and '.join(map(str, paths))}: no prompt of the dimensions spatial_relationship, color, "
            f"Dynamic_Spatial_Relationship and Dynamic_Attribute; {_REMEDY}"
        )
    return exams


def _first(told: Told) -> Iterator[Exam]:
    """What VBench says of a prompt."""
    dimensions, said, prompt = told["dimension"], told.get("auxiliary_info") or {}, told["prompt_en"]
    if "spatial_relationship" in dimensions:
        pair = _within(said, "relationship")
        label = pair["relationship"].removeprefix("on the ").removeprefix("on ")
        label = {"top of": "on", "bottom of": "below"}.get(label, label)
        asked = Expected(label=label, entities=[pair["object_a"], pair["object_b"]])
        yield Exam(prompt=prompt, category="spatial", relations=[asked])
    if "color" in dimensions:
        colour = _within(said, "color")["color"]
        rest = [word for word in prompt.split() if word.lower() not in (colour.lower(), "a", "an", "the")]
        asked = Expected(label=colour, entities=[" ".join(rest)])
        yield Exam(prompt=prompt, category="attribute", relations=[asked])


def _second(told: Told) -> Iterator[Exam]:
    """What VBench-2.0 says of a prompt, by its questions."""
    dimensions, prompt = told["dimension"], told["prompt_en"]
    if "Dynamic_Spatial_Relationship" in dimensions:
        yield Exam(prompt=prompt, category="spatial", relations=[], part=_NEWER)
    if "Dynamic_Attribute" in dimensions:
        questions = list(told["auxiliary_info"])
        if any(_MATERIAL.search(question) for question in questions):
            yield Exam(prompt=prompt, category="attribute", relations=[], part=_NEWER)
        asked = [
            Expected(label=labels.get(found[2], f"turn {found[2]}"), entities=[found[1]])
            for question in questions
            for pattern, labels in _CHANGES
            if (found := pattern.match(question))
        ]
        if asked:
            yield Exam(prompt=prompt, category="change", relations=asked[:1], part=_NEWER)


def _entries(path: Path) -> Iterator[tuple[str, Told]]:
    """The entries of a list in a file, each with its place."""
    entries = read_json(path)
    if not isinstance(entries, list):
        raise DataError(f"{path}: not a list of prompts; {_REMEDY}")
    for index, told in enumerate(entries):
        if not isinstance(told, dict):
            raise DataError(f"{path}, entry {index}: not an object; {_REMEDY}")
        yield f"{path}, entry {index}", told


def _within(said: Any, key: str) -> Told:
    """The innermost object that has a text under a key."""
    if isinstance(said, dict):
        if isinstance(said.get(key), str):
            return said
        for value in said.values():
            try:
                return _within(value, key)
            except KeyError:
                continue
    raise KeyError(key)


def _spatial(told: Told) -> list[Expected]:
    place = told["spatial"].strip().lower()
    return [Expected(label=_PLACES.get(place, place), entities=[told["object_1"], told["object_2"]])]


def _motion(told: Told) -> list[Expected]:
    pairs = [(told["object_1"], told["d_1"]), (told.get("object_2", ""), told.get("d_2", ""))]
    return [Expected(label=way.strip().lower(), entities=[name]) for name, way in pairs if way.strip()]


def _attributes(told: Told) -> list[Expected]:
    phrases = [phrase.strip() for phrase in told["phrases"].split(";") if phrase.strip()]
    return [Expected(words=phrase, entities=[phrase]) for phrase in phrases]


def _actions(told: Told) -> list[Expected]:
    pairs = [told[key] for key in ("phrase_0", "phrase_1") if told.get(key)]
    return [Expected(entities=[pair[0].strip(" ?")]) for pair in pairs]


def _numbers(told: Told) -> list[Expected]:
    names, counts = ([part.strip() for part in str(told[key]).split(",")] for key in ("objects", "numbers"))
    pairs = zip(names, counts, strict=True)
    return [Expected(label=_NUMBERS[int(count) - 1], entities=[name]) for name, count in pairs]


def _reason(error: Exception) -> str:
    return f"no {error}" if isinstance(error, KeyError) else str(error).splitlines()[0]


_COMPBENCH: Final[dict[str, tuple[str, Callable[[Told], list[Expected]]]]] = {
    "spatial_relationships": ("spatial", _spatial),
    "motion_binding": ("motion", _motion),
    "consistent_attribute_binding": ("attribute", _attributes),
    "action_binding": ("action", _actions),
    "generative_numeracy": ("number", _numbers),
}
EXAMS: Final[dict[str, Callable[[Path], list[Exam]]]] = {"t2v-compbench": compbench, "vbench": vbench}
"""By the name of the suite."""
