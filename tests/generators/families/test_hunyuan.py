"""HunyuanVideo."""

from __future__ import annotations

import inspect
from pathlib import Path
from typing import Any

import pytest
import torch
from diffusers import (
    AutoencoderKLHunyuanVideo,
    FlowMatchEulerDiscreteScheduler,
    HunyuanVideoPipeline,
    HunyuanVideoTransformer3DModel,
)
from diffusers.pipelines.hunyuan_video.pipeline_hunyuan_video import DEFAULT_PROMPT_TEMPLATE
from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers, processors, trainers
from torch import Tensor, nn
from transformers import LlamaConfig, LlamaModel, LlamaTokenizerFast, PreTrainedTokenizerFast

from cvg.common.errors import UserError
from cvg.common.sizes import Size
from cvg.diffusion.trajectory import replay
from cvg.generators import Generator, load_generator, wrap_pipeline
from cvg.generators.families.hunyuan import HunyuanVideoGenerator
from tests.helpers.conformance import COMPOSITIONS, PROMPTS, Conformance
from tests.helpers.parts import WORDS, clip_encoder, clip_tokenizer

TEMPLATE, CUT = DEFAULT_PROMPT_TEMPLATE["template"], DEFAULT_PROMPT_TEMPLATE["crop_start"]


def llama3_tokenizer(template: str = TEMPLATE, *more: str) -> LlamaTokenizerFast:
    """Llama 3's: byte pairs, cut as there, that keep the words and all pieces of the template whole.

    Args:
        template: what prompts stand in.
        more: further special tokens.
    """
    pieces = (
        r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+"
        r"|\s+(?!\S)|\s+"
    )
    special = [f"<|{name}|>" for name in ("begin_of_text", "end_of_text", "start_header_id", "end_header_id", "eot_id")]
    plain = Tokenizer(models.BPE(ignore_merges=True))
    plain.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(pieces), "isolated"),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
    plain.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=2000,
        special_tokens=[*special, "<pad>", *more],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    plain.train_from_iterator([template, *(f"{space}{word}" for word in WORDS for space in ("", " "))], trainer)
    plain.post_processor = processors.TemplateProcessing(single=f"{special[0]} $A", special_tokens=[(special[0], 0)])
    return LlamaTokenizerFast(
        tokenizer_object=plain,
        bos_token=special[0],
        eos_token=special[1],
        pad_token="<pad>",
        unk_token="<pad>",
        padding_side="right",
    )


def build(**changes: Any) -> HunyuanVideoPipeline:
    torch.manual_seed(0)
    tokenizer, tokenizer_2 = llama3_tokenizer(), clip_tokenizer()
    text_encoder = LlamaModel(
        LlamaConfig(
            vocab_size=len(tokenizer),
            hidden_size=16,
            intermediate_size=32,
            num_hidden_layers=3,
            num_attention_heads=2,
            pad_token_id=tokenizer.pad_token_id,
        )
    )
    config = {
        "in_channels": 4,
        "out_channels": 4,
        "num_attention_heads": 2,
        "attention_head_dim": 16,
        "num_layers": 2,
        "num_single_layers": 2,
        "num_refiner_layers": 1,
        "text_embed_dim": 16,
        "pooled_projection_dim": 16,
        "rope_axes_dim": (4, 6, 6),
    }
    vae = AutoencoderKLHunyuanVideo(
        latent_channels=4, block_out_channels=(4, 4, 4, 4), layers_per_block=1, norm_num_groups=2
    )
    pipeline = HunyuanVideoPipeline(
        text_encoder,
        tokenizer,
        HunyuanVideoTransformer3DModel(**config | changes),
        vae,
        FlowMatchEulerDiscreteScheduler(shift=3.0),
        clip_encoder(tokenizer_2),
        tokenizer_2,
    )
    pipeline.set_progress_bar_config(disable=True)
    return pipeline


class TestHunyuanVideo(Conformance):
    size = Size(9, 32, 48)
    layers = (1, 2)
    """The last block of the first kind, and the first of the second."""

    @pytest.fixture(autouse=True)
    @classmethod
    def few_text_keys(cls, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(HunyuanVideoGenerator, "max_sequence_length", 24)

    def build(self) -> HunyuanVideoPipeline:
        return build()

    def words(self, generator: Generator) -> list[str]:
        tokenizer = generator.pipeline.tokenizer
        ids = tokenizer(TEMPLATE.format(PROMPTS[0])).input_ids[CUT:]
        return [tokenizer.decode([i]).strip() for i in ids]

    def test_the_pipeline_is_our_replay(self, generator: Generator, latents: Tensor) -> None:
        """Prediction, embedded guidance, timesteps and levels together."""
        schedule, states = generator.schedule(self.steps, self.size), generator.encode_prompts(PROMPTS)
        ours, _ = replay(latents, schedule, lambda z, i: generator.predict(z, schedule.timesteps[i], states))
        theirs = generator.sample(PROMPTS, latents, self.steps, None, self.size)
        torch.testing.assert_close(ours, theirs, atol=1e-5, rtol=1e-4)
        other = generator.sample(PROMPTS, latents, self.steps, 1.0, self.size)
        assert not torch.allclose(ours, other, atol=1e-3)

    def test_predict_is_the_pipelines_own_call(self) -> None:
        """Bit for bit, also where the pipeline rounds timesteps and its latents to half precision."""
        generator = wrap_pipeline(self.build().to(torch.bfloat16), "tiny")
        calls: list[tuple[Tensor, Tensor]] = []

        def note(module: Any, args: Any, options: dict[str, Any], output: tuple[Tensor]) -> None:
            calls.append((options["hidden_states"], output[0]))

        handle = generator.network.register_forward_hook(note, with_kwargs=True)
        latents = generator.initial_latents([torch.Generator().manual_seed(i) for i in range(2)], self.size)
        generator.sample(PROMPTS, latents, self.steps, None, self.size)
        handle.remove()
        schedule, states = generator.schedule(self.steps, self.size), generator.encode_prompts(PROMPTS)
        assert len(calls) == self.steps
        for timestep, (z, output) in zip(schedule.timesteps, calls, strict=True):
            with torch.no_grad():
                assert torch.equal(generator.predict(z, timestep, states), output)

    @pytest.mark.parametrize("scale", [1.0, None])
    def test_passes_that_are_read_tell_the_scale_that_the_call_does(
        self, generator: Generator, latents: Tensor, scale: float | None
    ) -> None:
        told: list[float] = []
        states = generator.encode_prompts(PROMPTS)

        def note(_: nn.Module, __: Any, options: dict[str, Any]) -> None:
            told.extend(options["guidance"].tolist())

        def look(_: int, z: Tensor) -> Tensor:
            generator.predict(z, self.timestep(generator), states)
            return z

        handle = generator.network.register_forward_pre_hook(note, with_kwargs=True)
        with torch.no_grad():
            generator.sample(PROMPTS, latents, 2, scale, self.size, look)
            given = {} if scale is None else {"guidance_scale": scale}
            with generator.called_with(given):
                generator.predict(latents, self.timestep(generator), states)
        handle.remove()
        assert len(told) >= 10 and set(told) == {1000 * (scale or 6.0)}

    def test_layers_are_the_blocks_of_both_kinds_as_they_run(self, generator: Generator, latents: Tensor) -> None:
        ran: list[int] = []
        handles = [
            block.register_forward_hook(lambda *_, layer=layer: ran.append(layer))
            for layer, block in enumerate(generator.blocks)
        ]
        conditioning = generator.encode(COMPOSITIONS)
        with torch.no_grad():
            generator.predict(latents, self.timestep(generator), conditioning.states)
        for handle in handles:
            handle.remove()
        assert ran == [0, 1, 2, 3] and generator.blocks[2] is generator.network.single_transformer_blocks[0]

    def test_text_keys_begin_at_the_prompt(self, generator: Generator) -> None:
        """Llama reads forwards, so another phrase leaves the states before its keys as they were."""
        columns = generator.entity_columns(COMPOSITIONS[0])
        prompts = [PROMPTS[0], PROMPTS[0].replace("red", "blue"), PROMPTS[0].replace("blue", "red")]
        states = generator.encode_prompts(prompts)["encoder_hidden_states"]
        for entity in (0, 1):
            first = int(columns[:, entity].nonzero()[0])
            torch.testing.assert_close(states[0, :first], states[1 + entity, :first])
            assert not torch.allclose(states[0, first], states[1 + entity, first], atol=1e-3)

    def test_padded_text_is_masked(self, generator: Generator, latents: Tensor) -> None:
        """Its states change nothing."""
        states = dict(generator.encode_prompts(PROMPTS))
        padded = states["encoder_attention_mask"] == 0
        assert padded.any(1).all()
        with torch.no_grad():
            before = generator.predict(latents, self.timestep(generator), states)
            states["encoder_hidden_states"] = states["encoder_hidden_states"] + padded[..., None]
            after = generator.predict(latents, self.timestep(generator), states)
        torch.testing.assert_close(before, after, atol=1e-6, rtol=1e-5)


def test_constants_are_the_pipelines_defaults() -> None:
    generator = wrap_pipeline(build(), "tiny")
    parameters = inspect.signature(HunyuanVideoPipeline.__call__).parameters
    assert HunyuanVideoGenerator.embedded_guidance == parameters["guidance_scale"].default
    assert generator.max_sequence_length == parameters["max_sequence_length"].default


def test_the_tokenizer_as_transformers_loads_it_is_an_error(tmp_path: Path) -> None:
    """Version 5 cuts a byte-level vocabulary at spaces, as Llama 2's; the generic class loads what the file says."""
    pipeline = build()
    pipeline.tokenizer.save_pretrained(tmp_path)
    right = wrap_pipeline(pipeline, "tiny").entity_columns(COMPOSITIONS[0])
    pipeline.tokenizer = LlamaTokenizerFast.from_pretrained(tmp_path)
    with pytest.raises(UserError, match="cuts 95 off.*PreTrainedTokenizerFast"):
        wrap_pipeline(pipeline, "tiny").entity_columns(COMPOSITIONS[0])
    pipeline.tokenizer = PreTrainedTokenizerFast.from_pretrained(tmp_path)
    assert torch.equal(wrap_pipeline(pipeline, "tiny").entity_columns(COMPOSITIONS[0]), right)


def test_loading_mends_the_tokenizer(tmp_path: Path) -> None:
    pipeline = build()
    pipeline.save_pretrained(tmp_path)
    wanted = wrap_pipeline(pipeline, "tiny").entity_columns(COMPOSITIONS[0])
    assert torch.equal(load_generator(str(tmp_path)).entity_columns(COMPOSITIONS[0]), wanted)
