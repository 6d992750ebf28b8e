"""What all generators have in common beside the conformance of each family (``tests/generators/families``)."""

from __future__ import annotations

import copy
import inspect
import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import diffusers
import pytest
import torch
import torch.nn.functional as F
from diffusers import FlowMatchEulerDiscreteScheduler
from tokenizers import Tokenizer, models, pre_tokenizers
from torch import Tensor, nn
from transformers import PreTrainedTokenizerFast

from cvg.common.errors import UserError
from cvg.common.sizes import Size
from cvg.composition import parse
from cvg.generators import Generator, load_generator, wrap_pipeline
from cvg.generators.registry import ADAPTERS, TEXT_TO_VIDEO, adapter_of
from cvg.grounding.base import Sites
from cvg.grounding.cross_attention import CrossAttention
from cvg.grounding.hooks import ending_before
from cvg.grounding.keys import entity_columns
from tests.generators.families.test_ltx import TestLTX as LTX
from tests.helpers.labels import LABELS


def test_entity_columns_cover_the_whole_phrase_and_only_it(generator: Generator) -> None:
    composition = parse("a small red circle to the left of a blue square", LABELS)
    columns = generator.entity_columns(composition)
    encoded = generator.pipeline.tokenizer(composition.prompt)
    for index, entity in enumerate(composition.entities):
        keys = columns[:, index].nonzero().flatten().tolist()
        start, end = encoded.token_to_chars(keys[0]).start, encoded.token_to_chars(keys[-1]).end
        assert composition.prompt[start:end].strip() == entity.phrase
        assert keys == list(range(keys[0], keys[-1] + 1))


def test_a_prompt_that_the_cleaning_would_shift_is_an_error(generator: Generator) -> None:
    prompt = "a red circle  to the left of a blue square"
    with pytest.raises(UserError, match="clean-up changes it.*write the prompt that way"):
        generator.entity_columns(parse(prompt, LABELS))


def test_a_letter_that_is_longer_in_lower_case_is_an_error(generator: Generator) -> None:
    composition = parse("an İ red circle to the left of a blue square", LABELS)
    tokenizer = generator.pipeline.tokenizer
    with pytest.raises(UserError, match="clean-up changes it"):
        entity_columns(composition, tokenizer, 24, str.lower)
    columns = entity_columns(parse("A Red circle to the left of a Blue square", LABELS), tokenizer, 24, str.lower)
    assert columns.sum(0).tolist() == [2, 2]


def test_an_entity_is_read_whole_or_not_at_all(generator: Generator) -> None:
    """However near to the last text key it lies."""
    seen = []
    for words in range(24):
        prompt = "a red circle moving left " + "very " * words + "above a blue square"
        composition = parse(prompt, LABELS, label=["above"])
        try:
            columns = generator.entity_columns(composition)
        except UserError as error:
            seen.append("cut by" if "'blue square' is cut by the 24 tokens" in str(error) else str(error))
        else:
            seen.append("whole")
            assert columns[:, 1].sum() == 2
    whole, cut = seen.count("whole"), seen.count("cut by")
    assert seen[: whole + cut] == ["whole"] * whole + ["cut by"] and 1 < whole < 20
    assert all("'blue square' lies beyond the 24 tokens" in message for message in seen[whole + cut :])


@pytest.mark.parametrize(
    ("prompt", "entities"),
    [
        ("一个红色圆形在蓝色方块的左边", ("红色圆形", "蓝色方块")),
        ("赤い円が青い四角の左にある", ("赤い円", "青い四角")),
        ("วงกลมสีแดงอยู่ทางซ้ายของสี่เหลี่ยมสีน้ำเงิน", ("วงกลมสีแดง", "สี่เหลี่ยมสีน้ำเงิน")),
    ],
)
def test_entities_of_scripts_without_spaces_have_their_own_characters(
    generator: Generator, prompt: str, entities: tuple[str, str]
) -> None:
    tokenizer = Tokenizer(models.WordLevel({"?": 0}, unk_token="?"))
    tokenizer.pre_tokenizer = pre_tokenizers.Split("", "isolated")  # a token a character
    fast = PreTrainedTokenizerFast(tokenizer_object=tokenizer, unk_token="?")
    composition = parse(prompt, LABELS, entities=list(entities), label=["left of"])
    columns = entity_columns(composition, fast, 64)
    for index, entity in enumerate(entities):
        start = prompt.index(entity)
        assert columns[:, index].nonzero().flatten().tolist() == list(range(start, start + len(entity)))


@pytest.mark.parametrize("pipeline_class", sorted(ADAPTERS))
def test_every_adapter_named_in_the_registry_is_there(pipeline_class: str) -> None:
    adapter = adapter_of(pipeline_class)
    assert issubclass(adapter, Generator) and not adapter.__abstractmethods__


def test_an_unknown_generator_is_one_clear_error(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no such model"):
        load_generator(str(tmp_path / "nothing"))
    with pytest.raises(UserError, match="known classes: .*WanPipeline"):
        wrap_pipeline(FlowMatchEulerDiscreteScheduler())


@pytest.mark.parametrize(("unknown", "known"), TEXT_TO_VIDEO.items())
def test_a_pipeline_of_known_parts_is_told_what_they_make(unknown: str, known: str, tmp_path: Path) -> None:
    theirs, ours = (set(inspect.signature(getattr(diffusers, name).__init__).parameters) for name in (unknown, known))
    assert known in ADAPTERS and theirs <= ours
    (tmp_path / "model_index.json").write_text(json.dumps({"_class_name": unknown}))
    with pytest.raises(
        UserError, match=rf"class is {unknown}; its parts are those of {known}, .*{known}.from_pipe\(pipeline\)"
    ):
        load_generator(str(tmp_path))


def test_parts_of_a_pipeline_that_is_not_known_are_guided() -> None:
    pipeline = LTX().build()
    unknown = diffusers.LTXConditionPipeline(**pipeline.components)
    with pytest.raises(UserError, match="LTXPipeline.from_pipe"):
        wrap_pipeline(unknown)
    assert wrap_pipeline(diffusers.LTXPipeline.from_pipe(unknown)).network is pipeline.transformer


class _Attention(nn.Module):
    def forward(self, states: Tensor) -> Tensor:
        return F.scaled_dot_product_attention(states, states, states)


def test_what_a_layer_leaves_behind_is_its_maps_alone() -> None:
    states, columns = torch.randn(1, 3, 40, 16), torch.zeros(1, 5, 2)  # video keys follow five of text
    module = _Attention()
    sites = Sites({0: module}, {0: module}, columns, text_keys=slice(0, 5), video_queries=slice(5, None))
    reading = CrossAttention(sites)
    with torch.no_grad(), reading.recording():
        module(states)
    (kept,) = reading._calls[0]
    assert isinstance(kept, Tensor) and kept.shape == (1, 3, 35, 2)
    assert kept.untyped_storage().nbytes() == kept.nbytes


class _StateNorms:
    """Another signal, in one class: the norm of each video token's hidden state, the same for all entities."""

    def __init__(self, sites: Sites) -> None:
        self.sites = sites
        self.states: dict[int, Tensor] = {}

    @contextmanager
    def recording(self) -> Iterator[None]:
        def keeping(layer: int) -> Any:
            return lambda module, args, states: self.states.__setitem__(layer, states)

        handles = [block.register_forward_hook(keeping(layer)) for layer, block in self.sites.blocks.items()]
        with ending_before(self.sites.exit_before):
            yield
        for handle in handles:
            handle.remove()

    def maps(self, layer: int) -> Tensor:
        return self.states[layer].norm(dim=-1)[:, None, :, None] * self.sites.columns_BTE.amax(1)[:, None, None]


def test_another_signal_is_read_in_the_place_of_attention(generator: Generator) -> None:
    composition = parse("a red circle to the left of a blue square", LABELS)
    z = generator.initial_latents([torch.Generator().manual_seed(0)], Size(5, 32, 32)).requires_grad_(True)
    generator = copy.copy(generator)
    generator.grounding = _StateNorms
    ran: list[int] = []
    handle = generator.blocks[2].register_forward_hook(lambda *_: ran.append(2))
    maps_BLAEFHW = generator.entity_maps(z, torch.tensor(900), generator.encode([composition]), [0, 1])
    handle.remove()
    assert maps_BLAEFHW.shape == (1, 2, 1, 2, *generator.token_grid(z)) and maps_BLAEFHW.min() > 0 and not ran
    (gradient,) = torch.autograd.grad(maps_BLAEFHW.sum(), z)
    assert gradient.abs().max() > 0
