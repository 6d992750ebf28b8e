"""Wan 2.1 and 2.2: text- and image-to-video by flow matching, cross-attention to umT5 states (``WanPipeline``)."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from diffusers.pipelines.wan.pipeline_wan import prompt_clean
from torch import Tensor, nn
from typing_extensions import override

from cvg.common.sizes import Size
from cvg.composition import Composition
from cvg.diffusion.schedule import Schedule, flow_schedule
from cvg.generators.conditioning import States
from cvg.generators.families.standardised import StandardisedGenerator
from cvg.generators.image_to_video import ImageToVideo
from cvg.grounding.keys import entity_columns


class WanGenerator(StandardisedGenerator):
    """Adapter of ``WanPipeline``.

    Text keys are the umT5 tokens; padded rows are zero and are attended. The prediction is the velocity
    noise - clean already, at timestep 1000 sigma. Wan 2.2 A14B has two transformers, one for timesteps from
    ``boundary_ratio`` up and one below: layers and attention modules are those of the timestep that is computed.
    Wan 2.2 5B (``expand_timesteps``) is told the timestep of every video token.
    """

    _low_noise = False
    """Whether the timestep that is computed is the second transformer's."""

    @property
    @override
    def network(self) -> Any:
        return self.pipeline.transformer_2 if self._low_noise else self.pipeline.transformer

    @property
    @override
    def networks(self) -> Sequence[Any]:
        pipeline = self.pipeline
        return [pipeline.transformer] + ([] if self._boundary is None else [pipeline.transformer_2])

    @property
    @override
    def map_settings(self) -> dict[str, Any]:
        return {} if self._boundary is None else {"boundary_ratio": self.pipeline.config.boundary_ratio}

    @property
    def _boundary(self) -> float | None:
        """Timestep below which the second transformer takes over."""
        ratio = self.pipeline.config.get("boundary_ratio")
        return None if ratio is None else ratio * self.pipeline.scheduler.config.num_train_timesteps

    @override
    @contextmanager
    def at_timestep(self, timestep: Tensor) -> Iterator[None]:
        before, boundary = self._low_noise, self._boundary
        low = torch.zeros_like(timestep, dtype=torch.bool) if boundary is None else timestep < boundary
        assert low.all() or not low.any(), "timesteps of both transformers in one batch"
        self._low_noise = bool(low.any())
        try:
            yield
        finally:
            self._low_noise = before

    @property
    @override
    def blocks(self) -> Sequence[nn.Module]:
        return list(self.network.blocks)

    @override
    def encode_prompts(self, prompts: Sequence[str]) -> States:
        states, _ = self.pipeline.encode_prompt(
            list(prompts), do_classifier_free_guidance=False, max_sequence_length=self.max_sequence_length
        )
        return {"encoder_hidden_states": states.to(self.dtype)}

    @override
    def entity_columns(self, composition: Composition) -> Tensor:
        return entity_columns(composition, self.pipeline.tokenizer, self.max_sequence_length, prompt_clean)

    @override
    def predict(self, latents: Tensor, timestep: Tensor, states: States) -> Tensor:
        with self.at_timestep(timestep):
            timestep = timestep.expand(latents.shape[0])
            if self.pipeline.config.get("expand_timesteps"):
                timestep = timestep[:, None].repeat(1, math.prod(self.token_grid(latents)))
                timestep[:, : self.given_frames * math.prod(self.token_grid(latents)[1:])] = 0
            prediction: Tensor = self.network(
                hidden_states=latents.to(self.dtype), timestep=timestep, return_dict=False, **states
            )[0]
        return prediction

    @override
    def schedule(self, steps: int, size: Size) -> Schedule:
        return flow_schedule(self.pipeline.scheduler, steps, self.device)

    @override
    def options(self, size: Size) -> dict[str, Any]:
        return super().options(size) | {"max_sequence_length": self.max_sequence_length}


class WanImageGenerator(WanGenerator, ImageToVideo):
    """Adapter of ``WanImageToVideoPipeline``.

    The network reads the image's latents, and a mask of the frames that are given, after the channels of the video's;
    models with an image encoder also attend to what it makes of the image, apart from the text. Wan 2.2 5B has the
    image in the place of the first latent frame instead, whose tokens are told the timestep 0.
    """

    @property
    @override
    def calls_before_text(self) -> int:
        return int(self.network.config.added_kv_proj_dim is not None)

    @property
    @override
    def max_sequence_length(self) -> int:
        """Text keys: with an image's before them the network takes 512 for the text's."""
        return 512 if self.calls_before_text else super().max_sequence_length

    @property
    def _replaces(self) -> bool:
        return bool(self.pipeline.config.get("expand_timesteps"))

    @property
    @override
    def given_frames(self) -> int:
        return int(self._replaces)

    @property
    @override
    def latent_channels(self) -> int:
        return int(self.pipeline.vae.config.z_dim)

    @override
    def prompt_options(self, prompts: Sequence[str]) -> dict[str, Any]:
        # The call takes no list: they are each video's.
        last = {} if self.last_image is None else {"last_image": self.last_image}
        return {**super().prompt_options(prompts), "image": self.image, **last}

    @property
    @override
    def takes_last_image(self) -> bool:
        """Not 5B, nor models whose image encoder is shown one image."""
        config = self.network.config
        return not self._replaces and (config.image_dim is None or config.pos_embed_seq_len is not None)

    @override
    def image_states(self, videos: int) -> States:
        condition = self.prepared[0]
        states = {"condition": condition.to(self.dtype).expand(videos, *condition.shape[1:])}
        if self.network.config.image_dim is None:
            return states
        embeds, image, last = (self.of_call(name) for name in ("image_embeds", "image", "last_image"))
        if embeds is None:
            embeds = self.pipeline.encode_image(image if last is None else [image, last], self.device)
        embeds = embeds.to(self.device, self.dtype)
        repeats = videos // len(embeds) or 1 if last is None else videos  # two rows, of both images, a video
        return {**states, "encoder_hidden_states_image": embeds.repeat(repeats, 1, 1)}

    @override
    def predict(self, latents: Tensor, timestep: Tensor, states: States) -> Tensor:
        text = dict(states)
        condition = text.pop("condition")
        if self._replaces:
            seen = torch.cat([condition[:, :, :1].to(latents), latents[:, :, 1:]], dim=2)
        else:
            seen = torch.cat([latents, condition.to(latents)], dim=1)
        return super().predict(seen, timestep, text)
