"""What saves memory changes nothing else; and what is said when the memory does not suffice."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from functools import partialmethod
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from cvg import evaluate, sample
from cvg.classifier.model import CompositionClassifier
from cvg.common.cli import next_try, run
from cvg.common.errors import UserError
from cvg.composition import parse
from cvg.diffusion.schedule import Schedule
from cvg.diffusion.trajectory import Predict, invert, replay
from cvg.generators import Generator, Loading, load_generator, recompute, wrap_pipeline
from cvg.generators.conditioning import States
from cvg.generators.loading import compile_blocks, tile
from cvg.guidance.config import GuidanceConfig
from cvg.guidance.guide import Guide
from cvg.guidance.sampler import GuidedSampler
from data_prep import invert as inverting
from data_prep.inversion import recording
from data_prep.pretrain.wan import Wan
from tests.generators.families.test_wan import build as build_wan
from tests.helpers import tiny
from tests.helpers.labels import LABELS
from tests.helpers.offloaded import offload_components_checked, offload_layers_checked

PROMPTS = ["a red circle to the left of a blue square", "a green triangle moving up"]
COMPOSITIONS = [parse(prompt, LABELS) for prompt in PROMPTS]
SIZE = (5, 32, 32)
CONFIG = GuidanceConfig(step_size=0.2, threshold=None, smoothing=1)


@pytest.fixture
def generator() -> Generator:
    return wrap_pipeline(tiny.tiny_pipeline(), "tiny")


@pytest.fixture(scope="module")
def classifier() -> CompositionClassifier:
    return tiny.tiny_classifier(wrap_pipeline(tiny.tiny_pipeline(), "tiny"))


def guided(generator: Generator, classifier: CompositionClassifier, on: bool = True) -> torch.Tensor:
    sampler = GuidedSampler(generator, classifier, CONFIG)
    return sampler(PROMPTS, [0, 1], steps=tiny.STEPS, size=SIZE, guided=on).video_BCFHW


def noise(generator: Generator) -> torch.Tensor:
    return generator.initial_latents([torch.Generator().manual_seed(i) for i in range(2)], SIZE)


def predictor(generator: Generator, schedule: Schedule, states: States) -> Predict:
    return lambda z, i: generator.predict(z, schedule.timesteps[i], states).float()


def gradient(generator: Generator) -> tuple[torch.Tensor, torch.Tensor]:
    """Entity maps of all layers but the last, and a gradient of them."""
    z = noise(generator).requires_grad_(True)
    layers = list(range(len(generator.blocks) - 1))
    maps = generator.entity_maps(z, torch.tensor(900), generator.encode(COMPOSITIONS), layers)
    return maps, torch.autograd.grad(maps.square().sum(), z)[0]


# Offloading


def test_guided_sampling_with_one_component_at_a_time(generator: Generator, classifier: CompositionClassifier) -> None:
    wanted = guided(generator, classifier)
    came = offload_components_checked(generator)
    assert torch.equal(guided(generator, classifier), wanted)
    # The prompts are encoded for the maps, and by the pipeline, before the first guided step.
    assert came == ["text_encoder", "transformer", "vae"]
    assert generator.device == torch.device("cpu:0") and generator.pipeline.device == torch.device("cpu")


def test_inversion_with_one_component_at_a_time() -> None:
    """With two networks, of which the second runs first."""
    results = []
    for offloaded in (False, True):
        generator = wrap_pipeline(build_wan(0, 1, boundary_ratio=0.875), "tiny")
        came = offload_components_checked(generator) if offloaded else []
        schedule = generator.schedule(6, (5, 64, 64))
        clean = generator.encode_video(torch.rand(1, 3, 5, 64, 64, generator=torch.Generator().manual_seed(0)))
        states = generator.encode(COMPOSITIONS[:1]).states

        predict = predictor(generator, schedule, states)
        replayed, _ = replay(invert(clean, schedule, predict, 0), schedule, predict)
        results.append(generator.decode_latents(replayed))
    assert torch.equal(*results)
    assert came == ["vae", "text_encoder", "transformer_2", "transformer", "transformer_2", "vae"]


def test_guided_sampling_layer_by_layer(
    generator: Generator, classifier: CompositionClassifier, monkeypatch: pytest.MonkeyPatch
) -> None:
    generator.checkpointing = True
    wanted = guided(generator, classifier)
    offload_layers_checked(generator, monkeypatch)
    assert torch.equal(guided(generator, classifier), wanted)


@pytest.mark.parametrize("checkpointing", [False, True])
def test_a_backward_pass_borrows_one_block_at_a_time(checkpointing: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """Gradients are right either way; but without checkpointing the weights of all blocks stay until the end."""
    generator = wrap_pipeline(tiny.tiny_pipeline(0, Wan()), "tiny")  # whose blocks are larger than its text encoder
    generator.checkpointing = checkpointing
    wanted = gradient(generator)
    sizes = [sum(weight.nbytes for weight in block.parameters()) for block in generator.blocks]
    around = sum(weight.nbytes for weight in generator.network.parameters()) - sum(sizes)
    copied = offload_layers_checked(generator, monkeypatch)
    assert generator.checkpointing
    generator.checkpointing = checkpointing
    generator.encode(COMPOSITIONS)
    copied.peak = 0
    for ours, theirs in zip(gradient(generator), wanted, strict=True):
        assert torch.equal(ours, theirs)
    encoder = sum(weight.nbytes for weight in generator.pipeline.text_encoder.parameters())
    assert (copied.peak <= max(max(sizes) + around, encoder)) == checkpointing
    copied.add(torch.empty(0))
    assert sum(size for _, size in copied.alive) <= around  # what stays is of modules that an early exit left


def test_options_that_do_not_go_together(tmp_path: Path) -> None:
    for options, message in (
        ({"offload": "model"}, "offload model: .*name one"),
        ({"offload": "group"}, "offload group: .*name one"),
        ({"device": "meta", "offload": "group", "compile": True}, "cannot be compiled"),
        ({"device": "cuda:99"}, "device cuda:99: cannot be used"),
        ({"device": "gpu"}, "device gpu: cannot be used"),
        ({"dtype": "int8"}, "dtype int8: expected one of float32"),
    ):
        with pytest.raises(UserError, match=message):
            load_generator("shapes-wan", Loading(**options))


def test_options_reach_the_generator(tmp_path: Path) -> None:
    folder = str(tiny.make_pipeline(tmp_path / "generator"))
    plain = load_generator(folder)
    assert not plain.checkpointing and not plain.compiled and not plain.pipeline.vae.use_tiling
    chosen = load_generator(folder, Loading(dtype="bfloat16", checkpointing=True, tiling=True, compile=True))
    assert chosen.checkpointing and chosen.compiled and chosen.dtype == torch.bfloat16
    assert chosen.pipeline.vae.use_tiling and chosen.pipeline.vae.use_slicing


def test_tiles_and_slices_decode_the_same_where_one_tile_suffices(generator: Generator) -> None:
    latents = noise(generator)
    wanted = generator.decode_latents(latents)
    tile(generator)
    torch.testing.assert_close(generator.decode_latents(latents), wanted)


def test_a_vae_without_tiles_is_refused(generator: Generator) -> None:
    del generator.pipeline.vae.use_tiling
    with pytest.raises(UserError, match="tiling: AutoencoderKLWan, the VAE of tiny, has none"):
        tile(generator)


# Half precision


def test_bfloat16_is_the_same_generator(tmp_path: Path) -> None:
    """Its classifier fits, maps are near, latents and edits are float32."""
    pipeline, classifier = tiny.make_both(tmp_path)
    maps, moved = [], []
    for dtype in ("float32", "bfloat16"):
        generator = load_generator(str(pipeline), Loading(dtype=dtype))
        sampler = GuidedSampler(generator, CompositionClassifier.from_pretrained(classifier), CONFIG)
        guide = Guide(generator, sampler.classifier, COMPOSITIONS, CONFIG)
        z = noise(generator)
        edited, _ = guide.edit(z, generator.schedule(tiny.STEPS, SIZE).timesteps[0], 0)
        final = generator.sample(PROMPTS, edited, tiny.STEPS, None, SIZE)
        assert edited.dtype == final.dtype == torch.float32 and final.isfinite().all()
        moved.append((edited - z).flatten(1))
        maps.append(gradient(generator)[0])
    torch.testing.assert_close(*maps, atol=0.01, rtol=0.1)
    assert torch.nn.functional.cosine_similarity(*moved).min() > 0.9


@pytest.mark.slow
def test_bfloat16_on_the_shipped_models() -> None:
    """Guidance raises the probability, edits stay float32, and inversion comes back, all near to float32's."""
    classifier = CompositionClassifier.from_pretrained("shapes-classifier")
    config = GuidanceConfig(threshold=None)
    after, levels = {}, {}
    for dtype in ("float32", "bfloat16"):
        generator = load_generator("shapes-wan", Loading(dtype=dtype))
        run = GuidedSampler(generator, classifier, config)
        seen: list[torch.Tensor] = []
        result = run(PROMPTS[:1], [0], steps=12, observe=lambda step, z, seen=seen: seen.append(z))
        assert all(z.dtype == torch.float32 for z in seen) and result.video_BCFHW.isfinite().all()
        after[dtype] = [float(probability_R[0]) for trail in result.probabilities.values() for probability_R in trail]
        video = result.video_BCFHW
        schedule = generator.schedule(8, run.size)
        states = generator.encode([parse(PROMPTS[0], LABELS)]).states

        clean, predict = generator.encode_video(video), predictor(generator, schedule, states)
        replayed, _ = replay(invert(clean, schedule, predict, 1), schedule, predict)
        levels[dtype] = float((replayed - clean).square().mean().sqrt() / clean.std())
    assert after["bfloat16"][-1] > after["bfloat16"][0]
    assert after["bfloat16"][0] == pytest.approx(after["float32"][0], abs=0.05)
    assert levels["bfloat16"] < levels["float32"] + 0.05


# Compiled blocks


@pytest.mark.parametrize("checkpointing", [False, True])
def test_compiled_blocks_run_in_plain_passes_only(
    generator: Generator, classifier: CompositionClassifier, checkpointing: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The graphs are traced as for any backend, and counted here when they run."""
    ran: list[int] = []

    def backend(graph: torch.fx.GraphModule, inputs: Any) -> Callable[..., Any]:
        def call(*args: Any) -> Any:
            ran.append(1)
            return graph.forward(*args)

        return call

    generator.checkpointing = checkpointing
    plain, maps = guided(generator, classifier, on=False), gradient(generator)
    with monkeypatch.context() as patch:
        patch.setattr(nn.Module, "compile", partialmethod(nn.Module.compile, backend=backend))
        compile_blocks(generator)
    torch.testing.assert_close(guided(generator, classifier, on=False), plain, atol=1e-4, rtol=1e-4)
    assert len(ran) >= len(generator.blocks)
    ran.clear()
    for ours, theirs in zip(gradient(generator), maps, strict=True):
        assert torch.equal(ours, theirs)
    assert not ran


@pytest.mark.slow
def test_compiled_sampling_is_eager_sampling(tmp_path: Path, classifier: CompositionClassifier) -> None:
    """With the default backend."""
    folder = str(tiny.make_pipeline(tmp_path / "generator"))
    eager, compiled = load_generator(folder), load_generator(folder, Loading(compile=True))
    for on in (False, True):
        videos = [guided(each, classifier, on) for each in (eager, compiled)]
        torch.testing.assert_close(*videos, atol=2e-3, rtol=1e-3)


# Memory that does not suffice

OUT = torch.OutOfMemoryError(
    "CUDA out of memory. Tried to allocate 2.00 GiB. GPU 0 has a total capacity of 8 GiB.\nSee the documentation"
)


def test_what_is_on_already_decides_what_to_try() -> None:
    """Taken one after another, the proposals turn on everything there is."""
    options: dict[str, Any] = {"batch_size": 2, "loading": Loading(device="cuda", compile=True)}
    options |= {"guiding": GuidanceConfig(smoothing=2), "classifier": "shapes-classifier"}
    proposals = []
    for taken in (
        {"batch_size": 1},
        {"dtype": "bfloat16"},
        {"offload": "model"},
        {"checkpointing": True},
        {"tiling": True},
        {"offload": "group", "compile": False},
        {"guiding": GuidanceConfig(smoothing=1)},
    ):
        proposals.append(next_try(options))
        if taken.keys() <= options.keys():
            options |= taken
        else:
            options["loading"] = replace(options["loading"], **taken)
    assert proposals == [
        "--batch_size 1",
        "--dtype bfloat16",
        "--offload model",
        "--checkpointing true",
        "--tiling true",
        "--offload group --compile false",
        "--guiding.smoothing 1",
    ]
    assert "fewer layers" in next_try(options)
    on_cpu = {"loading": Loading(dtype="bfloat16", tiling=True), "layers": None}
    assert next_try(on_cpu) == "fewer --layers, or a smaller --size"


def test_out_of_memory_is_one_message_that_names_the_next_option(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    pipeline, classifier = tiny.make_both(tmp_path)
    manifest = tmp_path / "manifest.jsonl"
    row = {"video": "a.mp4", "template": "a {e0} {r0}", "entities": ["red circle"], "label": "up"}
    manifest.write_text(json.dumps(row) + "\n")
    (tmp_path / "a.mp4").touch()
    errors: list[Exception] = []

    def fail(*args: Any, **options: Any) -> None:
        raise errors[-1]

    monkeypatch.setattr(GuidedSampler, "__call__", fail)
    monkeypatch.setattr(recording.Recorder, "prepare", fail)
    trained, out = f"--classifier={classifier}", f"--out={tmp_path / 'out'}"
    sampling = [f"--prompt={PROMPTS[0]}", trained, out]
    evaluating = [trained, "--prompts=1", "--dtype=bfloat16", "--batch_size=1"]
    inverting_args = [f"--data={manifest}", f"--generator={pipeline}", out]
    full = torch.OutOfMemoryError("")
    cpu = RuntimeError("[enforce fail] DefaultCPUAllocator: can't allocate memory: you tried to allocate 9 bytes.")
    for command, args, error, expected in (
        (sample.main, sampling, OUT, "CUDA out of memory. Tried to allocate 2.00 GiB; try --batch_size 4\n"),
        (sample.main, [*sampling, "--batch_size=1"], full, "; try --dtype bfloat16\n"),
        (evaluate.main, evaluating, cpu, "; try --checkpointing true\n"),
        (inverting.main, inverting_args, MemoryError(), "; try --dtype bfloat16\n"),
    ):
        errors.append(error)
        with pytest.raises(SystemExit) as caught:
            run(command, "python -m thing", args=args)
        said = capsys.readouterr().err
        assert caught.value.code == 2 and "Traceback" not in said
        assert said.splitlines(keepends=True)[-1].startswith("error: out of memory on device cpu: ")
        assert said.endswith(expected), said


def test_other_runtime_errors_stay_what_they_are() -> None:
    def command() -> None:
        """Fail."""
        raise RuntimeError("shapes do not match")

    with pytest.raises(RuntimeError, match="shapes do not match"):
        run(command, "python -m thing", args=[])


def test_what_a_recomputed_block_raises_does_not_pass_through_torchs_checkpoint(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    # Before torch 2.13 that left its hooks in place, and what was computed next counted as the block's.
    passed: list[BaseException] = []

    def watched(function: Any, *args: Any, **options: Any) -> Any:
        try:
            return torch.utils.checkpoint.checkpoint(function, *args, **options)
        except BaseException as error:
            passed.append(error)
            raise

    monkeypatch.setattr(recompute, "checkpoint", watched)
    calls = []

    class Leaving(nn.Module):
        def forward(self, z: Tensor) -> Tensor:
            calls.append(z)
            if leave:
                raise KeyError("left")
            return z.exp()

    leave, block = True, Leaving()
    with recompute.parts_recomputed([block], compiled=False):
        with pytest.raises(KeyError, match="left"):
            block(torch.ones(3, requires_grad=True))
        assert not passed
        leave = False
        z = torch.ones(3, requires_grad=True)
        (gradient,) = torch.autograd.grad(block(z).sum(), z)
        torch.testing.assert_close(gradient, z.detach().exp())
        assert len(calls) == 3  # the third: computed again
        result, leave = block(z), True
        with pytest.raises(KeyError, match="left"):  # in the backward pass it is raised as ever
            result.sum().backward()
