"""Which changes of a pipeline make another generator of it, and which do not."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import pytest
import torch
from diffusers import WanPipeline
from torch import Tensor, nn

from cvg.common.errors import ModelError
from cvg.common.fingerprint import same_generator
from cvg.generators import wrap_pipeline
from cvg.guidance.sampler import GuidedSampler
from tests.generators.families.test_wan import build
from tests.helpers.tiny import STEPS, tiny_classifier, tiny_pipeline


def compiled(pipeline: WanPipeline) -> None:
    pipeline.transformer = torch.compile(pipeline.transformer, backend="eager")


def compiled_in_part(pipeline: WanPipeline) -> None:
    pipeline.transformer.blocks[1] = torch.compile(pipeline.transformer.blocks[1], backend="eager")


def identity(pipeline: WanPipeline) -> str:
    return wrap_pipeline(pipeline, "tiny").identity()["fingerprint"]


@pytest.mark.parametrize(
    "change",
    [
        compiled,
        compiled_in_part,
        lambda pipeline: pipeline.transformer.fuse_qkv_projections(),
        lambda pipeline: pipeline.to(torch.bfloat16),
    ],
)
def test_what_leaves_the_maps_as_they_are_leaves_the_identity(change: Callable[[WanPipeline], None]) -> None:
    pipeline = tiny_pipeline()
    before = identity(pipeline)
    change(pipeline)
    assert identity(pipeline) == before


def test_the_boundary_between_two_networks_counts() -> None:
    assert identity(build(0, 1, boundary_ratio=0.875)) != identity(build(0, 1, boundary_ratio=0.5))


def another_network(pipeline: WanPipeline) -> None:
    pipeline.transformer = tiny_pipeline(7).transformer


def test_what_is_changed_after_wrapping_is_seen() -> None:
    generator = wrap_pipeline(tiny_pipeline(), "tiny")
    sampler = GuidedSampler(generator, classifier := tiny_classifier(generator))
    another_network(generator.pipeline)
    with pytest.raises(ModelError, match="trained on the attention of"):
        GuidedSampler(generator, classifier)
    with pytest.raises(ModelError, match="trained on the attention of"):
        sampler(["a red circle moving up"], [0], steps=STEPS, size=(5, 32, 32))


def test_a_network_put_in_later_is_frozen_too() -> None:
    generator = wrap_pipeline(tiny_pipeline(), "tiny")
    sampler = GuidedSampler(generator, tiny_classifier(generator))
    network = copy.deepcopy(generator.pipeline.transformer).requires_grad_(True).train()
    generator.pipeline.transformer = network
    sampler(["a red circle moving up"], [0], steps=STEPS, size=(5, 32, 32))
    assert not network.training and not any(weight.requires_grad for weight in network.parameters())


@pytest.mark.parametrize("trained", [torch.float32, torch.float16])
@pytest.mark.parametrize("given", [torch.float32, torch.float16])
def test_float16_is_the_same_model(trained: torch.dtype, given: torch.dtype) -> None:
    classifier = tiny_classifier(wrap_pipeline(tiny_pipeline().to(trained), "tiny"))
    assert GuidedSampler(wrap_pipeline(tiny_pipeline().to(given), "tiny"), classifier)
    with pytest.raises(ModelError, match="trained on the attention of"):
        GuidedSampler(wrap_pipeline(tiny_pipeline(7).to(given), "tiny"), classifier)


@pytest.mark.parametrize("stored", [torch.float16, torch.bfloat16])
def test_of_files_in_few_digits_every_precision_is_the_same_model(stored: torch.dtype) -> None:
    precisions = (torch.float32, torch.float16, torch.bfloat16)
    made = [wrap_pipeline(tiny_pipeline().to(stored).to(each), "tiny").identity() for each in precisions]
    assert all(same_generator(one, other) for one in made for other in made)
    assert stored == torch.bfloat16 or "float16" not in made[0]


def test_float16_of_what_was_rounded_otherwise_is_refused_with_a_remedy() -> None:
    classifier = tiny_classifier(wrap_pipeline(tiny_pipeline().to(torch.bfloat16), "tiny"))
    with pytest.raises(ModelError, match="in float16.*: load it in bfloat16 or float32"):
        GuidedSampler(wrap_pipeline(tiny_pipeline().to(torch.float16), "tiny"), classifier)


class Packed(Tensor):
    """A weight that does as torchao's: it takes part in matrix products and in nothing else."""

    @classmethod
    def __torch_function__(cls, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if func is Tensor.flatten:
            raise NotImplementedError("flatten")
        return super().__torch_function__(func, types, args, kwargs or {})


@pytest.mark.parametrize("kind", ["Packed", "torch.int8"])
def test_quantised_weights_are_one_message(kind: str) -> None:
    generator = wrap_pipeline(tiny_pipeline(), "tiny")
    projection = generator.network.blocks[0].attn2.to_q
    weight = projection.weight.data
    packed = weight.as_subclass(Packed) if kind == "Packed" else weight.to(torch.int8)
    projection.weight = nn.Parameter(packed, requires_grad=False)
    with pytest.raises(ModelError, match=rf"attn2.to_q.weight is quantised \({kind}\).*load it in bfloat16 or float32"):
        generator.identity()
