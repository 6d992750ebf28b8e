"""SigLIP, and the SigLIP 2 models of fixed resolution, which are of the same class: each frame by itself."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from torch import Tensor

from cvg.classifier.backbones.clip import ClipBackbone


class SiglipBackbone(ClipBackbone):
    """``SiglipModel``: like CLIP, without a class token, with a normalisation at the end and lower-case texts."""

    final_norm_path = "vision_model.post_layernorm"
    pads_text = True  # a text's embedding is read off the last position

    @staticmethod
    def joint_size(config: Any) -> int:
        """The vision tower's own: there is no projection."""
        return int(config.vision_config.hidden_size)

    def patch_tokens(self, video_BTCHW: Tensor) -> Tensor:
        """Patch tokens (B, T, P, D)."""
        hidden = self.model.vision_model(pixel_values=video_BTCHW.flatten(0, 1)).last_hidden_state
        return hidden.unflatten(0, (-1, self.frames))

    @classmethod
    def embed_text(cls, path: str, phrases: Sequence[str]) -> Tensor:
        """Unit embeddings (N, E) of the phrases in lower case, which all of its training texts were in."""
        return super().embed_text(path, [phrase.lower() for phrase in phrases])
