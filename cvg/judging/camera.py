"""How the camera of a video moved, from the background around the entities.

From one frame to the next the background is moved and scaled so that the two fit best (Lucas and Kanade's least squares
over a pyramid, with the pixels that do not fit counted less), and the steps are put together. It is a model of pans,
tilts and zooms: of a camera that goes round things it tells what is nearest to that.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence

import numpy as np
from scipy import ndimage

from cvg.judging.base import Frames
from cvg.judging.tracks import Bools, Camera, Floats

SIDE = 128
"""Frames are averaged down to about this many pixels of their shorter side."""
LEVELS = 4
ROUNDS = 6
TEXTURE = 2.0
"""Mean squared slope from which on a tile of the frame has texture, in grey levels a pixel."""
SPREAD = 0.2
"""How much of the frame must have texture, in its flattest direction: 0.5 is all of it, in all directions. A motion
that one small thing alone tells of is that thing's, and not the camera's."""
BACKGROUND = 0.1
"""Least share of the frame that must be background."""
AROUND = 0.03
"""Around a box this much more is left out, in frame sides."""


def camera_motion(frames_FHWC: Frames, boxes: Sequence[Floats] = ()) -> Camera | None:
    """The camera's motion, as that of the background.

    Args:
        frames_FHWC: (F, H, W, 3) uint8 RGB.
        boxes: of what moves by itself, (F, 4) each in frame sides; frames with NaN have none.

    Returns:
        The motion; None where the background is too plain, or too little of it is seen, for any to be told.
    """
    grey_FHW = _grey(frames_FHWC)
    frames, height, width = grey_FHW.shape
    open_FHW = np.stack([_outside([box_F4[f] for box_F4 in boxes], height, width) for f in range(frames)])
    shift_F2, scale_F = np.zeros((frames, 2)), np.ones(frames)
    for f in range(1, frames):
        step = _step(grey_FHW[f - 1], grey_FHW[f], open_FHW[f - 1] & open_FHW[f])
        if step is None:
            return None
        shift, scale = step
        shift_F2[f] = scale * shift_F2[f - 1] + shift
        scale_F[f] = scale * scale_F[f - 1]
    return Camera(shift_F2, scale_F)


def _grey(frames_FHWC: Frames) -> Floats:
    """Grey frames of a shorter side of about ``SIDE`` pixels (F, H, W)."""
    grey_FHW = frames_FHWC.astype(np.float32) @ np.array([0.299, 0.587, 0.114], np.float32)
    factor = max(1, min(grey_FHW.shape[1:]) // SIDE)
    frames, height, width = len(grey_FHW), grey_FHW.shape[1] // factor, grey_FHW.shape[2] // factor
    blocks = grey_FHW[:, : height * factor, : width * factor].reshape(frames, height, factor, width, factor)
    return np.asarray(blocks.mean(axis=(2, 4)))


def _outside(boxes: Sequence[Floats], height: int, width: int) -> Bools:
    """Which pixels (H, W) are in none of a frame's boxes."""
    outside_HW = np.ones((height, width), bool)
    for left, top, right, bottom in (box for box in boxes if not np.isnan(box).any()):
        columns = slice(max(0, int((left - AROUND) * width)), max(0, int(np.ceil((right + AROUND) * width))))
        rows = slice(max(0, int((top - AROUND) * height)), max(0, int(np.ceil((bottom + AROUND) * height))))
        outside_HW[rows, columns] = False
    return outside_HW


def _step(before_HW: Floats, after_HW: Floats, open_HW: Bools) -> tuple[Floats, float] | None:
    """The shift (2) in frame sides and the scale that take one frame's background to the next one's."""
    height, width = before_HW.shape
    motion_3: Floats = np.zeros(3)  # x and y in frame sides, logarithm of the scale
    for level in reversed(range(LEVELS)):
        if level and min(height, width) < 16 * 2**level:
            continue
        weight_HW = _halved(open_HW.astype(np.float32), level) > 0.99
        if weight_HW.mean() < BACKGROUND:
            return None
        before, after = (
            _halved(ndimage.gaussian_filter(image, 2**level / 2), level) for image in (before_HW, after_HW)
        )
        found = _refined(before, after, weight_HW, motion_3)
        if found is None:
            return None
        motion_3 = found
    still_3 = np.zeros(3)
    if _misfit(before_HW, after_HW, open_HW, still_3) <= _misfit(before_HW, after_HW, open_HW, motion_3):
        motion_3 = still_3  # something of more contrast than all the rest moved
    return motion_3[:2], float(np.exp(motion_3[2]))


def _misfit(before_HW: Floats, after_HW: Floats, open_HW: Bools, motion_3: Floats) -> float:
    """Mean difference of two frames' backgrounds after a motion, of the tile in the middle of all."""
    rest_HW = np.abs(before_HW - _taken(after_HW, motion_3, *_places(after_HW)))
    rest_HW[~open_HW] = np.nan
    rests = [rest_HW[tile][~np.isnan(rest_HW[tile])] for tile in _tiles(open_HW)]
    return float(np.median([rest_N.mean() for rest_N in rests if len(rest_N)]))


def _refined(before_HW: Floats, after_HW: Floats, open_HW: Bools, motion_3: Floats) -> Floats | None:
    """The motion after a few rounds of least squares at one resolution; None where it cannot be told."""
    height, width = before_HW.shape
    x_HW, y_HW = _places(before_HW)
    for _ in range(ROUNDS):
        scale = np.exp(motion_3[2])
        moved_HW = _taken(after_HW, motion_3, x_HW, y_HW)
        slope_y, slope_x = (_taken(np.asarray(side), motion_3, x_HW, y_HW) for side in np.gradient(after_HW))
        usable_HW = open_HW & ~np.isnan(moved_HW)
        if usable_HW.mean() < BACKGROUND or _texture(slope_x, slope_y, usable_HW) < SPREAD:
            return None
        slopes_N2 = np.stack([slope_x[usable_HW] * width, slope_y[usable_HW] * height], axis=1)
        zoom_N = slopes_N2[:, 0] * x_HW[usable_HW] + slopes_N2[:, 1] * y_HW[usable_HW]
        system_N3 = np.column_stack([slopes_N2, scale * zoom_N])
        rest_N = (before_HW - moved_HW)[usable_HW]
        spread = max(1.0, 1.5 * float(np.median(np.abs(rest_N))))
        weight_N = np.sqrt(np.minimum(1, spread / np.maximum(np.abs(rest_N), 1e-9)))
        change_3 = np.linalg.lstsq(system_N3 * weight_N[:, None], rest_N * weight_N, rcond=None)[0]
        motion_3 = motion_3 + np.clip(change_3, -0.1, 0.1)
        if np.abs(change_3).max() < 1e-5:
            break
    return motion_3


def _texture(slope_x_HW: Floats, slope_y_HW: Floats, usable_HW: Bools) -> float:
    """How much of the frame has texture in its flattest direction; each tile counts alike, whatever its contrast."""
    total_22, tiles = np.zeros((2, 2)), _tiles(usable_HW)
    for tile in tiles:
        slopes_N2 = np.stack([slope_x_HW[tile][usable_HW[tile]], slope_y_HW[tile][usable_HW[tile]]], axis=1)
        found_22 = slopes_N2.T @ slopes_N2 / max(1, len(slopes_N2))
        total_22 += found_22 / max(TEXTURE, float(np.trace(found_22))) / len(tiles)
    return float(np.linalg.eigvalsh(total_22)[0])


def _tiles(image_HW: Bools) -> list[tuple[slice, slice]]:
    """The sixteen tiles of an image."""
    rows, columns = (np.linspace(0, side, 5).astype(int) for side in image_HW.shape)
    cuts = [[slice(*cut) for cut in itertools.pairwise(edges.tolist())] for edges in (rows, columns)]
    return [(down, across) for down in cuts[0] for across in cuts[1]]


def _places(image_HW: Floats) -> tuple[Floats, Floats]:
    """x and y of each pixel (H, W), in frame sides from the middle."""
    y_HW, x_HW = np.mgrid[0 : image_HW.shape[0], 0 : image_HW.shape[1]] + 0.5
    return x_HW / image_HW.shape[1] - 0.5, y_HW / image_HW.shape[0] - 0.5


def _taken(image_HW: Floats, motion_3: Floats, x_HW: Floats, y_HW: Floats) -> Floats:
    """What an image has where a motion takes places to; NaN beyond its border."""
    height, width = image_HW.shape
    scale = np.exp(motion_3[2])
    there = [(y_HW * scale + motion_3[1] + 0.5) * height - 0.5, (x_HW * scale + motion_3[0] + 0.5) * width - 0.5]
    return np.asarray(ndimage.map_coordinates(image_HW, there, order=1, cval=np.nan))


def _halved(image_HW: Floats, times: int) -> Floats:
    """An image averaged down by two to the power of ``times``."""
    block = 2**times
    rows, columns = image_HW.shape[0] // block, image_HW.shape[1] // block
    return np.asarray(image_HW[: rows * block, : columns * block].reshape(rows, block, columns, block).mean((1, 3)))
