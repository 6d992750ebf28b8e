"""VideoPrism: blocks over space, then over time, then over both."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from cvg.classifier.backbones.dual import DualBackbone
from cvg.classifier.backbones.vision import checkpoint_blocks, square_side
from cvg.common.errors import ModelError


class VideoPrismBackbone(DualBackbone):
    """``VideoPrismClipModel``: ``layer`` counts the blocks over space, then those over time, then the last ones."""

    pads_text = True

    def read_sizes(self, config: Any) -> None:
        """Read the sizes."""
        vision = config.vision_config
        self.tubelet, *patch = vision.tubelet_size
        self.size = square_side(vision.image_size, self.path, "image size")
        self.side = self.size // square_side(patch, self.path, "patch size")
        self.fixed_frames = vision.num_frames
        if self.tubelet != 1:
            raise ModelError(f"backbone {self.path}: its tubelets have {self.tubelet} frames; VideoPrism's have one")

    def normalisation(self) -> tuple[Tensor, Tensor]:
        """None: it takes pixels in [0, 1], whatever the settings say of the processor that it borrows."""
        return torch.zeros(3), torch.ones(3)

    @staticmethod
    def joint_size(config: Any) -> int:
        """The vision tower's own: there is no projection."""
        return int(config.vision_config.hidden_size)

    def blocks(self, model: Any) -> list[tuple[nn.Module, str]]:
        """Where the three kinds of blocks are, in order."""
        video = model.video_model
        return [
            (video.vision_model, "spatial_layers"),
            (video.vision_model, "temporal_layers"),
            (video, "auxiliary_layers"),
        ]

    def drop_blocks_after(self, model: Any, layer: int) -> bool:
        """Remove the blocks after a hidden state; returns whether none were."""
        places = self.blocks(model)
        depths = [len(getattr(module, name)) for module, name in places]
        left = kept = self._blocks_kept(layer, sum(depths))
        self.stage = "spatial" if kept <= depths[0] else "temporal" if kept <= depths[0] + depths[1] else "auxiliary"
        for (module, name), depth in zip(places, depths, strict=True):
            setattr(module, name, getattr(module, name)[:left])
            left = max(0, left - depth)
        return kept == sum(depths)

    def recompute(self, model: Any) -> None:
        """Checkpoint the blocks of all three kinds."""
        for module, name in self.blocks(model):
            checkpoint_blocks(getattr(module, name))

    def patch_tokens(self, video_BTCHW: Tensor) -> Tensor:
        """Patch tokens (B, T, P, D)."""
        batch, patches = len(video_BTCHW), self.side**2
        if self.stage == "auxiliary":
            output = self.model.video_model(pixel_values_videos=video_BTCHW)
            hidden: Tensor = output.last_hidden_state
            return hidden.unflatten(1, (self.frames, patches))
        output = self.model.video_model.vision_model(pixel_values_videos=video_BTCHW)
        if self.stage == "temporal":
            return output.last_temporal_hidden_state.unflatten(0, (batch, patches)).transpose(1, 2)
        return output.last_spatial_hidden_state.unflatten(0, (batch, self.frames))

    def embed(self, video_BTCHW: Tensor) -> Tensor:
        """Joint embeddings (B, E)."""
        embedding_B1E: Tensor = self.model.get_video_features(pixel_values_videos=video_BTCHW).pooler_output
        return embedding_B1E[:, 0]
