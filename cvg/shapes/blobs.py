"""Blobs in a clip: the largest of one colour in each frame, or all of any colour, and the track of one.

``alpha_FHW`` is how much each pixel belongs to the colour, 0 to 1.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from cvg.judging.tracks import Track

Array = NDArray[np.floating[Any]]
Mask = NDArray[np.bool_]

LEAST_AREA = 0.005  # share of the frame that a blob covers at least; the renderer's smallest covers 0.02
LARGE_AREA = 0.015  # of what may be covered: this much of it is no line between two colours, however thin it is
SECOND_BLOB = 0.2  # a further blob of one colour counts from this share of the largest one's area
OUTLIER = 0.12  # frame sides: a lone position this far off the median of its neighbours is an outlier


@dataclass(frozen=True)
class Components:
    """Connected pixels of each frame.

    Attributes:
        number_FHW: of each pixel's component; 0 where there is none.
        area: pixels of each component by its number.
        frame: the frame of each.
        blobs: numbers of those that are blobs: neither specks nor thin lines.
    """

    number_FHW: NDArray[np.intp]
    area: NDArray[np.intp]
    frame: NDArray[np.intp]
    blobs: NDArray[np.intp]


def components(solid_FHW: Mask, covered: bool = False) -> Components:
    """Connected pixels within each frame; what is seen of a thing may be thin where another may cover it."""
    within_frames = np.zeros((3, 3, 3), bool)
    within_frames[1] = True
    number, count = ndimage.label(solid_FHW, within_frames)
    # Where two colours meet, a decoder may put a thin line of a third between them: a blob has pixels all around one.
    core = solid_FHW[:, 1:-1] & solid_FHW[:, 2:] & solid_FHW[:, :-2]
    core = core[:, :, 1:-1] & core[:, :, 2:] & core[:, :, :-2]
    thick = np.bincount(number[:, 1:-1, 1:-1][core], minlength=count + 1) >= 4
    area = np.bincount(number.ravel(), minlength=count + 1)
    area[0] = 0
    frame = np.zeros(count + 1, np.intp)
    where = np.nonzero(number)
    frame[number[where]] = where[0]
    if covered:
        thick |= area >= LARGE_AREA * solid_FHW[0].size
    return Components(number, area, frame, np.nonzero(thick & (area >= LEAST_AREA * solid_FHW[0].size))[0])


def largest_blobs(alpha_FHW: Array, covered: bool = False) -> tuple[Mask, Mask]:
    """The largest blob of each frame (F, H, W), all false where there is none; and whether a frame has another (F)."""
    found = components(alpha_FHW >= 0.5, covered)
    frames = len(alpha_FHW)
    largest = np.zeros(frames, np.intp)
    extra = np.zeros(frames, bool)
    for frame in range(frames):
        here = found.blobs[found.frame[found.blobs] == frame]
        if len(here):
            area = found.area[here]
            largest[frame] = here[area.argmax()]
            extra[frame] = (area >= SECOND_BLOB * area.max()).sum() > 1
    return (found.number_FHW == largest[:, None, None]) & (largest > 0)[:, None, None], extra


def grown(blobs_FHW: Mask) -> Mask:
    """Blobs and one pixel around them."""
    wide = np.pad(blobs_FHW, ((0, 0), (1, 1), (1, 1)))
    wide = wide[:, 1:-1] | wide[:, 2:] | wide[:, :-2]
    return np.asarray(wide[:, :, 1:-1] | wide[:, :, 2:] | wide[:, :, :-2])


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
    areas = total[present_F] / (height * width)
    places = np.concatenate([points, boxes(blobs_FHW[present_F]), areas[:, None]], axis=1)[good]
    track = np.stack([np.interp(frames, times[good], column) for column in places.T], axis=-1)
    return Track(track[:, 2:6], track[:, :2], areas_F=track[:, 6], visible_F=steady)


def boxes(blobs_FHW: Mask) -> Array:
    """The boxes (F, 4) of blobs, in frame sides; each frame has one."""
    sides = []
    for axis in (1, 2):
        along = np.asarray(blobs_FHW.any(axis=axis))
        length = along.shape[1]
        sides.append((along.argmax(axis=1) / length, 1 - along[:, ::-1].argmax(axis=1) / length))
    (left, right), (top, bottom) = sides
    return np.stack([left, top, right, bottom], axis=-1)
