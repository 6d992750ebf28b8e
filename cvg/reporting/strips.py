"""Strips of frames: entity maps as colours, and rows of pictures as one PNG."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from matplotlib.figure import Figure
from numpy.typing import NDArray
from torch import Tensor
from torch.nn.functional import interpolate

from cvg.reporting.charts import png

COLOURS = {"orange": (0.90, 0.45, 0.0), "teal": (0.0, 0.50, 0.50)}
"""Of the entity slots in the pictures, subject first: none that an entity of the shapes world has."""
_WIDTH = 11.0  # inches, at most


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
    columns = len(blocks) * (frames + 1) - 1  # an empty one between blocks
    side = min(1.15, _WIDTH / columns)
    figure = Figure(figsize=(side * columns + 1.1, side * len(rows) + 0.25 * any(blocks)), layout="constrained")
    widths = ([1.0] * frames + [0.25]) * len(blocks)
    panels = figure.subplots(len(rows), columns, squeeze=False, width_ratios=widths[:-1])
    for panel in panels.flatten():
        panel.set_axis_off()
    for block, heading in enumerate(blocks):
        panels[0, block * (frames + 1)].set_title(heading, fontsize=9, loc="left")
    for (title, pictures), line in zip(rows, panels, strict=True):
        for block in range(len(blocks)):
            for frame in range(frames):
                panel = line[block * (frames + 1) + frame]
                panel.set_axis_on()
                panel.imshow(np.clip(pictures[block][frame], 0, 1))
                panel.set_xticks([])
                panel.set_yticks([])
                for spine in panel.spines.values():
                    spine.set(color="#d0d5da", linewidth=0.6)
        line[0].set_ylabel(title, fontsize=10, rotation=0, ha="right", va="center")
    return png(figure)
