"""From boxes of single frames to things, names and tracks."""

from __future__ import annotations

import numpy as np
import pytest

from cvg.judging.detection import Detections
from cvg.judging.following import Thing, follow, meant, single, track_of

FRAMES = 13
PHRASES = ["dog", "cat"]
Seen = tuple[tuple[float, float], tuple[float, ...]]
"""A centre, and a score of each phrase."""


def frame(*seen: Seen, side: float = 0.2) -> Detections:
    boxes = [[x - side / 2, y - side / 2, x + side / 2, y + side / 2] for (x, y), _ in seen]
    scores = [score for _, score in seen]
    return Detections(
        np.array(boxes, np.float32).reshape(-1, 4), np.array(scores, np.float32).reshape(len(seen), -1 if seen else 1)
    )


def way(start: tuple[float, float], end: tuple[float, float]) -> list[tuple[float, float]]:
    return [(float(x), float(y)) for x, y in np.linspace(start, end, FRAMES)]


def centres(thing: Thing) -> np.ndarray:
    boxes = np.array(thing.boxes)
    return np.asarray((boxes[:, :2] + boxes[:, 2:]) / 2)


def test_a_thing_is_followed_through_flickering_names() -> None:
    at = way((0.2, 0.3), (0.8, 0.3))
    scores = [(0.6, 0.1) if i % 3 else (0.3, 0.4) for i in range(FRAMES)]
    things = follow([frame((place, score)) for place, score in zip(at, scores, strict=True)], 0.2)
    assert len(things) == 1 and things[0].frames == list(range(FRAMES))
    who = meant(things, PHRASES, ["dog"], FRAMES, 0.2)
    assert who.things == ((0,),) and not who.several


def test_two_of_a_kind_that_cross_keep_their_ways() -> None:
    one, other = way((0.1, 0.4), (0.9, 0.4)), way((0.9, 0.62), (0.1, 0.62))
    things = follow([frame((a, (0.8, 0.1)), (b, (0.8, 0.1))) for a, b in zip(one, other, strict=True)], 0.2)
    assert len(things) == 2
    assert {tuple(np.sign(centres(thing)[-1] - centres(thing)[0])[:1]) for thing in things} == {(1.0,), (-1.0,)}


def test_names_tell_apart_what_meets() -> None:
    one, other = way((0.1, 0.5), (0.9, 0.5)), way((0.9, 0.5), (0.1, 0.5))
    frames = [frame((a, (0.8, 0.1)), (b, (0.1, 0.8))) for a, b in zip(one, other, strict=True)]
    things = follow(frames, 0.2)
    who = meant(things, PHRASES, ["cat", "dog"], FRAMES, 0.2)
    cat, dog = (things[choice[0]] for choice in who.things)
    assert centres(cat)[-1][0] < 0.2 and centres(dog)[-1][0] > 0.8


def test_a_short_gap_is_bridged_and_a_long_one_is_not() -> None:
    at = way((0.2, 0.5), (0.8, 0.5))
    (thing,) = follow([frame() if i in (5, 6, 12) else frame((place, (0.7,))) for i, place in enumerate(at)], 0.2)
    track = track_of(thing, range(FRAMES), FRAMES)
    np.testing.assert_allclose(track.centres[:-1], at[:-1], atol=1e-6)
    assert np.isnan(track.boxes_F4[-1]).all()
    assert [i for i in range(FRAMES) if not track.visible[i]] == [5, 6, 12]
    assert len(follow([frame() if 3 <= i < 9 else frame((place, (0.7,))) for i, place in enumerate(at)], 0.2)) == 2


def test_frames_that_were_not_looked_at_lie_between_those_that_were() -> None:
    looked_at = list(range(0, 25, 2))
    at = way((0.2, 0.5), (0.8, 0.5))
    (thing,) = follow([frame((place, (0.7,))) for place in at], 0.2)
    track = track_of(thing, looked_at, 25)
    np.testing.assert_allclose(track.centres[:, 0], np.linspace(0.2, 0.8, 25), atol=1e-6)
    assert track.visible.all()


@pytest.mark.parametrize("seen", [5, 9])
def test_what_is_seen_for_less_than_half_of_the_time_is_not_there(seen: int) -> None:
    frames = [frame(((0.5, 0.5), (0.7, 0.1))) if i < seen else frame() for i in range(FRAMES)]
    who = meant(follow(frames, 0.2), PHRASES, ["dog"], FRAMES, 0.2)
    assert bool(who.things[0]) == (seen == 9)


def test_a_thing_is_one_entity_only() -> None:
    """One animal, which looks like a dog and somewhat like a cat."""
    frames = [frame(((0.5, 0.5), (0.7, 0.3)))] * FRAMES
    who = meant(follow(frames, 0.2), PHRASES, ["cat", "dog"], FRAMES, 0.2)
    assert who.things == ((), (0,))


def test_the_more_special_phrase_gets_its_thing() -> None:
    """Both are dogs, one of them a brown dog."""
    frames = [frame(((0.2, 0.5), (0.6, 0.5)), ((0.8, 0.5), (0.55, 0.1)))] * FRAMES
    who = meant(follow(frames, 0.2), ["dog", "brown dog"], ["dog", "brown dog"], FRAMES, 0.2)
    assert who.things == ((1,), (0,)) and not who.several


def test_two_of_a_phrase_may_each_be_either() -> None:
    frames = [frame(((0.2, 0.5), (0.6, 0.1)), ((0.8, 0.5), (0.5, 0.1)))] * FRAMES
    things = follow(frames, 0.2)
    who = meant(things, PHRASES, ["dog", "dog"], FRAMES, 0.2)
    assert sorted(who.things) == [(0, 1), (1, 0)] and not who.several
    who = meant(things, PHRASES, ["dog"], FRAMES, 0.2)
    assert who.things == ((0, 1),) and who.several == ("dog",)
    assert meant(things[:1], PHRASES, ["dog", "dog"], FRAMES, 0.2).things == ((), ())


def test_a_weak_second_is_no_rival() -> None:
    frames = [frame(((0.2, 0.5), (0.9, 0.1)), ((0.8, 0.5), (0.4, 0.1)))] * FRAMES
    who = meant(follow(frames, 0.2), PHRASES, ["dog"], FRAMES, 0.2)
    assert who.things == ((0,),) and not who.several


def test_boxes_of_one_thing_and_of_its_parts_are_one() -> None:
    boxes = np.array([[0.1, 0.1, 0.5, 0.5], [0.12, 0.1, 0.52, 0.5], [0.2, 0.2, 0.3, 0.3], [0.22, 0.2, 0.32, 0.3]])
    scores = np.array([[0.8, 0.1], [0.7, 0.2], [0.5, 0.1], [0.1, 0.6]])
    kept, named = single(Detections(boxes.astype(np.float32), scores.astype(np.float32)))
    np.testing.assert_allclose(kept, boxes[[0, 3]], atol=1e-6)  # its head, but not the cat that sits on it
    assert len(named) == 2


def test_weak_boxes_go_on_with_things_and_begin_none() -> None:
    at = way((0.2, 0.5), (0.6, 0.5))
    frames = [frame((place, (0.5 if i < 7 else 0.12,))) for i, place in enumerate(at)]
    (thing,) = follow(frames, 0.2)
    assert len(thing.frames) == FRAMES
    assert not follow([frame((place, (0.12,))) for place in at], 0.2)


def test_what_turns_into_something_else_is_neither() -> None:
    at = way((0.2, 0.5), (0.8, 0.5))
    frames = [frame((place, (0.9, 0.02) if i < 6 else (0.02, 0.9))) for i, place in enumerate(at)]
    assert meant(follow(frames, 0.2), PHRASES, ["dog"], FRAMES, 0.2).things == ((),)


def test_nothing_is_nobody() -> None:
    assert meant(follow([frame()] * 3, 0.2), PHRASES, ["dog", "cat"], 3, 0.2).things == ((), ())
