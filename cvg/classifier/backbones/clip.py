"""CLIP: each frame by itself."""

from __future__ import annotations

from typing import Any

from torch import Tensor

from cvg.classifier.backbones.dual import DualBackbone, mean_of_frames


class ClipBackbone(DualBackbone):
    """``CLIPModel``: patch tokens of each frame; the joint embedding is the mean of the frames'."""

    blocks_path = "vision_model.encoder.layers"

    def read_sizes(self, config: Any) -> None:
        """Read the sizes."""
        vision = config.vision_config
        self.size, self.side = vision.image_size, vision.image_size // vision.patch_size

    def patch_tokens(self, video_BTCHW: Tensor) -> Tensor:
        """Patch tokens (B, T, P, D)."""
        hidden = self.model.vision_model(pixel_values=video_BTCHW.flatten(0, 1)).last_hidden_state[:, 1:]
        return hidden.unflatten(0, (-1, self.frames))

    def embed(self, video_BTCHW: Tensor) -> Tensor:
        """Joint embeddings (B, E)."""
        embedding = self.model.get_image_features(pixel_values=video_BTCHW.flatten(0, 1)).pooler_output
        return mean_of_frames(embedding.unflatten(0, (-1, self.frames)))
