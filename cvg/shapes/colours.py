"""Colours of a clip's pixels: how colourful each is, and which of the world's colours is nearest to its hue."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cvg.shapes.renderer import COLORS, SIZE

Array = NDArray[np.floating[Any]]

# Chroma is max - min of RGB, 0 to 255.
COLOURFUL = 45.0  # least chroma of a coloured pixel; backgrounds and grey dots stay below 25
LEAST_PEAK = 70.0  # least chroma at the heart of a named colour: washed-out blobs are a problem, not an entity
HUE_TOLERANCE = 18.0  # degrees from a colour's hue; the closest two are 48 apart, the renderer's jitter is 6


@dataclass(frozen=True)
class Coloured:
    """The coloured pixels of a clip.

    Attributes:
        chroma_FHW: how colourful each pixel is, 0 to 255.
        colour_FHW: index of the nearest of ``COLORS``; -1 where a pixel is hardly coloured.
        hue_FHW: in degrees; 0 where a pixel is hardly coloured.
    """

    chroma_FHW: Array
    colour_FHW: NDArray[np.int8]
    hue_FHW: Array

    def shift(self, where: NDArray[np.bool_], colour: int) -> float:
        """Median distance of some coloured pixels' hue from that of a colour, in degrees."""
        return float(np.median((self.hue_FHW[where] - HUES[colour] + 180) % 360 - 180))


def coloured(frames_FHWC: NDArray[np.uint8]) -> Coloured:
    """The coloured pixels of frames, which are averaged down so that the shorter side has 48 to 127 pixels."""
    video = _shrink(frames_FHWC)
    red, green, blue = np.moveaxis(video, -1, 0)  # numpy's own max over so short an axis is many times slower
    chroma = np.maximum(np.maximum(red, green), blue) - np.minimum(np.minimum(red, green), blue)
    where = np.nonzero(chroma >= COLOURFUL)
    found = _hue(video[where])
    colour, hue = np.full(chroma.shape, -1, np.int8), np.zeros(chroma.shape, found.dtype)
    colour[where] = np.abs((found[:, None] - HUES[None] + 180) % 360 - 180).argmin(axis=1)
    hue[where] = found
    return Coloured(chroma, colour, hue)


def _shrink(frames: NDArray[np.uint8]) -> Array:
    """Float frames, averaged over square blocks."""
    count, height, width, _ = frames.shape
    factor = max(1, min(height, width) // SIZE)
    if factor == 1:
        return frames.astype(np.float32)
    rows, columns = height // factor, width // factor
    blocks = frames[:, : rows * factor, : columns * factor].reshape(count, rows, factor, columns, factor, 3)
    return blocks.mean(axis=(2, 4), dtype=np.float32)


def _hue(rgb_N3: Array) -> Array:
    """Hue in degrees. Mixing a colour with grey, as a soft edge does, leaves it as it is."""
    red, green, blue = rgb_N3.T
    return np.asarray(np.degrees(np.arctan2(np.sqrt(3) * (green - blue), 2 * red - green - blue)))


HUES = _hue(np.array(list(COLORS.values()), np.float32))
