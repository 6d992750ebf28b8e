"""Kandinsky 5, with and without the second video among its inputs."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from diffusers import (
    AutoencoderKLHunyuanVideo,
    FlowMatchEulerDiscreteScheduler,
    Kandinsky5T2VPipeline,
    Kandinsky5Transformer3DModel,
)
from diffusers.models.transformers.transformer_kandinsky import Kandinsky5Modulation, fractal_flatten
from torch import Tensor

from cvg.common.errors import UserError
from cvg.common.sizes import Size
from cvg.generators import Generator, wrap_pipeline
from tests.helpers.conformance import COMPOSITIONS, PROMPTS, FirstOrder
from tests.helpers.parts import Qwen2TextProcessor, clip_encoder, clip_tokenizer, qwen2_tokenizer, qwen2_vl


class TestKandinsky5(FirstOrder):
    size = Size(5, 32, 48)
    visual_cond = True
    rtol = 0.05  # self-attention rounds rotated queries and keys to bfloat16

    def build(self) -> Kandinsky5T2VPipeline:
        torch.manual_seed(0)
        template = Kandinsky5T2VPipeline(*[None] * 7).prompt_template
        tokenizer, tokenizer_2 = qwen2_tokenizer(template), clip_tokenizer()
        transformer = Kandinsky5Transformer3DModel(
            in_visual_dim=4,
            out_visual_dim=4,
            in_text_dim=16,
            in_text_dim2=16,
            time_dim=16,
            model_dim=24,
            ff_dim=48,
            num_text_blocks=1,
            num_visual_blocks=3,
            axes_dims=(4, 4, 4),
            visual_cond=self.visual_cond,
        )
        for module in transformer.modules():
            if isinstance(module, Kandinsky5Modulation):  # zero at first: layers would do nothing
                torch.nn.init.normal_(module.out_layer.weight, std=0.1)
        vae = AutoencoderKLHunyuanVideo(
            latent_channels=4, block_out_channels=(4, 4, 4, 4), layers_per_block=1, norm_num_groups=2
        )
        pipeline = Kandinsky5T2VPipeline(
            transformer,
            vae,
            qwen2_vl(len(tokenizer)),
            Qwen2TextProcessor(tokenizer),
            clip_encoder(tokenizer_2),
            tokenizer_2,
            FlowMatchEulerDiscreteScheduler(shift=5.0),
        )
        # The real tokenizer's number is 128.
        pipeline.prompt_template_encode_start_idx = len(tokenizer(template.partition("{}")[0]).input_ids)
        pipeline.set_progress_bar_config(disable=True)
        return pipeline

    def double(self) -> Kandinsky5T2VPipeline:
        pipeline = super().double()
        pipeline.transformer.time_embeddings.float()  # always in float32
        return pipeline

    def words(self, generator: Generator) -> list[str]:
        """After the cut."""
        pipeline, tokenizer = generator.pipeline, generator.pipeline.tokenizer.tokenizer
        ids = tokenizer(pipeline.prompt_template.format(PROMPTS[0])).input_ids
        return [tokenizer.decode([i]).replace(" ", "") for i in ids[pipeline.prompt_template_encode_start_idx :]]

    def test_keys_are_where_the_states_change(self, generator: Generator) -> None:
        """Qwen is causal: another first colour changes the states from the first entity's first key on."""
        states = generator.encode_prompts([PROMPTS[0], PROMPTS[0].replace("red", "blue")])["encoder_hidden_states"]
        first = (states[0] != states[1]).any(-1).nonzero().flatten()[0]
        assert first == generator.entity_columns(COMPOSITIONS[0])[:, 0].nonzero().flatten()[0]

    def test_batch_equals_one_by_one(self, generator: Generator, latents: Tensor) -> None:
        """With the text of the batch, whose padded keys are attended."""
        timestep, conditioning = self.timestep(generator), generator.encode(COMPOSITIONS)
        with torch.no_grad():
            together = generator.entity_maps(latents, timestep, conditioning, self.layers)
            for i in range(2):
                alone = generator.entity_maps(latents[i : i + 1], timestep, conditioning.rows([i]), self.layers)
                torch.testing.assert_close(together[i], alone[0], atol=1e-4, rtol=1e-2)  # bfloat16 in between
            shorter = generator.entity_maps(latents[1:], timestep, generator.encode(COMPOSITIONS[1:]), self.layers)
        assert shorter[0, :, :, 0].sum() > 1.02 * together[1, :, :, 0].sum()

    def test_left_padding_is_an_error_in_a_batch(self, generator: Generator) -> None:
        tokenizer = generator.pipeline.tokenizer.tokenizer
        tokenizer.padding_side = "left"
        try:
            assert generator.encode_prompts(PROMPTS[:1])
            with pytest.raises(UserError, match="padding_side"):
                generator.encode_prompts(PROMPTS)
        finally:
            tokenizer.padding_side = "right"

    def test_latents_are_nobody_elses(self, generator: Generator, latents: Tensor) -> None:
        """The pipeline writes its latents in place: neither ours before nor those that an edit saw may change."""
        before, seen, kept = latents.clone(), [], []

        def edit(step: int, z: Tensor) -> Tensor:
            seen.append(z)
            kept.append(z.clone())
            return z

        generator.sample(PROMPTS, latents, self.steps, None, self.size, edit)
        assert torch.equal(latents, before)
        for ours, theirs in zip(seen, kept, strict=True):
            assert torch.equal(ours, theirs)


class TestWithoutSecondVideo:
    """Models with ``visual_cond`` off: the same but for the layout of the latents."""

    @pytest.mark.parametrize("test", ["sampling_is_the_pipelines_own", "latents_are_nobody_elses"])
    def test_layout(self, test: str) -> None:
        family = TestKandinsky5()
        family.visual_cond = False
        generator = wrap_pipeline(family.build(), "tiny")
        latents = generator.initial_latents([torch.Generator().manual_seed(i) for i in range(2)], family.size)
        assert generator.pack(latents).shape[-1] == 4
        getattr(family, f"test_{test}")(generator, latents)


def test_tokens_in_squares_come_back_in_place() -> None:
    """Sparse models keep tokens square by square: the maps follow the model's own order."""
    family: Any = TestKandinsky5()
    generator = wrap_pipeline(family.build(), "tiny")
    grid = (2, 16, 24)
    maps = torch.rand(1, 3, 2, *grid)  # (B, A, E, F, H, W)
    tokens = maps.movedim((1, 2), (-2, -1)).flatten(-2)  # (B, F, H, W, A E)
    rope = torch.zeros(1, *grid, 1)
    generator.network.register_to_config(attention_type="nabla")
    in_order = fractal_flatten(tokens, rope, (1, *grid), block_mask=True)[0]
    assert torch.equal(generator.to_token_grid(in_order.unflatten(-1, (3, 2)).transpose(1, 2), 0, grid), maps)
    generator.network.register_to_config(attention_type="regular")
    plain = fractal_flatten(tokens, rope, (1, *grid))[0]
    assert torch.equal(generator.to_token_grid(plain.unflatten(-1, (3, 2)).transpose(1, 2), 0, grid), maps)
