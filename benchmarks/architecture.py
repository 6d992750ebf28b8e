"""Generators of a released model's true architecture with random weights, at its size or shrunk.

Neither text encoder nor VAE is made: prompts are random states of the true shape, with random entity spans, and what
would be decoded is black. So what is measured is the cost of the transformer and of what is done with it.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

import diffusers
import torch
import yaml
from torch import Tensor

from cvg.common.devices import find_device
from cvg.common.errors import SettingsError
from cvg.common.sizes import Size
from cvg.composition import Composition
from cvg.generators import Generator
from cvg.generators.conditioning import States
from cvg.generators.families.cogvideox import CogVideoXGenerator
from cvg.generators.families.hunyuan import HunyuanVideoGenerator
from cvg.generators.families.ltx import LTXGenerator
from cvg.generators.families.wan import WanGenerator

FOLDER = Path(__file__).parent / "architectures"
Cfg = Literal["calls", "batch", "none"]
"""How a denoising step is guided by a classifier-free scale: two calls, one of twice the batch, or none is needed."""


@dataclass(frozen=True)
class Architecture:
    """A released text-to-video model without its weights.

    Attributes:
        name: of the file in ``benchmarks/architectures``.
        pipeline: diffusers pipeline class.
        transformer: the released configuration; ``_class_name`` is the class.
        scheduler: likewise.
        size: of its videos.
        guidance: see :data:`Cfg`.
        text: shape of each state of one prompt; masks leave the second half out.
        text_encoder: the released configuration of transformers' class ``_class_name``, where it is known here.
        vae: likewise, of diffusers.
    """

    name: str
    pipeline: str
    transformer: dict[str, Any]
    scheduler: dict[str, Any]
    size: Size
    guidance: Cfg
    text: dict[str, list[int]]
    text_encoder: dict[str, Any] | None = None
    vae: dict[str, Any] | None = None

    def shrunk(
        self,
        depth: int | None = None,
        heads: int | None = None,
        size: Sequence[int] | None = None,
        text_length: int | None = None,
    ) -> Architecture:
        """The same with fewer blocks, fewer heads (and as much less width), other pixels or fewer text keys."""
        config, text = dict(self.transformer), self.text
        if depth is not None:
            kinds = [key for key in ("num_single_layers", "num_layers") if key in config]
            total = sum(config[key] for key in kinds)
            if not len(kinds) <= depth <= total:
                raise SettingsError(f"depth {depth}: {self.name} has {total} blocks; give {len(kinds)} to {total}")
            for key in kinds[:-1]:
                config[key] = max(1, min(depth - 1, round(depth * config[key] / total)))
            config["num_layers"] = depth - sum(config[key] for key in kinds[:-1])
        if heads is not None:
            full = config["num_attention_heads"]
            if not 1 <= heads <= full:
                raise SettingsError(f"heads {heads}: {self.name} has {full}; give 1 to {full}")
            config["num_attention_heads"] = heads
            for entry in ("ffn_dim", "cross_attention_dim"):
                if entry in config:
                    config[entry] = config[entry] * heads // full
        if text_length is not None:
            if text_length < 16:
                raise SettingsError(f"text_length {text_length}: the entities of a prompt need at least 16 keys")
            text = {name: [text_length, *shape[1:]] if name != POOLED else shape for name, shape in text.items()}
            if "max_text_seq_length" in config:
                config["max_text_seq_length"] = text_length
        if size is not None and (len(size) != 3 or min(size) < 1):
            raise SettingsError(f"size {list(size)}: give frames, height and width in pixels")
        return replace(self, transformer=config, text=text, size=Size(*(size or self.size)))


POOLED = "pooled_projections"
"""The one state that has no row per token."""


def names() -> list[str]:
    """Known architectures."""
    return sorted(path.stem for path in FOLDER.glob("*.yaml"))


def load(name: str) -> Architecture:
    """An architecture by name. Raises SettingsError for an unknown one, listing the known."""
    if name not in names():
        raise SettingsError(f"architecture {name}: unknown; give some of {', '.join(names())}")
    data = yaml.safe_load((FOLDER / f"{name}.yaml").read_text(encoding="utf-8"))
    if "of" in data:
        return replace(load(data.pop("of")).shrunk(**data), name=name)
    return Architecture(name, **data | {"size": Size(*data["size"])})


class RandomStates(Generator):
    """Mixed into a family's adapter, it stands in for text encoder and VAE."""

    architecture: Architecture

    def check_parts(self) -> None:
        """There are none but the network and its scheduler."""

    @property
    def max_sequence_length(self) -> int:
        """Text keys."""
        return self.architecture.text["encoder_hidden_states"][0]

    @property
    def noise_dtype(self) -> torch.dtype:
        """There is no text encoder, whose dtype some families take."""
        return torch.float32

    @property
    def latent_channels(self) -> int:
        """There is no VAE to ask."""
        return int(self.network.config.in_channels)

    def identity(self) -> dict[str, str]:
        """Name and class; weights that nobody else has need no fingerprint."""
        return {"name": self.name, "class": type(self.pipeline).__name__, "fingerprint": "random"}

    def encode_prompts(self, prompts: Sequence[str]) -> States:
        """Random states; those of a prompt are always the same."""
        return {
            name: torch.stack([self._state(prompt, name, shape) for prompt in prompts]).to(self.device, self.dtype)
            for name, shape in self.architecture.text.items()
        }

    def _state(self, prompt: str, name: str, shape: list[int]) -> Tensor:
        if name.endswith("mask"):
            return (torch.arange(shape[0]) < shape[0] // 2).float()
        source = torch.Generator().manual_seed(random.Random(f"{prompt}:{name}").getrandbits(63))
        return torch.randn(shape, generator=source)

    def entity_columns(self, composition: Composition) -> Tensor:
        """A random span of one to three keys for each entity, among the first keys."""
        rng = random.Random(composition.prompt)
        columns = torch.zeros(self.max_sequence_length, len(composition.entities))
        for entity in range(len(composition.entities)):
            start = 1 + 4 * entity + rng.randrange(2)
            columns[start : start + rng.randint(1, 3), entity] = 1.0
        return columns

    def encode_video(self, video_BCFHW: Tensor) -> Tensor:
        """Noise instead of the video's latents."""
        sources = [torch.Generator().manual_seed(index) for index in range(len(video_BCFHW))]
        return self.initial_latents(sources, Size(*video_BCFHW.shape[-3:])).to(self.device)

    def decode_latents(self, latents: Tensor) -> Tensor:
        """Black videos of the latents' size."""
        return torch.zeros(len(latents), 3, *self.pixel_size(self.token_grid(latents)))


class RandomWan(RandomStates, WanGenerator):
    """Of Wan's architectures."""


class RandomCogVideoX(RandomStates, CogVideoXGenerator):
    """Of CogVideoX's."""


class RandomHunyuanVideo(RandomStates, HunyuanVideoGenerator):
    """Of HunyuanVideo's."""


class RandomLTX(RandomStates, LTXGenerator):
    """Of LTX-Video's."""


ADAPTERS: dict[str, type[RandomStates]] = {
    "WanPipeline": RandomWan,
    "CogVideoXPipeline": RandomCogVideoX,
    "HunyuanVideoPipeline": RandomHunyuanVideo,
    "LTXPipeline": RandomLTX,
}
"""Pipeline class of an architecture -> its adapter here."""


def build(
    architecture: Architecture,
    device: str = "cpu",
    dtype: str = "float32",
    within: AbstractContextManager[Any] | None = None,
    changed: Callable[[Any], None] | None = None,
) -> RandomStates:
    """The generator with random weights, made on the device in the dtype; parts that diffusers keeps in float32 are.

    Args:
        architecture: what to make.
        device: torch device.
        dtype: torch dtype of the weights, by name.
        within: in which the network is made; a mode for fake tensors, say.
        changed: what becomes of the network as it is loaded, such as a LoRA.

    Raises:
        SettingsError: this machine does not have the device.
    """
    kind = getattr(diffusers, architecture.transformer["_class_name"])
    before = torch.get_default_dtype()
    torch.manual_seed(0)
    torch.set_default_dtype(getattr(torch, dtype))
    try:
        with find_device(device), within or nullcontext():
            network = kind.from_config(architecture.transformer)
    finally:
        torch.set_default_dtype(before)
    kept = set(kind._keep_in_fp32_modules or ())
    for name, parameter in network.named_parameters():
        if kept & set(name.split(".")):
            parameter.data = parameter.data.float()
    if changed is not None:
        with within or nullcontext():
            changed(network)
    scheduler = getattr(diffusers, architecture.scheduler["_class_name"]).from_config(architecture.scheduler)
    pipeline_class = getattr(diffusers, architecture.pipeline)
    missing = dict.fromkeys(set(pipeline_class._get_signature_keys(pipeline_class)[0]) - {"transformer", "scheduler"})
    pipeline = pipeline_class(transformer=network, scheduler=scheduler, **missing)
    pipeline.set_progress_bar_config(disable=True)
    generator = ADAPTERS[architecture.pipeline](pipeline, architecture.name)
    generator.architecture = architecture
    return generator


def check_size(architecture: Architecture) -> None:
    """Raise SettingsError unless the architecture's videos can have its size. No weight is made for that."""
    build(architecture, within=torch.device("meta")).check_size(architecture.size)
