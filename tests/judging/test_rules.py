from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from cvg.common.errors import UserError
from cvg.composition import Label, LabelSet
from cvg.composition.labels import MIRRORS, SHIPPED
from cvg.judging.geometry import FREE, JUDGE, Margins
from cvg.judging.rules import COLOURS, RULES, View
from cvg.judging.showing import rule_of, shown
from cvg.judging.tracks import Camera, Track, Tracks

Floats = NDArray[np.float64]
F = 13
WAY = np.linspace(0, 1, F)[:, None]
PATHS = [name for name in RULES if " then " in name]
MOTIONS = [n for n in RULES if (n.startswith("moves ") and n not in PATHS) or n.endswith(" the camera")]
ACTIONS = ["grows", "shrinks", "bounces", "goes and returns", "stops", "sets off", "blinks"]
RELATIVE = ["towards", "away from", "past", "around", "following"]
INTERACTIONS = ["around", "following", "past", "swaps with", "bumps into", "meets"]
IS, TURNS = ([name for name in RULES if name.startswith(verb)] for verb in ("is ", "turns "))
MOVING = list(dict.fromkeys([*MOTIONS, *PATHS, *ACTIONS, *RELATIVE, *INTERACTIONS]))
PLACES = [name for name in RULES if name not in (*MOVING, *IS, *TURNS)]
GROUPS = [MOTIONS[:4] + MOTIONS[8:], MOTIONS, PATHS + MOTIONS[4:8], PLACES, RELATIVE, ACTIONS, INTERACTIONS, IS, TURNS]
SIDES = {
    **{"moves left": "moves right", "left of": "right of"},
    **{"moves up left": "moves up right", "moves down left": "moves down right"},
    **{name: name.replace("left", "right") for name in PATHS if "left" in name},
}
MIRROR = {name: name for name in RULES} | SIDES | {other: name for name, other in SIDES.items()}
OPPOSITES = {
    **{"moves left": "moves right", "moves up": "moves down"},
    **{"moves up left": "moves down right", "moves up right": "moves down left"},
    **{"towards the camera": "away from the camera", "towards": "away from"},
    **{"left of": "right of", "above": "below", "in front of": "behind"},
    "grows": "shrinks",
}
OPPOSITE = OPPOSITES | {other: name for name, other in OPPOSITES.items()}
BACKWARDS = {name: OPPOSITE.get(name, name) if name in MOVING else name for name in RULES}
BACKWARDS |= {"stops": "sets off", "sets off": "stops"}
TURNED = {"left": "right", "right": "left", "up": "down", "down": "up"}
BACKWARDS |= {name: "moves " + " then ".join(TURNED[way] for way in name.split()[:0:-2]) for name in PATHS}
NEVER_BACKWARDS = ("following", "meets", *TURNS)
"""Who is led backwards does not follow, nor do those meet that part."""


def box(centres_F2: Floats, width: float = 0.1, height: float | None = None, growth: float = 1.0) -> Floats:
    sides = np.array([width, width if height is None else height])
    half = sides / 2 * growth ** np.linspace(0, 1, len(centres_F2))[:, None]
    return np.concatenate([centres_F2 - half, centres_F2 + half], axis=1)


def at(x: float, y: float) -> Floats:
    return np.tile([x, y], (F, 1)).astype(float)


def goes(start: tuple[float, float], end: tuple[float, float]) -> Floats:
    return np.array(start) + WAY * (np.array(end) - np.array(start))


def circling(x: float, y: float, turns: float) -> Floats:
    angle = 2 * np.pi * turns * WAY[:, 0]
    return np.stack([x + 0.25 * np.cos(angle), y + 0.25 * np.sin(angle)], axis=1)


def track(boxes: Floats, depth: float | None = None) -> Track:
    return Track(boxes, depth_F=None if depth is None else np.full(len(boxes), depth))


def through(*points: tuple[float, float]) -> Floats:
    """Along straight lines from one point to the next, each in the same time."""
    when = np.linspace(0, 1, len(points))
    return np.stack([np.interp(WAY[:, 0], when, axis) for axis in zip(*points, strict=True)], axis=1)


def corner(first: str, then: str) -> Floats:
    """From the middle 0.3 one way, and 0.3 another way."""
    ways = {"left": (-0.3, 0.0), "right": (0.3, 0.0), "up": (0.0, -0.3), "down": (0.0, 0.3)}
    (a, b), (c, d) = ways[first], ways[then]
    return through((0.5, 0.5), (0.5 + a, 0.5 + b), (0.5 + a + c, 0.5 + b + d))


def coloured(*names: str | None) -> Track:
    """Something still that has one colour after the other."""
    return replace(STONE, colours_F=[names[int(i)] for i in np.linspace(0, len(names) - 1e-6, F)])


def about(x: float, y: float, begin: float, turn: float) -> Floats:
    angle = np.radians(begin + turn * WAY[:, 0])
    return np.stack([x + 0.2 * np.cos(angle), y + 0.2 * np.sin(angle)], axis=1)


STONE = track(box(at(0.5, 0.5)))
BLINKING = np.arange(F) // 4 != 1
SCENES: dict[str, tuple[Track, ...]] = {
    **{
        f"moves {name}": (track(box(goes((0.5, 0.5), (0.5 + 0.3 * x, 0.5 + 0.3 * y)))),)
        for name, (x, y) in {"left": (-1, 0), "right": (1, 0), "up": (0, -1), "down": (0, 1)}.items()
    },
    **{
        f"moves {up} {left}": (track(box(goes((0.5, 0.5), (0.5 + 0.3 * x, 0.5 + 0.3 * y)))),)
        for up, y in {"up": -1, "down": 1}.items()
        for left, x in {"left": -1, "right": 1}.items()
    },
    **{name: (track(box(corner(*name.split()[1::2]))),) for name in PATHS},
    "towards the camera": (track(box(at(0.5, 0.5), growth=2)),),
    "away from the camera": (track(box(at(0.5, 0.5), growth=0.5)),),
    "left of": (track(box(at(0.2, 0.5))), STONE),
    "right of": (track(box(at(0.8, 0.5))), STONE),
    "above": (track(box(at(0.5, 0.2))), STONE),
    "below": (track(box(at(0.5, 0.8))), STONE),
    "on": (track(box(at(0.52, 0.41))), track(box(at(0.5, 0.6), 0.5, 0.3))),
    "inside": (track(box(at(0.52, 0.53))), track(box(at(0.5, 0.5), 0.5, 0.5))),
    "next to": (track(box(at(0.38, 0.51))), STONE),
    "in front of": (track(box(at(0.53, 0.55)), 0.2), track(box(at(0.5, 0.5)), 0.5)),
    "behind": (track(box(at(0.53, 0.55)), 0.7), track(box(at(0.5, 0.5)), 0.5)),
    "towards": (track(box(goes((0.1, 0.5), (0.4, 0.5)))), STONE),
    "away from": (track(box(goes((0.4, 0.5), (0.1, 0.5)))), STONE),
    "past": (track(box(goes((0.2, 0.3), (0.7, 0.3)))), STONE),
    "around": (track(box(circling(0.5, 0.5, 0.95))), STONE),
    "following": (track(box(goes((0.1, 0.5), (0.5, 0.5)))), track(box(goes((0.35, 0.52), (0.75, 0.52))))),
    "grows": (track(box(at(0.5, 0.5), growth=1.7)),),
    "shrinks": (track(box(at(0.5, 0.5), growth=1 / 1.7)),),
    "bounces": (track(box(through((0.5, 0.3), (0.52, 0.6), (0.5, 0.32)))),),
    "goes and returns": (track(box(through((0.3, 0.5), (0.6, 0.52), (0.3, 0.5)))),),
    "stops": (track(box(through((0.2, 0.5), (0.5, 0.5), (0.5, 0.5)))),),
    "sets off": (track(box(through((0.5, 0.2), (0.5, 0.2), (0.5, 0.5)))),),
    "blinks": (replace(STONE, visible_F=BLINKING),),
    "swaps with": (track(box(about(0.5, 0.5, 0, 180))), track(box(about(0.5, 0.5, 180, 180)))),
    "bumps into": (track(box(through((0.1, 0.5), (0.4, 0.51), (0.1, 0.5)))), STONE),
    "meets": (track(box(goes((0.1, 0.5), (0.45, 0.5)))), track(box(goes((0.8, 0.5), (0.56, 0.5))))),
    **{name: (coloured(name.removeprefix("is ")),) for name in IS},
    **{f"turns {name}": (coloured("red" if name == "blue" else "blue", None, name),) for name in COLOURS},
}


def score(name: str, entities: Sequence[Track], margins: Margins = FREE, camera: Camera | None = None) -> float:
    tracks = Tracks({str(i): each for i, each in enumerate(entities)}, camera)
    return RULES[name].score(View(tuple(entities), tracks), margins)


def same(one: float, other: float) -> bool:
    return one == pytest.approx(other, rel=1e-4, abs=1e-6, nan_ok=True)


def changed(entity: Track, **fields: Floats) -> Track:
    seen = entity.visible & ~np.isnan(fields["boxes_F4"][:, 0])
    return replace(entity, centres_F2=None, **{"visible_F": seen} | fields)


def mirrored(entity: Track) -> Track:
    return changed(entity, boxes_F4=np.array([1, 0, 1, 0]) + entity.boxes_F4[:, [2, 1, 0, 3]] * [-1, 1, -1, 1])


def backwards(entity: Track) -> Track:
    names = ("boxes_F4", "depth_F", "visible_F", "colours_F")
    turned = {name: values[::-1] for name in names if (values := getattr(entity, name)) is not None}
    return replace(entity, centres_F2=None, **turned)


def filmed(entity: Track, camera: Camera) -> Track:
    """The entity as a camera that moves sees it."""
    shift, scale = np.tile(camera.shift_F2, 2), camera.scale[:, None]
    return changed(entity, boxes_F4=0.5 + scale * (entity.boxes_F4 - 0.5) + shift)


@st.composite
def entities(draw: st.DrawFn, count: int = 2, least: float = 0.1, most: float = 0.9, gaps: bool = True) -> list[Track]:
    """Entities that wander, with steps, drift, sizes, depth and gaps of any kind."""
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    frames = draw(st.integers(3, 24))
    drift, jitter = draw(st.floats(0, 1)), draw(st.floats(0, 0.05))
    made = []
    for _ in range(count):
        path = rng.uniform(least, most, 2) + drift * rng.normal(0, 0.4, 2) * np.linspace(-0.5, 0.5, frames)[:, None]
        path = (path + rng.normal(0, jitter, (frames, 2)).cumsum(0) - least) / (most - least)
        centres = least + (most - least) * (0.5 + np.arctan(np.pi * (path - 0.5)) / np.pi)  # within, with no two equal
        size = np.exp(rng.normal(0, 0.3) + rng.normal(0, 0.6) * np.linspace(-0.5, 0.5, frames))[:, None]
        half = np.clip(rng.uniform(0.02, 0.2, 2) * size, 0.01, min(least, 1 - most) - 0.01)
        boxes = np.concatenate([centres - half, centres + half], axis=1)
        if gaps and draw(st.booleans()):
            boxes[rng.random(frames) < rng.uniform(0, 0.6)] = np.nan
        made.append(Track(boxes, depth_F=rng.uniform(0, 1) + rng.normal(0, 0.05, frames)))
    return made


def camera_of(draw: st.DrawFn, frames: int, zoom: bool) -> Camera:
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    shift = np.linspace(0, 1, frames)[:, None] * rng.uniform(-0.25, 0.25, 2)
    return Camera(shift, np.linspace(1, rng.uniform(0.8, 1.2), frames) if zoom else None)


@pytest.mark.parametrize("name", RULES)
def test_every_rule_holds_where_it_should_and_its_opposite_is_clearly_wrong(name: str) -> None:
    for margins in (JUDGE, FREE):
        assert score(name, SCENES[name], margins) >= 1
        if name in OPPOSITE:
            assert score(OPPOSITE[name], SCENES[name], margins) <= -1
    assert RULES[name].entities == len(SCENES[name])


@pytest.mark.parametrize("group", GROUPS)
def test_of_a_group_the_one_label_is_shown_that_the_scene_was_made_for(group: list[str]) -> None:
    labels = label_group(group)
    for name in group:
        tracks = Tracks({str(i): entity for i, entity in enumerate(SCENES[name])})
        found = shown(labels, tracks, list(tracks.entities), margins=FREE)
        assert found.label == name and 0.5 <= found.confidence <= 1, name


@settings(max_examples=100, deadline=None)
@given(entities())
def test_in_the_mirror_a_label_becomes_its_mirror(drawn: list[Track]) -> None:
    for name, rule in RULES.items():
        flipped = [mirrored(entity) for entity in drawn[: rule.entities]]
        for margins in (JUDGE, FREE):
            assert same(score(name, drawn[: rule.entities], margins), score(MIRROR[name], flipped, margins)), name


@settings(max_examples=100, deadline=None)
@given(entities())
def test_backwards_motion_turns_round_and_places_stay(drawn: list[Track]) -> None:
    for name, rule in RULES.items():
        turned = [backwards(entity) for entity in drawn[: rule.entities]]
        if name in NEVER_BACKWARDS:
            assert not min(score(name, each[: rule.entities]) for each in (drawn, turned)) >= 1
        else:
            assert same(score(name, drawn[: rule.entities]), score(BACKWARDS[name], turned)), name


@settings(max_examples=100, deadline=None)
@given(entities())
def test_opposites_are_opposite_and_never_hold_both(drawn: list[Track]) -> None:
    for name, other in OPPOSITE.items():
        one, two = (score(each, drawn[: RULES[name].entities]) for each in (name, other))
        assert not (one >= 1 and two >= 1), name
        if name not in ("in front of", "behind"):  # of frames, these take the share in which they hold
            assert same(one, -two), name


@settings(max_examples=100, deadline=None)
@given(entities())
def test_seen_from_the_other_entity_a_place_is_its_opposite(drawn: list[Track]) -> None:
    for name in ("left of", "above", "in front of", "next to"):
        assert same(score(name, drawn), score(OPPOSITE.get(name, name), drawn[::-1])), name


@settings(max_examples=100, deadline=None)
@given(st.data())
def test_what_the_camera_does_changes_nothing_where_it_is_known(data: st.DataObject) -> None:
    drawn = data.draw(entities(least=0.4, most=0.6))
    for zoom in (False, True):
        camera = camera_of(data.draw, len(drawn[0].boxes_F4), zoom)
        seen = [filmed(entity, camera) for entity in drawn]
        assume(not any(((e.boxes_F4 < 0.01) | (e.boxes_F4 > 0.99)).any() for e in (*drawn, *seen)))
        for name, rule in RULES.items():
            if not zoom or name not in PLACES:
                found = score(name, seen[: rule.entities], camera=camera)
                assert same(score(name, drawn[: rule.entities]), found), name


def test_without_knowing_of_a_pan_a_still_thing_moves() -> None:
    camera = Camera(WAY * [-0.3, 0.0])
    assert (
        score("moves left", [filmed(STONE, camera)]) >= 1
        and score("moves left", [filmed(STONE, camera)], camera=camera) == 0
    )


@settings(max_examples=150, deadline=None)
@given(st.sampled_from(sorted(RULES)), st.data())
def test_gaps_leave_a_label_or_take_it_away_but_swap_nothing(name: str, data: st.DataObject) -> None:
    gaps = data.draw(st.lists(st.lists(st.booleans(), min_size=F, max_size=F), min_size=2, max_size=2))
    holed = [
        changed(entity, boxes_F4=np.where(np.array(gone)[:, None], np.nan, entity.boxes_F4))
        for entity, gone in zip(SCENES[name], gaps, strict=False)
    ]
    group = next(group for group in GROUPS if name in group)
    tracks = Tracks({str(i): entity for i, entity in enumerate(holed)})
    allowed = {name, None}
    if name in ("past", "around"):  # of a part of the way, more cannot be told than of that part
        allowed |= {"towards", "away from", "past"}
    if name == "following":
        allowed |= {"towards", "away from"}
    assert shown(label_group(group), tracks, list(tracks.entities), asked=name, margins=FREE).label in allowed
    if name in OPPOSITE and RULES[name].entities == 1:
        assert not score(OPPOSITE[name], holed) > 0


def test_where_a_swap_begins_is_no_mean_of_places_that_lie_apart_in_time() -> None:
    one, other = SCENES["swaps with"]
    known = np.isin(np.arange(F), [0, *range(F - 4, F)])  # the object is not seen on its way
    holed = changed(other, boxes_F4=np.where(known[:, None], other.boxes_F4, np.nan))
    tracks = Tracks({"0": one, "1": holed})
    group = label_group(next(group for group in GROUPS if "swaps with" in group))
    assert shown(group, tracks, list(tracks.entities), asked="swaps with", margins=FREE).label == "swaps with"


@settings(max_examples=50, deadline=None)
@given(entities(gaps=False))
def test_one_frame_tells_places_and_no_motion(drawn: list[Track]) -> None:
    still = [replace(e, boxes_F4=e.boxes_F4[:1], centres_F2=None, visible_F=None, depth_F=None) for e in drawn]
    for name in MOVING:
        assert math.isnan(score(name, still[: RULES[name].entities]))
    for name in ("left of", "above", "next to", "on", "inside"):
        assert not math.isnan(score(name, still))


@pytest.mark.parametrize("name", RULES)
def test_unseen_entities_show_nothing(name: str) -> None:
    unseen = Track(np.full((F, 4), np.nan))
    for pair in ((unseen, STONE), (STONE, unseen), (unseen, unseen)):
        one = pair[: RULES[name].entities]
        if any(entity is unseen for entity in one):
            assert math.isnan(score(name, one))
    labels = label_group([name, OPPOSITE.get(name, "moves left" if RULES[name].entities == 1 else "above")])
    found = shown(labels, Tracks({}), ["a", "b"][: RULES[name].entities], name)
    assert found.label is None and found.confidence == 0 and found.scores[name] is None


def label_group(names: Sequence[str]) -> list[Label]:
    group = {"entities": RULES[names[0]].entities, "labels": {name: [name] for name in names}}
    return LabelSet({"group": group}).labels


def places(one: Track, other: Track, asked: str | None = None) -> str | None:
    return shown(label_group(PLACES), Tracks({"a": one, "b": other}), ["a", "b"], asked, FREE).label


def test_of_labels_that_hold_together_the_asked_one_is_shown_or_the_one_that_says_more() -> None:
    on, beside = SCENES["on"], SCENES["next to"]
    assert places(*on) == places(*on, "on") == places(*on, "left of") == "on"
    assert places(*on, "above") == "above"
    assert places(*beside) == "next to" and places(*beside, "left of") == "left of"
    assert places(*beside, "right of") == "next to"  # right of it, it is not


def test_a_label_that_says_less_is_no_answer_while_the_asked_one_may_hold() -> None:
    rider = track(box(at(0.5, 0.45), 0.2, 0.4)), track(box(at(0.5, 0.6), 0.4, 0.3))  # its feet reach far down
    assert score("above", rider) >= 1 and -1 < score("on", rider) < 1
    assert places(*rider, "on") is None and places(*rider, "above") == "above"
    hovering = SCENES["above"]
    assert places(*hovering, "on") == "above"
    assert places(*SCENES["left of"], "in front of") is None  # which no depth tells


def test_depth_tells_only_where_boxes_overlap() -> None:
    apart = track(box(at(0.2, 0.5)), 0.1), track(box(at(0.8, 0.5)), 0.9)
    assert math.isnan(score("in front of", apart)) and math.isnan(score("in front of", SCENES["left of"]))
    inner = track(box(at(0.5, 0.5)), 0.1), track(box(at(0.5, 0.5), 0.5, 0.5), 0.9)
    assert places(*inner) == "in front of"  # and not inside of it


def test_sideways_and_upwards_are_measured_by_one_rule_in_a_wide_frame() -> None:
    diagonal = track(box(goes((0.3, 0.3), (0.6, 0.6))))
    labels = label_group(MOTIONS[:4])
    assert shown(labels, Tracks({"a": diagonal}), ["a"]).label is None
    assert shown(labels, Tracks({"a": diagonal}, aspect=16 / 9), ["a"]).label == "moves right"
    assert shown(labels, Tracks({"a": diagonal}, aspect=9 / 16), ["a"]).label == "moves down"


def test_a_subject_must_be_on_its_side_in_most_frames() -> None:
    crossing = track(box(np.concatenate([at(0.9, 0.5)[:6], at(0.42, 0.5)[:7]])))
    assert score("right of", (crossing, STONE), JUDGE) >= 1 and abs(score("right of", (crossing, STONE), FREE)) < 1


def test_a_box_that_the_border_cuts_does_not_grow() -> None:
    entering = box(goes((0.0, 0.5), (0.3, 0.5)), 0.3)
    cut = track(np.clip(entering, 0, 1))
    assert math.isnan(score("towards the camera", [cut]))


def test_confidence_grows_with_the_score() -> None:
    labels = label_group(["moves left", "moves right"])
    ends = (0.43, 0.4, 0.2)
    found = [shown(labels, Tracks({"a": track(box(goes((0.5, 0.5), (x, 0.5))))}), ["a"], margins=FREE) for x in ends]
    assert [each.label for each in found] == ["moves left"] * 3
    assert 0.5 <= found[0].confidence < found[1].confidence < found[2].confidence < 1


def test_malformed_tracks_are_named() -> None:
    with pytest.raises(UserError, match=r"boxes of shape \(13, 2\)"):
        Track(at(0, 0))
    with pytest.raises(UserError, match=r"depth of shape \(3,\) beside boxes of 13 frames"):
        Track(box(at(0.5, 0.5)), depth_F=np.zeros(3))
    with pytest.raises(UserError, match="right or bottom comes before"):
        Track(box(at(0.5, 0.5))[:, [2, 1, 0, 3]])
    with pytest.raises(UserError, match="of 1 and 13 frames"):
        Tracks({"a": STONE, "b": Track(np.zeros((1, 4)))})
    with pytest.raises(UserError, match="relates 2 entities, 1 given"):
        shown(label_group(["on", "above"]), Tracks({"a": STONE}), ["a"])


def test_a_label_says_its_rule_or_has_the_rule_of_its_name() -> None:
    said = {
        "up": {"wordings": ["rising"], "rule": "moves up"},
        "sits": {"wordings": ["sits"], "question": "Does {subject} sit?"},
    }
    group = {"entities": 1, "labels": {**said, "left": ["going left"], "above": ["above all"], "red": ["red"]}}
    assert [rule_of(label) for label in LabelSet({"g": group}).labels] == ["moves up", None, "moves left", None, None]
    for name in (path.stem for path in SHIPPED.glob("*.yaml")):
        for label in LabelSet.load(name).labels:
            assert rule_of(label) or label.question, label.name
    for rule, reason in (
        ("flies", "rule 'flies' is unknown; known: moves left"),
        ("above", "relates 1 entities, rule"),
    ):
        group["labels"]["up"] = {"wordings": ["rising"], "rule": rule}
        with pytest.raises(UserError, match=reason):
            shown(LabelSet({"g": group}).labels, Tracks({"a": STONE}), ["a"])


@pytest.mark.parametrize("name", ["shapes", "world"])
def test_every_rule_that_a_shipped_label_set_names_is_there(name: str) -> None:
    for label in LabelSet.load(name).labels:
        if label.rule is not None:
            assert RULES[label.rule].entities == label.entities, label


IMAGES = {
    "horizontal": mirrored,
    "vertical": lambda e: changed(e, boxes_F4=np.array([0, 1, 0, 1]) + e.boxes_F4[:, [0, 3, 2, 1]] * [1, -1, 1, -1]),
    "diagonal": lambda e: changed(e, boxes_F4=e.boxes_F4[:, [1, 0, 3, 2]]),
    "time": backwards,
}


@pytest.mark.parametrize("axis", MIRRORS)
@pytest.mark.parametrize("name", [path.stem for path in SHIPPED.glob("*.yaml")])
def test_the_mirror_images_that_label_sets_state_are_those_that_rules_see(name: str, axis: str) -> None:
    labels = LabelSet.load(name)
    for label in labels.labels:
        if (rule := rule_of(label)) is None:
            assert label.image(axis) in ((label.name,) if axis == "horizontal" else (label.name, None))
            continue
        tracks = Tracks({str(i): IMAGES[axis](entity) for i, entity in enumerate(SCENES[rule])})
        found = shown(labels.groups[label.group], tracks, list(tracks.entities), margins=FREE).label
        if label.image(axis) is None:
            assert found != label.name
        else:
            assert found == label.image(axis), label.name
