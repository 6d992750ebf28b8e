"""What the models' own processors make of frames, where they run without torchvision; else their numbers by hand."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor
from transformers import (
    CLIPImageProcessorPil,
    GotOcr2ImageProcessorPil,
    Qwen2VLImageProcessorPil,
    Siglip2ImageProcessorPil,
    SiglipImageProcessorPil,
    SmolVLMImageProcessorPil,
)

from cvg.classifier.backbones import vision
from cvg.classifier.backbones.vision import VisionBackbone
from tests.helpers.towers import MEAN, PATCH, PROCESSORS, SIZE, STD

QWEN_SIZE = 32
"""Frames of eight by eight patches, so that Qwen2.5-VL's attention has several windows."""
BY_HAND = ("videoprism", "vjepa2")
"""Their processors are for videos only and need torchvision."""


def pictures(video: Tensor) -> list[np.ndarray]:
    """Frames (height, width, 3) of videos (B, T, 3, size, size), uint8."""
    return list(video.flatten(0, 1).permute(0, 2, 3, 1).numpy())


def inputs(kind: str, video: Tensor) -> dict[str, Any]:
    """A model's arguments for videos (B, T, 3, size, size), uint8."""
    batch, frames = video.shape[:2]
    numbers = {"image_mean": PROCESSORS.get(kind, {}).get("image_mean", MEAN), "image_std": STD}
    if kind in BY_HAND:
        pixels = video.numpy().astype(np.float64) / 255
        if kind == "vjepa2":
            pixels = (pixels - np.reshape(MEAN, (3, 1, 1))) / np.reshape(STD, (3, 1, 1))
        return {"pixel_values_videos": torch.from_numpy(pixels).float()}
    if kind.startswith("qwen"):
        return _qwen(video, numbers)
    square = {"height": SIZE, "width": SIZE}
    processor: Any = {
        "clip": CLIPImageProcessorPil(size={"shortest_edge": SIZE}, crop_size=square, **numbers),
        "xclip": CLIPImageProcessorPil(size={"shortest_edge": SIZE}, crop_size=square, **numbers),
        "siglip": SiglipImageProcessorPil(size=square, **numbers),
        "siglip2": Siglip2ImageProcessorPil(patch_size=PATCH, max_num_patches=(SIZE // PATCH) ** 2, **numbers),
        "smolvlm": SmolVLMImageProcessorPil(
            size={"longest_edge": SIZE}, max_image_size={"longest_edge": SIZE}, do_image_splitting=False, **numbers
        ),
        "internvl": GotOcr2ImageProcessorPil(size=square, **numbers),
    }[kind]
    out = processor(pictures(video), return_tensors="pt")
    out.pop("num_patches", None)
    if kind == "smolvlm":  # one sample with all frames as its pictures
        return {"pixel_values": out["pixel_values"].reshape(batch, frames, *out["pixel_values"].shape[-3:])}
    return dict(out)


def _qwen(video: Tensor, numbers: dict[str, Any]) -> dict[str, Any]:
    """Patches of videos from those of their frames.

    The processor of pictures takes a picture for two equal frames: it gives each patch's pixels twice, and those of
    two frames are put together from the first of one and the second of the other.
    """
    batch, frames = video.shape[:2]
    processor = Qwen2VLImageProcessorPil(
        size={"shortest_edge": 1, "longest_edge": 10**6}, patch_size=PATCH, merge_size=2, **numbers
    )
    out = processor(pictures(video), return_tensors="pt")
    patches = out["pixel_values"].view(batch, frames // 2, 2, -1, 3, 2, PATCH**2)
    both = torch.stack([patches[:, :, 0, :, :, 0], patches[:, :, 1, :, :, 1]], dim=4)
    grid = out["image_grid_thw"][:batch].clone()
    grid[:, 0] = frames // 2
    return {"pixel_values_videos": both.reshape(-1, both[0, 0, 0].numel()), "video_grid_thw": grid}


@contextmanager
def showing(video: Tensor, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Within it a backbone is shown this video, uint8, whatever the volume holds."""
    with monkeypatch.context() as patch:
        patch.setattr(vision, "show", lambda *_: video / 255)
        yield


def random_video(backbone: VisionBackbone) -> Tensor:
    generator = torch.Generator().manual_seed(1)
    shape = (2, backbone.frames, 3, backbone.size, backbone.size)
    return torch.randint(256, shape, dtype=torch.uint8, generator=generator)
