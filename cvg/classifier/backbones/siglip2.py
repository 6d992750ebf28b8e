"""SigLIP 2 of any aspect ratio (NaFlex), which takes a frame's patches instead of the frame."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from cvg.classifier.backbones.dual import mean_of_frames
from cvg.classifier.backbones.siglip import SiglipBackbone
from cvg.classifier.backbones.vision import square_root


class Siglip2Backbone(SiglipBackbone):
    """``Siglip2Model`` on square frames with as many patches as it has positions, so that none are interpolated."""

    def read_sizes(self, config: Any) -> None:
        """Read the sizes."""
        vision = config.vision_config
        self.patch, self.side = vision.patch_size, square_root(vision.num_patches, self.path)
        self.size = self.side * self.patch

    def patches(self, video_BTCHW: Tensor) -> dict[str, Tensor]:
        """The model's arguments: patches (B*T, P, patch*patch*3), row by row, channels last; none are padding."""
        shape = (self.side, self.patch)
        split = video_BTCHW.flatten(0, 1).unflatten(-2, shape).unflatten(-1, shape)
        pixels = split.permute(0, 2, 4, 3, 5, 1).flatten(3).flatten(1, 2)
        count, device = len(pixels), pixels.device
        return {
            "pixel_values": pixels,
            "pixel_attention_mask": torch.ones(pixels.shape[:2], dtype=torch.int32, device=device),
            "spatial_shapes": torch.full((count, 2), self.side, device=device),
        }

    def patch_tokens(self, video_BTCHW: Tensor) -> Tensor:
        """Patch tokens (B, T, P, D)."""
        hidden = self.model.vision_model(**self.patches(video_BTCHW)).last_hidden_state
        return hidden.unflatten(0, (-1, self.frames))

    def embed(self, video_BTCHW: Tensor) -> Tensor:
        """Joint embeddings (B, E)."""
        embedding = self.model.get_image_features(**self.patches(video_BTCHW)).pooler_output
        return mean_of_frames(embedding.unflatten(0, (-1, self.frames)))
