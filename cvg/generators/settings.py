"""Where and how a generator is computed: options of commands, which need no PyTorch to be read."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Dtype = Literal["float32", "bfloat16"]
Offload = Literal["none", "model", "group"]


@dataclass(frozen=True)
class Loading:
    """Where a generator is computed, in what precision, and what it gives for memory and speed.

    Args:
        device: torch device.
        dtype: of the generator's weights and most activations; latents, maps and edits stay float32.
        offload: weights that are not in use rest in main memory: model has one component at a time on the device, group
            one layer at a time, which implies checkpointing.
        checkpointing: guided steps compute blocks twice instead of keeping what they need for gradients.
        tiling: the VAE takes one video at a time, in tiles.
        compile: compile the network's blocks, which takes a minute; guided and recorded steps run without.
    """

    device: str = "cpu"
    dtype: Dtype = "float32"
    offload: Offload = "none"
    checkpointing: bool = False
    tiling: bool = False
    compile: bool = False
