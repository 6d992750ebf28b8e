"""What clips of the shapes world show, measured from the scenes by geometry of the tests' own."""

from __future__ import annotations

import time
from collections.abc import Iterator

import numpy as np
import pytest
from numpy.typing import NDArray

from cvg.common.errors import UserError
from cvg.composition import LabelSet
from cvg.judging.geometry import DIRECTIONS
from cvg.shapes.outlines import DIRECTIONS_K2, gaps, reach, reaches
from cvg.shapes.renderer import COLORS, FRAMES, SHAPES, SIZE, Background, Scene, Sprite, render, sprite_distance
from cvg.shapes.world import (
    ALL_KINDS,
    HELD_OUT_ENTITIES,
    KINDS,
    LABELS,
    TEMPLATES,
    Spec,
    entity_tuples,
    known_kinds,
    sample_scene,
    sample_spec,
    turns,
)

Floats = NDArray[np.float64]
SCENES = 12


def scenes(kind: str, label: str | None = None, count: int = SCENES) -> Iterator[tuple[Spec, Scene]]:
    for seed in range(count):
        rng = np.random.default_rng([seed, 17])
        spec = sample_spec(rng, kind, held_out=bool(seed % 2), labels=[label] if label else None)
        yield spec, sample_scene(spec, rng)


def outline(sprite: Sprite, frame: int) -> Floats:
    """Points (P, 2) of the outline of a sprite that does not change its size, in frame sides."""
    angle = np.linspace(0, 2 * np.pi, 160, endpoint=False)
    way = np.stack([np.cos(angle), np.sin(angle)], axis=-1)
    if sprite.shape == "circle":
        points = way
    else:
        corners = {
            "square": 0.89 * np.array([(-1.0, -1.0), (1, -1), (1, 1), (-1, 1)]),
            "triangle": 1.44 * np.array([(0, -1), (np.sin(np.pi / 3), 0.5), (-np.sin(np.pi / 3), 0.5)]),
        }[sprite.shape]
        share = np.linspace(0, 1, 50)[:, None]
        points = np.concatenate(
            [(1 - share) * a + share * b for a, b in zip(corners, np.roll(corners, -1, 0), strict=True)]
        )
    return sprite.track_F2[frame] + points * float(np.max(sprite.radius)) / SIZE


def rims(scene: Scene) -> Floats:
    """Distance of the two outlines in each frame (F), in frame sides."""
    one, other = scene.sprites
    distances = []
    for frame in range(FRAMES):
        between = outline(one, frame)[:, None] - outline(other, frame)[None]
        distances.append(np.linalg.norm(between, axis=-1).min())
    return np.array(distances)


def inside(sprite: Sprite) -> NDArray[np.bool_]:
    return np.asarray(sprite_distance(sprite) < 0)


def overlap(scene: Scene) -> int:
    one, other = (inside(sprite) for sprite in scene.sprites)
    return int((one & other).sum((1, 2)).max())


def extent(track_F2: Floats) -> float:
    return float((track_F2.max(0) - track_F2.min(0)).max())


def along_an_axis(step_2: Floats) -> tuple[float, Floats]:
    """The longer component of a vector, and its direction."""
    axis = int(np.abs(step_2).argmax())
    direction = np.zeros(2)
    direction[axis] = np.sign(step_2[axis])
    return float(abs(step_2[axis])), direction


# All kinds


@pytest.mark.parametrize("kind", ALL_KINDS)
def test_all_of_every_entity_is_within_the_frame(kind: str) -> None:
    for spec, scene in scenes(kind):
        assert len(scene.sprites) == len(spec.entities)
        for entity, sprite in zip(spec.entities, scene.sprites, strict=True):
            assert sprite.shape == entity.split()[-1]
            mask = inside(sprite)
            assert mask.any((1, 2)).all()
            assert not mask[:, [0, -1]].any() and not mask[:, :, [0, -1]].any()
        if len(scene.sprites) == 2 and kind != "depth":
            # Touching rims may share a pixel; straight lines keep circles apart, and corners may reach further.
            assert overlap(scene) <= (12 if kind in KINDS else 3)


@pytest.mark.parametrize("kind", ALL_KINDS)
def test_entities_are_of_their_share(kind: str) -> None:
    for seed in range(40):
        spec = sample_spec(np.random.default_rng(seed), kind, held_out=bool(seed % 2))
        held_out = bool(seed % 2)
        if kind == "change":
            assert (spec.shown[0] in HELD_OUT_ENTITIES) == held_out
            assert held_out or spec.shown[1] not in HELD_OUT_ENTITIES
            assert spec.shown[0].split()[0] != spec.shown[1].split()[0]
        else:
            assert spec.shown in entity_tuples(len(spec.shown), held_out)
        if kind == "attribute":
            assert {*spec.entities} <= {*SHAPES} and len({*spec.entities}) == 2
        assert spec.composition.prompt == spec.prompt


def test_kinds_are_known() -> None:
    assert ALL_KINDS[:4] == KINDS and {*ALL_KINDS} == {*TEMPLATES}
    assert known_kinds(None) == ALL_KINDS and known_kinds(["depth"]) == ("depth",) and known_kinds(None, KINDS) == KINDS
    with pytest.raises(UserError, match=r"kind 'depths': unknown; give some of motion, .*three_relations"):
        known_kinds(["depth", "depths"])
    with pytest.raises(UserError, match=r"kinds \[\]: give some of motion, .* or leave them out"):
        known_kinds([])
    groups = {group for templates in TEMPLATES.values() for _, places in templates for group, _ in places}
    assert groups == {*LABELS.groups}
    assert not turns("red circle", "turning red") and turns("red circle", "turning blue")
    assert turns("blue triangle", "turning red") and not turns("blue triangle", "turning red", held_out=False)


@pytest.mark.parametrize("kind", ALL_KINDS)
def test_a_clip_is_sampled_in_milliseconds(kind: str) -> None:
    began = time.process_time()
    for _, scene in scenes(kind):
        render(scene)
    assert (time.process_time() - began) / SCENES < 0.06  # about 0.005 on a core of its own


# Labels, by what they say


@pytest.mark.parametrize("label", [label.name for label in LABELS.groups["depth"]])
def test_depth(label: str) -> None:
    for _, scene in scenes("depth", label):
        back = scene.sprites[1 if label == "in front of" else 0]
        front = scene.sprites[0 if label == "in front of" else 1]
        hidden = (inside(back) & inside(front)).sum((1, 2)) / inside(back).sum((1, 2))
        assert (hidden > 0.15).all() and (hidden < 0.42).all()
        assert max(extent(back.track_F2), extent(front.track_F2)) <= 0.05
        colors = render(scene).astype(float)[inside(back) & inside(front)]
        assert np.abs(np.median(colors, axis=0) - front.rgb).max() < 3


def check_action(label: str, sprite: Sprite) -> None:
    track, radius, opacity = sprite.track_F2, np.broadcast_to(sprite.radius, FRAMES), sprite.opacity
    if label in ("growing", "shrinking"):
        ratio = radius[1:] / radius[:-1] if label == "growing" else radius[:-1] / radius[1:]
        assert (ratio > 1.02).all() and max(radius[0] / radius[-1], radius[-1] / radius[0]) >= 1.7
        assert 5.5 <= radius.min() <= 7
        assert extent(track) <= 0.05
        return
    assert np.ptp(radius) == 0
    if label == "blinking":
        assert isinstance(opacity, np.ndarray)
        assert not opacity[5:9].any() and (opacity[[*range(5), *range(9, 13)]] == 1).all()
        assert extent(track) <= 0.05
        return
    assert not isinstance(opacity, np.ndarray)
    if label in ("bouncing", "back and forth"):
        axis = 1 if label == "bouncing" else 0
        out = track[6, axis] - track[[0, -1], axis]
        assert (np.abs(out) >= 0.18).all() and (np.abs(out) <= 0.3).all() and np.ptp(np.sign(out)) == 0
        assert label != "bouncing" or (out > 0).all()
        assert np.linalg.norm(track[-1] - track[0]) <= 0.05 and np.ptp(track[:, 1 - axis]) <= 0.03
        return
    rest, going = (slice(6, None), slice(None, 7)) if label == "stopping" else (slice(None, 7), slice(6, None))
    assert extent(track[rest]) <= 0.01
    length, direction = along_an_axis(track[going][-1] - track[going][0])
    assert 0.18 <= length <= 0.3 and (np.diff(track[going], axis=0) @ direction > 0.02).all()
    assert abs((track[-1] - track[0]) @ direction[::-1]) <= 0.05


@pytest.mark.parametrize("label", [label.name for label in LABELS.groups["action"]])
def test_actions(label: str) -> None:
    for _, scene in scenes("action", label):
        check_action(label, scene.sprites[0])


def check_path(label: str, sprite: Sprite) -> None:
    track, ways = sprite.track_F2, label.split(" then ")
    for way, leg in zip(ways, (track[:7], track[6:]), strict=True):
        step = np.diff(leg, axis=0)
        assert (step @ np.array(DIRECTIONS[way]) > 0.02).all()
        assert 0.18 <= extent(leg) <= 0.3 and np.ptp(leg @ np.array(DIRECTIONS[way])[::-1]) <= 0.01


@pytest.mark.parametrize("label", [label.name for label in LABELS.groups["path"]])
def test_paths(label: str) -> None:
    for _, scene in scenes("path", label):
        check_path(label, scene.sprites[0])


def check_interaction(label: str, scene: Scene) -> None:
    mine, theirs = (sprite.track_F2 for sprite in scene.sprites)
    apart, gap = mine - theirs, rims(scene)
    if label == "circling":
        angle = np.unwrap(np.arctan2(apart[:, 1], apart[:, 0]))
        assert abs(angle[-1] - angle[0]) >= np.radians(225) and extent(theirs) <= 0.03 and gap.min() > 0.05
    elif label == "following":
        length, forward = along_an_axis(theirs[-1] - theirs[0])
        assert length >= 0.22 and (mine[-1] - mine[0]) @ forward >= 0.22
        assert (apart @ forward < -0.1).all() and gap.min() > 0.05 and gap.max() < 0.2
    elif label == "swapping with":
        assert np.linalg.norm(mine[-1] - theirs[0]) <= 0.05 and np.linalg.norm(theirs[-1] - mine[0]) <= 0.05
        angle = np.unwrap(np.arctan2(apart[:, 1], apart[:, 0]))
        assert abs(abs(angle[-1] - angle[0]) - np.pi) < 0.12 and gap.min() > 0.05
    elif label == "bumping into":
        distance = np.linalg.norm(apart, axis=1)
        assert extent(theirs) <= 0.02 and gap.argmin() == 6 and gap[6] <= 0.01
        assert (distance[[0, -1]] - distance[6] >= 0.2).all()
    elif label == "passing":
        length, forward = along_an_axis(mine[-1] - mine[0])
        ahead = apart @ forward
        assert extent(theirs) <= 0.02 and ahead[0] <= -0.22 and ahead[-1] >= 0.22 and length >= 0.45
        straight = np.linspace(mine[0], mine[-1], len(mine))
        assert gap.min() > 0.05 and np.abs(mine - straight).max() <= 0.02
    else:
        _, forward = along_an_axis(theirs[0] - mine[0])
        assert (mine[-1] - mine[0]) @ forward >= 0.12 and (theirs[0] - theirs[-1]) @ forward >= 0.12
        assert gap[-1] <= 0.03 and gap.argmin() >= 8


@pytest.mark.parametrize("label", [label.name for label in LABELS.groups["interaction"]])
def test_interactions(label: str) -> None:
    for _, scene in scenes("interaction", label):
        check_interaction(label, scene)


def test_attributes_are_the_colours_of_two_shapes_apart() -> None:
    for spec, scene in scenes("attribute"):
        for relation, sprite in zip(spec.relations, scene.sprites, strict=True):
            color = relation.label.removeprefix("in ")
            assert min(COLORS, key=lambda name: float(np.abs(np.array(COLORS[name]) - sprite.rgb).sum())) == color
            assert extent(sprite.track_F2) <= 0.05
        assert rims(scene).min() > 0.02


def test_what_turns_has_its_old_colour_first_and_its_new_one_last() -> None:
    for spec, scene in scenes("change"):
        (sprite,), (old, new) = scene.sprites, (np.array(COLORS[e.split()[0]]) for e in spec.shown)
        frames = render(scene)
        place = (sprite.track_F2 * SIZE).astype(int)
        seen = frames[np.arange(FRAMES), place[:, 1], place[:, 0]].astype(float)
        assert extent(sprite.track_F2) <= 0.05
        assert np.abs(seen[:5] - old).max() < 45 and np.abs(seen[8:] - new).max() < 45
        assert np.ptp(seen[:5], axis=0).max() <= 1 and np.ptp(seen[8:], axis=0).max() <= 1
        moved = np.abs(np.diff(seen[4:9], axis=0)).max(1)
        assert (moved > 5).all()


def test_three_relations_hold_at_once() -> None:
    for spec, scene in scenes("three_relations", count=40):
        for relation in spec.relations:
            first = scene.sprites[relation.entities[0]].track_F2
            way = np.array(DIRECTIONS[relation.label])
            if len(relation.entities) == 1:
                step = first[-1] - first[0]
                assert step @ way >= 0.2 and abs(step @ way[::-1]) <= 0.06
            else:
                offset = (first - scene.sprites[1].track_F2).mean(0)
                assert offset @ way >= 0.28 and abs(offset @ way[::-1]) <= 0.6 * (offset @ way) + 1e-9
        assert rims(scene).min() > 0.02


# Mirrors: what a label set says of a label's images is what the mirrored scene shows


def mirrored(sprite: Sprite, axis: str) -> Sprite:
    if axis == "time":
        return sprite.at(slice(None, None, -1))
    track = sprite.track_F2
    moved = {"horizontal": [1, 0] - track * [1, -1], "vertical": [0, 1] - track * [-1, 1], "diagonal": track[:, ::-1]}
    return Sprite(sprite.shape, sprite.rgb, sprite.radius, moved[axis], sprite.opacity, sprite.layer)


@pytest.mark.parametrize("axis", ["horizontal", "vertical", "diagonal", "time"])
def test_mirror_images_show_the_labels_that_are_stated(axis: str) -> None:
    """Of circles alone, which the mirror images of shapes are again."""
    for group in ("action", "path", "interaction"):
        for label in LABELS.groups[group]:
            for _, scene in scenes(group, label.name, 9):
                sprites = tuple(mirrored(sprite, axis) for sprite in scene.sprites)
                if {sprite.shape for sprite in sprites} != {"circle"}:
                    continue
                shown = {other.name for other in LABELS.groups[group] if shows(other.name, group, sprites, scene)}
                if (label.name, axis) == ("blinking", "time"):
                    assert not shown  # away in frames 4 to 7 instead: blinking as well, for whoever looks
                elif label.name in ("bouncing", "back and forth") and axis == "diagonal":
                    # One is the other's image, unless it goes up first: neither is mirrored so.
                    assert shown <= {"bouncing", "back and forth"} - {label.name}
                else:
                    image = label.image(axis)
                    assert shown == {image} - {None}, (label.name, axis, shown)


def shows(label: str, group: str, sprites: tuple[Sprite, ...], scene: Scene) -> bool:
    try:
        if group == "action":
            check_action(label, sprites[0])
        elif group == "path":
            check_path(label, sprites[0])
        else:
            check_interaction(label, Scene(sprites, scene.background))
    except AssertionError:
        return False
    return True


def test_images_of_images_are_the_labels_themselves() -> None:
    for label in LabelSet.load("shapes").labels:
        for axis in ("horizontal", "vertical", "diagonal", "time"):
            image = label.image(axis)
            assert image is None or LABELS[image].image(axis) == label.name


# Outlines and sprites


@pytest.mark.parametrize("shape", SHAPES)
def test_an_outline_reaches_as_far_as_its_pixels(shape: str) -> None:
    sprite = Sprite(shape, (0.0, 0.0, 0.0), 20.0, np.array([[0.5, 0.5]]))
    mask = inside(sprite)[0]
    rows, columns = np.nonzero(mask)
    points = np.stack([columns + 0.5 - 32, rows + 0.5 - 32], axis=-1) / 20
    np.testing.assert_allclose((points @ DIRECTIONS_K2.T).max(0), reach(shape), atol=0.09)


@pytest.mark.parametrize("one", SHAPES)
@pytest.mark.parametrize("other", SHAPES)
def test_gaps_are_those_of_the_outlines(one: str, other: str) -> None:
    rng = np.random.default_rng(0)
    for _ in range(8):
        radii, angle = rng.uniform(6, 10, 2), rng.uniform(0, 2 * np.pi)
        apart = rng.uniform(0.36, 0.5) * np.array([np.cos(angle), np.sin(angle)])
        still = np.ones((FRAMES, 1))
        pair = (
            Sprite(one, (0.0, 0.0, 0.0), radii[0], still * [[0.5, 0.5]]),
            Sprite(other, (0.0, 0.0, 0.0), radii[1], still * (0.5 + apart)),
        )
        true = rims(Scene(pair, Background((0.0, 0.0, 0.0))))[0]
        found = gaps(apart, reaches(one, radii[:1], other, radii[1:])[0])
        assert found == pytest.approx(true, abs=0.004)


def test_sprites_of_a_higher_layer_cover_and_those_away_do_not() -> None:
    middle = np.full((FRAMES, 2), 0.5)
    there = np.r_[np.ones(6), np.zeros(7)]
    over = Sprite("circle", (255.0, 0.0, 0.0), 8.0, middle, there, layer=1)
    under = Sprite("square", (0.0, 0.0, 255.0), 8.0, middle)
    frames = render(Scene((over, under), Background((50.0, 50.0, 50.0))))
    assert frames[0, 32, 32].tolist() == [255, 0, 0] and frames[-1, 32, 32].tolist() == [0, 0, 255]
    changing = Sprite(
        "circle", np.linspace([255.0, 0, 0], [0, 0, 255.0], FRAMES), np.linspace(4.0, 16.0, FRAMES), middle
    )
    frames = render(Scene((changing,), Background((50.0, 50.0, 50.0))))
    red = frames[0] == [255, 0, 0]
    blue = frames[-1] == [0, 0, 255]
    assert 8 < blue.all(-1).sum() / red.all(-1).sum() < 30
    part = changing.at(slice(None, None, -4))
    np.testing.assert_array_equal(render(Scene((part,), Background((50.0, 50.0, 50.0)))), frames[::-4])
