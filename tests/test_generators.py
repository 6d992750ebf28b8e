"""What all generators have in common beside the conformance of each family (``tests/families``)."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from diffusers import FlowMatchEulerDiscreteScheduler
from tiny import tiny_pipeline
from torch import Tensor, nn

from cvg.common.errors import UserError
from cvg.composition import parse
from cvg.generators import Generator, load_generator, wrap_pipeline
from cvg.generators.registry import ADAPTERS, adapter_of
from cvg.grounding.capture import AttentionTap
from cvg.shapes.world import LABELS


@pytest.fixture(scope="module")
def generator() -> Generator:
    return wrap_pipeline(tiny_pipeline(), "tiny")


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


@pytest.mark.parametrize("pipeline_class", sorted(ADAPTERS))
def test_every_adapter_named_in_the_registry_is_there(pipeline_class: str) -> None:
    adapter = adapter_of(pipeline_class)
    assert issubclass(adapter, Generator) and not adapter.__abstractmethods__


def test_an_unknown_generator_is_one_clear_error(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="cannot be loaded"):
        load_generator(str(tmp_path / "nothing"))
    with pytest.raises(UserError, match="known classes: .*WanPipeline"):
        wrap_pipeline(FlowMatchEulerDiscreteScheduler())


class _Attention(nn.Module):
    def forward(self, states: Tensor) -> Tensor:
        return F.scaled_dot_product_attention(states, states, states)


def test_what_a_layer_leaves_behind_is_its_maps_alone() -> None:
    states, columns = torch.randn(1, 3, 40, 16), torch.zeros(1, 5, 2)  # video keys follow five of text
    module = _Attention()
    tap = AttentionTap({0: module}, columns, keys=slice(0, 5), queries=slice(5, None))
    with torch.no_grad(), tap.recording():
        module(states)
    (kept,) = tap._maps[0]
    assert isinstance(kept, Tensor) and kept.shape == (1, 3, 35, 2)
    assert kept.untyped_storage().nbytes() == kept.nbytes
