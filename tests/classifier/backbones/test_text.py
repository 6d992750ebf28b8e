"""The joint space of pictures and text, and the answers of generative models."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import Tensor
from transformers import (
    AutoModel,
    AutoTokenizer,
    InternVLProcessor,
    Qwen2_5_VLProcessor,
    Qwen3VLProcessor,
    SmolVLMProcessor,
)

from cvg.classifier.backbones import build
from cvg.classifier.backbones.base import WITH_TEXT
from cvg.classifier.backbones.generative import GenerativeOptions
from cvg.classifier.config import BackboneSettings
from cvg.common.errors import UserError
from tests.helpers.processors import inputs, random_video, showing
from tests.helpers.towers import BUILDERS, DUAL, GENERATIVE, GRID, PRESENT, SLOTS

PHRASES = ["to the left of", "Above", "below"]


@pytest.mark.parametrize("kind", DUAL)
def test_text_features_are_the_models_own(kind: str, load: Callable[..., Any], folder: Callable[[str], Path]) -> None:
    backbone = load(kind)
    text = backbone.text_features(PHRASES)
    assert text.shape == (3, backbone.joint_dim) and not text.requires_grad
    torch.testing.assert_close(text.norm(dim=1), torch.ones(3))
    model, tokenizer = AutoModel.from_pretrained(folder(kind)).eval(), AutoTokenizer.from_pretrained(folder(kind))
    padding = {} if "clip" in kind else {"padding": "max_length", "max_length": 20}
    for phrase, row in zip(PHRASES, text, strict=True):  # one at a time: nothing depends on the other phrases
        words = phrase.lower() if kind.startswith("siglip") else phrase
        with torch.no_grad():
            own = model.get_text_features(**tokenizer([words], return_tensors="pt", **padding)).pooler_output[0]
        torch.testing.assert_close(row, own / own.norm(), atol=1e-5, rtol=1e-4)
    assert (text @ text.T - torch.eye(3)).abs().max() < 1 - 1e-4  # the phrases differ
    if kind.startswith("siglip"):
        assert torch.equal(backbone.text_features(["ABOVE"]), backbone.text_features(["above"]))
    with pytest.raises(UserError, match="'very very .*, of at most 20; shorten it"):
        backbone.text_features(["above", "very very " + 20 * "very "])


@pytest.mark.parametrize("kind", DUAL)
def test_joint_features_are_the_models_own(
    kind: str, load: Callable[..., Any], folder: Callable[[str], Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    backbone, model = load(kind), AutoModel.from_pretrained(folder(kind)).eval()
    video = random_video(backbone)
    with torch.no_grad(), showing(video, monkeypatch):
        joint = backbone.joint_features(torch.zeros(2, SLOTS, *GRID), PRESENT)
        own = inputs(kind, video)
        if kind == "xclip":
            expected = model.get_video_features(own["pixel_values"].unflatten(0, (2, 6))).pooler_output
        elif kind == "videoprism":
            expected = model.get_video_features(**own).pooler_output[:, 0]
        else:
            frames = model.get_image_features(**own).pooler_output.unflatten(0, (2, 3))
            expected = (frames / frames.norm(dim=-1, keepdim=True)).mean(1)
    assert joint.shape == (2, backbone.joint_dim)
    torch.testing.assert_close(joint, expected / expected.norm(dim=-1, keepdim=True), atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("kind", DUAL)
def test_joint_features_are_differentiable(kind: str, load: Callable[..., Any]) -> None:
    torch.manual_seed(0)
    backbone = load(kind).double()
    text = backbone.text_features(PHRASES[:1])
    assert text.dtype == torch.float64
    volume = torch.randn(2, SLOTS, *GRID, dtype=torch.float64, requires_grad=True)
    direction = torch.randn_like(volume)

    def value(volume: Tensor) -> Tensor:
        return (backbone.joint_features(volume, PRESENT) @ text.T).sum()

    (gradient,) = torch.autograd.grad(value(volume), volume)
    step = 1e-2 if kind == "videoprism" else 1e-6
    with torch.no_grad():
        numeric = (value(volume + step * direction) - value(volume - step * direction)) / (2 * step)
    tolerance = 5e-3 if kind == "videoprism" else 1e-6  # its softmax is in float32 whatever comes in
    assert abs((gradient * direction).sum() - numeric) < tolerance * gradient.norm()
    absent = torch.tensor([[True, False], [True, True]])
    changed = volume.detach().clone()
    changed[0, 1] = 9.0
    torch.testing.assert_close(backbone.joint_features(changed, absent), backbone.joint_features(volume, absent))


def test_a_cut_tower_has_text_alone(load: Callable[..., Any]) -> None:
    backbone = load("clip", layer=1)
    with pytest.raises(UserError, match="layer 1 leaves out blocks that its joint space needs; use layer -1"):
        backbone.joint_features(torch.zeros(1, SLOTS, *GRID), PRESENT[:1])
    assert backbone.text_features(["above"]).shape == (1, backbone.joint_dim)


def test_backbones_without_text_say_which_have_one(load: Callable[..., Any]) -> None:
    assert WITH_TEXT == DUAL
    others = [load(kind) for kind in BUILDERS if kind not in DUAL] + [build(BackboneSettings(name="none"), SLOTS, GRID)]
    assert len(others) == 6
    for backbone in others:
        assert backbone.joint_dim is None
        with pytest.raises(UserError, match="no text tower; those that have one: clip, xclip, siglip"):
            backbone.text_features(["above"])
        with pytest.raises(UserError, match="no text tower"):
            backbone.joint_features(torch.zeros(1, SLOTS, *GRID), PRESENT[:1])


def test_no_tokenizer_is_a_clear_error(load: Callable[..., Any], folder: Callable[[str], Path], tmp_path: Path) -> None:
    for name in ("config.json", "model.safetensors", "preprocessor_config.json"):
        (tmp_path / name).write_bytes((folder("siglip") / name).read_bytes())
    backbone = build(BackboneSettings(name="vlm", path=str(tmp_path)), SLOTS, GRID)
    with pytest.raises(UserError, match="cannot be loaded .*tokenizer"):
        backbone.text_features(["above"])


# Answers


@pytest.mark.parametrize("kind", GENERATIVE)
def test_an_answer_is_the_models_own_last_state(
    kind: str, load: Callable[..., Any], folder: Callable[[str], Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of the model's whole forward on what its processor gives and on the prompt, placeholders and all."""
    backbone, model = load(f"{kind}, answer"), AutoModel.from_pretrained(folder(kind)).eval()
    video = random_video(backbone)
    ids = backbone.ids_1L.expand(2, -1)
    arguments = inputs(kind, video) | {"input_ids": ids}
    if kind.startswith("qwen"):
        arguments["mm_token_type_ids"] = 2 * (ids == model.config.video_token_id).int()
    with torch.no_grad(), showing(video, monkeypatch):
        tokens = backbone.tokens(torch.zeros(2, SLOTS, *GRID))
        own = model(**arguments).last_hidden_state[:, -1]
    assert tokens.shape == (2, 1, 1, 16)
    torch.testing.assert_close(tokens[:, 0, 0], own, atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("kind", GENERATIVE)
def test_the_question_matters_and_layer_counts_the_language_models_blocks(
    kind: str, load: Callable[..., Any], folder: Callable[[str], Path]
) -> None:
    answer = f"{kind}, answer"
    volume = torch.randn(1, SLOTS, *GRID)
    backbone, other = load(answer), load(answer, question="what?")
    with torch.no_grad():
        assert (backbone.tokens(volume) - other.tokens(volume)).abs().max() > 1e-3
    tokenizer = AutoTokenizer.from_pretrained(folder(kind))
    assert GenerativeOptions().question in tokenizer.decode(backbone.ids_1L[0])
    early = load(answer, layer=1)
    assert len(early.model.get_submodule(early.blocks_path)) == 1
    model = AutoModel.from_pretrained(folder(kind)).eval()
    states: list[Any] = []
    blocks = model.get_submodule(early.blocks_path)
    blocks[0].register_forward_hook(lambda block, args, output: states.append(output))
    with torch.no_grad():
        visual, more = early.visual_tokens(early.pixels(volume))
        words = model.get_input_embeddings()(early.ids_1L)
        mixed = words.masked_scatter((early.ids_1L == early.token)[..., None], visual)
        model.get_submodule(early.language_path)(inputs_embeds=mixed, **more)
        torch.testing.assert_close(early.tokens(volume)[:, 0, 0], states[0][:, -1])


def test_prompts_hold_what_the_processors_put_there(load: Callable[..., Any], monkeypatch: pytest.MonkeyPatch) -> None:
    """The processors need torchvision to be made, but not to say what they put in a video's place."""
    pads = {"video_token": "<|video_pad|>", "vision_start_token": "<|vision_start|>"}
    pads |= {"vision_end_token": "<|vision_end|>"}
    grid = torch.tensor([[3, 8, 8]])
    qwen: Any = SimpleNamespace(**pads, video_processor=SimpleNamespace(merge_size=2, temporal_patch_size=2))
    own = Qwen2_5_VLProcessor.replace_video_token(qwen, {"video_grid_thw": grid}, 0)
    assert f"<|vision_start|>{own}<|vision_end|>" in load("qwen2_5_vl, answer").conversation("?")

    qwen._calculate_timestamps = lambda *args: Qwen3VLProcessor._calculate_timestamps(qwen, *args)
    metadata = SimpleNamespace(fps=2.0, frames_indices=list(range(6)))
    own = Qwen3VLProcessor.replace_video_token(qwen, {"video_grid_thw": grid, "video_metadata": [metadata]}, 0)
    assert own in load("qwen3_vl, answer").conversation("?") and own.count("<|video_pad|>") == 48

    tokens = {"start_image_token": "<img>", "end_image_token": "</img>", "image_token": "<IMG_CONTEXT>"}
    intern: Any = SimpleNamespace(**tokens, image_seq_length=4)
    own = InternVLProcessor.replace_video_token(intern, {"pixel_values_videos": torch.zeros(1, 3, 3, 16, 16)}, 0)
    assert own in load("internvl, answer").conversation("?") and own.count("<IMG_CONTEXT>") == 12

    tokens = {"fake_image_token": "<fake_token_around_image>", "global_image_token": "<global-img>"}
    smol: Any = SimpleNamespace(**tokens, image_token="<image>", image_seq_len=4)
    own = SmolVLMProcessor.replace_image_token(smol, {"rows": [[0]], "cols": [[0]]}, 0)
    assert 3 * own in load("smolvlm, answer").conversation("?")


def test_a_tokenizer_without_the_placeholder_is_a_clear_error(folder: Callable[[str], Path], tmp_path: Path) -> None:
    for name in ("config.json", "model.safetensors", "preprocessor_config.json"):
        (tmp_path / name).write_bytes((folder("smolvlm") / name).read_bytes())
    AutoTokenizer.from_pretrained(folder("internvl")).save_pretrained(tmp_path)
    with pytest.raises(UserError, match="does not know <image>"):
        build(BackboneSettings(name="vlm", path=str(tmp_path), read="language"), SLOTS, GRID)
