"""Every frozen backbone: what it is shown, what it sees, that it is frozen, and that gradients reach the volume."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor
from transformers import AutoModel
from transformers.models.qwen2_vl.image_processing_pil_qwen2_vl import smart_resize
from transformers.models.qwen3_vl.video_processing_qwen3_vl import smart_resize as smart_resize_video

from cvg.classifier.backbones import MODELS, build
from cvg.classifier.backbones.show import LAYOUTS
from cvg.classifier.config import BackboneSettings
from cvg.common.errors import UserError
from tests.helpers.processors import inputs, random_video, showing
from tests.helpers.towers import BUILDERS, GENERATIVE, GRID, PRESENT, SIZE, SLOTS

DOWNCAST = ("qwen2_5_vl", "qwen3_vl", "videoprism")
"""They, and all language models, compute norms or softmaxes in float32 even when they are in float64."""
KINDS = [*BUILDERS, *(f"{kind}, answer" for kind in GENERATIVE)]


def test_every_known_model_is_tested() -> None:
    assert list(MODELS) == list(BUILDERS)


@pytest.mark.parametrize("kind", BUILDERS)
def test_pixels_are_those_of_the_processor(
    kind: str, load: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The frames have the size that its resizing and cropping end with, so that only the numbers are left."""
    backbone = load(kind)
    video = random_video(backbone)
    with showing(video, monkeypatch):
        pixels = backbone.pixels(torch.zeros(2, SLOTS, *GRID))
    own = inputs(kind, video)
    if kind == "siglip2":
        ours = backbone.patches(pixels)
        assert torch.equal(ours["spatial_shapes"], own["spatial_shapes"])
        assert torch.equal(ours["pixel_attention_mask"], own["pixel_attention_mask"])
        pixels, expected = ours["pixel_values"], own["pixel_values"]
    elif kind.startswith("qwen"):
        assert torch.equal(backbone.grid(pixels), own["video_grid_thw"])
        pixels, expected = backbone.patches(pixels), own["pixel_values_videos"]
    else:
        expected = next(iter(own.values()))
    torch.testing.assert_close(pixels.reshape(expected.shape), expected, atol=1e-5, rtol=1e-5)


def own_tokens(kind: str, model: Any, own: dict[str, Any], frames: int) -> Tensor:
    """A whole model's tokens (B, T, P, D) of what its processor gave."""
    if kind in ("clip", "xclip", "siglip", "siglip2"):
        hidden = model.vision_model(**own).last_hidden_state
        return (hidden[:, 1:] if "clip" in kind else hidden).unflatten(0, (2, frames))
    if kind in ("smolvlm", "internvl"):
        tower = model.vision_model if kind == "smolvlm" else model.vision_tower
        hidden = tower(pixel_values=own["pixel_values"].reshape(-1, 3, SIZE, SIZE)).last_hidden_state
        return (hidden[:, 1:] if kind == "internvl" else hidden).unflatten(0, (2, frames))
    if kind == "videoprism":
        return model.get_video_features(**own).last_hidden_state.unflatten(1, (frames, -1))
    assert kind == "vjepa2"
    return model(**own).last_hidden_state.unflatten(1, (frames // 2, -1))


@pytest.mark.parametrize("kind", [kind for kind in BUILDERS if not kind.startswith("qwen")])
def test_tokens_are_the_models_own(
    kind: str, load: Callable[..., Any], folder: Callable[[str], Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    backbone, model = load(kind), AutoModel.from_pretrained(folder(kind)).eval()
    video = random_video(backbone)
    with torch.no_grad(), showing(video, monkeypatch):
        tokens = backbone.tokens(torch.zeros(2, SLOTS, *GRID))
        own = own_tokens(kind, model, inputs(kind, video), backbone.frames)
    torch.testing.assert_close(tokens, own, atol=1e-4, rtol=1e-4)


def test_the_default_size_is_one_that_qwens_processors_leave_as_it_is(load: Callable[..., Any]) -> None:
    """At the released models' merged patches of 28 and 32 pixels, in the limits that their classes state."""
    assert load("qwen2_5_vl", size=None).size == 12 * 8 and load("qwen3_vl", size=None).size == 12 * 8
    assert smart_resize(336, 336, 28, 128 * 28**2, 768 * 28**2) == (336, 336)
    assert smart_resize(308, 308, 28, 128 * 28**2, 768 * 28**2) == (336, 336)
    assert smart_resize_video(4, 384, 384, 2, 32, 128 * 32**2, 768 * 32**2) == (384, 384)


@pytest.mark.parametrize("kind", ["qwen2_5_vl", "qwen3_vl"])
def test_patches_are_in_rows_whatever_the_models_order(
    kind: str, load: Callable[..., Any], folder: Callable[[str], Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Merging the tokens, put back together by place, gives the model's own visual tokens."""
    backbone, model = load(kind), AutoModel.from_pretrained(folder(kind)).eval()
    video = random_video(backbone)
    with torch.no_grad(), showing(video, monkeypatch):
        tokens = backbone.tokens(torch.zeros(2, SLOTS, *GRID))
        own = torch.stack(model.get_video_features(**inputs(kind, video)).pooler_output)
        blocks = tokens.unflatten(2, (4, 2, 4, 2)).transpose(3, 4)  # B T rows columns 2 2 D
        merged = model.visual.merger(blocks.reshape(-1, 16)).unflatten(0, (2, -1))
    torch.testing.assert_close(merged, own, atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("kind", KINDS)
def test_frozen(kind: str, load: Callable[..., Any]) -> None:
    backbone = load(kind).train()
    assert not list(backbone.parameters()) and not backbone.state_dict()
    assert not any(module.training for module in backbone.tower.modules())
    features = backbone(torch.randn(2, SLOTS, *GRID, requires_grad=True), PRESENT)
    assert features.shape == (2, backbone.feature_dim) and features.dtype == torch.float32
    features.sum().backward()
    assert all(weight.grad is None for weight in backbone.tower.parameters())


@pytest.mark.parametrize("kind", KINDS)
def test_gradient_agrees_with_finite_differences(kind: str, load: Callable[..., Any]) -> None:
    torch.manual_seed(0)
    backbone = load(kind).double()
    assert backbone.tower.dtype == torch.float64
    volume = torch.randn(1, SLOTS, *GRID, dtype=torch.float64, requires_grad=True)
    direction, weight = torch.randn_like(volume), torch.randn(backbone.feature_dim, dtype=torch.float64)

    def value(volume: Tensor) -> Tensor:
        return (backbone(volume, PRESENT[:1]) * weight).sum()

    (gradient,) = torch.autograd.grad(value(volume), volume)
    exact = kind in BUILDERS and kind not in DOWNCAST
    step = 1e-6 if exact else 1e-2
    with torch.no_grad():
        numeric = (value(volume + step * direction) - value(volume - step * direction)) / (2 * step)
    # The derivative along a random direction is of the size of the gradient, and may by chance be near zero.
    assert abs((gradient * direction).sum() - numeric) < (1e-6 if exact else 5e-3) * gradient.norm()


@pytest.mark.parametrize("kind", KINDS)
def test_gradients_are_finite_at_extreme_maps(kind: str, load: Callable[..., Any]) -> None:
    """Also where a frame is all zeros after the normalisation, which SmolVLM's own forward would drop."""
    backbone = load(kind, layout="in_turn")
    one_hot = torch.zeros(SLOTS, *GRID)
    one_hot[0, 1, 2, 3] = 100.0
    middle = torch.full((SLOTS, *GRID), 2.0)  # light of one half
    volume = torch.stack([torch.zeros(SLOTS, *GRID), one_hot, torch.ones(SLOTS, *GRID), middle]).requires_grad_()
    assert not kind.startswith("smolvlm") or not backbone.pixels(volume[3:]).any()
    features = backbone(volume, PRESENT[:1].expand(4, -1))
    (gradient,) = torch.autograd.grad(features.square().sum(), volume)
    assert features.isfinite().all() and gradient.isfinite().all()
    # Measured from a video without evidence: nothing, but for what a batch of another size rounds otherwise.
    largest = features.detach().abs().amax(dim=1)
    assert largest[0] <= 1e-5 * largest.max() and 100 * largest[0] < largest[1:].min()
    assert gradient[1:].flatten(1).any(dim=1).all()


@pytest.mark.parametrize("kind", KINDS)
def test_absent_slots_and_other_samples_change_nothing(kind: str, load: Callable[..., Any]) -> None:
    backbone, volume = load(kind), torch.randn(3, SLOTS, *GRID)
    present = torch.tensor([[True, True], [True, False], [True, True]])
    features = backbone(volume, present)
    changed = volume.clone()
    changed[1, 1] = 7.0
    torch.testing.assert_close(backbone(changed, present), features)
    torch.testing.assert_close(backbone(volume[1:2], present[1:2]), features[1:2], atol=2e-4, rtol=2e-4)


@pytest.mark.parametrize("kind", BUILDERS)
def test_layer_reads_an_early_state_and_computes_no_later_one(
    kind: str, load: Callable[..., Any], folder: Callable[[str], Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The state after the first block is what a hook on the whole model's first block sees."""
    early, model = load(kind, layer=1), AutoModel.from_pretrained(folder(kind)).eval()
    video = random_video(early)
    blocks = model.get_submodule(
        "video_model.vision_model.spatial_layers" if kind == "videoprism" else early.blocks_path
    )
    states: list[Any] = []
    blocks[0].register_forward_hook(lambda block, args, output: states.append(output))
    own = inputs(kind, video)
    if kind.startswith("qwen"):
        run: Callable[[], Any] = lambda: model.get_video_features(**own)  # noqa: E731
    else:
        run = lambda: own_tokens(kind, model, own, early.frames)  # noqa: E731
    with torch.no_grad(), showing(video, monkeypatch):
        tokens = early.tokens(torch.zeros(2, SLOTS, *GRID))
        run()
    state = states[0][0] if isinstance(states[0], tuple) else states[0]
    if kind in ("clip", "xclip", "internvl"):
        state = state[:, 1:]
    # As sets of tokens: windows and merging put Qwen's in another order.
    ours, theirs = tokens.reshape(-1, tokens.shape[-1]), state.reshape(-1, tokens.shape[-1])
    assert ours.shape == theirs.shape
    for values in (ours, theirs):
        assert len(values.unique(dim=0)) > len(values) / 2
    torch.testing.assert_close(ours.sort(0).values, theirs.sort(0).values, atol=1e-4, rtol=1e-4)
    depth = 4 if kind == "videoprism" else 2
    assert count_blocks(early) == 1 and count_blocks(load(kind, layer=depth)) == depth
    assert torch.equal(load(kind, layer=depth).tokens_of_zero, load(kind).tokens_of_zero)
    assert count_blocks(load(kind, layer=0)) == 0
    with pytest.raises(UserError, match=f"layer {depth + 1} of {depth}"):
        load(kind, layer=depth + 1)


def count_blocks(backbone: Any) -> int:
    if hasattr(backbone, "blocks"):  # VideoPrism's are in three places
        return sum(len(getattr(module, name)) for module, name in backbone.blocks(backbone.model))
    return len(backbone.model.get_submodule(backbone.blocks_path))


@pytest.mark.parametrize("layer", [2, 3])
def test_videoprism_over_space_and_over_time(layer: int, load: Callable[..., Any], folder: Any) -> None:
    """Each state is in rows of its frame: a change of the last frame changes the last tokens alone over space."""
    backbone = load("videoprism", layer=layer)
    volume = torch.randn(1, SLOTS, *GRID)
    video = backbone.pixels(volume)
    changed = video.clone()
    changed[:, -1] += 1
    with torch.no_grad():
        differs = (backbone.patch_tokens(video) - backbone.patch_tokens(changed)).abs().amax((0, 2, 3)) > 1e-6
    assert differs.tolist() == [layer == 3] * 5 + [True]
    model = AutoModel.from_pretrained(folder("videoprism")).eval()
    with torch.no_grad():
        out = model.video_model.vision_model(pixel_values_videos=video)
        own = out.last_spatial_hidden_state.unflatten(0, (1, 6))
        if layer == 3:
            own = out.last_temporal_hidden_state.unflatten(0, (1, 16)).transpose(1, 2)
        torch.testing.assert_close(backbone.patch_tokens(video), own)


@pytest.mark.parametrize("kind", BUILDERS)
def test_pool_averages_squares(kind: str, load: Callable[..., Any]) -> None:
    volume, side = torch.randn(2, SLOTS, *GRID), load(kind).side
    with torch.no_grad():
        tokens, pooled = load(kind).tokens(volume), load(kind, pool=2).tokens(volume)
    half = side // 2
    square = tokens.unflatten(2, (half, 2, half, 2)).mean((3, 5)).flatten(2, 3)
    torch.testing.assert_close(pooled, square)
    with pytest.raises(UserError, match="pool 3 does not divide"):
        load(kind, pool=3)


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("kind", BUILDERS)
def test_frames_in_every_layout(kind: str, layout: str, load: Callable[..., Any]) -> None:
    backbone = load(kind, layout=layout)
    fixed = {"xclip": 6, "videoprism": 6}
    tubelet = 2 if kind.startswith("qwen") or kind == "vjepa2" else 1
    assert backbone.frames == fixed.get(kind, GRID[0] * tubelet * (2 if layout == "in_turn" else 1))
    assert backbone.pixels(torch.zeros(1, SLOTS, *GRID)).shape[1] == backbone.frames


@pytest.mark.parametrize("kind", KINDS)
def test_bfloat16_is_close_and_comes_back_in_float32(kind: str, load: Callable[..., Any]) -> None:
    full, half = load(kind), load(kind, dtype="bfloat16")
    assert {weight.dtype for weight in half.tower.parameters()} == {torch.bfloat16}
    volume = torch.randn(2, SLOTS, *GRID, requires_grad=True)
    a, b = full(volume, PRESENT), half(volume, PRESENT)
    assert b.dtype == torch.float32
    assert torch.nn.functional.cosine_similarity(a, b).min() > 0.9
    grads = [torch.autograd.grad(features.sum(), volume)[0].flatten(1) for features in (a, b)]
    assert grads[1].dtype == torch.float32
    assert torch.nn.functional.cosine_similarity(*grads).min() > 0.8


@pytest.mark.parametrize("kind", KINDS)
def test_checkpointing_recomputes_every_block_and_changes_nothing(kind: str, load: Callable[..., Any]) -> None:
    plain, recomputing = load(kind), load(kind, checkpointing=True)
    volume = torch.randn(2, SLOTS, *GRID, requires_grad=True)
    calls: list[int] = []
    weights = torch.randn(plain.feature_dim)
    found = []
    for backbone in (plain, recomputing):
        count = 0

        def called(*_: Any) -> None:
            nonlocal count
            count += 1

        hooks = [
            module.register_forward_pre_hook(called)
            for name, module in backbone.tower.named_modules()
            if name.endswith(("mlp.fc2", "mlp.down_proj", "mlp.linear_fc2"))
        ]
        features = backbone(volume, PRESENT)
        (gradient,) = torch.autograd.grad((features * weights).sum(), volume)
        for hook in hooks:
            hook.remove()
        calls.append(count)
        found.append((features, gradient))
    assert calls[0] > 0 and calls[1] > 1.4 * calls[0]  # heads and the like are not blocks
    for ours, theirs in zip(*found, strict=True):
        torch.testing.assert_close(ours, theirs)


def test_wrong_options_are_clear_errors(load: Callable[..., Any]) -> None:
    cases: list[tuple[str, dict[str, Any], str]] = [
        ("clip", {"colour": 1}, "unknown key 'colour'; known: layer, pool, layout"),
        ("clip", {"question": "?"}, "unknown key 'question'"),
        ("smolvlm", {"size": 16}, "unknown key 'size'"),
        ("clip", {"layer": "last"}, "'layer' is \"last\"; expected a whole number"),
        ("clip", {"pool": 0.5}, "'pool' is 0.5; expected a whole number"),
        ("clip", {"pool": 0}, "pool 0 does not divide"),
        ("clip", {"layout": "grid"}, "'layout' is \"grid\"; expected one of colours, side_by_side, in_turn"),
        ("clip", {"dtype": "float16"}, "'dtype' is \"float16\"; expected float32 or bfloat16"),
        ("clip", {"contrast": [2.0, 0.0]}, "width above 0"),
        ("clip", {"contrast": 2.0}, "expected .middle, width."),
        ("clip", {"checkpointing": "yes"}, "expected true or false"),
        ("clip", {"slots": 4}, "4 entity slots, but a picture has 3 channels; choose another layout"),
        ("xclip", {"slots": 4, "layout": "in_turn"}, "6 frames cannot be shared by 4 entities"),
        ("smolvlm", {"read": "lips"}, "expected vision or language"),
        ("smolvlm", {"read": "language", "question": " "}, "expected a text"),
        ("smolvlm", {"read": "language", "pool": 2}, "an answer has no patches"),
        ("qwen3_vl", {"size": 12}, "size 12 is not a multiple of its merged patch, 8"),
    ]
    for kind, options, message in cases:
        with pytest.raises(UserError, match=message):
            load(kind, **options)
    assert load("clip", slots=4, layout="side_by_side").feature_dim
    with pytest.raises(UserError, match="expected none, convolution, or vlm with a path"):
        build(BackboneSettings(name="vlm"), SLOTS, GRID)
    with pytest.raises(UserError, match="expected none, convolution, or vlm with a path"):
        build(BackboneSettings(name="siglip", path="x"), SLOTS, GRID)


def test_folders_that_cannot_be_used(folder: Callable[[str], Path], tmp_path: Path) -> None:
    def refused(message: str) -> None:
        with pytest.raises(UserError, match=message):
            build(BackboneSettings(name="vlm", path=str(tmp_path)), SLOTS, GRID)

    refused("cannot be loaded")
    (tmp_path / "config.json").write_text('{"model_type": "bert"}')
    refused(f"its model type is 'bert'; known: {', '.join(MODELS)}")
    model = AutoModel.from_pretrained(folder("siglip"))
    model.save_pretrained(tmp_path)
    refused("cannot be loaded .*preprocessor_config.json")
    settings = tmp_path / "preprocessor_config.json"
    settings.write_text('{"image_mean": [0.5, 0.5, 0.5]}')
    refused("cannot be loaded .*image_std")
    settings.write_text('{"rescale_factor": 0.00784}')
    refused("does not bring pixels into")
    weights = (tmp_path / "model.safetensors").read_bytes()
    (tmp_path / "model.safetensors").write_bytes(weights[:100])
    settings.write_text('{"do_normalize": false}')
    refused("cannot be loaded")
    (tmp_path / "model.safetensors").write_bytes(weights)
    backbone: Any = build(BackboneSettings(name="vlm", path=str(tmp_path)), SLOTS, GRID)
    assert backbone.mean_C.tolist() == [0, 0, 0] and backbone.std_C.tolist() == [1, 1, 1]
    settings.write_text('{"image_mean": [0.5, 0.5, 0.5], "image_std": [0.5, 0.5, 0.5]}')
    model.vision_model.save_pretrained(tmp_path)  # a tower by itself
    model.config.save_pretrained(tmp_path)
    refused("its weights lack .*give the complete model")


def test_settings_of_a_nested_processor_file(folder: Callable[[str], Path], tmp_path: Path) -> None:
    """What transformers writes when it saves a whole processor."""
    AutoModel.from_pretrained(folder("siglip")).save_pretrained(tmp_path)
    (tmp_path / "processor_config.json").write_text(
        '{"processor_class": "SiglipProcessor", "image_processor": {"image_mean": [0, 0, 1], "image_std": [1, 2, 1]}}'
    )
    backbone: Any = build(BackboneSettings(name="vlm", path=str(tmp_path)), SLOTS, GRID)
    assert backbone.mean_C.tolist() == [0, 0, 1] and backbone.std_C.tolist() == [1, 2, 1]
