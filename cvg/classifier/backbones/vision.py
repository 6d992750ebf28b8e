"""A frozen vision tower that watches the volume as a video: what all of them share."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from types import MethodType
from typing import Annotated, Any, ClassVar, Literal

import torch
import torch.nn.functional as F
from pydantic import Field, StrictBool, StrictFloat, StrictInt
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint
from typing_extensions import override

from cvg.classifier.backbones import loading
from cvg.classifier.backbones.base import Backbone, only_present
from cvg.classifier.backbones.show import CHANNELS, CONTRAST, LAYOUTS, Layout, show
from cvg.classifier.smoothing import smooth_noise
from cvg.common.errors import ModelError, SettingsError
from cvg.common.fingerprint import fingerprint
from cvg.common.sizes import Grid
from cvg.common.typed import read, record

DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16}


@record
class VisionOptions:
    """What a configuration may choose of every tower.

    Attributes:
        layer: which hidden state to read, as in transformers' ``hidden_states``: 0 are the embeddings, -1 is the
            tower's own output, with its last normalisation where it has one. Later blocks are not computed.
        pool: side of the squares of patches that are averaged; 1 keeps all patches.
        layout: where entities go in a picture: `cvg.classifier.backbones.show.LAYOUTS`.
        contrast: [middle, width] of the curve from evidence to light.
        dtype: the tower's precision, ``float32`` or ``bfloat16``; features are always the volume's.
        checkpointing: gradients recompute the tower's blocks instead of keeping their activations.
        fingerprint: of the weights that a classifier was trained on; those of the path have to be the same ones.
    """

    layer: Annotated[StrictInt, Field(description="a whole number")] = -1
    pool: Annotated[StrictInt, Field(description="a whole number")] = 1
    layout: Annotated[Layout, Field(description=f"one of {', '.join(LAYOUTS)}")] = "colours"
    contrast: Annotated[
        tuple[StrictFloat, Annotated[StrictFloat, Field(gt=0)]],
        Field(description="[middle, width], two numbers, the width above 0"),
    ] = CONTRAST
    dtype: Annotated[Literal["float32", "bfloat16"], Field(description="float32 or bfloat16")] = "float32"
    checkpointing: Annotated[StrictBool, Field(description="true or false")] = False
    fingerprint: str | None = None


class VisionBackbone(Backbone):
    """Patch tokens of a frozen vision tower that sees a step's volume as a video.

    Patch tokens and not the pooled vector: the head must be able to see where things are. The features are what the
    tokens differ by from those of a video without evidence, divided by the deviation that each channel has over fixed
    random volumes; both are constants of the frozen model, and leave the head well-conditioned inputs.

    Frames are drawn at the size that the model takes, so that nothing is left of its processor's resizing and
    cropping, which bring photographs to that size; its normalisation follows.

    A model states where its blocks are (`blocks_path`, `final_norm_path`, `unused`), its sizes (`read_sizes`), and how
    its tower is called (`patch_tokens`).

    Args:
        path: folder or Hub id of the model.
        slots: entity slots K.
        grid: the volume's (F, H, W).
        options: see `options_class`.

    Raises:
        UserError: the model cannot be loaded or an option does not fit it.
    """

    options_class: ClassVar[type[VisionOptions]] = VisionOptions
    blocks_path: str
    """Name of the model's submodule that holds its blocks."""
    final_norm_path: str | None = None
    """Name of the normalisation that follows the last block before the tower's output."""
    unused: tuple[str, ...] = ()
    """Parts of the model that are not kept."""

    size: int
    """Height and width of a frame in pixels."""
    side: int
    """Patches along one side of a frame."""
    fixed_frames: int | None = None
    """Frames of a video, where the model has a fixed number."""
    tubelet: int = 1
    """Frames that share a patch token."""

    tokens_of_zero: Tensor
    """Tokens of a video without evidence, which those of others are measured from."""
    deviation: Tensor
    """Of each channel of the tokens, over fixed random volumes: the unit of the features."""
    mean_C: Tensor
    std_C: Tensor

    def __init__(self, path: str, slots: int, grid: Grid, **options: Any) -> None:
        super().__init__()
        self.path = path
        self.options = read(
            self.options_class, options, f"backbone {path}", "see docs/backbones.md", False, SettingsError
        )
        if self.options.layout == "colours" and slots > len(CHANNELS):
            raise SettingsError(
                f"backbone {path}: {slots} entity slots, but a picture has {len(CHANNELS)} channels; choose another "
                "layout"
            )
        mean, std = self.normalisation()
        model = loading.load(path, DTYPES[self.options.dtype])
        self.fingerprint = fingerprint([(model, {})])
        if self.options.fingerprint not in (None, self.fingerprint):
            raise ModelError(
                f"backbone {path}: its weights are {self.fingerprint}, the classifier was trained on "
                f"{self.options.fingerprint} and would guide by what it never saw; give the model it was trained on "
                "(backbone.path in its config.json), or train again"
            )
        self.read_sizes(model.config)
        self.frames = self._frames_shown(grid[0], slots)
        self.pool = self.options.pool
        self.check_pool()
        self.prepare(model)
        self.complete = self.drop_blocks_after(model, self.options.layer)
        if self.options.checkpointing:
            self.recompute(model)
        self.freeze(model)
        self.register_buffer("mean_C", mean, persistent=False)
        self.register_buffer("std_C", std, persistent=False)
        with torch.no_grad():
            self.feature_dim = self.calibrate(slots, grid)

    # What a model states

    def read_sizes(self, config: Any) -> None:
        """Read `size`, `side` and, where they apply, `fixed_frames` and `tubelet` from the model's config."""
        raise NotImplementedError

    def patch_tokens(self, video_BTCHW: Tensor) -> Tensor:
        """The tower's patch tokens (B, T / tubelet, side * side, D) of normalised frames, row by row."""
        raise NotImplementedError

    def normalisation(self) -> tuple[Tensor, Tensor]:
        """Mean and deviation (3,) of pixels in [0, 1] that the model was trained with: its processor's."""
        return loading.normalisation(self.path)

    # Building

    def prepare(self, model: Any) -> None:
        """Let go what is not used."""
        for part in self.unused:
            delattr(model, part)

    def drop_blocks_after(self, model: Any, layer: int) -> bool:
        """Remove the blocks after a hidden state; returns whether none were."""
        blocks = model.get_submodule(self.blocks_path)
        depth = len(blocks)
        kept = self._blocks_kept(layer, depth)
        model.set_submodule(self.blocks_path, blocks[:kept])
        if self.final_norm_path and kept < depth:
            model.set_submodule(self.final_norm_path, nn.Identity())
        return kept == depth

    def _blocks_kept(self, layer: int, depth: int) -> int:
        if not -depth - 1 <= layer <= depth:
            raise SettingsError(f"backbone {self.path}: layer {layer} of {depth}; choose from {-depth - 1} to {depth}")
        return layer % (depth + 1)

    def recompute(self, model: Any) -> None:
        """Checkpoint the model's blocks."""
        checkpoint_blocks(model.get_submodule(self.blocks_path))

    def _frames_shown(self, frames: int, slots: int) -> int:
        share = self.tubelet * (slots if self.options.layout == "in_turn" else 1)
        if self.fixed_frames is None:
            return frames * share
        if self.fixed_frames % share:
            raise SettingsError(
                f"backbone {self.path}: its {self.fixed_frames} frames cannot be shared by {slots} entities in turn; "
                "choose another layout"
            )
        return self.fixed_frames

    def check_pool(self) -> None:
        """Raise SettingsError when the patches cannot be pooled as chosen."""
        if self.pool < 1 or self.side % self.pool:
            raise SettingsError(
                f"backbone {self.path}: pool {self.pool} does not divide its {self.side} x {self.side} patches"
            )

    def calibrate(self, slots: int, grid: Grid) -> int:
        """Find what features are measured from, and in what units; returns their number."""
        tokens_of_zero = self.tokens(torch.zeros(1, slots, *grid))
        volumes = 2 * smooth_noise((8, slots, *grid), torch.Generator().manual_seed(0))
        channels = (self.tokens(volumes) - tokens_of_zero).square().mean(dim=(0, 1, 2))
        # No channel counts for more than ten times its share, dead ones least of all.
        deviation = channels.clamp_min(0.01 * channels.mean()).clamp_min(1e-12).sqrt()
        self.register_buffer("tokens_of_zero", tokens_of_zero, persistent=False)
        self.register_buffer("deviation", deviation, persistent=False)
        return tokens_of_zero.numel()

    # Features

    @property
    def model(self) -> Any:
        """The frozen model."""
        assert self.tower is not None
        return self.tower

    @override
    def video(self, volume_BKFHW: Tensor) -> Tensor:
        middle, width = self.options.contrast
        return show(volume_BKFHW, self.frames, self.size, self.options.layout, (middle, width))

    def pixels(self, volume_BKFHW: Tensor) -> Tensor:
        """What the tower is shown: normalised frames (B, T, 3, size, size)."""
        return (self.video(volume_BKFHW) - self.mean_C[:, None, None]) / self.std_C[:, None, None]

    def tokens(self, volume_BKFHW: Tensor) -> Tensor:
        """The tower's own patch tokens, pooled, in the volume's precision: (B, T / tubelet, patches, D)."""
        hidden = self.patch_tokens(self.pixels(volume_BKFHW).to(self.model.dtype)).to(volume_BKFHW.dtype)
        if self.pool > 1:
            square = hidden.flatten(0, 1).transpose(1, 2).unflatten(-1, (self.side, self.side))
            pooled = F.avg_pool2d(square, self.pool).flatten(2).transpose(1, 2)
            hidden = pooled.unflatten(0, hidden.shape[:2])
        return hidden

    def features(self, volume_BKFHW: Tensor, present_BK: Tensor) -> Tensor:
        """Features (B, T / tubelet * patches * D)."""
        tokens = self.tokens(only_present(volume_BKFHW, present_BK))
        return ((tokens - self.tokens_of_zero) / self.deviation).flatten(1)


def checkpoint_blocks(blocks: Iterable[nn.Module]) -> None:
    """Make gradients recompute each block, which transformers itself does in training mode alone."""
    for block in blocks:
        block.forward = MethodType(_recomputed, block)


def _recomputed(block: nn.Module, *args: Any, **options: Any) -> Any:
    forward: Callable[..., Any] = MethodType(type(block).forward, block)
    if not torch.is_grad_enabled():
        return forward(*args, **options)
    # A frozen tower is in evaluation mode: nothing random to repeat.
    return checkpoint(forward, *args, use_reentrant=False, preserve_rng_state=False, **options)


def square_side(value: int | list[int] | tuple[int, ...], path: str, what: str) -> int:
    """A size that configs give as one number or as a pair. Raises ModelError when the pair is not square."""
    sides = {value} if isinstance(value, int) else set(value)
    if len(sides) != 1:
        raise ModelError(f"backbone {path}: its {what} is {value}; a square one is needed")
    return sides.pop()


def square_root(patches: int, path: str) -> int:
    """Side of a square of patches. Raises ModelError when they are no square."""
    side = math.isqrt(patches)
    if side * side != patches:
        raise ModelError(f"backbone {path}: its {patches} patches do not make a square")
    return side
