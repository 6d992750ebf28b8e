"""What the oracle makes of clips that show what was asked for by halves, or something else."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from numpy.typing import NDArray

from cvg.composition import build
from cvg.judging import Reading
from cvg.shapes.oracle import ShapesOracle
from cvg.shapes.renderer import COLORS, FRAMES, Background, Scene, Sprite, render
from cvg.shapes.world import LABELS

ORACLE = ShapesOracle()
GREY = Background((70, 72, 68), (10, -10), "noise", 5, 3)
TIME = np.linspace(0, 1, FRAMES)


def sprite(entity: str, *points: tuple[float, float], radius: float | NDArray[np.float64] = 8.0) -> Sprite:
    """An entity that goes from point to point, each part of its way in the same time."""
    color, shape = entity.split()
    when = np.linspace(0, 1, len(points))
    track = np.stack([np.interp(TIME, when, axis) for axis in zip(*points, strict=True)], axis=1)
    return Sprite(shape, COLORS[color], radius, track)


def turning(entity: str, *colors: str) -> Sprite:
    rgb = np.array([COLORS[color] for color in colors], np.float64)
    steps = [np.interp(TIME, np.linspace(0, 1, len(colors)), channel) for channel in rgb.T]
    return replace(sprite(entity, (0.5, 0.5)), rgb=np.stack(steps, axis=1))


def reading(sprites: list[Sprite], *asked: tuple[str, str]) -> Reading:
    """Of (label, entity) or ("label", "subject, object")."""
    names = list(dict.fromkeys(name for _, phrase in asked for name in phrase.split(", ")))
    places = [(label, tuple(names.index(name) for name in phrase.split(", "))) for label, phrase in asked]
    template = " and ".join([f"{{e{i}}}" for i in range(len(names))] + [f"{{r{i}}}" for i in range(len(asked))])
    wordings = [LABELS[label].wordings[0] for label, _ in asked]
    (found,) = ORACLE([render(Scene(tuple(sprites), GREY))], [build(template, names, places, wordings)])
    return found


LEFT, RIGHT, MIDDLE = (0.25, 0.5), (0.75, 0.5), (0.5, 0.5)
BOUND = (("in red", "circle"), ("in blue", "square"))


def test_a_bare_noun_is_the_one_of_that_shape_in_whatever_colour() -> None:
    assert reading([sprite("red circle", LEFT), sprite("blue square", RIGHT)], *BOUND) == Reading(("in red", "in blue"))
    swapped = reading([sprite("blue circle", LEFT), sprite("red square", RIGHT)], *BOUND)
    assert swapped == Reading(("in blue", "in red")) and set(swapped.tracks.entities) == {"circle", "square"}  # type: ignore[union-attr]
    assert reading([sprite("red circle", LEFT), sprite("red square", RIGHT)], *BOUND) == Reading(("in red", "in red"))
    orange = replace(sprite("red square", RIGHT), rgb=(240.0, 130.0, 30.0))
    assert reading([sprite("red circle", LEFT), orange], *BOUND) == Reading(("in red", None))
    assert reading([sprite("green circle", RIGHT, LEFT)], ("left", "circle")) == Reading(("left",))


def test_two_of_the_shape_that_was_meant_are_none_and_so_is_another_shape() -> None:
    circles = reading([sprite("red circle", LEFT), sprite("blue circle", RIGHT)], *BOUND)
    assert circles.found == (False, False) and "circle: there are 2" in circles.problems
    found = reading([sprite("red circle", LEFT), sprite("blue triangle", RIGHT)], *BOUND)
    assert found.labels == ("in red", None) and found.found == (True, False)
    assert found.problems == ("square: not there", "blue triangle: not asked for")
    more = [sprite("red circle", LEFT), sprite("blue square", RIGHT), sprite("green triangle", (0.5, 0.2))]
    assert reading(more, *BOUND).problems == ("green triangle: not asked for",)


@pytest.mark.parametrize("new", [color for color in COLORS if color != "red"])
def test_a_change_of_colour_by_way_of_any_other_or_of_grey(new: str) -> None:
    asked = (f"turning {new}", "red circle")
    assert reading([turning("red circle", "red", "red", "red", new, new, new)], asked) == Reading((asked[0],))


def test_what_keeps_its_colour_turns_none_and_what_has_the_new_one_from_the_start_is_another() -> None:
    asked = ("turning blue", "red circle")
    assert reading([sprite("red circle", MIDDLE)], asked) == Reading((None,))
    assert reading([turning("red circle", "red", "red", "green", "green")], asked) == Reading(("turning green",))
    assert reading([turning("red circle", "red", "blue", "red")], asked).labels == (None,)
    blue = reading([sprite("blue circle", MIDDLE)], asked)
    assert blue.problems == ("red circle: not there", "blue circle: not asked for") and blue.labels == (None,)


def test_to_be_away_is_a_fault_unless_something_that_blinks_was_asked_for() -> None:
    opacity = np.ones(FRAMES)
    opacity[5:9] = 0
    blinking = replace(sprite("red circle", MIDDLE), opacity=opacity)
    assert reading([blinking], ("blinking", "red circle")) == Reading(("blinking",))
    assert reading([blinking], ("growing", "red circle")) == Reading(("blinking",))
    assert reading([blinking], ("left", "red circle")).problems[0] == "red circle: not there"
    gone = replace(blinking, opacity=(TIME < 0.6).astype(float))
    assert reading([gone], ("blinking", "red circle")).problems[0] == "red circle: not there"
    assert reading([sprite("red circle", MIDDLE)], ("blinking", "red circle")) == Reading((None,))


def test_half_an_action_is_none() -> None:
    there, top, bottom = ("bouncing", "red circle"), (0.5, 0.2), (0.5, 0.7)
    assert reading([sprite("red circle", top, bottom, top)], there) == Reading(("bouncing",))
    assert reading([sprite("red circle", top, bottom)], there) == Reading((None,))
    assert reading([sprite("red circle", bottom, top, bottom)], there) == Reading((None,))
    assert reading([sprite("red circle", top, bottom, bottom)], there) == Reading(("stopping",))
    assert reading([sprite("red circle", top, top, bottom, bottom)], there).labels == (None,)
    jump = np.where(TIME < 0.95, 6.0, 11.0)
    assert reading([sprite("red circle", MIDDLE, radius=jump)], ("growing", "red circle")) == Reading((None,))
    waxing = np.interp(TIME, [0, 0.5, 1], [6.0, 11.0, 6.0])
    assert reading([sprite("red circle", MIDDLE, radius=waxing)], ("growing", "red circle")) == Reading((None,))


def test_who_covers_whom_is_told_where_one_does() -> None:
    asked = ("in front of", "red circle, blue square")
    circle, square = sprite("red circle", (0.45, 0.5), radius=9.0), sprite("blue square", (0.6, 0.5), radius=9.0)
    assert reading([square, circle], asked) == Reading(("in front of",))
    assert reading([circle, square], asked) == Reading(("behind",))
    assert reading([sprite("red circle", LEFT), sprite("blue square", RIGHT)], asked) == Reading((None,))
    hidden = reading([circle, square], ("left of", "red circle, blue square"))
    assert "red blob: its shape is unclear" in hidden.problems  # where places were asked for, nothing should cover it
    tracks = reading([circle, square], asked).tracks
    assert tracks is not None
    covered = tracks.entities["red circle"]
    assert np.abs(covered.centres - [0.45, 0.5]).max() < 0.02  # of all of it, not of what is seen
    assert covered.hidden_F is not None and 0.2 < np.median(covered.hidden_F) < 0.6


def test_what_comes_near_and_goes_back_bumps_only_where_it_touches() -> None:
    asked, still = ("bumping into", "red circle, blue square"), sprite("blue square", (0.75, 0.5))
    start, far, near = (0.2, 0.5), (0.4, 0.5), (0.51, 0.5)
    assert reading([sprite("red circle", start, near, start), still], asked).labels == ("bumping into",)
    assert reading([sprite("red circle", start, far, start), still], asked).labels == (None,)
    assert reading([sprite("red circle", start, near), still], asked).labels == (None,)
