"""Where and how a generator is computed: options of commands, which need no PyTorch to be read."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

Dtype = Literal["float32", "bfloat16"]
Offload = Literal["none", "model", "group"]
Quantize = Literal["bnb-4bit", "bnb-8bit", "torchao-int8", "torchao-fp8", "gguf"]


@dataclass(frozen=True)
class Loading:
    """Where a generator is computed, in what precision, what is changed in it, and what it gives for memory and speed.

    Args:
        device: torch device.
        dtype: of the generator's weights and most activations; latents, maps and edits stay float32.
        offload: weights that are not in use rest in main memory: model has one component at a time on the device, group
            one layer at a time, which implies checkpointing.
        checkpointing: guided steps compute blocks twice instead of keeping what they need for gradients.
        tiling: the VAE takes one video at a time, in tiles.
        compile: compile the network's blocks, which takes a minute; guided and recorded steps run without.
        lora: a .safetensors file of a LoRA, a folder or Hub id that has one, one that ships, or a list of them.
        lora_low_noise: alike, of LoRAs for the second of two networks, which denoises little noise: of such a pair, as
            Wan 2.2 A14B has them for few steps, lora takes the other.
        lora_scale: strength of each LoRA, those of low noise last, or one for all; 1 when left out.
        quantize: keep the network's weights in fewer bits. gguf takes them from a file.
        gguf: the .gguf file of the network, or a list of them where a pipeline has two networks.
        scheduler: class of diffusers in place of the pipeline's scheduler, such as FlowMatchEulerDiscreteScheduler.
        flow_shift: shift of a flow-matching scheduler's noise levels; the scheduler's own when left out.
        timesteps: of a flow-matching model made for few steps: where it denoises, from 1000 down, by Euler's method, in
            place of the scheduler's; the number of steps is then theirs.
    """

    device: str = "cpu"
    dtype: Dtype = "float32"
    offload: Offload = "none"
    checkpointing: bool = False
    tiling: bool = False
    compile: bool = False
    lora: str | list[str] | None = None
    lora_low_noise: str | list[str] | None = None
    lora_scale: float | list[float] | None = None
    quantize: Quantize | None = None
    gguf: str | list[str] | None = None
    scheduler: str | None = None
    flow_shift: float | None = None
    timesteps: list[float] | None = None


def listed(value: Any) -> list[Any]:
    """An option that takes one value or several, as a list."""
    return [] if value is None else list(value) if isinstance(value, list | tuple) else [value]
