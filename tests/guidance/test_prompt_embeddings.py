"""Calls that give a prompt as embeddings, with what it asks for beside them: every family, or one line that says no."""

from __future__ import annotations

import inspect
from typing import Any

import pytest
import torch
from torch import Tensor

from cvg.common.errors import PromptError
from cvg.composition import parse
from cvg.generators.families.diffusion import CLEANS
from tests.guidance.test_guided_pipeline import FAMILIES, PROMPTS, built, called, same, seeds
from tests.helpers.labels import LABELS

REFUSED = ("HunyuanVideo15Pipeline",)
"""Of three kinds of text keys: which of them the embeddings are is not told."""


def negative(argument: str) -> str:
    return argument.replace("prompt_", "negative_prompt_")


def from_the_pipeline(pipeline: Any) -> dict[str, Any]:
    """Of families whose two prompts are embedded together, or the empty one otherwise: as the pipeline does it."""
    known = inspect.signature(pipeline.__call__).parameters
    if "complex_human_instruction" in known:  # SanaVideo: only before the prompt
        made = pipeline.encode_prompt(
            PROMPTS[0],
            True,
            max_sequence_length=known["max_sequence_length"].default,
            complex_human_instruction=known["complex_human_instruction"].default,
        )
        names = ["prompt_embeds", "prompt_attention_mask"]
        return dict(zip([*names, *map(negative, names)], made, strict=True))
    made = pipeline.encode_prompt(PROMPTS[0], True, clean_caption=CLEANS)  # Latte: as many keys of both
    return dict(zip(["prompt_embeds", "negative_prompt_embeds"], made, strict=True))


def embedded(name: str) -> tuple[dict[str, Any], dict[str, Any]]:
    """Arguments of a call with the embeddings of the first prompt and of an empty one; and the same with the texts."""
    pipeline, guided, _ = built(name)
    generator = guided._generator
    known = inspect.signature(pipeline.__call__).parameters
    call: dict[str, Any] = {}
    for text, name_of in (("", negative), (PROMPTS[0], str)):
        states = generator.encode_prompts([text])
        for state, argument in generator.embeddings.items():
            if name_of(argument) in known:
                call[name_of(argument)] = states[state].squeeze(1)  # Allegro's network has an axis more
        if "prompt_cu_seqlens" in known:
            call[name_of("prompt_cu_seqlens")] = pipeline.encode_prompt(text)[2]
        if name == "EasyAnimatePipeline":  # asks for masks that it does not follow
            call[name_of("prompt_attention_mask")] = torch.ones(call[name_of("prompt_embeds")].shape[:2])
    if name in ("SanaVideoPipeline", "LattePipeline"):
        call = from_the_pipeline(pipeline)
    common = {"generator": lambda: seeds(0)[0], "output_type": "latent"}
    given = {"prompt": None, "negative_prompt": None, **call, **common}  # some calls have an empty one by default
    return given, {"prompt": PROMPTS[0], "negative_prompt": "", **common}


@pytest.mark.parametrize("name", [name for name in FAMILIES if name not in REFUSED])
def test_with_embeddings_a_call_is_guided_as_with_the_text_of_them(name: str) -> None:
    pipeline, guided, options = built(name)
    embeddings, texts = embedded(name)
    assert any(isinstance(value, Tensor) for value in embeddings.values())
    asked = {"compositions": [parse(PROMPTS[0], LABELS)]}
    plain = called(pipeline, options, embeddings)
    assert same(plain, called(guided, options, embeddings, step_size=0.0, **asked)) and guided.report.probabilities
    moved = called(guided, options, embeddings, step_size=0.3, **asked)
    assert not same(plain, moved) and guided.report.moved == {0: [0], 1: [0]}
    assert same(plain, called(pipeline, options, texts)) and same(moved, called(guided, options, texts, step_size=0.3))
    with pytest.raises(PromptError, match=r"nothing tells what they ask for; give compositions=\[cvg.parse"):
        called(guided, options, embeddings)
    with pytest.raises(PromptError, match="nothing tells what they ask for"):  # nor do entities tell their tokens
        called(guided, options, embeddings, entities=["red circle", "blue square"], labels=["left of"])


@pytest.mark.parametrize("name", REFUSED)
def test_embeddings_that_cannot_be_read_are_one_line(name: str) -> None:
    _, guided, options = built(name)
    call = {"prompt": None, "prompt_embeds": torch.zeros(1, 4, 8), "output_type": "latent"}
    with pytest.raises(PromptError, match="prompt embeddings: this pipeline's cannot be guided; give the prompts as"):
        called(guided, options, call, compositions=[parse(PROMPTS[0], LABELS)])
