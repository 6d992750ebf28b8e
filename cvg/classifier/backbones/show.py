"""How a volume is shown to a model that knows pictures.

Each entity's evidence is light. What differs is where the entities go:

- ``colours``: one picture, the subject red, the object blue, a third entity green;
- ``side_by_side``: one grey picture of vertical bands, one band an entity, first entity leftmost;
- ``in_turn``: grey pictures, the whole video of one entity after that of the other.
"""

from __future__ import annotations

from typing import Literal, get_args

import torch
import torch.nn.functional as F
from torch import Tensor

Layout = Literal["colours", "side_by_side", "in_turn"]
LAYOUTS: tuple[Layout, ...] = get_args(Layout)
CHANNELS = (0, 2, 1)
"""Red, blue and green: of the subject, the object and a possible third entity."""
CONTRAST = (2.0, 1.5)


def show(
    volume_BKFHW: Tensor,
    frames: int,
    size: int,
    layout: str = "colours",
    contrast: tuple[float, float] = CONTRAST,
) -> Tensor:
    """Volumes as videos on black.

    The light is u / sqrt(1 + u^2), u = (volume - middle) / width, moved into [0, 1]. By default no evidence (0) is
    0.1, two deviations are 0.5, five are 0.95. The curve's slope falls off only as u^-3, so that strong evidence still
    has a gradient, where a logistic curve's would be gone.

    Args:
        volume_BKFHW: a step's volumes.
        frames: frames wanted, over which the volume is interpolated. ``in_turn`` gives each entity its share of them,
            so that K divides them.
        size: height and width wanted, in pixels; bilinear.
        layout: one of `LAYOUTS`; ``colours`` has room for three entities.
        contrast: (middle, width) of the curve, in units of the volume.

    Returns:
        (B, frames, 3, size, size) in [0, 1]
    """
    middle, width = contrast
    u = (volume_BKFHW - middle) / width
    light = 0.5 + 0.5 * u * torch.rsqrt(1 + u.square())
    slots = light.shape[1]

    def drawn(frames: int, width: int) -> Tensor:
        return F.interpolate(light, size=(frames, size, width), mode="trilinear", align_corners=False)

    if layout == "colours":
        light_BKTHW = drawn(frames, size)
        planes = [torch.zeros_like(light_BKTHW[:, 0])] * 3
        for slot, channel in zip(range(slots), CHANNELS, strict=False):
            planes[channel] = light_BKTHW[:, slot]
        return torch.stack(planes, dim=2)
    if layout == "side_by_side":
        band = size // slots
        grey_BTHW = drawn(frames, band).permute(0, 2, 3, 1, 4).flatten(3)
        grey_BTHW = F.pad(grey_BTHW, (0, size - slots * band))  # what no band covers stays black
    else:
        grey_BTHW = drawn(frames // slots, size).flatten(1, 2)
    return grey_BTHW[:, :, None].expand(-1, -1, 3, -1, -1)
