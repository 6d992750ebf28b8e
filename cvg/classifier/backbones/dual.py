"""Frozen models of two towers, for pictures and for text, that share a space."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Any, ClassVar, Literal

import torch
import torch.nn.functional as F
from pydantic import Field
from torch import Tensor
from typing_extensions import override

from cvg.classifier.backbones import loading
from cvg.classifier.backbones.base import only_present
from cvg.classifier.backbones.vision import VisionBackbone, VisionOptions
from cvg.common.errors import PromptError, SettingsError
from cvg.common.sizes import Grid
from cvg.common.typed import record


@record
class DualOptions(VisionOptions):
    """What a configuration may choose besides.

    Attributes:
        read: ``vision``, patch tokens; or ``joint``, the embedding in the space shared with text, less that of a video
            without evidence.
    """

    read: Annotated[Literal["vision", "joint"], Field(description="vision or joint")] = "vision"


class DualBackbone(VisionBackbone):
    """A vision tower whose model also embeds text.

    The text tower is loaded for each call of `text_features` and let go afterwards: phrases are embedded once, when a
    head is made.
    """

    options_class: ClassVar[type[VisionOptions]] = DualOptions
    options: DualOptions
    unused = ("text_model",)
    embedding_of_zero: Tensor
    pads_text: bool = False
    """Whether the model was trained on texts that are all padded to the length that it has positions for."""

    @override
    def prepare(self, model: Any) -> None:
        self.joint_dim = self.joint_size(model.config)
        self.reads_joint = self.options.read == "joint"
        super().prepare(model)

    @override
    def calibrate(self, slots: int, grid: Grid) -> int:
        if not self.reads_joint:
            return super().calibrate(slots, grid)
        embedding_of_zero = self.joint_features(torch.zeros(1, slots, *grid), torch.ones(1, slots, dtype=torch.bool))
        self.register_buffer("embedding_of_zero", embedding_of_zero, persistent=False)
        return embedding_of_zero.numel()

    @override
    def features(self, volume_BKFHW: Tensor, present_BK: Tensor) -> Tensor:
        if not self.reads_joint:
            return super().features(volume_BKFHW, present_BK)
        return self.joint_features(volume_BKFHW, present_BK) - self.embedding_of_zero

    @staticmethod
    def joint_size(config: Any) -> int:
        """Size of the space that both towers share."""
        return int(config.projection_dim)

    def embed(self, video_BTCHW: Tensor) -> Tensor:
        """Embeddings (B, E) of normalised frames, of any length."""
        raise NotImplementedError

    def joint_features(self, volume_BKFHW: Tensor, present_BK: Tensor) -> Tensor:
        """Unit embeddings (B, E); see `Backbone.joint_features`."""
        if not self.complete:
            raise SettingsError(
                f"backbone {self.path}: layer {self.options.layer} leaves out blocks that its joint space needs; "
                "use layer -1"
            )
        pixels = self.pixels(only_present(volume_BKFHW, present_BK))
        return F.normalize(self.embed(pixels.to(self.model.dtype)).to(volume_BKFHW.dtype), dim=-1)

    @override
    def text_features(self, phrases: Sequence[str]) -> Tensor:
        return self.embed_text(self.path, phrases).to(self.mean_C)

    @classmethod
    @torch.no_grad()
    def embed_text(cls, path: str, phrases: Sequence[str]) -> Tensor:
        """Unit embeddings (N, E) of phrases by the model's text tower, which is loaded for the call.

        Raises:
            PromptError: model or tokenizer cannot be loaded, or a phrase is too long.
        """
        model, tokenizer = loading.load(path, torch.float32).eval(), loading.tokenizer(path)
        longest = model.config.text_config.max_position_embeddings
        for phrase, ids in zip(phrases, tokenizer(list(phrases)).input_ids, strict=True):
            if len(ids) > longest:
                raise PromptError(
                    f"backbone {path}: {phrase!r} has {len(ids)} tokens, of at most {longest}; shorten it"
                )
        padding = {"padding": "max_length", "max_length": longest} if cls.pads_text else {"padding": True}
        tokens = tokenizer(list(phrases), **padding, return_tensors="pt")
        inputs = {name: tokens[name] for name in ("input_ids", "attention_mask") if name in tokens}
        return F.normalize(model.get_text_features(**inputs).pooler_output, dim=-1)


def mean_of_frames(embedding_BTE: Tensor) -> Tensor:
    """The embedding (B, E) of a video whose frames are embedded one by one: the mean of their directions."""
    return F.normalize(embedding_BTE, dim=-1).mean(dim=1)
