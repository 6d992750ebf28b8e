"""What image-to-video pipelines add to their family's adapter: a first frame that is given."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import PIL.Image
import torch
from torch import Tensor
from typing_extensions import override

from cvg.common.errors import ModelError
from cvg.common.sizes import Size
from cvg.composition import Composition
from cvg.generators.base import Generator
from cvg.generators.conditioning import Conditioning, States


class ImageToVideo(Generator):
    """A pipeline whose call begins with an image: that of its own user's call (``cvg.guide``), or :attr:`image`.

    Mixed into the family's adapter. What the network is given of the image stands among the states of the prompts. The
    pipeline itself draws the noise, with which it mixes what it makes of the image in a way of its own.
    """

    image: PIL.Image.Image | None = None
    """What :meth:`sample` makes videos of; the pipeline brings it to the size of the videos."""
    last_image: PIL.Image.Image | None = None
    """What they end with, where they are to; for those that :attr:`takes_last_image` is true of."""

    @property
    def takes_last_image(self) -> bool:
        """Whether its videos can be told their last frame too."""
        return False

    def of_call(self, name: str) -> Any:
        """An argument of the pipeline's call that is in progress; None where it is not given."""
        return self.own_call.get(name, {"image": self.image, "last_image": self.last_image}.get(name))

    @override
    def encode(self, compositions: Sequence[Composition], given: States | None = None) -> Conditioning:
        self._require_image()
        return super().encode(compositions, given)

    @override
    def prompt_options(self, prompts: Sequence[str]) -> dict[str, Any]:
        self._require_image()
        return {**super().prompt_options(prompts), "image": [self.image] * len(prompts)}

    def _require_image(self) -> None:
        if "image" not in self.own_call and self.image is None:
            raise ModelError(
                f"generator {self.name}: {type(self.pipeline).__name__} makes videos of images; give one, or guide its "
                "own call, with cvg.guide"
            )

    @override
    def initial_latents(self, generators: Sequence[torch.Generator], size: Size) -> Tensor:
        from diffusers.utils.torch_utils import randn_tensor  # here, or help of every command would load it

        frames, height, width = size
        temporal, spatial = self.compression
        shape = (self.latent_channels, (frames - 1) // temporal + 1, height // spatial, width // spatial)
        return randn_tensor((len(generators), *shape), list(generators), self.device, self.noise_dtype)

    @override
    def noise(self, generators: Sequence[torch.Generator], size: Size) -> Tensor | None:
        return None
