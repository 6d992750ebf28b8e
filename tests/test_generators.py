"""Capture, early exit and gradients of the generator adapters, against independent references."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from diffusers import FlowMatchEulerDiscreteScheduler
from tiny import tiny_pipeline

from cvg.composition import parse
from cvg.errors import UserError
from cvg.generators import Generator, load_generator, wrap_pipeline
from cvg.shapes.world import LABELS

PROMPTS = ["a red circle to the left of a blue square", "a green triangle moving up"]


@pytest.fixture(scope="module")
def generator() -> Generator:
    return wrap_pipeline(tiny_pipeline(), "tiny")


@pytest.fixture
def latents(generator: Generator) -> torch.Tensor:
    return generator.initial_latents([torch.Generator().manual_seed(i) for i in range(2)], (5, 32, 32))


def explicit_maps(generator: Generator, latents: torch.Tensor, states: torch.Tensor, layer: int) -> torch.Tensor:
    """softmax(q k^T / sqrt(d)) of one layer's cross-attention, from its inputs: (B, heads, N, T)."""
    seen = {}
    attention = generator.attention(layer)
    handle = attention.register_forward_pre_hook(lambda m, args, kw: seen.update(args=args, kw=kw), with_kwargs=True)
    generator.velocity(latents, torch.tensor(900), states)
    handle.remove()
    hidden, context = (*seen["args"], *seen["kw"].values())[:2]
    query = attention.norm_q(attention.to_q(hidden)).unflatten(2, (attention.heads, -1)).transpose(1, 2)
    key = attention.norm_k(attention.to_k(context)).unflatten(2, (attention.heads, -1)).transpose(1, 2)
    return (query @ key.transpose(-1, -2) / query.shape[-1] ** 0.5).softmax(-1)


def test_maps_equal_an_explicit_softmax(generator: Generator, latents: torch.Tensor) -> None:
    compositions = [parse(prompt, LABELS) for prompt in PROMPTS]
    conditioning = generator.encode(compositions)
    layers = list(range(len(generator.blocks)))
    maps, _ = generator.entity_maps(latents, torch.tensor(900), conditioning, layers)
    frames, height, width = generator.token_grid(latents)
    assert maps.shape == (2, len(layers), generator.heads, 2, frames, height, width)
    for layer in layers:
        probabilities = explicit_maps(generator, latents, conditioning.states, layer)
        # "red circle" are tokens 1 and 2 of the first prompt, "blue square" the last two words.
        words = generator.pipeline.tokenizer.convert_ids_to_tokens(generator.pipeline.tokenizer(PROMPTS[0]).input_ids)
        blue = words.index("▁blue")
        expected = torch.stack([probabilities[0, ..., 1:3].sum(-1), probabilities[0, ..., blue : blue + 2].sum(-1)], 1)
        torch.testing.assert_close(maps[0, layer].flatten(2), expected, atol=1e-6, rtol=1e-5)
        torch.testing.assert_close(maps[1, layer, :, 0].flatten(1), probabilities[1, ..., 1:3].sum(-1))
        assert maps[1, layer, :, 1].abs().max() == 0  # a prompt with one entity: the second column is empty


def test_output_is_bit_identical_with_capture_on(generator: Generator, latents: torch.Tensor) -> None:
    conditioning = generator.encode([parse(prompt, LABELS) for prompt in PROMPTS])
    plain = generator.velocity(latents, torch.tensor(900), conditioning.states)
    _, captured = generator.entity_maps(latents, torch.tensor(900), conditioning, [0, 1], full=True)
    assert captured is not None and torch.equal(plain, captured)


def test_early_exit_changes_nothing_and_stops(generator: Generator, latents: torch.Tensor) -> None:
    conditioning = generator.encode([parse(prompt, LABELS) for prompt in PROMPTS])
    calls = []
    handle = generator.blocks[-1].register_forward_hook(lambda *_: calls.append(1))
    z = latents.clone().requires_grad_(True)
    early, velocity = generator.entity_maps(z, torch.tensor(900), conditioning, [0])
    assert velocity is None and not calls
    full, _ = generator.entity_maps(z, torch.tensor(900), conditioning, [0], full=True)
    handle.remove()
    assert calls and torch.equal(early, full)
    weights = torch.randn_like(early)
    gradients = [torch.autograd.grad((maps * weights).sum(), z)[0] for maps in (early, full)]
    assert torch.equal(*gradients)


def test_gradient_agrees_with_finite_differences() -> None:
    generator = wrap_pipeline(tiny_pipeline().to(torch.float64), "tiny")
    composition = parse(PROMPTS[0], LABELS)
    conditioning = generator.encode([composition])
    z = torch.randn(1, 16, 2, 4, 4, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    weights = torch.randn(1, 2, generator.heads, 2, 2, 4, 4, generator=torch.Generator().manual_seed(1))

    def value(latents: torch.Tensor) -> torch.Tensor:
        maps, _ = generator.entity_maps(latents, torch.tensor(900), conditioning, [0, 1])
        return (maps.double() * weights).sum()

    z.requires_grad_(True)
    (gradient,) = torch.autograd.grad(value(z), z)
    direction = torch.randn(z.shape, dtype=torch.float64, generator=torch.Generator().manual_seed(2))
    step = 1e-3  # maps are returned in float32, which bounds how small it may be
    with torch.no_grad():
        numeric = (value(z + step * direction) - value(z - step * direction)) / (2 * step)
    torch.testing.assert_close((gradient * direction).sum(), numeric, rtol=2e-3, atol=1e-6)


def test_batch_equals_one_by_one(generator: Generator, latents: torch.Tensor) -> None:
    compositions = [parse(prompt, LABELS) for prompt in PROMPTS]
    together, _ = generator.entity_maps(latents, torch.tensor(900), generator.encode(compositions), [0, 1])
    for i, composition in enumerate(compositions):
        alone, _ = generator.entity_maps(latents[i : i + 1], torch.tensor(900), generator.encode([composition]), [0, 1])
        torch.testing.assert_close(together[i, :, :, : alone.shape[3]], alone[0], atol=1e-6, rtol=1e-5)


def test_initial_latents_are_the_pipelines_own(generator: Generator) -> None:
    size = (5, 32, 32)
    options = {"num_inference_steps": 2, "num_frames": 5, "height": 32, "width": 32, "output_type": "latent"}
    own = generator.pipeline(
        prompt=PROMPTS, generator=[torch.Generator().manual_seed(i) for i in (3, 4)], max_sequence_length=24, **options
    ).frames
    latents = generator.initial_latents([torch.Generator().manual_seed(i) for i in (3, 4)], size)
    assert torch.equal(own, generator.sample(PROMPTS, latents, 2, None, size, None))


def test_a_multistep_scheduler_keeps_an_edit(generator: Generator) -> None:
    """UniPC's corrector undoes an edit made between steps unless its history is forgotten."""
    size = (5, 32, 32)

    def final(edit: float, forget: bool) -> torch.Tensor:
        latents = generator.initial_latents([torch.Generator().manual_seed(0)], size)

        def callback(pipe: object, step: int, t: object, tensors: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
            if step == 3:
                seen["before"] = tensors["latents"].clone()
                tensors["latents"] = tensors["latents"] + edit
                if forget:
                    generator.forget_history()
            if step == 4:
                seen["after"] = tensors["latents"].clone()
            return tensors

        seen: dict[str, torch.Tensor] = {}
        generator.sample(PROMPTS[:1], latents, 8, None, size, callback)
        return seen["after"]

    kept = (final(0.5, True) - final(0.0, True)).mean()
    undone = (final(0.5, False) - final(0.0, False)).mean()
    assert kept > 0.3
    assert undone < 0.5 * kept


def test_entity_columns_cover_the_whole_phrase_and_only_it(generator: Generator) -> None:
    composition = parse("a small red circle to the left of a blue square", LABELS)
    columns = generator.entity_columns(composition)
    encoded = generator.pipeline.tokenizer(composition.prompt)
    for index, entity in enumerate(composition.entities):
        keys = columns[:, index].nonzero().flatten().tolist()
        start, end = encoded.token_to_chars(keys[0]).start, encoded.token_to_chars(keys[-1]).end
        assert composition.prompt[start:end].strip() == entity.phrase
        assert keys == list(range(keys[0], keys[-1] + 1))


def test_an_entity_beyond_the_text_length_is_an_error(generator: Generator) -> None:
    composition = parse("a red circle moving left " + "very " * 30 + "above a blue square", LABELS, label=["above"])
    with pytest.raises(UserError, match="blue square.*24 tokens"):
        generator.entity_columns(composition)


def test_an_unknown_generator_is_one_clear_error(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="cannot be loaded"):
        load_generator(str(tmp_path / "nothing"))
    with pytest.raises(UserError, match="known classes: WanPipeline"):
        wrap_pipeline(FlowMatchEulerDiscreteScheduler())
