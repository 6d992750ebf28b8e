"""UNets between frames' own cross-attention to CLIP states and attention over time: ModelScope and AnimateDiff."""

from __future__ import annotations

import functools
import math
from abc import abstractmethod
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from typing import Any

from torch import Tensor, nn
from typing_extensions import override

from cvg.common.sizes import Grid, Size
from cvg.composition import Composition
from cvg.generators.conditioning import States
from cvg.generators.families.diffusion import FramewiseGenerator
from cvg.generators.recompute import parts_recomputed
from cvg.generators.steps import Edit, changed_steps
from cvg.grounding.keys import entity_columns


class UNetGenerator(FramewiseGenerator):
    """What both have in common.

    A layer is a block of a spatial transformer, in the order they run: on the way down, in the middle, on the way up.
    Frames read the prompt one by one. Deeper layers have smaller maps and, in some models, more heads: all are brought
    to the latents' grid and to as many heads as divide those of every layer. Padded CLIP tokens are attended.
    """

    @property
    def _stages(self) -> list[tuple[Any, int]]:
        """The UNet's stages in the order they run, each with how often the latents were halved when it reads them."""
        down, mid, up = self.network.down_blocks, self.network.mid_block, self.network.up_blocks
        deepest = len(down) - 1
        stages = [*zip(down, range(len(down)), strict=True), (mid, deepest)]
        return stages + [(stage, deepest - i) for i, stage in enumerate(up)]

    @property
    def _text_blocks(self) -> list[tuple[Any, int]]:
        """Blocks of the spatial transformers, each with how often the latents were halved."""
        return [
            (block, halvings)
            for stage, halvings in self._stages
            for transformer in getattr(stage, "attentions", ())
            for block in transformer.transformer_blocks
        ]

    @property
    @override
    def patch(self) -> Grid:
        return Grid(1, 1, 1)

    @property
    @override
    def network(self) -> Any:
        return self.pipeline.unet

    @property
    @override
    def blocks(self) -> Sequence[Any]:
        return [block for block, _ in self._text_blocks]

    @property
    @override
    def num_heads(self) -> int:
        return math.gcd(*(block.attn2.heads for block in self.blocks))

    def _group(self, layer: int) -> int:
        """How many heads of a layer's attention count as one."""
        return int(self.blocks[layer].attn2.heads) // self.num_heads

    @override
    def heads_in_module(self, layer: int, heads: Sequence[int]) -> list[int]:
        group = self._group(layer)
        return [group * head + member for head in heads for member in range(group)]

    @override
    def to_token_grid(self, maps_PANE: Tensor, layer: int, grid: Grid) -> Tensor:
        frames, *finest = grid
        own = [math.ceil(side / 2 ** self._text_blocks[layer][1]) for side in finest]
        grouped = maps_PANE.unflatten(1, (-1, self._group(layer))).mean(2)
        images = grouped.transpose(-1, -2).flatten(1, 2).unflatten(-1, own)
        if own != finest:
            images = nn.functional.interpolate(images, size=finest, mode="bilinear")
        return images.unflatten(0, (-1, frames)).unflatten(2, (-1, maps_PANE.shape[-1])).movedim(1, 3)

    @override
    def encode_prompts(self, prompts: Sequence[str]) -> States:
        states, _ = self.pipeline.encode_prompt(list(prompts), self.device, 1, False)
        return {"encoder_hidden_states": states.to(self.dtype)}

    @override
    def entity_columns(self, composition: Composition) -> Tensor:
        tokenizer = self.pipeline.tokenizer
        textual_inversion = functools.partial(self.pipeline.maybe_convert_prompt, tokenizer=tokenizer)
        return entity_columns(composition, tokenizer, int(tokenizer.model_max_length), textual_inversion)

    @abstractmethod
    def _text(self, states: Tensor, frames: int) -> Tensor:
        """Text states as the network takes them."""

    @override
    def predict(self, latents: Tensor, timestep: Tensor, states: States) -> Tensor:
        text = self._text(states["encoder_hidden_states"], latents.shape[2])
        prediction: Tensor = self.network(
            latents.to(self.dtype), timestep, encoder_hidden_states=text, return_dict=False
        )[0]
        return prediction

    @override
    def recomputing(self) -> AbstractContextManager[None]:
        # diffusers refuses to checkpoint ModelScope's network and leaves out AnimateDiff's attention over time
        kinds = ("resnets", "temp_convs", "attentions", "temp_attentions", "motion_modules")
        parts = [part for stage, _ in self._stages for kind in kinds for part in getattr(stage, kind, ())]
        return parts_recomputed(parts, self.compiled)


class ModelScopeGenerator(UNetGenerator):
    """Adapter of ``TextToVideoSDPipeline`` (ModelScope, Zeroscope).

    The pipeline has no callback after each step, and its scheduler sees the frames as a batch of images: one generator
    per video does for schedulers that draw no noise only.
    """

    @override
    def _text(self, states: Tensor, frames: int) -> Tensor:
        return states

    @override
    def unpack(self, latents: Tensor, size: Size) -> Tensor:
        return latents if latents.ndim == 5 else latents.unflatten(0, (-1, size[0])).transpose(1, 2)

    @override
    @contextmanager
    def changed_between_steps(self, change: Edit) -> Iterator[dict[str, Any]]:
        def change_images(call: int, images: Tensor) -> Tensor:
            changed = change(call, images)
            return images if changed is images else changed.transpose(1, 2).flatten(0, 1)

        with changed_steps(self.pipeline.scheduler, change_images):
            yield {}


class AnimateDiffGenerator(UNetGenerator):
    """Adapter of ``AnimateDiffPipeline``. The pipeline repeats the text states for each frame."""

    @override
    def _text(self, states: Tensor, frames: int) -> Tensor:
        return states.repeat_interleave(frames, 0)
