"""The cost benchmark: what it compares with is equal, what it counts is right, and what it writes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import diffusers
import pytest
import torch

import cvg.guidance.sampler
from benchmarks import architecture as architectures
from benchmarks import cost, scale, transfer
from benchmarks.arithmetic import arithmetic, operations
from benchmarks.case import Case, random_case, shipped_case
from benchmarks.checks import unchecked
from benchmarks.figures import HEADER, Figure, markdown, spread
from benchmarks.guidance import NAMES, gradient
from benchmarks.measure import LiveBytes, in_turn, weight_bytes
from benchmarks.plain import plain
from cvg.classifier.backbones import build
from cvg.classifier.config import BackboneSettings
from cvg.common.errors import UserError
from cvg.common.files import read_json
from cvg.guidance.sampler import GuidedSampler
from cvg.shapes.world import LABELS
from tests.helpers.tiny import make_vlm

TINY = {"depth": 3, "heads": 1, "text_length": 16}
SIZES = {"ltx-video": (9, 64, 96)}
BILLIONS = {"wan-1.3b": 1.419, "wan-14b": 14.29, "cogvideox-5b": 5.570, "ltx-video": 1.923, "hunyuanvideo": 12.82}
"""Parameters of the released transformers."""


def tiny_case(name: str) -> Case:
    tiny = architectures.load(name).shrunk(**TINY, size=SIZES.get(name, (9, 32, 48)))
    return random_case(tiny, [0, 1], 1, 10, "cpu", "float32")


@pytest.mark.parametrize("name", ["wan-1.3b", "cogvideox-5b", "hunyuanvideo", "ltx-video"])
def test_the_plain_way_has_the_same_gradient(name: str) -> None:
    case = tiny_case(name)
    ours, theirs = gradient(case, case.generator), gradient(case, plain(case.generator))
    assert ours.norm() > 0
    assert (ours - theirs).norm() < 1e-3 * ours.norm()


@pytest.mark.parametrize("name", BILLIONS)
def test_architectures_are_of_the_released_size(name: str) -> None:
    config = architectures.load(name).transformer
    with torch.device("meta"):
        network = getattr(diffusers, config["_class_name"]).from_config(config)
    assert sum(p.numel() for p in network.parameters()) / 1e9 == pytest.approx(BILLIONS[name], rel=1e-3)


def test_a_run_writes_the_same_figures_as_json_and_as_a_table(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    short: dict[str, Any] = {"steps": 5, "rounds": 1, "long_rounds": 1, "inversion_steps": 5}
    cost.main(tmp_path, ["wan-1.3b-small"], layers=[0, 1], **TINY, size=(5, 32, 32), **short)
    (case,) = read_json(tmp_path / "cost.json")["cases"]
    table = (tmp_path / "cost.md").read_text()
    assert table.split("## ")[1] in capsys.readouterr().out
    settings, figures = case["settings"], {figure["name"]: figure for figure in case["figures"]}
    assert (settings["blocks"], settings["tapped_layers"], settings["text_keys"]) == (3, [0, 1], 16)
    assert settings["tokens"] == 2 * 2 * 2 and settings["weights"] == "random"
    assert all(f"| {name} " in table for name in figures)

    ours = figures["time, guided / unguided: 2 guided steps, 1 iteration, ours"]
    assert ours["floor"] == pytest.approx(1 + 2 * (2 / 3) * 2 / 10) and ours["goal"] == "<= 1.10"
    assert ours["low"] <= ours["value"] <= ours["high"] and ours["met"] == (ours["value"] <= 1.1)
    assert figures["backbone, share of an edit"]["value"] > 0
    shares = [figure["value"] for name, figure in figures.items() if name.startswith("dual inversion, time in")]
    assert all(share >= 0 for share in shares) and 0 < sum(shares) <= 100.01
    everything, tapped = (figures[name]["value"] for name in figures if name.startswith("record of a video"))
    maps = 2 * 4 * 1 * 2 * 8 * 2  # prompts, steps, heads, slots, tokens, bytes
    assert (everything - tapped) * 2**20 == pytest.approx(maps, abs=64)


def test_sizes_that_a_family_cannot_have_are_refused_before_anything_is_measured(tmp_path: Path) -> None:
    for measure in (
        lambda: cost.main(tmp_path, ["shapes-wan", "wan-1.3b-small"], size=(12, 480, 832)),
        lambda: scale.main(["wan-14b"], size=(81, 60, 72)),
    ):
        with pytest.raises(UserError, match=r"size \[.*videos of wan-.* have .* not (12|60)"):
            measure()
    assert not list(tmp_path.iterdir())


def test_without_checks_the_same_video_is_made_and_what_is_wrong_goes_by() -> None:
    case = shipped_case(1, 11, "cpu", "float32")
    sampler = GuidedSampler(case.generator, case.classifier)
    prompts = [composition.prompt for composition in case.compositions]
    small: dict[str, Any] = {"steps": 11, "size": (5, 32, 32)}
    wanted = sampler(prompts, [0], **small).video_BCFHW
    with unchecked():
        assert torch.equal(sampler(prompts, [0], **small).video_BCFHW, wanted)
        require_finite("latents", torch.tensor([torch.nan]))
    with pytest.raises(UserError, match="not finite"):
        require_finite("latents", torch.tensor([torch.nan]))


def require_finite(*args: Any) -> None:
    cvg.guidance.sampler.require_finite(*args)


def test_fake_tensors_take_what_real_ones_take(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of memory; arithmetic on fake tensors is counted in ``test_loaded.py``."""
    monkeypatch.setattr(scale, "arithmetic", lambda *_: [])
    tiny = architectures.load("wan-1.3b").shrunk(**TINY, size=(9, 32, 48))
    fake = {figure.name: figure.value for figure in scale.figures_of(tiny, [0, 1], "float32")}
    case = random_case(tiny, [0, 1], 1, 50, "cpu", "float32")
    with LiveBytes() as counter:
        gradient(case, case.generator)
    network, classifier = weight_bytes(case.generator.network), weight_bytes(case.classifier)
    tower = case.classifier.backbone.tower
    assert tower is not None
    real = network + classifier + weight_bytes(tower) + counter.peak
    plain_peak = fake["peak memory of plain sampling"]
    ratio = fake["peak memory, guided / unguided: ours"]
    assert plain_peak is not None and ratio is not None
    assert ratio * plain_peak * 2**20 == pytest.approx(real, rel=0.01)

    # A whole video has T5 and VAE beside the network, whose true sizes dwarf the tiny one's.
    text, pixels = 22723026944, 507567372
    everything = fake["peak memory of a whole plain video, all on the device"]
    one = fake["peak memory of a whole plain video, --offload model"]
    assert everything is not None and one is not None
    assert text < one * 2**20 < 1.02 * text and text + pixels < everything * 2**20 < 1.04 * text
    for name in ("ours", "ours, checkpointed", "the plain way"):
        value = fake[f"whole video, guided / unguided, --offload model: {name}"]
        assert value is not None and 1 < value < 1.002


def test_arithmetic_is_counted_from_matrix_products() -> None:
    a, b = torch.randn(3, 4), torch.randn(4, 5)
    states = torch.randn(1, 2, 6, 8, requires_grad=True)

    def attend() -> None:
        torch.nn.functional.scaled_dot_product_attention(states, states, states).sum().backward()

    assert operations(lambda: a @ b) == 2 * 3 * 4 * 5
    product = 2 * 2 * 6 * 6 * 8  # of queries and keys, in two heads
    assert operations(attend) == (2 + 5) * product  # the backward pass computes the matrix again

    case = tiny_case("wan-1.3b")
    figures = {
        figure.name: figure for figure in arithmetic(case, {n: lambda: gradient(case, case.generator) for n in NAMES})
    }
    step, edit = operations(case.denoise), operations(lambda: gradient(case, case.generator))
    three = figures["arithmetic, guided / unguided: 2 guided steps, 3 iterations, ours"]
    assert three.value == pytest.approx(1 + 6 * edit / (case.steps * step)) and three.goal == "<= 1.25"
    added = figures["capture, arithmetic added to a forward pass"].value
    assert added is not None and 0 < added < 20


def test_wrong_input_is_one_clear_error(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="architecture wan-2b: unknown; give some of shapes-wan, .*wan-1.3b, "):
        cost.main(tmp_path, ["shapes-wan", "wan-2b"])
    with pytest.raises(UserError, match="rounds"):
        cost.main(tmp_path, rounds=0)
    with pytest.raises(UserError, match="heads 13: wan-1.3b has 12"):
        architectures.load("wan-1.3b").shrunk(heads=13)
    with pytest.raises(UserError, match="hunyuanvideo has 60 blocks"):
        architectures.load("hunyuanvideo").shrunk(depth=61)
    if not torch.cuda.is_available():
        with pytest.raises(UserError, match="device cuda"):
            cost.main(tmp_path, device="cuda")
    assert not list(tmp_path.iterdir())


def test_live_bytes_count_what_lives_once() -> None:
    old = torch.zeros(100)
    with LiveBytes() as counter:
        old.mul_(2)
        assert counter.live == 0  # made before
        first = torch.ones(1000)
        view = first.view(10, 100)[:5]
        assert counter.live == 4000
        del first
        assert counter.live == 4000  # the view holds it
        del view
        assert counter.live == 0 and counter.peak == 4000
        w = torch.ones(500, requires_grad=True)
        y = (w * w).exp()  # exp keeps its result for the backward pass
        assert counter.live == 3 * 2000 - 2000
        y.sum().backward()
    assert counter.peak > 4000


def test_what_runs_out_of_memory_is_left_out_and_named() -> None:
    def hungry() -> None:
        raise torch.OutOfMemoryError

    seconds = in_turn({"fine": lambda: None, "hungry": hungry}, 2, torch.device("cpu"))
    assert list(seconds) == ["fine"] and len(seconds["fine"]) == 2
    table = markdown([spread("hungry", None), Figure("goal", 1.2, goal="<= 1.10"), spread("three", [3.0, 1.0, 2.0])])
    rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in table.splitlines()]
    assert rows[0] == HEADER
    assert rows[2] == ["hungry", "out of memory", "", "", "", ""]
    assert rows[3] == ["goal", "1.200", "", "", "<= 1.10", "missed"]
    assert rows[4] == ["three", "2.000", "1.000 to 3.000", "", "", ""]


def test_what_transfer_asks_was_never_trained() -> None:
    others = transfer.other_wordings()
    assert others.names == LABELS.names
    assert not {w for label in others.labels for w in label.wordings} & {
        w for label in LABELS.labels for w in label.wordings
    }
    assert transfer.diagonals().names[:4] == [label.name for label in LABELS.groups["motion"]]
    assert len(transfer.diagonals()) == 8
    for question in transfer.QUESTIONS:
        assert question.held_out in transfer.HELD_OUT and question.labels
        assert set(question.labels) <= set((question.wording or LABELS).names)


def test_random_vision_reads_text_as_before(tmp_path: Path) -> None:
    trained = make_vlm(tmp_path / "vlm", "xclip", ["a", "circle", "moving", "left"])
    folder = transfer.random_vision(trained, tmp_path / "random")
    before, after = (build(BackboneSettings(name="vlm", path=str(path)), 2, (4, 8, 8)) for path in (trained, folder))
    assert torch.equal(before.text_features(["a circle moving left"]), after.text_features(["a circle moving left"]))
    volume, present = torch.randn(1, 2, 4, 8, 8), torch.ones(1, 2, dtype=torch.bool)
    assert not torch.equal(before(volume, present), after(volume, present))
