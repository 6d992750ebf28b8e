"""Which shape a blob is: that whose outline fits it best, whole or where another blob does not cover it.

``alpha_FHW`` is how much each pixel belongs to the blob's colour, 0 to 1.
"""

from __future__ import annotations

import functools
import itertools
from dataclasses import dataclass

import numpy as np
from scipy import fft

from cvg.shapes.blobs import Array, Mask, grown
from cvg.shapes.renderer import SHAPES, signed_distance

FIT = 0.7  # least overlap (intersection over union) with the best shape
FIT_MARGIN = 0.01  # least lead over the second best; correct shapes lose theirs to blur before a wrong one gains it
REACH = 1.7  # radii from a shape's centre within which all of it lies


def name_of(score_SF: Array) -> str | None:
    """The shape that overlaps best in most frames; None when unclear.

    Args:
        score_SF: overlap of each of ``SHAPES`` in each frame.
    """
    if score_SF.shape[1] < 3:
        return None
    best = int(np.median(score_SF, axis=1).argmax())
    lead = score_SF[best] - np.delete(score_SF, best, axis=0).max(axis=0)
    # Seven frames in ten must agree, so that a shape that turns into another is unclear.
    clear = np.median(score_SF[best]) >= FIT and np.quantile(lead, 0.3) >= FIT_MARGIN
    return SHAPES[best] if clear else None


def whole(blobs_FHW: Mask) -> Mask:
    """Frames (F) with a blob that does not touch the border: elsewhere its centre and area are not the shape's."""
    border = blobs_FHW[:, [0, -1]].any(axis=(1, 2)) | blobs_FHW[:, :, [0, -1]].any(axis=(1, 2))
    return np.asarray(blobs_FHW.any(axis=(1, 2)) & ~border)


def overlaps(alpha_FHW: Array, blobs_FHW: Mask) -> Array:
    """How well outlines of each blob's area and centre overlap with it: (shapes, frames). Each frame has a blob."""
    # Soft rims belong to the outline: the blob and one pixel around it.
    alpha = np.where(grown(blobs_FHW), alpha_FHW, 0)
    area = alpha.sum(axis=(1, 2))
    height, width = alpha.shape[1:]
    x = (alpha.sum(axis=1) @ (np.arange(width) + 0.5)) / area
    y = (alpha.sum(axis=2) @ (np.arange(height) + 0.5)) / area

    half = int(np.ceil(np.sqrt(area.max() / np.pi) * REACH)) + 2
    patch, dx, dy = _patches(alpha, x, y, half)
    scores = []
    for shape in SHAPES:
        template = _template(shape, dx, dy, np.sqrt(area / unit_area(shape)).astype(np.float32))
        scores.append(np.minimum(patch, template).sum(axis=(1, 2)) / np.maximum(patch, template).sum(axis=(1, 2)))
    return np.stack(scores)


def _patches(values_FHW: Array, x: Array, y: Array, half: int) -> tuple[Array, Array, Array]:
    """Squares around points, zero beyond the frame; and the offsets of their pixels, as rows and as columns."""
    height, width = values_FHW.shape[1:]
    offsets = np.arange(-half, half + 1)
    rows, columns = np.floor(y)[:, None].astype(int) + offsets, np.floor(x)[:, None].astype(int) + offsets
    inside = ((rows >= 0) & (rows < height))[:, :, None] & ((columns >= 0) & (columns < width))[:, None, :]
    frame = np.arange(len(values_FHW))[:, None, None]
    patch = values_FHW[frame, rows.clip(0, height - 1)[:, :, None], columns.clip(0, width - 1)[:, None, :]] * inside
    dx = (columns + 0.5 - x[:, None]).astype(np.float32)[:, None, :]
    dy = (rows + 0.5 - y[:, None]).astype(np.float32)[:, :, None]
    return patch, dx, dy


def _template(shape: str, dx: Array, dy: Array, radius: Array) -> Array:
    """How much of each pixel a shape covers, its rim twice as sharp as drawn, from offsets to its centre."""
    unit = radius[:, None, None]
    return np.clip(0.5 - 2 * unit * signed_distance(shape, dx / unit, dy / unit, 1.0), 0, 1)


@functools.cache
def unit_area(shape: str) -> float:
    """Area of a shape of radius 1, summed over a fine grid so that the renderer's formula stays the only one."""
    y, x = np.mgrid[-2:2:801j, -2:2:801j].astype(np.float32)
    return float((signed_distance(shape, x, y, 1.0) < 0).sum() * 0.005**2)


@dataclass(frozen=True)
class Fit:
    """How well one shape fits what is seen of a blob, and where all of it is.

    Attributes:
        score_F: overlap with the blob where nothing covers it.
        place_F3: x, y and radius, in pixels.
        mask_FHW: the pixels of the whole shape.
    """

    score_F: Array
    place_F3: Array
    mask_FHW: Mask


COVER = 0.02  # what is taken off a fit of which all is covered: nothing speaks for what nobody sees
STEPS = ((0.5, 0.04), (0.5, 0.04), (0.25, 0.02), (0.25, 0.02), (0.125, 0.01))  # of the search: pixels, share of radius
STARTS = 3  # sizes that are looked at closely
MARGIN = 12  # pixels around what is seen within which all of a shape may lie
MOST_COVERED = 0.6  # share of a shape that may be covered; of less than the rest no shape can be told


def fit_seen(alpha_FHW: Array, blobs_FHW: Mask, unknown_FHW: Mask) -> list[Fit]:
    """Fit each of ``SHAPES`` to a blob in frames in which another may cover it.

    Args:
        alpha_FHW: of the blob's colour; each frame has a blob.
        blobs_FHW: the blob, in one part or several.
        unknown_FHW: pixels that may hide a part of it.
    """
    alpha = np.where(grown(blobs_FHW), alpha_FHW, 0).astype(np.float32)
    seen = (~unknown_FHW).astype(np.float32)
    rows, columns = (np.nonzero(blobs_FHW.any(axis=axes))[0] for axes in ((0, 2), (0, 1)))
    top, left = max(0, rows[0] - MARGIN), max(0, columns[0] - MARGIN)
    part = np.s_[:, top : rows[-1] + MARGIN, left : columns[-1] + MARGIN]
    found = []
    for shape in SHAPES:
        score, place = _fit(shape, (alpha * seen)[part], seen[part])
        place += [left, top, 0]
        found.append(Fit(score, place, _drawn(shape, place, alpha.shape[1:]) >= 0.5))
    return found


def _fit(shape: str, alpha: Array, seen: Array) -> tuple[Array, Array]:
    """The best fit of a shape: all places and some sizes, by whole pixels, then ever finer steps from the best of them.

    Returns:
        Its score in each frame (F), and x, y and radius there (F, 3), in pixels.
    """
    smallest = float(np.sqrt(np.median(alpha.sum(axis=(1, 2))) / unit_area(shape)))
    radii = smallest * np.geomspace(0.95, (1 - MOST_COVERED) ** -0.5, 8)
    everywhere = _Everywhere(alpha, seen, float(radii[-1]))
    found = [everywhere(shape, float(radius)) for radius in radii]
    # A shape that is covered for a while keeps its size. Whole pixels are coarse: several sizes are looked at closely.
    sizes = np.argsort([-np.median(score) for score, _ in found])[:STARTS]
    place = np.concatenate([np.pad(found[k][1], ((0, 0), (0, 1)), constant_values=radii[k]) for k in sizes])
    alpha, seen = np.tile(alpha, (STARTS, 1, 1)), np.tile(seen, (STARTS, 1, 1))
    score = _score(shape, alpha, seen, place)
    for (pixels, share), axis, sign in itertools.product(STEPS, range(3), (-1, 1)):
        step = np.zeros(3)
        step[axis] = sign * pixels
        tried = place + (step if axis < 2 else sign * share * place * [0, 0, 1])
        new = _score(shape, alpha, seen, tried)
        better = new > score
        place, score = np.where(better[:, None], tried, place), np.where(better, new, score)
    score, place = score.reshape(STARTS, -1), place.reshape(STARTS, -1, 3)
    best = int(np.median(score, axis=1).argmax())
    return score[best], place[best]


class _Everywhere:
    """How well shapes fit with their centres on each pixel, by correlation.

    Args:
        alpha: what is seen of a blob (F, H, W).
        seen: 1 where a pixel is no unknown one; beyond the frame all are, and nothing is there.
        largest: radius of the largest shape.
    """

    def __init__(self, alpha: Array, seen: Array, largest: float) -> None:
        self.half = int(np.ceil(largest * REACH)) + 1
        self.size = tuple(fft.next_fast_len(side + 2 * self.half, real=True) for side in alpha.shape[1:])
        self.total = alpha.sum(axis=(1, 2))[:, None, None]
        self.shape = alpha.shape[1:]
        sides = ((0, 0), (self.half, self.half), (self.half, self.half))
        both = np.stack([np.pad(alpha, sides), np.pad(1 - seen, sides)])
        self.spectra = fft.rfft2(both.astype(np.float32), self.size)

    def __call__(self, shape: str, radius: float) -> tuple[Array, Array]:
        """The best score of a shape in each frame (F), and where its centre is then (F, 2), on whole pixels."""
        dx = np.arange(-self.half, self.half + 1, dtype=np.float32)[None, :]
        kernel = np.clip(0.5 - 2 * signed_distance(shape, dx, dx.T, radius), 0, 1)
        spectrum = np.conj(fft.rfft2(kernel, self.size))
        under = fft.irfft2(self.spectra * spectrum, self.size)[..., : self.shape[0], : self.shape[1]]
        both, hidden = under[0], under[1] / kernel.sum()
        drawn = (1 - hidden) * kernel.sum()
        score = both / (self.total + drawn - both) - COVER * hidden
        score[hidden > MOST_COVERED] = -1
        flat = score.reshape(len(score), -1)
        row, column = np.divmod(flat.argmax(axis=1), self.shape[1])
        return flat.max(axis=1), np.stack([column, row], axis=1) + 0.5


def _drawn(shape: str, place_F3: Array, size: tuple[int, ...]) -> Array:
    dx = (np.arange(size[1]) + 0.5 - place_F3[:, :1]).astype(np.float32)[:, None, :]
    dy = (np.arange(size[0]) + 0.5 - place_F3[:, 1:2]).astype(np.float32)[:, :, None]
    return _template(shape, dx, dy, place_F3[:, 2].astype(np.float32))


def _score(shape: str, alpha: Array, seen: Array, place_F3: Array) -> Array:
    drawn = _drawn(shape, place_F3, alpha.shape[1:])
    shown = drawn * seen
    overlap = np.minimum(alpha, shown).sum(axis=(1, 2)) / np.maximum(alpha, shown).sum(axis=(1, 2))
    share = shown.sum(axis=(1, 2)) / drawn.sum(axis=(1, 2))
    return np.asarray(np.where(share < 1 - MOST_COVERED, -1, overlap - COVER * (1 - share)))
