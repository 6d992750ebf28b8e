"""V-JEPA 2: a video model trained without text."""

from __future__ import annotations

from typing import Any

from torch import Tensor

from cvg.classifier.backbones.vision import VisionBackbone, square_side


class Vjepa2Backbone(VisionBackbone):
    """``VJEPA2Model``: a frame of the volume becomes as many frames as share a token.

    Its processor would enlarge a frame by 256/224 and cut the border off. That is left out: evidence may lie there.
    """

    blocks_path, final_norm_path = "encoder.layer", "encoder.layernorm"
    unused = ("predictor",)

    def read_sizes(self, config: Any) -> None:
        """Read the sizes."""
        self.size, self.tubelet = config.crop_size, config.tubelet_size
        self.side = self.size // square_side(config.patch_size, self.path, "patch size")

    def patch_tokens(self, video_BTCHW: Tensor) -> Tensor:
        """Patch tokens (B, T / tubelet, P, D)."""
        hidden: Tensor = self.model.get_vision_features(video_BTCHW)
        return hidden.unflatten(1, (-1, self.side**2))
