"""Qwen2.5-VL and Qwen3-VL, which take patches that span frames, and their numbers in time, height and width."""

from __future__ import annotations

from typing import Annotated, Any, ClassVar

import torch
from pydantic import Field, StrictInt
from torch import Tensor, nn

from cvg.classifier.backbones.generative import GenerativeBackbone, GenerativeOptions
from cvg.classifier.backbones.vision import VisionOptions
from cvg.common.errors import SettingsError
from cvg.common.typed import record

_SIDE = 12
"""Merged patches along a side by default: Qwen2.5-VL's processor enlarges smaller frames of a video to as many."""
_RATE = 2.0
"""Frames a second that a prompt says, as the processors do by default."""


@record
class QwenOptions(GenerativeOptions):
    """What a configuration may choose besides.

    Attributes:
        size: height and width of a frame in pixels, a multiple of a merged patch; these models take any.
    """

    size: Annotated[StrictInt | None, Field(description="a whole number")] = None


class Qwen25Backbone(GenerativeBackbone):
    """``Qwen2_5_VLModel``: a frame of the volume becomes as many frames as share a patch."""

    options_class: ClassVar[type[VisionOptions]] = QwenOptions
    options: QwenOptions
    blocks_path = "visual.blocks"
    placeholder = "<|video_pad|>"
    positions_31L: Tensor

    def read_sizes(self, config: Any) -> None:
        """Read the sizes. Raises SettingsError for a ``size`` that does not fit."""
        vision = config.vision_config
        self.tubelet, self.patch, self.merge = (
            vision.temporal_patch_size,
            vision.patch_size,
            vision.spatial_merge_size,
        )
        unit = self.patch * self.merge
        self.size = _SIDE * unit if self.options.size is None else self.options.size
        if self.size < unit or self.size % unit:
            raise SettingsError(
                f"backbone {self.path}: size {self.size!r} is not a multiple of its merged patch, {unit}"
            )
        self.side = self.size // self.patch

    def prepare(self, model: Any) -> None:
        """Besides, let the vision tower keep its patches apart, or place the prompt's tokens in time and space."""
        super().prepare(model)
        if not self.reads_language:
            model.visual.merger = _Unmerged(self.merge)
            return
        kinds = torch.where(self.ids_1L == self.token, 2, 0)  # 2 is video
        positions, _ = model.get_rope_index(self.ids_1L, kinds, video_grid_thw=self.grid(torch.empty(1, self.frames)))
        self.register_buffer("positions_31L", positions, persistent=False)

    def conversation(self, question: str) -> str:
        """Qwen's conversation: a system's line, the video, the question."""
        system = "<|im_start|>system\nYou are a helpful assistant.<|im_end|>\n"
        return f"{system}<|im_start|>user\n{self.video_placeholders()}{question}<|im_end|>\n<|im_start|>assistant\n"

    def video_placeholders(self) -> str:
        """Placeholders for the video's merged patches."""
        count = self.frames // self.tubelet * (self.side // self.merge) ** 2
        return f"<|vision_start|>{self.placeholder * count}<|vision_end|>"

    def grid(self, video_BTCHW: Tensor) -> Tensor:
        """Patches of each video (B, 3) in time, height and width."""
        batch, frames = video_BTCHW.shape[:2]
        return torch.tensor([[frames // self.tubelet, self.side, self.side]] * batch, device=video_BTCHW.device)

    def patches(self, video_BTCHW: Tensor) -> Tensor:
        """Patches of all videos in a row, those that will be merged together: (B * T/t * P, 3 * t * patch * patch)."""
        blocks = (self.side // self.merge, self.merge, self.patch)
        split = video_BTCHW.unflatten(4, blocks).unflatten(3, blocks).unflatten(1, (-1, self.tubelet))
        # B T t C (rows merge patch) (columns merge patch)
        return split.permute(0, 1, 4, 7, 5, 8, 3, 2, 6, 9).flatten(5).flatten(0, 4).flatten(1)

    def vision_tokens(self, video_BTCHW: Tensor) -> Tensor:
        """Patch tokens (B, T / tubelet, P, D)."""
        merged = self.model.visual(self.patches(video_BTCHW), grid_thw=self.grid(video_BTCHW)).pooler_output
        rows, merge = self.side // self.merge, self.merge
        tokens = merged.view(len(video_BTCHW), -1, rows, rows, merge, merge, merged.shape[-1] // merge**2)
        return tokens.transpose(3, 4).flatten(4, 5).flatten(2, 3).flatten(2, 3)

    def visual_tokens(self, video_BTCHW: Tensor) -> tuple[Tensor, dict[str, Any]]:
        """Merged patches (B, V, D) and the tokens' places."""
        seen = self.model.get_video_features(self.patches(video_BTCHW), self.grid(video_BTCHW))
        return torch.stack(seen.pooler_output), self.position_inputs(seen, len(video_BTCHW))

    def position_inputs(self, seen: Any, batch: int) -> dict[str, Any]:
        """What the language model is given besides the tokens."""
        return {"position_ids": self.positions_31L.expand(-1, batch, -1)}


class Qwen3Backbone(Qwen25Backbone):
    """``Qwen3VLModel``: its language model sees earlier states of the vision tower too (DeepStack)."""

    def prepare(self, model: Any) -> None:
        """Besides, do without the earlier states where only the vision tower is read."""
        super().prepare(model)
        if not self.reads_language:
            model.visual.deepstack_visual_indexes = []

    def conversation(self, question: str) -> str:
        """Qwen's conversation: the video, the question."""
        return f"<|im_start|>user\n{self.video_placeholders()}{question}<|im_end|>\n<|im_start|>assistant\n"

    def video_placeholders(self) -> str:
        """Placeholders for the merged patches of each moment, after its time: the mean of its frames'."""
        count = (self.side // self.merge) ** 2
        times = [(start + (self.tubelet - 1) / 2) / _RATE for start in range(0, self.frames, self.tubelet)]
        pads = self.placeholder * count
        return "".join(f"<{time:.1f} seconds><|vision_start|>{pads}<|vision_end|>" for time in times)

    def position_inputs(self, seen: Any, batch: int) -> dict[str, Any]:
        """What the language model is given besides the tokens."""
        return super().position_inputs(seen, batch) | {
            "visual_pos_masks": (self.ids_1L == self.token).expand(batch, -1),
            "deepstack_visual_embeds": [torch.cat(states) for states in seen.deepstack_features],
        }


class _Unmerged(nn.Module):
    """Stands in for the layer that merges patches: it only lays those together that would have been merged.

    So the model itself undoes the order in which it looks at windows.
    """

    def __init__(self, merge: int) -> None:
        super().__init__()
        self.count = merge**2

    def forward(self, tokens_VD: Tensor) -> Tensor:
        """Tokens (V / merge^2, merge^2 * D)."""
        return tokens_VD.unflatten(0, (-1, self.count)).flatten(1)
