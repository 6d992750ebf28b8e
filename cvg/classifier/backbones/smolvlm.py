"""SmolVLM and SmolVLM2: frames are pictures."""

from __future__ import annotations

from typing import Any

from torch import Tensor

from cvg.classifier.backbones.generative import GenerativeBackbone, as_frames
from cvg.classifier.backbones.vision import square_side


class SmolVlmBackbone(GenerativeBackbone):
    """``SmolVLMModel``. Its own ``get_image_features`` would take frames of all zeros for padding and drop them."""

    blocks_path, final_norm_path = "vision_model.encoder.layers", "vision_model.post_layernorm"
    language_path, language_parts = "text_model", ("text_model", "connector")
    placeholder = "<image>"

    def read_sizes(self, config: Any) -> None:
        """Read the sizes."""
        vision = config.vision_config
        self.size = square_side(vision.image_size, self.path, "image size")
        self.side = self.size // square_side(vision.patch_size, self.path, "patch size")
        self.merge = config.scale_factor

    def conversation(self, question: str) -> str:
        """SmolVLM's conversation: the frames as pictures that are not split, the question."""
        pads = self.placeholder * (self.side // self.merge) ** 2
        picture = f"<fake_token_around_image><global-img>{pads}<fake_token_around_image>"
        return f"<|im_start|>User:{picture * self.frames}{question}<end_of_utterance>\nAssistant:"

    def vision_tokens(self, video_BTCHW: Tensor) -> Tensor:
        """Patch tokens (B, T, P, D)."""
        hidden: Tensor = self.model.vision_model(pixel_values=video_BTCHW.flatten(0, 1)).last_hidden_state
        return hidden.unflatten(0, (-1, self.frames))

    def visual_tokens(self, video_BTCHW: Tensor) -> tuple[Tensor, dict[str, Any]]:
        """Visual tokens (B, V, D) of all frames."""
        hidden = self.model.vision_model(pixel_values=video_BTCHW.flatten(0, 1)).last_hidden_state
        return as_frames(self.model.connector(hidden), self.frames), {}
