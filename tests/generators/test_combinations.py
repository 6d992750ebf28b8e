"""What pipelines are run with, family by family: each cell of the table in docs/changed_weights.md is a test."""

from __future__ import annotations

import copy
import inspect
import re
import warnings
from collections.abc import Callable
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import pytest
import torch
from diffusers import TaylorSeerCacheConfig, TextKVCacheConfig
from diffusers.hooks import apply_group_offloading
from peft import LoraConfig
from torchao.quantization import Int8WeightOnlyConfig, quantize_

import cvg
from cvg.common.errors import UserError
from cvg.generators import Generator, Loading, wrap_pipeline
from cvg.generators.call_options import checked_call
from cvg.generators.changes import set_scheduler
from cvg.generators.offload import offload_components, offload_layers
from cvg.guidance.config import GuidanceConfig
from cvg.guidance.sampler import GuidedSampler
from tests.generators.families import test_cogvideox, test_hunyuan, test_ltx, test_mochi, test_wan
from tests.helpers.conformance import COMPOSITIONS, PROMPTS, Conformance
from tests.helpers.tiny import tiny_classifier

FAMILIES: dict[str, type[Conformance]] = {
    "Wan 2.1": test_wan.TestWan,
    "Wan 2.2 A14B": test_wan.TestWanA14B,
    "CogVideoX": test_cogvideox.TestCogVideoX5B,
    "LTX": test_ltx.TestLTX,
    "HunyuanVideo": test_hunyuan.TestHunyuanVideo,
    "Mochi": test_mochi.TestMochi,
}


def negative(generator: Generator, size: Any, folder: Path) -> None:
    generator.call = checked_call(generator, size, {"negative_prompt": "a green square"})


def lora(generator: Generator, size: Any, folder: Path) -> None:
    torch.manual_seed(3)
    settings = LoraConfig(r=2, init_lora_weights=False, target_modules=["to_q", "to_k", "to_v"])
    generator.network.add_adapter(settings)
    generator.freeze()


def int8(generator: Generator, size: Any, folder: Path) -> None:
    generator.pipeline.register_to_config(_name_or_path=str(folder))
    for name, part in generator.pipeline.components.items():
        if any(part is network for network in generator.networks):
            part.save_pretrained(folder / name)
            quantize_(part, Int8WeightOnlyConfig())


def shift(generator: Generator, size: Any, folder: Path) -> None:
    set_scheduler(generator.pipeline, Loading(flow_shift=2.5), "tiny")


def cache(generator: Generator, size: Any, folder: Path) -> None:
    attention = [r"(\w+\.)*(transformer_)?blocks\.\d+\.attn\d?"]
    settings = {"cache_interval": 3, "disable_cache_before_step": 1, "cache_identifiers": attention}
    for network in generator.networks:
        network.enable_cache(TaylorSeerCacheConfig(**settings))


def text_keys(generator: Generator, size: Any, folder: Path) -> None:
    for network in generator.networks:
        network.enable_cache(TextKVCacheConfig())


def compiled(generator: Generator, size: Any, folder: Path) -> None:
    for block in generator.blocks:
        block.compile(backend="eager")


def by_component(generator: Generator, size: Any, folder: Path) -> None:
    offload_components(generator, torch.device("cpu"))


def by_layer(generator: Generator, size: Any, folder: Path) -> None:
    offload_layers(generator, torch.device("cpu"))


def by_diffusers(generator: Generator, size: Any, folder: Path) -> None:
    for network in generator.networks:
        apply_group_offloading(network, onload_device=torch.device("cpu"), offload_type="leaf_level")


CHANGES: dict[str, Callable[[Generator, Any, Path], None]] = {
    "a negative prompt": negative,
    "a LoRA": lora,
    "torchao int8": int8,
    "another shift of the scheduler": shift,
    "a step cache (TaylorSeer)": cache,
    "the text-KV cache": text_keys,
    "compiled blocks": compiled,
    "`--offload model`": by_component,
    "`--offload group`": by_layer,
    "group offloading of diffusers": by_diffusers,
    "a callback after each step": lambda *_: None,
    "prompt embeddings": lambda *_: None,
}
Call = Callable[[Generator], dict[str, Any]]


def counted(pipeline: Any, step: int, timestep: Any, tensors: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    return {"latents": (1 - 0.01 * step) * tensors["latents"]}


def embeddings(generator: Generator) -> dict[str, Any]:
    """Of the first prompt and of an empty one, with what it asks for."""
    known = inspect.signature(generator.pipeline.__call__).parameters
    given: dict[str, Any] = {"prompt": None, "compositions": COMPOSITIONS[:1]}
    for text, start in ((PROMPTS[0], "prompt_"), ("", "negative_prompt_")):
        states = generator.encode_prompts([text])
        names = {state: name.replace("prompt_", start) for state, name in generator.embeddings.items()}
        given |= {name: states[state] for state, name in names.items() if name in known}
    return given


CALLS: dict[str, Call] = {
    "a callback after each step": lambda _: {"callback_on_step_end": counted},
    "prompt embeddings": embeddings,
}
"""Changes that are arguments of the pipeline's own call, as ``cvg.guide`` takes them."""


def called(generator: Generator, classifier: Any, how: GuidanceConfig, case: Conformance, call: Call) -> Any:
    """The latents that the pipeline's own call makes; guided, unless no step is."""
    options = {"prompt": PROMPTS[0], **generator.options(case.size), **call(generator)}
    options |= {"num_inference_steps": case.steps, "output_type": "latent", "return_dict": False}
    options |= {"generator": torch.Generator().manual_seed(0)}
    if how.guided_steps != 0:
        return cvg.guide(generator, classifier, **asdict(how))(**options)[0]
    options.pop("compositions", None)
    return generator.pipeline(**options)[0]


def outcome(family: str, change: str, folder: Path) -> str:
    """``refused``, or ``identical``: guided by a zero step it is the plain video bit for bit; and ``warned`` if so."""
    case = FAMILIES[family]()
    generator = wrap_pipeline(case.build(), "tiny")
    identity = copy.deepcopy(generator.identity())
    try:
        CHANGES[change](generator, case.size, folder)
        steps = case.steps
        levels = [float(level) for level in generator.schedule(steps, case.size).levels[[1, 2]]]
        latents = generator.initial_latents([torch.Generator().manual_seed(0)], case.size)
        grid = list(generator.token_grid(latents))
        grids = {"grid": grid, "token_grid": grid, "volume_grid": [min(side, 4) for side in grid]}
        classifier = tiny_classifier(generator, layers=list(case.layers), sigmas=levels, **grids)
        classifier.config = replace(classifier.config, generator=identity)  # trained on it as it was
        videos = []
        with warnings.catch_warnings(record=True) as told:
            warnings.simplefilter("always")
            for step_size, guided in ((0.0, False), (0.0, True), (0.3, True)):
                how = GuidanceConfig(step_size=step_size, threshold=None, smoothing=1)
                if change in CALLS:
                    how = how if guided else replace(how, guided_steps=0)
                    videos.append(called(generator, classifier, how, case, CALLS[change]))
                    continue
                run = GuidedSampler(generator, classifier, how)
                made = run(PROMPTS[:1], [0], COMPOSITIONS[:1], guided, steps, case.guidance_scale)
                videos.append(made.video_BCFHW)
    except UserError:
        return "refused"
    plain, unmoved, moved = videos
    assert torch.equal(plain, unmoved), "guidance by nothing changes the video"
    assert not torch.equal(plain, moved), "guidance changes nothing"
    warned = any("not as it is loaded now" in str(each.message) for each in told)
    return "warned" if warned else "identical"


def table() -> dict[tuple[str, str], str]:
    """(change, family) -> outcome, as the page has it."""
    page = (Path(__file__).parents[2] / "docs/changed_weights.md").read_text()
    head, _, *rows = re.search(r"^\| pipeline with .*?(?=\n\n|\Z)", page, re.M | re.S)[0].splitlines()  # type: ignore[index]
    names, *cells = ([cell.strip() for cell in line.strip("| ").split("|")] for line in (head, *rows))
    return {(row[0], name): cell for row in cells for name, cell in zip(names[1:], row[1:], strict=True)}


def test_the_table_has_every_combination() -> None:
    assert set(table()) == {(change, family) for change in CHANGES for family in FAMILIES}


# A third is fast: some of each change, and of each family.
PAIRS = [
    pytest.param(change, family, marks=[pytest.mark.slow] if (i + j) % 3 else [])
    for i, change in enumerate(CHANGES)
    for j, family in enumerate(FAMILIES)
]


@pytest.mark.parametrize(("change", "family"), PAIRS)
def test_a_combination_is_as_the_table_says(change: str, family: str, tmp_path: Path) -> None:
    assert outcome(family, change, tmp_path) == table()[change, family]
