"""CogVideoX: 2B (absolute positions), 5B (rotary) and 1.5 (rotary, two latent frames to a token)."""

from __future__ import annotations

from typing import Any, ClassVar

import pytest
import torch
from diffusers import (
    AutoencoderKLCogVideoX,
    CogVideoXDDIMScheduler,
    CogVideoXDPMScheduler,
    CogVideoXPipeline,
    CogVideoXTransformer3DModel,
)
from torch import Tensor

from cvg.common.errors import UserError
from cvg.common.sizes import Size
from cvg.generators import Generator, wrap_pipeline
from tests.helpers.conformance import PROMPTS, FirstOrder
from tests.helpers.parts import t5_encoder, t5_tokenizer

SCHEDULER = {"prediction_type": "v_prediction", "rescale_betas_zero_snr": True, "timestep_spacing": "trailing"}
"""As released; the SNR shift is 3 in 2B and 1 in 5B."""


def build(scheduler: Any = CogVideoXDDIMScheduler, shift: float = 1.0, **changes: Any) -> CogVideoXPipeline:
    torch.manual_seed(0)
    tokenizer = t5_tokenizer(226)
    transformer = CogVideoXTransformer3DModel(
        num_attention_heads=2,
        attention_head_dim=16,
        in_channels=4,
        out_channels=4,
        time_embed_dim=8,
        text_embed_dim=16,
        num_layers=3,
        sample_width=6,
        sample_height=4,
        sample_frames=9,
        max_text_seq_length=32,
        **changes,
    )
    vae = AutoencoderKLCogVideoX(
        down_block_types=("CogVideoXDownBlock3D",) * 3,
        up_block_types=("CogVideoXUpBlock3D",) * 3,
        block_out_channels=(4, 4, 4),
        latent_channels=4,
        layers_per_block=1,
        norm_num_groups=2,
        scaling_factor=0.7,
    )
    pipeline = CogVideoXPipeline(
        tokenizer, t5_encoder(len(tokenizer)), vae, transformer, scheduler(snr_shift_scale=shift, **SCHEDULER)
    )
    pipeline.set_progress_bar_config(disable=True)
    return pipeline


class CogVideoX(FirstOrder):
    size = Size(9, 16, 24)
    steps = 8  # they divide the training steps: else the scheduler goes a timestep beside the next one
    shift = 1.0
    changes: ClassVar[dict[str, Any]] = {}

    def build(self) -> CogVideoXPipeline:
        return build(shift=self.shift, **self.changes)

    def test_the_schedule_is_the_schedulers_own(self, generator: Generator, latents: Tensor) -> None:
        """Its step from any level, taken with any prediction, is ours."""
        scheduler, steps = generator.pipeline.scheduler, 50
        schedule = generator.schedule(steps, self.size)
        assert float(schedule.alphas[0]) == 0 and float(schedule.levels[-1]) == 0
        scheduler.set_timesteps(steps)
        assert torch.equal(schedule.timesteps, scheduler.timesteps)
        prediction = torch.randn_like(latents)
        for i in (0, 1, 25, 49):
            own = scheduler.step(prediction, int(scheduler.timesteps[i]), latents, return_dict=False)[0]
            torch.testing.assert_close(schedule.step(latents, prediction, i), own, atol=1e-5, rtol=1e-4)


class TestCogVideoX2B(CogVideoX):
    shift = 3.0


@pytest.mark.slow  # 1.5 has rotary positions too
class TestCogVideoX5B(CogVideoX):
    changes: ClassVar[dict[str, Any]] = {"use_rotary_positional_embeddings": True}


class TestCogVideoX15(CogVideoX):
    changes: ClassVar[dict[str, Any]] = {
        "use_rotary_positional_embeddings": True,
        "patch_size_t": 2,
        "patch_bias": False,
    }

    def test_one_latent_frame_goes_in_front(self, generator: Generator, latents: Tensor) -> None:
        """It is never shown."""
        assert latents.shape[2] == 4 and generator.token_grid(latents) == (2, 2, 3)
        changed = latents.clone()
        changed[:, :, 0] += 1
        assert torch.equal(generator.decode_latents(changed), generator.decode_latents(latents))
        changed[:, :, 1] += 1
        assert not torch.equal(generator.decode_latents(changed), generator.decode_latents(latents))


@pytest.mark.parametrize("changes", [{}, {"use_rotary_positional_embeddings": True, "patch_size_t": 2}])
def test_frames_that_the_vae_cannot_take_are_an_error(changes: dict[str, Any]) -> None:
    generator = wrap_pipeline(build(**changes), "tiny")
    for frames in (5, 10):
        with pytest.raises(UserError, match=rf"{frames} frames.*8 N \+ 1"):
            generator.initial_latents([torch.Generator()], (frames, 16, 24))
        with pytest.raises(UserError, match=rf"{frames} frames.*8 N \+ 1"):
            generator.encode_video(torch.zeros(1, 3, frames, 16, 24))


class TestDPM:
    """The stochastic multistep scheduler: noise at every step, and a memory that the pipeline keeps itself."""

    size = Size(9, 16, 24)
    steps = 6

    @pytest.fixture(scope="class")
    @classmethod
    def generator(cls) -> Generator:
        return wrap_pipeline(build(CogVideoXDPMScheduler, use_rotary_positional_embeddings=True), "tiny")

    def noise(self) -> list[torch.Generator]:
        return [torch.Generator().manual_seed(i) for i in range(2)]

    def test_sampling_is_the_pipelines_own(self, generator: Generator) -> None:
        noise = self.noise()
        latents = generator.initial_latents(noise, self.size)
        ours = generator.sample(PROMPTS, latents, self.steps, None, self.size, lambda step, z: z, noise)
        theirs = generator.pipeline(
            PROMPTS,
            generator=self.noise(),
            num_inference_steps=self.steps,
            output_type="latent",
            return_dict=False,
            **generator.options(self.size),
        )[0]
        assert torch.equal(ours, generator.unpack(theirs, self.size))

    def test_the_step_after_an_edit_does_not_look_back(self, generator: Generator) -> None:
        """It is the first-order one, and the following ones look back again."""
        noise = self.noise()
        latents = generator.initial_latents(noise, self.size)
        scheduler = generator.pipeline.scheduler
        seen: list[bool] = []

        class Watched(CogVideoXDPMScheduler):
            def step(
                self, output: Tensor, previous: Tensor | None, *rest: Any, generator: Any = None, **options: Any
            ) -> Any:
                seen.append(previous is not None)
                return super().step(output, previous, *rest, generator=generator, **options)

        def edit(step: int, z: Tensor) -> Tensor:
            if step in (2, 3):
                generator.forget_history()
                return z + 0.1
            return z

        generator.pipeline.scheduler = Watched.from_config(scheduler.config)
        try:
            final = generator.sample(PROMPTS, latents, self.steps, None, self.size, edit, noise)
        finally:
            generator.pipeline.scheduler = scheduler
        assert seen == [False, True, False, False, True, True]
        assert torch.isfinite(final).all()

    def test_an_edit_leaves_every_later_steps_noise_as_it_is(self, generator: Generator) -> None:
        """Or the edited video would be no pair with the other one: first-order steps draw half as much."""
        states = []
        for edits in ((), (2, 3)):
            noise = self.noise()

            def edit(step: int, z: Tensor, edits: tuple[int, ...] = edits) -> Tensor:
                if step not in edits:
                    return z
                generator.forget_history()
                return z + 0.1

            latents = generator.initial_latents(noise, self.size)
            generator.sample(PROMPTS, latents, self.steps, None, self.size, edit, noise)
            states.append(torch.stack([each.get_state() for each in noise]))
        assert torch.equal(*states)
