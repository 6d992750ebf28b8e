from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy import ndimage

from cvg.composition import LabelSet
from cvg.judging.camera import camera_motion
from cvg.judging.showing import shown
from cvg.judging.tracks import Tracks
from cvg.shapes.entities import find_entities
from cvg.shapes.renderer import COLORS, FRAMES, SIZE, Background, Scene, Sprite, render
from cvg.shapes.world import sample_scene, sample_spec

MOTION = LabelSet.load("shapes").groups["motion"]


def world(seed: int) -> NDArray[np.float64]:
    """A landscape of smooth patches, larger than a frame."""
    rng = np.random.default_rng(seed)
    grey = sum(ndimage.gaussian_filter(rng.normal(0, 30 * s, (400, 400)), s) for s in (2, 5, 12))
    return np.clip(110 + np.asarray(grey), 0, 255)


def filmed(seed: int, pan: tuple[float, float], zoom: float, noise: float = 0) -> NDArray[np.uint8]:
    """A landscape (F, 96, 128, 3) that by the end is shifted by ``pan`` frame sides and ``zoom`` times as large."""
    frames, land = [], world(seed)
    y, x = np.mgrid[0:96, 0:128] + 0.5
    for share in np.linspace(0, 1, 9):
        scale = zoom**share
        there = [(y - 48 - pan[1] * share * 96) / scale + 200, (x - 64 - pan[0] * share * 128) / scale + 200]
        frames.append(ndimage.map_coordinates(land, there, order=1))
    video = np.stack(frames)[..., None].repeat(3, -1) + np.random.default_rng(seed).normal(0, noise, (9, 96, 128, 3))
    return np.clip(np.rint(video), 0, 255).astype(np.uint8)


@pytest.mark.parametrize("noise", [0, 8])
@pytest.mark.parametrize(("pan", "zoom"), [((0.3, 0), 1), ((-0.2, 0.15), 1), ((0, 0), 1.25), ((0.1, -0.2), 0.85)])
def test_pans_and_zooms_are_measured(pan: tuple[float, float], zoom: float, noise: float) -> None:
    for seed in range(1):
        camera = camera_motion(filmed(seed, pan, zoom, noise))
        assert camera is not None
        assert camera.shift_F2[-1] == pytest.approx(pan, abs=0.01) and camera.scale[-1] == pytest.approx(zoom, abs=0.01)
        assert (camera.shift_F2[0] == 0).all() and camera.scale[0] == 1


def test_what_moves_by_itself_is_left_out_or_outvoted() -> None:
    video = filmed(5, (0.2, 0), 1)
    boxes = np.zeros((9, 4))
    for f in range(9):
        left, top = 80 - 8 * f, 30
        video[f, top : top + 40, left : left + 40] = [250, 30, 30]
        boxes[f] = left / 128, top / 96, (left + 40) / 128, (top + 40) / 96
    camera = camera_motion(video, [boxes])
    assert camera is not None and camera.shift_F2[-1] == pytest.approx((0.2, 0), abs=0.01)
    hidden = camera_motion(video, [np.tile([0.0, 0.0, 1.0, 1.0], (9, 1))])
    assert hidden is None


def panned(pan: int, track: NDArray[np.float64], seed: int) -> tuple[NDArray[np.uint8], NDArray[np.float64]]:
    """A rendered clip of a textured world, seen through a window that moves by ``pan`` pixels to the left."""
    sprite = Sprite("circle", COLORS["red"], 6.0, track)
    frames = render(Scene((sprite,), Background((80, 80, 80), (20, -20), "noise", 60, seed)))
    starts = np.linspace(pan if pan > 0 else 0, 0 if pan > 0 else -pan, FRAMES).round().astype(int)
    return np.stack([frame[6:58, at : at + 52] for frame, at in zip(frames, starts, strict=True)]), starts - starts[0]


@pytest.mark.parametrize("pan", [-12, 12])
def test_a_rendered_clip_that_is_panned_shows_its_own_motion(pan: int) -> None:
    """The circle stands still, or goes one way, while the window goes the other: in the frame it goes the same."""
    for seed in range(2):
        for end in (0.0, 0.18):
            way = np.sign(pan) * end
            track = np.linspace((0.5 - way / 2, 0.5), (0.5 + way / 2, 0.5), FRAMES)
            frames, moved = panned(pan, track, seed)
            tracks, _ = find_entities(frames)
            camera = camera_motion(frames, [track.boxes_F4 for track in tracks.entities.values()])
            assert camera is not None
            assert np.abs(camera.shift_F2[:, 0] * 52 + moved).max() < 1 and np.abs(camera.scale - 1).max() < 0.02
            label = shown(MOTION, Tracks(tracks.entities, camera), ["red circle"]).label
            assert label == (None if not end else "right" if pan > 0 else "left")
            assert shown(MOTION, tracks, ["red circle"]).label == ("right" if pan > 0 else "left")


def test_a_plain_background_tells_nothing() -> None:
    track = np.linspace((0.2, 0.5), (0.8, 0.5), FRAMES)
    plain = render(Scene((Sprite("circle", COLORS["red"], 6.0, track),), Background((80, 80, 80))))
    boxes = find_entities(plain)[0].entities["red circle"].boxes_F4
    assert plain.shape == (FRAMES, SIZE, SIZE, 3) and camera_motion(plain, [boxes]) is None


def test_a_camera_that_stands_still_is_not_said_to_move() -> None:
    known = 0
    for seed in range(24):
        rng = np.random.default_rng([seed, 3])
        frames = render(sample_scene(sample_spec(rng), rng))
        camera = camera_motion(frames, [track.boxes_F4 for track in find_entities(frames)[0].entities.values()])
        if camera is not None:
            known += 1
            assert np.abs(camera.shift_F2).max() < 0.01 and np.abs(camera.scale - 1).max() < 0.02
    assert known >= 2
