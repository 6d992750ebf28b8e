"""Cosmos Predict 1, text to world."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from diffusers import AutoencoderKLCosmos, CosmosTextToWorldPipeline, CosmosTransformer3DModel, EDMEulerScheduler
from diffusers.utils import is_torchvision_available
from numpy.typing import NDArray
from torch import Tensor, nn

from cvg.common.sizes import Size
from cvg.generators import Generator, wrap_pipeline
from tests.helpers.conformance import PROMPTS, FirstOrder
from tests.helpers.parts import t5_encoder, t5_tokenizer


class Unchecked(nn.Module):
    """In place of NVIDIA's guardrail, large models of their own, without which the pipeline refuses to run."""

    device, dtype = torch.device("cpu"), torch.float32

    def check_text_safety(self, prompt: str) -> bool:
        return True

    def check_video_safety(self, frames: NDArray[np.uint8]) -> NDArray[np.uint8]:
        return frames


def build(moments: bool = True, **changes: Any) -> CosmosTextToWorldPipeline:
    torch.manual_seed(0)
    tokenizer = t5_tokenizer(512)
    transformer = CosmosTransformer3DModel(
        in_channels=4,
        out_channels=4,
        num_attention_heads=2,
        attention_head_dim=16,
        num_layers=3,
        mlp_ratio=2,
        text_embed_dim=16,
        adaln_lora_dim=4,
        max_size=(4, 16, 16),
        concat_padding_mask=is_torchvision_available(),  # as released; diffusers resizes the mask with torchvision
    )
    nn.init.normal_(transformer.learnable_pos_embed.pos_emb_h)
    vae = AutoencoderKLCosmos(
        latent_channels=4,
        encoder_block_out_channels=(4, 4, 4, 4),
        decode_block_out_channels=(4, 4, 4, 4),
        attention_resolutions=(8,),
        resolution=32,
        num_layers=1,
        latents_mean=torch.randn(4 * 3).tolist() if moments else None,  # of up to three latent frames
        latents_std=(0.5 + torch.rand(4 * 3)).tolist() if moments else None,
    )
    scheduler = EDMEulerScheduler(sigma_max=80.0, sigma_min=0.002, sigma_data=0.5, **changes)
    pipeline = CosmosTextToWorldPipeline(
        t5_encoder(len(tokenizer)), tokenizer, transformer, vae, scheduler, safety_checker=Unchecked()
    )
    pipeline.set_progress_bar_config(disable=True)
    return pipeline


class TestCosmos(FirstOrder):
    size = Size(9, 32, 48)
    pixel_atol = 1 / 255 + 1e-4

    def build(self) -> CosmosTextToWorldPipeline:
        return build()

    def double(self) -> CosmosTextToWorldPipeline:
        pipeline = super().double()
        pipeline.transformer.learnable_pos_embed.float()  # always in float32
        return pipeline

    def plain(self, generator: Generator, output: str) -> Any:
        final = super().plain(generator, output)
        return final / 0.5 if output == "latent" else final

    def test_a_saved_copy_is_the_same_generator(self, generator: Generator, tmp_path: Path) -> None:
        """Loaded with the guardrail given, since without NVIDIA's package the pipeline cannot make its own."""
        generator.pipeline.save_pretrained(tmp_path)
        copy = wrap_pipeline(CosmosTextToWorldPipeline.from_pretrained(tmp_path, safety_checker=Unchecked()))
        assert copy.identity()["fingerprint"] == generator.identity()["fingerprint"]

    def test_prediction_is_the_schedulers_own(self, generator: Generator, latents: Tensor) -> None:
        """Clean latents, and the step, from the scheduler's formulas for latents of its own scale."""
        scheduler, schedule = generator.pipeline.scheduler, generator.schedule(self.steps, self.size)
        states = generator.encode_prompts(PROMPTS)
        outputs: list[Tensor] = []
        handle = generator.network.register_forward_hook(lambda *call: outputs.append(call[-1][0]))
        scheduler.set_timesteps(self.steps)
        for i in (0, 2, 5):
            alpha, sigma = (float(each[i]) for each in (schedule.alphas, schedule.sigmas))
            held = latents * (float(scheduler.sigmas[i]) / sigma)
            with torch.no_grad():
                v = generator.predict(latents, schedule.timesteps[i], states)
            scheduler.set_begin_index(i)
            scheduler._step_index = None
            torch.testing.assert_close(scheduler.scale_model_input(held, schedule.timesteps[i]), latents)
            after, clean = scheduler.step(outputs[-1], schedule.timesteps[i], held, return_dict=False)
            torch.testing.assert_close(alpha * latents - sigma * v, clean / 0.5, atol=1e-5, rtol=1e-4)
            scale = float(scheduler.sigmas[i + 1] / schedule.sigmas[i + 1]) if i < 5 else 0.5
            torch.testing.assert_close(schedule.step(latents, v, i), after / scale, atol=1e-5, rtol=1e-4)
        handle.remove()

    def test_latents_have_one_size_throughout(self, generator: Generator, latents: Tensor) -> None:
        """Where the pipeline's own have 80 at first: edits of one size mean the same at every step."""
        seen: list[Tensor] = []

        def edit(step: int, z: Tensor) -> Tensor:
            seen.append(z)
            return z

        generator.sample(PROMPTS, latents, self.steps, 1.0, self.size, edit)
        sizes = [float(z.std()) for z in seen]
        assert len(sizes) == self.steps and min(sizes) > 0.3 and max(sizes) < 2, sizes


@pytest.mark.parametrize(
    ("moments", "changes"),
    [(True, {"final_sigmas_type": "sigma_min"}), (False, {"prediction_type": "v_prediction"})],
)
def test_other_settings(moments: bool, changes: dict[str, Any]) -> None:
    """A last step that leads nowhere; an output of the other sign, and a VAE without moments."""
    family, generator = TestCosmos(), wrap_pipeline(build(moments, **changes), "tiny")
    latents = generator.initial_latents([torch.Generator().manual_seed(i) for i in range(2)], family.size)
    family.test_the_pipeline_without_guidance_is_our_replay(generator, latents)
    family.test_replay_of_an_inversion_returns_the_latents(generator, latents)
    if not moments:
        family.test_decoding_is_the_pipelines_own(generator, latents)
