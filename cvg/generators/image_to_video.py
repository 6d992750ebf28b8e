"""What image-to-video pipelines add to their family's adapter: a first frame that is given."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from diffusers.utils.torch_utils import randn_tensor
from torch import Tensor
from typing_extensions import override

from cvg.common.errors import ModelError
from cvg.common.sizes import Size
from cvg.composition import Composition
from cvg.generators.base import Generator
from cvg.generators.conditioning import Conditioning, States


class ImageToVideo(Generator):
    """A pipeline whose call begins with an image; it is read and guided while its own user calls it (``cvg.guide``).

    Mixed into the family's adapter. What the network is given of the image stands among the states of the prompts.
    """

    @override
    def encode(self, compositions: Sequence[Composition], given: States | None = None) -> Conditioning:
        self._require_image()
        return super().encode(compositions, given)

    @override
    def prompt_options(self, prompts: Sequence[str]) -> dict[str, Any]:
        self._require_image()
        return super().prompt_options(prompts)

    def _require_image(self) -> None:
        if "image" not in self.own_call:
            raise ModelError(
                f"generator {self.name}: {type(self.pipeline).__name__} makes videos of images; guide its own call, "
                "with cvg.guide"
            )

    @override
    def initial_latents(self, generators: Sequence[torch.Generator], size: Size) -> Tensor:
        frames, height, width = size
        temporal, spatial = self.compression
        shape = (self.latent_channels, (frames - 1) // temporal + 1, height // spatial, width // spatial)
        return randn_tensor((len(generators), *shape), list(generators), self.device, self.noise_dtype)
