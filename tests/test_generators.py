"""What all generators have in common beside the conformance of each family (``tests/families``)."""

from __future__ import annotations

from pathlib import Path

import pytest
from diffusers import FlowMatchEulerDiscreteScheduler
from tiny import tiny_pipeline

from cvg.composition import parse
from cvg.errors import UserError
from cvg.generators import Generator, load_generator, wrap_pipeline
from cvg.generators.registry import ADAPTERS, adapter_of
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
