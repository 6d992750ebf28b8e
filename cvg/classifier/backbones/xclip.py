"""X-CLIP: CLIP whose frames exchange messages."""

from __future__ import annotations

from typing import Any

from torch import Tensor

from cvg.classifier.backbones.clip import ClipBackbone


class XClipBackbone(ClipBackbone):
    """``XCLIPModel``: its number of frames is fixed, and those of a video stand in a row.

    Its own scores shift a text's embedding towards the video at hand (video-specific prompting); `text_features` are
    the embeddings before that, which do not depend on a video.
    """

    def read_sizes(self, config: Any) -> None:
        """Read the sizes."""
        super().read_sizes(config)
        self.fixed_frames = config.vision_config.num_frames

    def embed(self, video_BTCHW: Tensor) -> Tensor:
        """Joint embeddings (B, E), through the model's own mixing of frames."""
        embedding: Tensor = self.model.get_video_features(pixel_values=video_BTCHW).pooler_output
        return embedding
