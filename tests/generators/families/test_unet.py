"""ModelScope and AnimateDiff."""

from __future__ import annotations

from typing import Any

import pytest
import torch
import torch.nn.functional as F
from diffusers import (
    AnimateDiffPipeline,
    AutoencoderKL,
    DDIMScheduler,
    DPMSolverMultistepScheduler,
    EulerAncestralDiscreteScheduler,
    EulerDiscreteScheduler,
    HeunDiscreteScheduler,
    KDPM2DiscreteScheduler,
    MotionAdapter,
    PNDMScheduler,
    TextToVideoSDPipeline,
    UNet2DConditionModel,
    UNet3DConditionModel,
    UniPCMultistepScheduler,
)
from torch import Tensor, nn

from cvg.common.errors import UserError
from cvg.common.sizes import Size
from cvg.diffusion.schedule import diffusion_schedule
from cvg.generators import Generator, wrap_pipeline
from tests.helpers.conformance import COMPOSITIONS, PROMPTS, Conformance, FirstOrder
from tests.helpers.parts import clip_encoder, clip_tokenizer

SCHEDULER = {"beta_start": 0.00085, "beta_end": 0.012, "beta_schedule": "scaled_linear", "steps_offset": 1}
"""Stable Diffusion's, and that of both families' checkpoints."""
GRIDS = {96: (8, 12), 24: (4, 6)}
"""Rows and columns of the tiny models' maps, by their number of tokens."""


def vae() -> AutoencoderKL:
    return AutoencoderKL(
        down_block_types=("DownEncoderBlock2D",) * 2,
        up_block_types=("UpDecoderBlock2D",) * 2,
        block_out_channels=(4, 4),
        norm_num_groups=2,
        latent_channels=4,
        scaling_factor=0.5,
    )


def modelscope() -> TextToVideoSDPipeline:
    torch.manual_seed(0)
    tokenizer = clip_tokenizer()
    unet = UNet3DConditionModel(
        down_block_types=("CrossAttnDownBlock3D", "DownBlock3D"),
        up_block_types=("UpBlock3D", "CrossAttnUpBlock3D"),
        block_out_channels=(8, 16),
        layers_per_block=1,
        norm_num_groups=4,
        cross_attention_dim=16,
        attention_head_dim=4,  # in truth the width of a head: 2 heads, and 4 in the middle
    )
    for name, parameter in unet.named_parameters():
        if "temp_convs" in name and "conv4" in name:  # zero: frames would see each other in attention only
            nn.init.normal_(parameter, std=0.1)
    unet.conv_out.weight.data *= 0.1  # a trained network is smoother than a random one, and can be inverted
    scheduler = DDIMScheduler(**SCHEDULER, clip_sample=False, set_alpha_to_one=False)
    return TextToVideoSDPipeline(vae(), clip_encoder(tokenizer), tokenizer, unet, scheduler)


def animatediff() -> AnimateDiffPipeline:
    torch.manual_seed(0)
    tokenizer = clip_tokenizer()
    unet = UNet2DConditionModel(
        down_block_types=("CrossAttnDownBlock2D", "DownBlock2D"),
        up_block_types=("UpBlock2D", "CrossAttnUpBlock2D"),
        block_out_channels=(8, 16),
        layers_per_block=1,
        norm_num_groups=4,
        cross_attention_dim=16,
        attention_head_dim=2,  # in truth the number of heads
    )
    unet.conv_out.weight.data *= 0.1  # as above
    adapter = MotionAdapter(
        block_out_channels=(8, 16), motion_layers_per_block=1, motion_num_attention_heads=2, motion_norm_num_groups=4
    )
    scheduler = PNDMScheduler(**SCHEDULER, skip_prk_steps=True, set_alpha_to_one=False)
    return AnimateDiffPipeline(vae(), clip_encoder(tokenizer), tokenizer, unet, adapter, scheduler)


class UNet(Conformance):
    size = Size(4, 16, 24)

    def explicit(
        self, rows: list[Tensor], sample: int, keys: Tensor, length: int, tokens: int, generator: Generator
    ) -> Tensor:
        """Frames one by one, groups of heads averaged, small maps enlarged."""
        (matrix,) = rows
        frames = len(matrix) // 2
        own_FAN = matrix[sample * frames : (sample + 1) * frames][..., keys].sum(-1)
        group = own_FAN.shape[1] // generator.num_heads
        heads = [own_FAN[:, group * a : group * (a + 1)].mean(1) for a in range(generator.num_heads)]
        images = torch.stack(heads).unflatten(-1, GRIDS[own_FAN.shape[-1]])
        return F.interpolate(images, GRIDS[tokens // frames], mode="bilinear").flatten(1)

    def test_layers_are_the_spatial_transformers_blocks_in_running_order(
        self, generator: Generator, latents: Tensor
    ) -> None:
        names = {module: name for name, module in generator.network.named_modules()}
        stages = ["down_blocks.0", "mid_block", "up_blocks.1", "up_blocks.1"]
        assert [names[block].split(".attentions.")[0] for block in generator.blocks] == stages
        ran: list[str] = []
        handles = [
            generator.attention(layer).register_forward_hook(lambda module, *_: ran.append(names[module]))
            for layer in range(len(generator.blocks))
        ]
        generator.predict(latents, self.timestep(generator), generator.encode(COMPOSITIONS).states)
        for handle in handles:
            handle.remove()
        assert ran == [f"{names[block]}.attn2" for block in generator.blocks]

    def test_odd_sizes_halve_upwards(self, generator: Generator) -> None:
        latents = torch.randn(1, 4, 2, 5, 7)
        layers = list(range(len(generator.blocks)))
        with torch.no_grad():
            maps = generator.entity_maps(latents, torch.tensor(500), generator.encode(COMPOSITIONS[:1]), layers)
        assert maps.shape == (1, 4, 2, 2, 2, 5, 7) and maps.min() > 0 and maps.max() < 1

    def test_checkpoints_all_but_the_ends(self, generator: Generator, latents: Tensor) -> None:
        """Backward runs convolutions and attention over space and time once more, and leaves nothing behind."""
        stage = generator.network.down_blocks[0]
        over_time = stage.motion_modules if hasattr(stage, "motion_modules") else stage.temp_attentions
        parts, ran = [stage.resnets[0].conv1, stage.attentions[0].proj_in, over_time[0].proj_in], []
        handles = [part.register_forward_hook(lambda module, *_: ran.append(parts.index(module))) for part in parts]
        z, conditioning = latents.clone().requires_grad_(True), generator.encode(COMPOSITIONS)
        generator.checkpointing = True
        maps = generator.entity_maps(z, self.timestep(generator), conditioning, [0, 1])
        generator.checkpointing = False
        assert ran == [0, 1, 2]
        maps.sum().backward()
        for handle in handles:
            handle.remove()
        assert sorted(ran) == [0, 0, 1, 1, 2, 2]
        assert not any("forward" in vars(module) for module in generator.network.modules())


class TestModelScope(FirstOrder, UNet):
    def build(self) -> TextToVideoSDPipeline:
        pipeline = modelscope()
        pipeline.set_progress_bar_config(disable=True)
        return pipeline


class TestAnimateDiff(UNet):
    def build(self) -> AnimateDiffPipeline:
        pipeline = animatediff()
        pipeline.set_progress_bar_config(disable=True)
        return pipeline


def test_half_precision() -> None:
    """Edits are made in single precision; the pipeline keeps the dtype of its noise."""
    test = TestAnimateDiff()
    test.steps, test.size = 2, Size(2, 8, 8)
    generator = wrap_pipeline(test.build().to(torch.bfloat16), "tiny")
    latents = generator.initial_latents([torch.Generator().manual_seed(i) for i in range(2)], test.size)
    final = generator.sample(PROMPTS, latents.float(), test.steps, None, test.size, lambda step, z: z.float() + 0)
    assert final.dtype == torch.bfloat16 and torch.equal(final, test.plain(generator, "latent"))


@pytest.mark.parametrize(
    ("family", "scheduler", "options"),
    [
        (TestAnimateDiff, DDIMScheduler, {"timestep_spacing": "trailing", "prediction_type": "v_prediction"}),
        (TestAnimateDiff, DPMSolverMultistepScheduler, {"use_karras_sigmas": True}),
        (TestAnimateDiff, EulerDiscreteScheduler, {}),
        (TestAnimateDiff, EulerAncestralDiscreteScheduler, {"timestep_spacing": "leading"}),
        (TestAnimateDiff, HeunDiscreteScheduler, {}),
        (TestAnimateDiff, PNDMScheduler, {"skip_prk_steps": True}),
        (TestModelScope, EulerDiscreteScheduler, {}),
        (TestModelScope, PNDMScheduler, {"skip_prk_steps": True}),
    ],
)
def test_an_edit_sees_what_the_network_reads(family: type[UNet], scheduler: type, options: dict[str, Any]) -> None:
    """At the timestep that the schedule states, whatever the scheduler makes of its latents."""
    test = family()
    generator = wrap_pipeline(test.build(), "tiny")
    generator.pipeline.scheduler = scheduler(**SCHEDULER, **options)
    read: dict[float, Tensor] = {}
    seen: dict[int, Tensor] = {}

    def note(module: nn.Module, args: tuple[Tensor, Tensor], kwargs: dict[str, Any]) -> None:
        read[float(args[1])] = args[0].chunk(2)[0]  # of two calls at one timestep, the second

    def look(step: int, z: Tensor) -> Tensor:
        seen[step] = z
        return z

    noise = [torch.Generator().manual_seed(i) for i in range(2)]
    seen[0] = generator.initial_latents(noise, test.size)
    handle = generator.network.register_forward_pre_hook(note, with_kwargs=True)
    final = generator.sample(PROMPTS, seen[0], test.steps, None, test.size, look, noise)
    handle.remove()
    assert torch.equal(final, test.plain(generator, "latent"))
    timesteps = generator.schedule(test.steps, test.size).timesteps
    assert sorted(seen) == list(range(test.steps))
    for step, z in seen.items():
        rtol = 1e-5 if step else 5e-3  # the noise that the pipeline draws is not quite what its own schedule states
        torch.testing.assert_close(z, read[float(timesteps[step])], rtol=rtol, atol=1e-5)


@pytest.mark.parametrize(
    ("family", "scheduler", "options"),
    [
        (TestAnimateDiff, PNDMScheduler, {"skip_prk_steps": True}),
        (TestAnimateDiff, DPMSolverMultistepScheduler, {}),
        (TestAnimateDiff, UniPCMultistepScheduler, {}),
        (TestModelScope, PNDMScheduler, {"skip_prk_steps": True}),
        (TestModelScope, EulerDiscreteScheduler, {}),
    ],
)
def test_the_step_after_an_edit_does_not_look_back(
    family: type[UNet], scheduler: type, options: dict[str, Any]
) -> None:
    """It is the schedule's own, first-order step; a step with a memory, which Euler's have not, is another."""
    test = family()
    generator = wrap_pipeline(test.build(), "tiny")
    generator.pipeline.scheduler = scheduler(**SCHEDULER, **options)
    schedule, states = generator.schedule(test.steps, test.size), generator.encode_prompts(PROMPTS)
    seen: dict[int, Tensor] = {}

    def edit(step: int, z: Tensor) -> Tensor:
        if step == 2:
            generator.forget_history()
            z = z + 0.5
        seen[step] = z
        return z

    latents = generator.initial_latents([torch.Generator().manual_seed(i) for i in range(2)], test.size)
    generator.sample(PROMPTS, latents, test.steps, 1.0, test.size, edit)
    assert "step" not in vars(generator.pipeline.scheduler)
    for step in (2, 3):
        own = schedule.step(seen[step], generator.predict(seen[step], schedule.timesteps[step], states), step)
        assert torch.allclose(seen[step + 1], own, atol=1e-4) == (step == 2 or scheduler is EulerDiscreteScheduler)


def test_a_scheduler_with_timesteps_between_its_steps_is_an_error() -> None:
    with pytest.raises(UserError, match="KDPM2.* 11 timesteps for 6 steps"):
        diffusion_schedule(KDPM2DiscreteScheduler(**SCHEDULER), 6, torch.device("cpu"))
