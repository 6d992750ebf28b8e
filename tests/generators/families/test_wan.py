"""Wan 2.1, and 2.2 A14B (two transformers) and 5B (a timestep per token)."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from diffusers import AutoencoderKLWan, UniPCMultistepScheduler, WanPipeline, WanTransformer3DModel
from torch import Tensor

from cvg.common.sizes import Size
from cvg.generators import Generator, Loading, load_generator, wrap_pipeline
from data_prep.pretrain.family import TEXT_DIM
from data_prep.pretrain.text import build_tokenizer
from data_prep.pretrain.wan import Wan
from tests.helpers.conformance import COMPOSITIONS, PROMPTS, Conformance, whole_pass
from tests.helpers.tiny import tiny_pipeline


class TestWan(Conformance):
    size = Size(5, 32, 32)

    def build(self) -> WanPipeline:
        return tiny_pipeline()


def transformer(seed: int) -> WanTransformer3DModel:
    torch.manual_seed(seed)
    return WanTransformer3DModel(
        num_attention_heads=2,
        attention_head_dim=12,
        in_channels=6,
        out_channels=6,
        text_dim=TEXT_DIM,
        freq_dim=16,
        ffn_dim=32,
        num_layers=3,
        rope_max_seq_len=16,
    )


def build(first: int = 0, second: int | None = None, **settings: Any) -> WanPipeline:
    """With transformers of these seeds, and the residual VAE of 16 x 16 pixels per latent, which 5B has."""
    torch.manual_seed(0)
    tokenizer = build_tokenizer()
    vae = AutoencoderKLWan(
        base_dim=4,
        decoder_base_dim=4,
        z_dim=6,
        dim_mult=[1, 1, 1, 1],
        num_res_blocks=1,
        temperal_downsample=[False, True, True],
        is_residual=True,
        in_channels=12,
        out_channels=12,
        patch_size=2,
        scale_factor_spatial=16,
        latents_mean=[-0.2, 0.1, 0.0, 0.3, -0.1, 0.2],
        latents_std=[0.5, 0.8, 1.2, 0.6, 0.9, 1.1],
    )
    scheduler = UniPCMultistepScheduler(prediction_type="flow_prediction", use_flow_sigmas=True, flow_shift=3.0)
    pipeline = WanPipeline(
        tokenizer,
        Wan().text_encoder(len(tokenizer)),
        vae,
        scheduler,
        transformer(first),
        None if second is None else transformer(second),
        **settings,
    )
    pipeline.set_progress_bar_config(disable=True)
    return pipeline


class TestWanA14B(Conformance):
    """Of the six steps the first two are the first transformer's; guidance edits one step of either."""

    size = Size(5, 64, 64)

    def build(self) -> WanPipeline:
        return build(0, 1, boundary_ratio=0.875)

    @pytest.mark.parametrize(("step", "seed"), [(1, 0), (2, 1)])
    def test_each_timestep_is_its_own_transformers(
        self, generator: Generator, latents: Tensor, step: int, seed: int
    ) -> None:
        """Maps, prediction and gradient are those of a pipeline that has only that transformer."""
        timestep = generator.schedule(self.steps, self.size).timesteps[step]
        assert (timestep >= 875) == (seed == 0)
        alone = wrap_pipeline(build(seed), "alone")
        results = []
        for each in (generator, alone):
            conditioning = each.encode(COMPOSITIONS)
            z = latents.clone().requires_grad_(True)
            each.checkpointing = True
            maps = each.entity_maps(z, timestep, conditioning, self.layers)
            (gradient,) = torch.autograd.grad(maps.square().sum(), z)
            with torch.no_grad():
                full, prediction = whole_pass(each, latents, timestep, conditioning, self.layers)
                assert torch.equal(prediction, each.predict(latents, timestep, conditioning.states))
            results.append((maps, gradient, full, prediction))
        generator.checkpointing = False
        for ours, theirs in zip(*results, strict=True):
            assert torch.equal(ours, theirs)
        assert generator.network is generator.pipeline.transformer

    def test_the_pipeline_switches_at_the_same_step(self, generator: Generator, latents: Tensor) -> None:
        """What its transformers are called with, against what predict calls."""
        calls: list[str] = []
        handles = [
            network.register_forward_pre_hook(lambda *_, name=name: calls.append(name))
            for name, network in zip("ab", generator.networks, strict=True)
        ]
        generator.sample(PROMPTS, latents, self.steps, 1.0, self.size)
        theirs, states = calls.copy(), generator.encode_prompts(PROMPTS)
        calls.clear()
        with torch.no_grad():
            for timestep in generator.schedule(self.steps, self.size).timesteps:
                generator.predict(latents, timestep, states)
        for handle in handles:
            handle.remove()
        assert calls == theirs == list("aabbbb")

    def test_timesteps_of_both_in_one_batch_are_refused(self, generator: Generator, latents: Tensor) -> None:
        with pytest.raises(AssertionError, match="both transformers"):
            generator.predict(latents, torch.tensor([900, 800]), generator.encode_prompts(PROMPTS))

    def test_identity_is_of_both(self, generator: Generator) -> None:
        other = self.build()
        other.transformer_2.blocks[-1].attn2.to_q.weight.data[0, 0] += 1
        prints = [wrap_pipeline(each).identity()["fingerprint"] for each in (self.build(), other, build(0))]
        assert len(set(prints)) == 3 and prints[0] == generator.identity()["fingerprint"]


class TestWan5B(Conformance):
    size = Size(5, 64, 96)

    def build(self) -> WanPipeline:
        return build(expand_timesteps=True)

    def test_timesteps_are_the_pipelines_own(self, generator: Generator, latents: Tensor) -> None:
        """One per token."""
        seen: list[Tensor] = []

        def note(module: torch.nn.Module, args: Any, options: dict[str, Any]) -> None:
            seen.append(options["timestep"])

        handle = generator.network.register_forward_pre_hook(note, with_kwargs=True)
        generator.sample(PROMPTS, latents, 2, 1.0, self.size)
        with torch.no_grad():
            for timestep in generator.schedule(2, self.size).timesteps:
                generator.predict(latents, timestep, generator.encode_prompts(PROMPTS))
        handle.remove()
        assert seen[0].shape == (2, 2 * 2 * 3)
        for theirs, ours in zip(seen[:2], seen[2:], strict=True):
            assert torch.equal(theirs, ours.to(theirs))


def test_half_precision_keeps_what_the_pipeline_keeps() -> None:
    """Some weights stay in float32 when a pipeline is loaded; latents go in as the pipeline gives them."""
    half, exact = load_generator("shapes-wan", Loading(dtype="bfloat16")), load_generator("shapes-wan")
    assert half.network.scale_shift_table.dtype == torch.float32 and half.dtype == torch.bfloat16
    latents = torch.randn(1, 16, 2, 4, 4, generator=torch.Generator().manual_seed(0))
    maps = [
        each.entity_maps(latents, torch.tensor(900), each.encode(COMPOSITIONS[:1]), [0, 1]) for each in (half, exact)
    ]
    assert maps[0].dtype == torch.float32
    torch.testing.assert_close(*maps, atol=0.02, rtol=0.1)
