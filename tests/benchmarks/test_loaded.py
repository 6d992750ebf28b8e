"""What is counted of networks as people load them is what is allocated, of networks as they are really loaded."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import pytest
import torch
from diffusers import WanPipeline
from peft.utils import get_peft_model_state_dict
from torch import nn
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.profiler import ProfilerActivity, profile

from benchmarks import architecture as architectures
from benchmarks import loaded, scale
from benchmarks.case import checkpointed, random_case
from benchmarks.guidance import gradient
from benchmarks.measure import Work, stored_bytes
from cvg.common.quantised import kind_of
from cvg.generators import Loading, load_generator
from cvg.generators.offload import offload_layers
from tests.helpers.tiny import tiny_pipeline

TINY = architectures.load("wan-1.3b").shrunk(depth=3, heads=1, text_length=16, size=(9, 160, 192))
BOTH = "--quantize torchao-int8 --lora"


def allocated(work: Work) -> int:
    """The most bytes that PyTorch's allocator had given out at once, beside those from before."""
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as found:
        work()
    events = [event for event in found.profiler.kineto_results.events() if event.name() == "[memory]"]
    live = peak = 0
    for event in sorted(events, key=lambda event: event.start_ns()):
        live += event.nbytes()
        peak = max(peak, live)
    return peak


@pytest.mark.parametrize("way", [pytest.param(BOTH, marks=pytest.mark.slow), loaded.GROUP])
def test_what_is_counted_on_fake_tensors_is_what_is_allocated(way: str, monkeypatch: pytest.MonkeyPatch) -> None:
    if way == BOTH:  # arithmetic is counted the other way alone: each count of it runs a guided step anew
        monkeypatch.setattr(loaded, "operations", lambda work: 0)
    fake = loaded.taken(TINY, way, [0, 1], "float32", FakeTensorMode(allow_non_fake_inputs=True))
    case = random_case(TINY, [0, 1], 1, 50, "cpu", "float32", None, loaded.WAYS[way])
    weights = sum(stored_bytes(weight) for weight in case.generator.network.parameters())
    if way == loaded.GROUP:
        offload_layers(case.generator, torch.device("cpu"))

    def guided() -> None:
        gradient(case, case.generator)

    def recomputing() -> None:
        with checkpointed(case.generator):
            guided()

    assert fake.step == pytest.approx(allocated(case.denoise), rel=0.002)
    assert fake.checkpointed == pytest.approx(allocated(recomputing), rel=0.002)
    if way == loaded.GROUP:
        # Two passes through all blocks, and a guided one through two of three, forward and backward.
        assert fake.guided is None and fake.moved == 2 * weights
        assert 2 / 3 * weights < fake.borrowed < 4 / 3 * weights
        assert fake.resting < 0.2 * weights
    else:
        assert fake.guided == pytest.approx(allocated(guided), rel=0.002)
        assert fake.guided > 1.2 * fake.checkpointed
        assert fake.moved == 0 and weights <= fake.resting


def test_networks_are_those_that_are_loaded(tmp_path: Path) -> None:
    pipeline = tiny_pipeline()
    pipeline.save_pretrained(tmp_path / "tiny")
    network: Any = copy.deepcopy(pipeline.transformer)
    loaded.WAYS["--lora"](network)
    WanPipeline.save_lora_weights(str(tmp_path), transformer_lora_layers=get_peft_model_state_dict(network))
    lora = str(tmp_path / "pytorch_lora_weights.safetensors")
    real = load_generator(str(tmp_path / "tiny"), Loading(dtype="bfloat16", quantize="torchao-int8", lora=lora))
    ours: Any = WanPipeline.from_pretrained(tmp_path / "tiny", dtype=torch.bfloat16).transformer
    plain = described(ours)
    loaded.WAYS[BOTH](ours)
    wanted = {name.replace(".lora_0.", ".default."): each for name, each in described(real.network).items()}
    assert described(ours) == wanted
    assert len(wanted) > len(plain) and sum(kind is not None for *_, kind in wanted.values()) > 20


def described(network: nn.Module) -> dict[str, tuple[tuple[int, ...], torch.dtype, int, str | None]]:
    """Shape, type, bytes and way of quantising of each weight."""
    return {
        name: (tuple(weight.shape), weight.dtype, stored_bytes(weight), kind_of(weight))
        for name, weight in network.named_parameters()
    }


def test_the_command_prints_a_row_for_each_way(monkeypatch: pytest.MonkeyPatch, capsys: Any) -> None:
    one = loaded.Taken(2 * 2**30, 2**30, 2**30, 3 * 2**30, 2**29, 4 * 10**12, 10 * 10**12, 20 * 10**12, 0, 0)
    monkeypatch.setattr(scale, "figures_of", lambda *_: [])
    monkeypatch.setattr(scale, "taken", lambda *_: one)
    scale.main(["wan-14b"], loaded=True)
    *_, row = capsys.readouterr().out.strip().splitlines()
    cells = [cell.strip() for cell in row.strip("|").split("|")]
    # What a guided step holds is never less than what the plain steps beside it do.
    assert cells == [list(loaded.WAYS)[-1], "2.0", "3.0", "6.0 (2.00)", "4.0 (1.33)", "4", "1.100", "1.200", "", ""]
