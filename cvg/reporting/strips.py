"""Strips of frames: entity maps as colours, and rows of pictures as one PNG."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from numpy.typing import NDArray
from torch import Tensor
from torch.nn.functional import interpolate

from cvg.reporting.charts import png

COLOURS = {"orange": (0.90, 0.45, 0.0), "teal": (0.0, 0.50, 0.50)}
"""Of the entity slots in the pictures, subject first: none that an entity of the shapes world has."""
_WIDTH = 11.0  # inches, at most
_BETWEEN_BLOCKS, _BETWEEN = 0.25, 0.04  # of a picture's longer side


def nearest_frames(frames_FHWC: NDArray[np.uint8], count: int) -> NDArray[np.uint8]:
    """``count`` frames of a video, evenly spaced from its first to its last."""
    return frames_FHWC[np.linspace(0, len(frames_FHWC) - 1, count).round().astype(int)]


def blend(frames_FHWC: NDArray[np.uint8], volume_KFHW: Tensor, entities: int) -> NDArray[np.float64]:
    """Frames in pale grey with each entity's map as colour on top.

    Each map is shown between its median and its 99th percentile over the whole clip.

    Args:
        frames_FHWC: the finished video; the frame nearest to each latent frame is taken.
        volume_KFHW: the maps.
        entities: how many slots are present.

    Returns:
        (latent frames, H, W, 3) in [0, 1].
    """
    _, height, width, _ = frames_FHWC.shape
    grey = nearest_frames(frames_FHWC, volume_KFHW.shape[1]).mean(axis=-1, keepdims=True) / 255
    picture = np.repeat(0.45 + 0.55 * grey, 3, axis=-1)
    large = interpolate(volume_KFHW.detach().float(), size=(height, width), mode="bilinear")
    for slot in range(entities):
        heat = large[slot].numpy()
        low, high = np.percentile(heat, [50, 99])
        alpha = 0.85 * np.clip((heat - low) / max(high - low, 1e-6), 0, 1)[..., None]
        picture = (1 - alpha) * picture + alpha * np.array(list(COLOURS.values())[slot % len(COLOURS)])
    return picture


def colour_key(entities: Sequence[str]) -> str:
    """Which entity is which colour: ``orange: red circle, teal: blue square``."""
    return ", ".join(f"{colour}: {entity}" for colour, entity in zip(COLOURS, entities, strict=False))


def strips(rows: Sequence[tuple[str, Sequence[NDArray[np.float64]]]], blocks: Sequence[str] = ("",)) -> bytes:
    """A PNG picture of rows of frames, in one block of columns or several side by side.

    Args:
        rows: title, and for each block the pictures (F, H, W, 3) in [0, 1]; all rows have as many.
        blocks: a heading for each block.
    """
    frames = len(rows[0][1][0])
    columns = len(blocks) * (frames + _BETWEEN_BLOCKS) - _BETWEEN_BLOCKS
    side = min(1.15, _WIDTH / columns)
    height = max(_size(picture)[0] for _, pictures in rows for picture in pictures) + _BETWEEN  # of a row
    size = (side * columns + 1.1, side * height * len(rows) + 0.25 * any(blocks))
    figure = Figure(figsize=size, layout="constrained")
    panel = figure.subplots()  # one for all pictures: with one for each, hundreds of them take seconds
    for line, (_, pictures) in enumerate(rows):
        for block, pictures_FHWC in enumerate(pictures):
            for frame, picture_HWC in enumerate(pictures_FHWC):
                _place(panel, picture_HWC, block * (frames + _BETWEEN_BLOCKS) + frame + 0.5, (line + 0.5) * height)
    for block, heading in enumerate(blocks):
        panel.text(block * (frames + _BETWEEN_BLOCKS), -0.05, heading, fontsize=9, va="bottom")
    panel.set(xlim=(0, columns), ylim=(height * len(rows), 0), xticks=[], aspect="equal")
    panel.set_yticks((np.arange(len(rows)) + 0.5) * height, [title for title, _ in rows], fontsize=10)
    panel.tick_params(length=0)
    panel.set_frame_on(False)
    return png(figure)


def _size(pictures: NDArray[np.float64]) -> tuple[float, float]:
    """(height, width) of pictures (..., H, W, 3) in a unit square, with room for what is between them."""
    height, width, _ = pictures.shape[-3:]
    longer = max(height, width) / (1 - _BETWEEN)
    return height / longer, width / longer


def _place(panel: Axes, picture_HWC: NDArray[np.float64], x: float, y: float) -> None:
    """Draw a picture with a thin border around a centre."""
    height, width = _size(picture_HWC)
    left, top = x - width / 2, y - height / 2
    panel.imshow(np.clip(picture_HWC, 0, 1), extent=(left, left + width, top + height, top))
    panel.add_patch(Rectangle((left, top), width, height, fill=False, color="#d0d5da", linewidth=0.6))
