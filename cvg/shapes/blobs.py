"""Blobs of one colour in a clip: the largest of each frame, its track, and the shape whose outline fits it.

``alpha_FHW`` is how much each pixel belongs to the colour, 0 to 1.
"""

from __future__ import annotations

import functools
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from cvg.judging.tracks import Track
from cvg.shapes.renderer import SHAPES, signed_distance

Array = NDArray[np.floating[Any]]
Mask = NDArray[np.bool_]

LEAST_AREA = 0.005  # share of the frame that a blob covers at least; the renderer's smallest covers 0.04
SECOND_BLOB = 0.2  # a further blob of one colour counts from this share of the largest one's area
FIT = 0.7  # least overlap (intersection over union) with the best shape
FIT_MARGIN = 0.01  # least lead over the second best; correct shapes lose theirs to blur before a wrong one gains it
OUTLIER = 0.12  # frame sides: a lone position this far off the median of its neighbours is an outlier


def largest_blobs(alpha_FHW: Array) -> tuple[Mask, Mask]:
    """The largest blob of each frame (F, H, W), all false where there is none; and whether a frame has another (F)."""
    solid = alpha_FHW >= 0.5
    within_frames = np.zeros((3, 3, 3), bool)
    within_frames[1] = True
    number, count = ndimage.label(solid, within_frames)
    frames = len(solid)
    # Where two colours meet, a decoder may put a thin line of a third between them: a blob has pixels all around one.
    core = solid[:, 1:-1] & solid[:, 2:] & solid[:, :-2]
    core = core[:, :, 1:-1] & core[:, :, 2:] & core[:, :, :-2]
    thick = np.bincount(number[:, 1:-1, 1:-1][core], minlength=count + 1) >= 4
    area = np.bincount(number.ravel(), minlength=count + 1)
    area[0] = 0
    frame_of = np.zeros(count + 1, np.intp)
    where = np.nonzero(number)
    frame_of[number[where]] = where[0]

    valid = thick & (area >= LEAST_AREA * solid[0].size)
    largest = np.zeros(frames, np.intp)
    extra = np.zeros(frames, bool)
    for frame in range(frames):
        here = np.nonzero(valid & (frame_of == frame))[0]
        if len(here):
            largest[frame] = here[area[here].argmax()]
            extra[frame] = (area[here] >= SECOND_BLOB * area[largest[frame]]).sum() > 1
    return (number == largest[:, None, None]) & (largest > 0)[:, None, None], extra


def follow(alpha_FHW: Array, blobs_FHW: Mask, present_F: Mask) -> Track:
    """Where blobs are, bridged over bad frames; it is visible in the good ones."""
    height, width = blobs_FHW.shape[1:]
    weight = np.where(blobs_FHW, alpha_FHW, 0)
    total = np.maximum(weight.sum(axis=(1, 2)), 1e-6)
    x = (weight.sum(axis=1) @ (np.arange(width) + 0.5)) / total / width
    y = (weight.sum(axis=2) @ (np.arange(height) + 0.5)) / total / height
    times, points = np.nonzero(present_F)[0], np.stack([x, y], axis=-1)[present_F]
    median = ndimage.median_filter(points, size=(5, 1), mode="nearest")
    good = np.linalg.norm(points - median, axis=-1) < OUTLIER
    steady = present_F.copy()
    steady[times[~good]] = False
    if not good.any():
        return Track(np.full((len(present_F), 4), np.nan), visible_F=steady)
    frames = np.arange(len(present_F))
    places = np.concatenate([points, _boxes(blobs_FHW[present_F])], axis=1)[good]
    track = np.stack([np.interp(frames, times[good], column) for column in places.T], axis=-1)
    return Track(track[:, 2:], track[:, :2], visible_F=steady)


def _boxes(blobs_FHW: Mask) -> Array:
    """The boxes (F, 4) of blobs, in frame sides; each frame has one."""
    sides = []
    for axis in (1, 2):
        along = np.asarray(blobs_FHW.any(axis=axis))
        length = along.shape[1]
        sides.append((along.argmax(axis=1) / length, 1 - along[:, ::-1].argmax(axis=1) / length))
    (left, right), (top, bottom) = sides
    return np.stack([left, top, right, bottom], axis=-1)


def fitting_shape(alpha_FHW: Array, blobs_FHW: Mask) -> str | None:
    """The shape whose outline, of the blob's area and centre, overlaps best in most frames; None when unclear.

    Frames where the blob touches the border are left out: its centre and area are not the shape's there.
    """
    border = blobs_FHW[:, [0, -1]].any(axis=(1, 2)) | blobs_FHW[:, :, [0, -1]].any(axis=(1, 2))
    usable = blobs_FHW.any(axis=(1, 2)) & ~border
    if usable.sum() < 3:
        return None
    blobs, alpha = blobs_FHW[usable], alpha_FHW[usable]
    # Soft rims belong to the outline: the blob and one pixel around it.
    grown = np.pad(blobs, ((0, 0), (1, 1), (1, 1)))
    grown = grown[:, 1:-1] | grown[:, 2:] | grown[:, :-2]
    grown = grown[:, :, 1:-1] | grown[:, :, 2:] | grown[:, :, :-2]
    alpha = np.where(grown, alpha, 0)
    area = alpha.sum(axis=(1, 2))
    height, width = alpha.shape[1:]
    x = (alpha.sum(axis=1) @ (np.arange(width) + 0.5)) / area
    y = (alpha.sum(axis=2) @ (np.arange(height) + 0.5)) / area

    half = int(np.ceil(np.sqrt(area.max() / np.pi) * 1.7)) + 2
    offsets = np.arange(-half, half + 1)
    rows, columns = np.floor(y)[:, None].astype(int) + offsets, np.floor(x)[:, None].astype(int) + offsets
    inside = ((rows >= 0) & (rows < height))[:, :, None] & ((columns >= 0) & (columns < width))[:, None, :]
    frame = np.arange(len(alpha))[:, None, None]
    patch = alpha[frame, rows.clip(0, height - 1)[:, :, None], columns.clip(0, width - 1)[:, None, :]] * inside
    dx = (columns + 0.5 - x[:, None]).astype(np.float32)[:, None, :]
    dy = (rows + 0.5 - y[:, None]).astype(np.float32)[:, :, None]
    scores = []
    for shape in SHAPES:
        radius = np.sqrt(area / _unit_area(shape)).astype(np.float32)
        unit = radius[:, None, None]
        template = np.clip(0.5 - 2 * unit * signed_distance(shape, dx / unit, dy / unit, 1.0), 0, 1)
        scores.append(np.minimum(patch, template).sum(axis=(1, 2)) / np.maximum(patch, template).sum(axis=(1, 2)))
    score = np.stack(scores)
    best = int(np.median(score, axis=1).argmax())
    lead = score[best] - np.delete(score, best, axis=0).max(axis=0)
    # Seven frames in ten must agree, so that a shape that turns into another is unclear.
    clear = np.median(score[best]) >= FIT and np.quantile(lead, 0.3) >= FIT_MARGIN
    return SHAPES[best] if clear else None


@functools.cache
def _unit_area(shape: str) -> float:
    """Area of a shape of radius 1, summed over a fine grid so that the renderer's formula stays the only one."""
    y, x = np.mgrid[-2:2:801j, -2:2:801j].astype(np.float32)
    return float((signed_distance(shape, x, y, 1.0) < 0).sum() * 0.005**2)
