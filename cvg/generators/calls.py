"""A pipeline's call as its own user writes it: what passes that are read must know of its arguments."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from types import MappingProxyType
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from cvg.common.sizes import Size
from cvg.generators.conditioning import Conditioning, States
from cvg.generators.family import Family
from cvg.generators.flow import stated_steps

MASKED: Mapping[str, str] = {
    "encoder_hidden_states": "prompt_embeds",
    "encoder_attention_mask": "prompt_attention_mask",
}
"""``embeddings`` of families that mask padded text keys."""


class Called(Family):
    """A family whose pipeline may be called by its own user, with arguments of all kinds."""

    embeddings: ClassVar[Mapping[str, str]] = {"encoder_hidden_states": "prompt_embeds"}
    """What the network takes of prompts, each with the argument in which the pipeline's call takes it ready made."""
    own_call: Mapping[str, Any] = MappingProxyType({})
    """The arguments of the pipeline's call that is in progress, where it is called by its own user."""
    draws_of_image: ClassVar[bool] = False
    """Whether what the call makes of an image is drawn anew with every seed."""
    prepared: tuple[Any, ...] = ()
    """What the call has made together with its first latents: of an image, what the network is given of it."""

    def given_states(self, call: Mapping[str, Any]) -> States | None:
        """What the network takes of prompts that a call of the pipeline gives as embeddings; None where it gives none.

        Args:
            call: the call's arguments by name.
        """
        given = {state: call[name] for state, name in self.embeddings.items() if call.get(name) is not None}
        if "encoder_hidden_states" not in given:
            return None
        floating = {name: state.to(self.device, self.dtype) for name, state in given.items() if "mask" not in name}
        return {name: state.to(self.device) for name, state in given.items()} | floating

    def image_states(self, videos: int) -> States:
        """What the network takes of the image of the call in progress, for so many videos; nothing without an image."""
        return {}

    def with_image(self, conditioning: Conditioning) -> Conditioning:
        """Prompts, one for each video of the call in progress, with what the network takes of its image, if of any."""
        states = self.image_states(len(conditioning.columns_BTE))
        return replace(conditioning, states={**conditioning.states, **states}) if states else conditioning

    def noise(self, generators: Sequence[torch.Generator], size: Size) -> Tensor | None:
        """The noise that a call is given to begin with; None where the pipeline is to draw it, together with an image.

        Args:
            generators: one per video.
            size: of the videos.
        """
        return self.initial_latents(generators, size)

    @property
    def calls_before_text(self) -> int:
        """Attention calls of a layer, to what is seen in an image, before the one that reads the prompt."""
        return 0

    @property
    def given_frames(self) -> int:
        """Latent frames at the beginning that the call in progress was given: edits leave them as they are."""
        return 0

    @property
    def own_steps(self) -> dict[str, Any]:
        """The timesteps or sigmas that the call in progress states itself, as arguments of ``set_timesteps``."""
        return {name: self.own_call[name] for name in ("timesteps", "sigmas") if self.own_call.get(name) is not None}

    @property
    def fixed_steps(self) -> int | None:
        """How many denoising steps there are, where these are stated and no other number can be asked for."""
        stated = next(iter(self.own_steps.values()), None) or stated_steps(self.pipeline.scheduler)
        return None if stated is None else len(stated)

    def size_asked(self, call: Mapping[str, Any]) -> Size | None:
        """The size of the videos that a call of the pipeline states; None where it leaves some of it out."""
        names = {side: name for name, side in self.options(Size(-1, -2, -3)).items() if isinstance(side, int)}
        sides = [call.get(names[side]) for side in (-1, -2, -3)]
        return None if None in sides else Size(*sides)  # type: ignore[arg-type]

    def read_otherwise(self, call: Mapping[str, Any]) -> dict[str, Any]:
        """Arguments of a call that passes that are read do not follow, each with what holds for these."""
        mine = self.options(Size(-1, -2, -3))
        kept = {name: value for name, value in mine.items() if isinstance(value, int) and value > 0}
        return {name: value for name, value in kept.items() if value is not True and call.get(name, value) != value}

    @contextmanager
    def called_with(self, call: Mapping[str, Any]) -> Iterator[None]:
        """Within it passes that are read are like those of the pipeline when it is called with these arguments."""
        given = {name: call[name] for name in ("attention_kwargs", "cross_attention_kwargs") if call.get(name)}

        def add(network: nn.Module, args: Any, options: dict[str, Any]) -> tuple[Any, dict[str, Any]]:
            return args, given | options

        networks = self.networks if given else []
        handles = [network.register_forward_pre_hook(add, with_kwargs=True) for network in networks]
        before, self.own_call = self.own_call, call
        try:
            yield
        finally:
            self.own_call = before
            for handle in handles:
                handle.remove()
