"""LoRAs of PEFT, quantisation by torchao and GGUF, other schedulers: what is read, and what is told of them."""

from __future__ import annotations

import copy
import warnings
from dataclasses import replace
from pathlib import Path
from typing import Any

import diffusers.quantizers.bitsandbytes
import pytest
import torch
from diffusers import FlowMatchEulerDiscreteScheduler, PipelineQuantizationConfig, TorchAoConfig, WanPipeline
from torch import Tensor
from torchao.quantization import Int8WeightOnlyConfig

from cvg.common.errors import ModelError, SettingsError
from cvg.common.fingerprint import differences, same_generator
from cvg.composition import parse
from cvg.generators import Generator, Loading, load_generator, wrap_pipeline
from cvg.generators.changes import _settings
from cvg.generators.provenance import adapters
from cvg.guidance.config import GuidanceConfig
from cvg.guidance.rules import Rules
from cvg.guidance.sampler import GuidedSampler
from data_prep.pretrain.wan import Wan
from tests.generators.families.test_wan import TestWanA14B as WanA14B
from tests.helpers.changed import dequantise, make_gguf, make_lora, merge_by_hand
from tests.helpers.labels import LABELS
from tests.helpers.tiny import STEPS, tiny_classifier, tiny_pipeline


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A pipeline (``tiny``), two LoRAs (``style``, ``motion``) and the network as GGUF."""
    folder, pipeline = tmp_path_factory.mktemp("changed"), tiny_pipeline(0, Wan())  # GGUF has blocks of 32 weights
    pipeline.save_pretrained(folder / "tiny")
    make_lora(pipeline, folder)
    make_lora(pipeline, folder, 6, "motion")
    make_gguf(pipeline.transformer, folder / "tiny.gguf")
    return folder


@pytest.fixture(scope="module")
def plain(folder: Path) -> dict[str, str]:
    return load(folder).identity()


def load(folder: Path, **options: Any) -> Generator:
    for name in ("lora", "gguf"):
        if name in options:
            options[name] = [str(folder / each) for each in options[name].split()]
    return load_generator(str(folder / "tiny"), Loading(**options))


def read(generator: Generator) -> tuple[Tensor, Tensor]:
    """Maps, and the gradient of their squares in the latents."""
    conditioning = generator.encode([parse("a red circle moving up", LABELS)])
    torch.manual_seed(0)
    z = torch.randn(1, generator.latent_channels, 2, 4, 4).requires_grad_()
    maps = generator.entity_maps(z, torch.tensor(900.0), conditioning, range(len(generator.blocks)))
    return maps.detach(), torch.autograd.grad(maps.square().sum(), z)[0]


def guided(generator: Generator, **config: Any) -> Tensor:
    classifier = tiny_classifier(generator)
    sampler = GuidedSampler(generator, classifier, GuidanceConfig(threshold=None, smoothing=1, **config))
    return sampler(["a red circle moving up"], [0], steps=STEPS, size=(5, 32, 32)).video_BCFHW


QUANTISED = [
    {"quantize": "torchao-int8"},
    {"quantize": "torchao-fp8"},
    {"quantize": "gguf", "gguf": "tiny.gguf"},
]


@pytest.mark.parametrize("checkpointing", [False, True])
@pytest.mark.parametrize("lora", [False, True])
@pytest.mark.parametrize("options", QUANTISED, ids=lambda options: options["quantize"])
def test_maps_and_gradients_are_those_of_the_dequantised_model(
    folder: Path, options: dict[str, Any], lora: bool, checkpointing: bool
) -> None:
    generator = load(folder, checkpointing=checkpointing, **options, **({"lora": "style.safetensors"} if lora else {}))
    maps, gradient = read(generator)
    reference = load(folder, **options)
    assert dequantise(reference.network) > 20
    if lora:
        merge_by_hand(reference.network, folder / "style.safetensors", 1.0)
    wanted, wanted_gradient = read(reference)
    assert wanted_gradient.norm() > 0.1
    torch.testing.assert_close(maps, wanted, rtol=1e-4, atol=1e-6)
    torch.testing.assert_close(gradient, wanted_gradient, rtol=1e-3, atol=1e-5)


@pytest.mark.parametrize("checkpointing", [False, True])
@pytest.mark.parametrize(("bits", "apart"), [(4, 1e-4), (8, 0.03)])  # 8 bits are of what the layers take in, too
def test_of_a_pipeline_in_bitsandbytes_they_are_too(
    folder: Path, bits: int, apart: float, checkpointing: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("bitsandbytes", reason="the extra quantised is not installed")
    quantisers = diffusers.quantizers.bitsandbytes.bnb_quantizer
    for quantiser in (quantisers.BnB4BitDiffusersQuantizer, quantisers.BnB8BitDiffusersQuantizer):
        # diffusers asks for a GPU; bitsandbytes needs none.
        monkeypatch.setattr(quantiser, "validate_environment", lambda *_, **__: None)
        monkeypatch.setattr(quantiser, "update_device_map", lambda *_: {"": "cpu"})

    def generator() -> Generator:
        kind = _settings(Loading(quantize="bnb-4bit" if bits == 4 else "bnb-8bit"))
        settings = PipelineQuantizationConfig(quant_mapping={"transformer": kind})
        pipeline = WanPipeline.from_pretrained(folder / "tiny", dtype=torch.float32, quantization_config=settings)
        return wrap_pipeline(pipeline, str(folder / "tiny"))

    ours, reference = generator(), generator()
    ours.checkpointing = checkpointing
    told = ours.identity()
    assert told["quantisation"] == f"bitsandbytes {'Params4bit' if bits == 4 else 'Int8Params'}"
    assert told["fingerprint"] == load(folder).identity()["fingerprint"]
    maps, gradient = read(ours)
    assert dequantise(reference.network) > 20
    wanted, wanted_gradient = read(reference)
    assert wanted_gradient.norm() > 0.1
    assert (maps - wanted).norm() < apart * wanted.norm()
    assert (gradient - wanted_gradient).norm() < apart * wanted_gradient.norm()


@pytest.mark.parametrize("scale", [1.0, 0.5, -0.25])
def test_maps_and_gradients_with_a_lora_are_those_of_the_merged_model(folder: Path, scale: float) -> None:
    reference = load(folder)
    merge_by_hand(reference.network, folder / "style.safetensors", scale)
    torch.testing.assert_close(
        read(load(folder, lora="style.safetensors", lora_scale=scale)), read(reference), rtol=1e-3, atol=1e-5
    )
    merge_by_hand(reference.network, folder / "motion.safetensors", 2.0)
    both = load(folder, lora="style.safetensors motion.safetensors", lora_scale=[scale, 2.0])
    torch.testing.assert_close(read(both), read(reference), rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("options", [{"lora": "style.safetensors"}, *QUANTISED], ids=str)
def test_guided_by_nothing_the_video_is_the_plain_one(folder: Path, options: dict[str, Any]) -> None:
    generator = load(folder, **options)
    sampler = GuidedSampler(generator, tiny_classifier(generator))
    wanted = sampler(["a red circle moving up"], [0], guided=False, steps=STEPS, size=(5, 32, 32)).video_BCFHW
    assert torch.equal(guided(generator, step_size=0.0), wanted)
    assert not torch.equal(guided(generator, step_size=0.5), wanted)


def test_a_lora_is_told_of_with_its_strength_and_leaves_the_generator_the_same(
    folder: Path, plain: dict[str, str]
) -> None:
    found = []
    for options in (
        {"lora": "style.safetensors"},
        {"lora": "style.safetensors", "lora_scale": 0.5},
        {"lora": "motion.safetensors"},
        {"lora": "style.safetensors motion.safetensors"},
    ):
        identity = load(folder, **options).identity()
        assert same_generator(identity, plain)
        found.append(differences(identity, plain))
    one, half, other, both = (line[0].removeprefix("LoRA ").removesuffix(" instead of none") for line in found)
    style, strength = one.split(" at ")
    assert (strength, half) == ("1", f"{style} at 0.5") and other.endswith(" at 1") and other != one
    assert sorted(both.split("; ")) == sorted([one, other])  # whatever it is called, and in whatever order


def test_a_lora_without_effect_is_none(folder: Path, plain: dict[str, str]) -> None:
    generator = load(folder, lora="style.safetensors")
    generator.pipeline.disable_lora()
    assert generator.identity() == plain
    generator.pipeline.enable_lora()
    assert "lora" in generator.identity()
    generator.pipeline.set_adapters(["lora_0"], [0.0])
    assert generator.identity() == plain
    assert load(folder, lora="style.safetensors", lora_scale=0.0).identity() == plain


def test_a_lora_that_is_merged_is_told_of_as_one_that_is_not(folder: Path, plain: dict[str, str]) -> None:
    generator = load(folder, lora="style.safetensors", lora_scale=0.5)
    apart = generator.identity()
    generator.pipeline.fuse_lora()
    assert generator.identity() == apart
    generator.pipeline.unload_lora_weights()  # nothing tells of it any more: another model
    assert not same_generator(generator.identity(), plain)


@pytest.mark.parametrize("options", QUANTISED, ids=lambda options: options["quantize"])
def test_quantised_it_is_the_same_generator_and_told_of(
    folder: Path, plain: dict[str, str], options: dict[str, Any]
) -> None:
    identity = load(folder, dtype="bfloat16", **options).identity()
    assert same_generator(identity, plain)
    kind = {"torchao-int8": "torchao Int8Tensor", "torchao-fp8": "torchao Float8Tensor", "gguf": "gguf Q8_0"}
    assert differences(identity, plain) == [
        f"quantisation {kind[options['quantize']]} instead of none",
        "precision bfloat16 instead of float32",
    ]


def test_a_pipeline_that_its_user_quantised_is_known_by_the_files_it_was_loaded_from(
    folder: Path, plain: dict[str, str], tmp_path: Path
) -> None:
    settings = PipelineQuantizationConfig(quant_mapping={"transformer": TorchAoConfig(Int8WeightOnlyConfig())})
    pipeline = WanPipeline.from_pretrained(folder / "tiny", quantization_config=settings, dtype=torch.float32)
    assert same_generator(wrap_pipeline(pipeline, "tiny").identity(), plain)
    pipeline.register_to_config(_name_or_path=str(tmp_path))
    with pytest.raises(ModelError, match="is quantised .torchao Int8Tensor.*the files it was made of are not here"):
        wrap_pipeline(pipeline, "tiny").identity()
    tiny_pipeline(7, Wan()).save_pretrained(tmp_path)
    with pytest.raises(ModelError, match="its quantised weights are not those of .*the same model"):
        wrap_pipeline(pipeline, "tiny").identity()


def test_another_models_gguf_is_another_generator(folder: Path, plain: dict[str, str], tmp_path: Path) -> None:
    network = copy.deepcopy(load(folder).network)
    with torch.no_grad():  # tuned a little: too little to be seen in matrices of few bits
        for weight in network.parameters():
            weight *= 1.01
    make_gguf(network, tmp_path / "tuned.gguf")
    tuned = load_generator(str(folder / "tiny"), Loading(quantize="gguf", gguf=str(tmp_path / "tuned.gguf")))
    assert not same_generator(tuned.identity(), plain)


@pytest.mark.parametrize(
    ("options", "told"),
    [
        ({"lora": "style.safetensors"}, "LoRA [0-9a-f]{16} at 1 instead of none"),
        ({"dtype": "bfloat16"}, "precision bfloat16 instead of float32"),
        ({"flow_shift": 7.0}, "scheduler UniPCMultistepScheduler with shift 7 instead of UniPC.* with shift 3"),
        ({"quantize": "torchao-int8"}, "quantisation torchao Int8Tensor instead of none"),
    ],
)
def test_what_differs_from_training_is_warned_of(folder: Path, options: dict[str, Any], told: str) -> None:
    classifier = tiny_classifier(load(folder))
    with pytest.warns(UserWarning, match=f"not as it is loaded now: {told};"):
        GuidedSampler(load(folder, **options), classifier)
    generator = load(folder, **options)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        GuidedSampler(generator, tiny_classifier(generator))  # trained with the same


def test_another_scheduler_has_the_shift_of_the_one_before(folder: Path) -> None:
    euler = load(folder, scheduler="FlowMatchEulerDiscreteScheduler").pipeline.scheduler
    assert type(euler) is FlowMatchEulerDiscreteScheduler and euler.config.shift == 3.0
    euler = load(folder, scheduler="FlowMatchEulerDiscreteScheduler", flow_shift=5.0).pipeline.scheduler
    assert euler.config.shift == 5.0
    unipc = load(folder, flow_shift=5.0)
    assert unipc.pipeline.scheduler.config.flow_shift == 5.0
    assert unipc.schedule(4, unipc.pixel_size([2, 4, 4])).levels[1] > 0.9
    dpm = load(folder, scheduler="DPMSolverMultistepScheduler").pipeline.scheduler
    assert dpm.config.use_flow_sigmas and dpm.config.flow_shift == 3.0
    levels = [
        load(folder, scheduler=name).schedule(6, unipc.pixel_size([2, 4, 4])).levels
        for name in ("DPMSolverMultistepScheduler", "UniPCMultistepScheduler")
    ]
    torch.testing.assert_close(*levels, atol=2e-3, rtol=0)


def test_options_that_cannot_be_are_one_message_each(folder: Path, tmp_path: Path) -> None:
    (tmp_path / "broken.safetensors").write_bytes(b"no tensors")
    (tmp_path / "broken.gguf").write_bytes(b"nothing")
    tensors = str(folder / "tiny/transformer/diffusion_pytorch_model.safetensors")
    lora = str(folder / "style.safetensors")
    for options, message in [
        ({"lora": "nowhere.safetensors"}, "lora nowhere.safetensors: no .safetensors file of this machine, no folder"),
        (
            {"lora": "shapes-wan"},
            "lora shapes-wan: no .safetensors file of this machine, no folder with a pytorch_lora",
        ),
        ({"lora": str(tmp_path / "broken.safetensors")}, "is no safetensors file, or is damaged"),
        ({"lora": tensors}, "holds no LoRA but other weights"),
        ({"lora": [lora, lora]}, "is given twice"),
        ({"lora": lora, "lora_scale": [1.0, 2.0]}, "2 strengths of 1 LoRAs"),
        ({"lora": lora, "lora_scale": float("nan")}, "lora_scale nan: give a number"),
        ({"lora_scale": 1.0}, "there is no LoRA to scale"),
        ({"quantize": "gguf"}, "takes the network's weights from a file"),
        ({"gguf": "x.gguf"}, "takes the network's weights from a file"),
        ({"quantize": "gguf", "gguf": "x.gguf"}, "no .gguf file of this machine"),
        ({"quantize": "gguf", "gguf": str(tmp_path / "broken.gguf")}, "is not a GGUF file, or is damaged"),
        ({"quantize": "int4"}, "quantize int4: expected one of bnb-4bit"),
        ({"scheduler": "Euler"}, "scheduler Euler: expected a scheduler of diffusers: .*FlowMatchEulerDiscreteSched"),
        ({"scheduler": "SchedulerMixin"}, "scheduler SchedulerMixin: expected"),
        ({"flow_shift": 0.0}, "flow_shift 0.0: give a number above 0"),
        ({"scheduler": "DDIMScheduler", "flow_shift": 2.0}, "flow_shift: DDIMScheduler, the scheduler of .*, has none"),
    ]:
        with pytest.raises(SettingsError, match=message):
            load_generator(str(folder / "tiny"), Loading(**options))
    with pytest.raises(ModelError, match="'shapes-none': no such model ships with CVG"):
        load_generator(str(folder / "tiny"), Loading(lora="shapes-none"))
    two = str(folder / "tiny.gguf")
    with pytest.raises(SettingsError, match="2 files, but the pipeline has 1 networks"):
        load_generator(str(folder / "tiny"), Loading(quantize="gguf", gguf=[two, two]))


@pytest.mark.parametrize("quantize", ["bnb-4bit", "bnb-8bit"])
def test_bitsandbytes_is_for_gpus(monkeypatch: pytest.MonkeyPatch, quantize: Any) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(SettingsError, match="needs the package bitsandbytes; install it"):
        load_generator("shapes-wan", Loading(quantize=quantize))
    monkeypatch.setattr("importlib.util.find_spec", lambda name: name)
    with pytest.raises(SettingsError, match=f"quantize {quantize}: .* NVIDIA GPU only, but the device is cpu"):
        load_generator("shapes-wan", Loading(quantize=quantize))


def test_files_of_other_models_are_one_message_each(folder: Path, tmp_path: Path) -> None:
    make_lora(tiny_pipeline(0, Wan()), tmp_path)
    other = Loading(lora=str(tmp_path / "style.safetensors"))
    with pytest.raises(ModelError, match=r"lora .*style.safetensors: (cannot be loaded into|none of its weights)"):
        load_generator("shapes-cogvideox", other)
    with pytest.raises(ModelError, match="gguf .*tiny.gguf: cannot be loaded as the transformer of"):
        load_generator("shapes-cogvideox", replace(Loading(), quantize="gguf", gguf=str(folder / "tiny.gguf")))


def test_a_pair_of_loras_for_two_networks_and_four_steps(folder: Path, tmp_path: Path) -> None:
    """As Wan 2.2's for few steps: each in its own network, at the steps that such LoRAs are made for."""
    case = WanA14B()
    case.build().save_pretrained(tmp_path / "pair")
    low = make_lora(case.build(), tmp_path, 6, "low")
    high = make_lora(case.build(), tmp_path, 5, "high")
    plain = load_generator(str(tmp_path / "pair"), Loading(flow_shift=5.0))
    paired = Loading(lora=str(high), lora_low_noise=str(low), lora_scale=[1.0, 0.5], flow_shift=5.0)
    generator = load_generator(str(tmp_path / "pair"), paired)
    steps = [1000, 937.5, 833.33, 625]
    assert generator.schedule(4, case.size).timesteps.tolist() == pytest.approx(steps, abs=1)
    rules = Rules.of(generator, LABELS, case.size, layers=case.layers)
    sampler = GuidedSampler(generator, rules, GuidanceConfig(guided_steps=1, threshold=None))
    assert list(sampler.guided_steps(4, case.size)) == [0]
    first, second = adapters(generator.networks[:1]), adapters(generator.networks[1:])
    assert [each.split()[-1] for each in (*first, *second)] == ["1", "0.5"]
    ours, theirs = generator.identity(), plain.identity()
    assert same_generator(ours, theirs) and [each[:4] for each in differences(ours, theirs)] == ["LoRA"]
    noise = plain.initial_latents([torch.Generator().manual_seed(0)], case.size)
    for network in (0, 1):  # each changes what its own network says
        generator.pipeline.set_adapters(["lora_0", "lora_1"], [float(network == 0), 0.5 * float(network == 1)])
        level = torch.tensor((990.0, 10.0)[network])
        states = plain.encode_prompts(["a red circle moving up"])
        with torch.no_grad():
            changed, own = (each.predict(noise, level, states) for each in (generator, plain))
        assert not torch.allclose(changed, own, atol=1e-4)
    with pytest.raises(ModelError, match="has no second network for little noise; give it as lora, or leave it out"):
        load_generator(str(folder / "tiny"), Loading(lora_low_noise=str(folder / "style.safetensors")))
    with pytest.raises(SettingsError, match="low.safetensors: no .safetensors file"):
        load_generator(str(tmp_path / "pair"), Loading(lora_low_noise="low.safetensors"))
