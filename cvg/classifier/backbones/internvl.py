"""InternVL: frames are pictures, numbered in words."""

from __future__ import annotations

from typing import Any

from torch import Tensor

from cvg.classifier.backbones.generative import GenerativeBackbone, as_frames
from cvg.classifier.backbones.vision import square_side


class InternVlBackbone(GenerativeBackbone):
    """``InternVLModel``, the one that transformers has (folders named ``...-hf``)."""

    blocks_path, final_norm_path = "vision_tower.encoder.layer", "vision_tower.layernorm"
    language_parts = ("language_model", "multi_modal_projector")
    placeholder = "<IMG_CONTEXT>"

    def read_sizes(self, config: Any) -> None:
        """Read the sizes."""
        vision = config.vision_config
        self.size = square_side(vision.image_size, self.path, "image size")
        self.side = self.size // square_side(vision.patch_size, self.path, "patch size")
        self.tokens_per_frame = int((self.side * config.downsample_ratio) ** 2)

    def conversation(self, question: str) -> str:
        """InternVL's conversation: the numbered frames, the question."""
        pads = self.placeholder * self.tokens_per_frame
        frames = "\n".join(f"Frame{number + 1}: <img>{pads}</img>" for number in range(self.frames))
        return f"<|im_start|>user\n{frames}\n{question}<|im_end|>\n<|im_start|>assistant\n"

    def vision_tokens(self, video_BTCHW: Tensor) -> Tensor:
        """Patch tokens (B, T, P, D)."""
        hidden: Tensor = self.model.vision_tower(pixel_values=video_BTCHW.flatten(0, 1)).last_hidden_state
        return hidden[:, 1:].unflatten(0, (-1, self.frames))

    def visual_tokens(self, video_BTCHW: Tensor) -> tuple[Tensor, dict[str, Any]]:
        """Visual tokens (B, V, D) of all frames."""
        seen = self.model.get_image_features(pixel_values=video_BTCHW.flatten(0, 1)).pooler_output
        return as_frames(seen, self.frames), {}
