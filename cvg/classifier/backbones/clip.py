"""A frozen CLIP or X-CLIP vision tower that watches the volume as a video."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from cvg.classifier.backbones.base import Backbone, only_present
from cvg.classifier.smoothing import smooth_noise
from cvg.errors import UserError
from cvg.shapes import assets

_CHANNELS = (0, 2, 1)  # subject, object and a possible third entity: red, blue, green
_MIDDLE, _WIDTH = 2.0, 1.5


def show(volume_BKFHW: Tensor, frames: int, size: int) -> Tensor:
    """Volumes as videos on black: the subject's evidence is red, the object's blue.

    The contrast is u / sqrt(1 + u^2), u = (volume - 2) / 1.5, moved into [0, 1]: no evidence (0) is 0.1, two deviations
    are 0.5, five are 0.95. Its slope falls off only as u^-3, so that strong evidence still has a gradient, where a
    logistic curve's would be gone.

    Args:
        volume_BKFHW: a step's volumes, at most three entity slots.
        frames: frames wanted; the volume is interpolated over time when it has another number.
        size: height and width wanted, in pixels; bilinear.

    Returns:
        (B, frames, 3, size, size) in [0, 1]
    """
    u = (volume_BKFHW - _MIDDLE) / _WIDTH
    light = 0.5 + 0.5 * u * torch.rsqrt(1 + u.square())
    light = F.interpolate(light, size=(frames, size, size), mode="trilinear", align_corners=False)
    planes = [torch.zeros_like(light[:, 0])] * 3
    for slot, channel in zip(range(light.shape[1]), _CHANNELS, strict=False):
        planes[channel] = light[:, slot]
    return torch.stack(planes, dim=2)


def _load_model(path: str) -> Any:
    """The whole model, both towers, in float32. Raises UserError, and what transformers raises."""
    from transformers import AutoConfig, CLIPModel, XCLIPModel

    kind = AutoConfig.from_pretrained(path).model_type
    classes = {"clip": CLIPModel, "xclip": XCLIPModel}
    if kind not in classes:
        raise UserError(f"backbone {path}: its model type is {kind!r}; expected a CLIPModel or XCLIPModel folder")
    return classes[kind].from_pretrained(path, use_safetensors=True, dtype=torch.float32)


def _load(path: str) -> tuple[Any, int, Tensor, Tensor]:
    """Vision tower, size of the joint space, and the preprocessor's mean and deviation (3,)."""
    from transformers.image_processing_base import ImageProcessingMixin

    try:
        model = _load_model(path)
        # The transformers image processors need torchvision; the two numbers wanted here are in their JSON.
        processor, _ = ImageProcessingMixin.get_image_processor_dict(path)
        mean, deviation = torch.tensor(processor["image_mean"]), torch.tensor(processor["image_std"])
    except (OSError, KeyError, ValueError) as error:
        reason = str(error).split("\n")[0]
        raise UserError(
            f"backbone {path}: cannot be loaded ({reason}); give a CLIPModel or XCLIPModel folder, or a Hub id, with "
            "config.json, model.safetensors and preprocessor_config.json"
        ) from error
    return model.vision_model, model.config.projection_dim, mean, deviation


def _load_text(path: str) -> tuple[Any, Any]:
    """The whole model, in evaluation mode, and its tokenizer."""
    from transformers import AutoTokenizer

    try:
        model, tokenizer = _load_model(path).eval(), AutoTokenizer.from_pretrained(path)
        # Without files transformers makes a tokenizer that knows no word, and says nothing.
        if len(tokenizer) <= len(tokenizer.all_special_ids):
            raise OSError("it has no tokenizer")
    except (OSError, KeyError, ValueError) as error:
        reason = str(error).split("\n")[0]
        raise UserError(
            f"backbone {path}: its text tower cannot be loaded ({reason}); give a folder, or a Hub id, that also holds "
            "the tokenizer's files"
        ) from error
    return model, tokenizer


class ClipBackbone(Backbone):
    """Patch tokens of a frozen vision tower that sees a step's volume as a video.

    Patch tokens and not the pooled vector: the head must be able to see where things are. The features are what the
    tokens differ by from those of a video without evidence, divided by the deviation that each channel has over fixed
    random volumes; both are constants of the frozen model, and leave the head well-conditioned inputs.

    Args:
        path: folder or Hub id of a CLIPModel or XCLIPModel, or the name of a shipped one (``shapes-clip``).
        slots: entity slots K, at most 3.
        grid: the volume's (F, H, W).
        layer: which hidden state to read, as in transformers' ``hidden_states``: 0 are the embeddings, -1 is the last.
            Later layers are not computed.
        pool: side of the squares of patches that are averaged; 1 keeps all patches.

    Raises:
        UserError: the model cannot be loaded or an option does not fit it.
    """

    blank: Tensor
    deviation: Tensor
    mean_C: Tensor
    std_C: Tensor

    def __init__(self, path: str, slots: int, grid: tuple[int, int, int], layer: int = -1, pool: int = 1) -> None:
        super().__init__()
        if slots > len(_CHANNELS):
            raise UserError(f"backbone {path}: {slots} entity slots, but a picture has {len(_CHANNELS)} channels")
        self.path = str(assets.path(path))
        tower, self.joint_dim, mean, std = _load(self.path)
        config = tower.config
        depth = config.num_hidden_layers
        if not -depth - 1 <= layer <= depth:
            raise UserError(f"backbone {path}: layer {layer} of {depth}; choose from {-depth - 1} to {depth}")
        tower.encoder.layers = tower.encoder.layers[: layer % (depth + 1)]
        self.size, self.pool = config.image_size, pool
        self.side = config.image_size // config.patch_size
        if pool < 1 or self.side % pool:
            raise UserError(f"backbone {path}: pool {pool} does not divide its {self.side} x {self.side} patches")
        # X-CLIP exchanges messages between a fixed number of frames; CLIP sees each frame alone.
        self.frames = getattr(config, "num_frames", grid[0])
        self.freeze(tower)
        self.register_buffer("mean_C", mean, persistent=False)
        self.register_buffer("std_C", std, persistent=False)
        with torch.no_grad():
            blank = self.tokens(torch.zeros(1, slots, *grid))
            probe = 2 * smooth_noise((8, slots, *grid), torch.Generator().manual_seed(0))
            channels = (self.tokens(probe) - blank).square().mean(dim=(0, 1, 2))
            # No channel counts for more than ten times its share, dead ones least of all.
            deviation = channels.clamp_min(0.01 * channels.mean()).clamp_min(1e-12).sqrt()
        self.register_buffer("blank", blank, persistent=False)
        self.register_buffer("deviation", deviation, persistent=False)
        self.feature_dim = blank.numel()

    def pixels(self, volume_BKFHW: Tensor) -> Tensor:
        """What the tower is given: (B*frames, 3, h, w), normalised; X-CLIP wants a video's frames in a row."""
        video = show(volume_BKFHW, self.frames, self.size).flatten(0, 1)
        return (video - self.mean_C[:, None, None]) / self.std_C[:, None, None]

    def tokens(self, volume_BKFHW: Tensor) -> Tensor:
        """The tower's own patch tokens, pooled: (B, frames, patches, D)."""
        assert self.tower is not None
        hidden = self.tower(pixel_values=self.pixels(volume_BKFHW)).last_hidden_state[:, 1:]
        if self.pool > 1:
            square = hidden.transpose(1, 2).unflatten(-1, (self.side, self.side))
            hidden = F.avg_pool2d(square, self.pool).flatten(2).transpose(1, 2)
        return hidden.unflatten(0, (-1, self.frames))

    def features(self, volume_BKFHW: Tensor, present_BK: Tensor) -> Tensor:
        """Features (B, frames*patches*D)."""
        tokens = self.tokens(only_present(volume_BKFHW, present_BK))
        return ((tokens - self.blank) / self.deviation).flatten(1)

    @torch.no_grad()
    def text_features(self, phrases: Sequence[str]) -> Tensor:
        """The model's own text embeddings (text tower and projection), at unit length: (N, E)."""
        model, tokenizer = _load_text(self.path)
        tokens = tokenizer(list(phrases), padding=True, return_tensors="pt")
        longest, limit = tokens.input_ids.shape[1], model.config.text_config.max_position_embeddings
        if longest > limit:
            phrase = max(phrases, key=lambda phrase: len(tokenizer(phrase).input_ids))
            raise UserError(
                f"backbone {self.path}: {phrase!r} has {longest} tokens, its text tower reads {limit}; shorten it"
            )
        embeddings = model.get_text_features(tokens.input_ids, attention_mask=tokens.attention_mask).pooler_output
        return F.normalize(embeddings, dim=-1)
