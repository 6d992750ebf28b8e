"""CogVideoX 2B, 5B and 1.5, from text or an image: diffusion, joint attention over text and video."""

from __future__ import annotations

import functools
from collections.abc import Sequence
from typing import Any

import torch
from diffusers import CogVideoXDPMScheduler
from diffusers.utils.torch_utils import randn_tensor
from torch import Tensor
from typing_extensions import override

from cvg.common.errors import SettingsError
from cvg.common.sizes import Size
from cvg.composition import Composition
from cvg.diffusion.schedule import Schedule, diffusion_schedule
from cvg.generators.base import Generator
from cvg.generators.conditioning import States
from cvg.generators.image_to_video import ImageToVideo
from cvg.grounding.keys import entity_columns


class CogVideoXGenerator(Generator):
    """Adapter of ``CogVideoXPipeline``.

    The T5 tokens lie before the video's in one sequence; padded ones are attended. The pipeline keeps latents as
    (B, F, C, H', W'). Version 1.5 joins two latent frames to a token, for which the pipeline puts one more latent frame
    in front and drops it before decoding; the VAE decodes latent frames by two, the first alone. So videos have 8 N + 1
    frames.
    """

    text_position = "first"
    attention_name = "attn1"

    @property
    @override
    def noise_dtype(self) -> torch.dtype:
        dtype: torch.dtype = self.pipeline.text_encoder.dtype
        return dtype

    @property
    @override
    def max_sequence_length(self) -> int:
        """Text keys: 226 in all released models; absolute positions allow no other number."""
        return int(self.network.config.max_text_seq_length)

    @override
    def encode_prompts(self, prompts: Sequence[str]) -> States:
        states, _ = self.pipeline.encode_prompt(
            list(prompts), do_classifier_free_guidance=False, max_sequence_length=self.max_sequence_length
        )
        return {"encoder_hidden_states": states.to(self.dtype)}

    @override
    def entity_columns(self, composition: Composition) -> Tensor:
        return entity_columns(composition, self.pipeline.tokenizer, self.max_sequence_length)

    @override
    def predict(self, latents: Tensor, timestep: Tensor, states: States) -> Tensor:
        rotary = None
        if self.network.config.use_rotary_positional_embeddings:
            frames, height, width = latents.shape[-3:]
            scale = self.pipeline.vae_scale_factor_spatial
            rotary = self.pipeline._prepare_rotary_positional_embeddings(
                height * scale, width * scale, frames, self.device
            )
        prediction: Tensor = self.network(
            hidden_states=self.pack(latents).to(self.dtype),
            timestep=timestep.expand(latents.shape[0]),
            image_rotary_emb=rotary,
            return_dict=False,
            **states,
        )[0]
        return prediction.transpose(1, 2)

    @override
    def schedule(self, steps: int, size: Size) -> Schedule:
        return diffusion_schedule(self.pipeline.scheduler, steps, self.device, **self.own_steps)

    @override
    def clear_history(self, scheduler: Any) -> None:
        super().clear_history(scheduler)
        if isinstance(scheduler, CogVideoXDPMScheduler):
            # The pipeline itself holds the previous step's clean latents: withhold them from the next step.
            before, plain = vars(scheduler).get("step"), scheduler.step

            @functools.wraps(plain)
            def first_order(output: Tensor, previous: Tensor | None, *rest: Any, **options: Any) -> Any:
                del scheduler.step
                if before is not None:
                    scheduler.step = before
                if previous is not None:  # of two draws a step of second order uses the other one
                    randn_tensor(output.shape, options.get("generator"), output.device, rest[-1].dtype)
                return plain(output, None, *rest, **options)

            scheduler.step = first_order

    @override
    def pack(self, latents: Tensor) -> Tensor:
        return latents.transpose(1, 2)

    @override
    def unpack(self, latents: Tensor, size: Size) -> Tensor:
        return latents.transpose(1, 2)

    @override
    def check_size(self, size: Size) -> None:
        self._padding(size[0])
        super().check_size(size)

    def _padding(self, frames: int) -> int:
        """Latent frames to put in front of those of a video, so that they fill the tokens."""
        latent_frames, rest = divmod(frames - 1, self.pipeline.vae_scale_factor_temporal)
        if rest or latent_frames % 2:
            unit = 2 * self.pipeline.vae_scale_factor_temporal
            raise SettingsError(
                f"a CogVideoX video of {frames} frames: its VAE takes {unit} N + 1 frames, such as 49 or 81"
            )
        return -(latent_frames + 1) % self.patch.frames

    @override
    @torch.no_grad()
    def encode_video(self, video_BCFHW: Tensor) -> Tensor:
        padding = self._padding(video_BCFHW.shape[2])
        clean = super().encode_video(video_BCFHW)
        return torch.cat([clean[:, :, :1].expand(-1, -1, padding, -1, -1), clean], dim=2)

    @override
    @torch.no_grad()
    def decode_latents(self, latents: Tensor) -> Tensor:
        vae, padding = self.pipeline.vae, self.patch.frames - 1
        decoded: Tensor = self.pipeline.decode_latents(self.pack(latents[:, :, padding:]).to(self.device, vae.dtype))
        return decoded.float().clamp(-1, 1)

    @override
    def initial_latents(self, generators: Sequence[torch.Generator], size: Size) -> Tensor:
        frames, height, width = size
        frames += self._padding(frames) * self.pipeline.vae_scale_factor_temporal
        return super().initial_latents(generators, Size(frames, height, width))

    @override
    def options(self, size: Size) -> dict[str, Any]:
        return super().options(size) | {"max_sequence_length": self.max_sequence_length}

    @override
    def pixel_size(self, grid: Sequence[int]) -> Size:
        frames, height, width = super().pixel_size(grid)
        return Size(frames - (self.patch.frames - 1) * self.pipeline.vae_scale_factor_temporal, height, width)


class CogVideoXImageGenerator(CogVideoXGenerator, ImageToVideo):
    """Adapter of ``CogVideoXImageToVideoPipeline``.

    The network reads the image's latents, of the first frame and zero after it, after the channels of the video's.
    Version 1.5 is also told an offset that the pipeline keeps at 2. What the VAE makes of the image is drawn.
    """

    draws_of_image = True

    @property
    @override
    def latent_channels(self) -> int:
        return int(self.network.config.in_channels) // 2

    @override
    def image_states(self, videos: int) -> States:
        image = self.prepared[0].transpose(1, 2)
        return {"condition": image.to(self.dtype).expand(videos, *image.shape[1:])}

    @override
    def predict(self, latents: Tensor, timestep: Tensor, states: States) -> Tensor:
        text = dict(states)
        seen = torch.cat([latents, text.pop("condition").to(latents)], dim=1)
        if self.network.config.ofs_embed_dim is not None:
            text["ofs"] = latents.new_full((1,), 2.0, dtype=self.dtype)
        return super().predict(seen, timestep, text)
