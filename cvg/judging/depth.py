"""How far things are from the camera, by a frozen model of depth."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from cvg.classifier.backbones import loading
from cvg.common import hub
from cvg.judging.base import Frames
from cvg.judging.tracks import Floats

MODELS = ("depth_anything",)
"""``model_type`` of what can be loaded."""
MIDDLE = 0.5
"""Share of a box's sides about its centre that is looked at: at its rim is what lies behind."""


class DepthModel:
    """``DepthAnythingForDepthEstimation``.

    Args:
        name: a folder or a Hub id.
        device: torch device.
        batch_size: frames that are looked at together.

    Raises:
        ModelError: it is of another kind, or cannot be loaded.
    """

    def __init__(self, name: str, device: torch.device, batch_size: int = 16) -> None:
        path = str(hub.path(name))
        self.device, self.batch_size = device, batch_size
        config = loading.config(path, MODELS, "judge detector")
        self.metric = config.depth_estimation_type == "metric"
        self.processor = loading.processor(path, "judge detector")
        self.mean_C, self.std_C = (part.to(device) for part in loading.normalisation(path, "judge detector"))
        model = loading.load(path, torch.float32, "judge detector", "AutoModelForDepthEstimation")
        self.model: Any = model.eval().requires_grad_(False).to(device)

    @torch.no_grad()
    def __call__(self, frames_FHWC: Frames) -> NDArray[np.float32]:
        """Depth of every pixel, from 0, the nearest of its frame, to 1, the farthest: (F, h, w) at the model's size.

        Args:
            frames_FHWC: (F, H, W, 3) uint8 RGB.
        """
        return np.concatenate([self._relative(part) for part in self._batches(frames_FHWC)])

    def _batches(self, frames_FHWC: Frames) -> Iterator[Tensor]:
        for start in range(0, len(frames_FHWC), self.batch_size):
            yield torch.from_numpy(np.ascontiguousarray(frames_FHWC[start : start + self.batch_size])).to(self.device)

    def _relative(self, frames_BHWC: Tensor) -> NDArray[np.float32]:
        depth_BHW = self.model(pixel_values=self.pixels(frames_BHWC)).predicted_depth.float()
        low, high = depth_BHW.amin((1, 2), keepdim=True), depth_BHW.amax((1, 2), keepdim=True)
        share_BHW = (depth_BHW - low) / (high - low).clamp(min=1e-9)
        # What is not metric is the inverse, large for what is near.
        found: NDArray[np.float32] = (share_BHW if self.metric else 1 - share_BHW).cpu().numpy()
        return found

    def pixels(self, frames_BHWC: Tensor) -> Tensor:
        """Pixel values (B, 3, h, w) in the frames' proportions, sides multiples of a patch, as its processor makes."""
        images = frames_BHWC.permute(0, 3, 1, 2).float()
        size = self.processor.get("size") or {}
        multiple = self.processor.get("ensure_multiple_of") or 1
        height, width = images.shape[2:]
        down, across = size.get("height", 518) / height, size.get("width", 518) / width
        if self.processor.get("keep_aspect_ratio"):
            down = across = across if abs(1 - across) < abs(1 - down) else down
        target = [max(1, round(side / multiple)) * multiple for side in (down * height, across * width)]
        images = F.interpolate(images, target, mode="bicubic", antialias=True).round().clamp(0, 255) / 255
        return (images - self.mean_C.view(3, 1, 1)) / self.std_C.view(3, 1, 1)


def depth_of(boxes_F4: Floats, depth_FHW: NDArray[np.float32]) -> Floats:
    """The depth of what boxes are around, the median in their middle: (F), NaN where there is no box.

    Args:
        boxes_F4: in frame sides.
        depth_FHW: of every pixel.
    """
    frames, height, width = depth_FHW.shape
    found = np.full(frames, np.nan)
    for frame, box in enumerate(boxes_F4):
        if np.isnan(box).any():
            continue
        centre, half = (box[:2] + box[2:]) / 2, MIDDLE * (box[2:] - box[:2]) / 2
        low, high = ((centre + sign * half) * [width, height] for sign in (-1, 1))
        left, top = (int(np.clip(value, 0, side - 1)) for value, side in zip(low, (width, height), strict=True))
        right, bottom = (int(np.ceil(value)) for value in high)
        found[frame] = np.median(depth_FHW[frame, top : max(bottom, top + 1), left : max(right, left + 1)])
    return found
