"""Training of the shipped generators: what each family states, and the three stages on a miniature."""

from __future__ import annotations

import itertools
import re
import shutil
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from types import ModuleType
from typing import Any, get_args

import numpy as np
import pytest
import torch
from diffusers import CogVideoXDDIMScheduler
from numpy.typing import NDArray
from torch import Tensor
from transformers import AutoTokenizer, XCLIPModel

from cvg.classifier.backbones import build
from cvg.classifier.config import BackboneSettings
from cvg.common import hub
from cvg.common.errors import UserError
from cvg.composition import build as composed
from cvg.composition import parse
from cvg.diffusion.schedule import Schedule
from cvg.diffusion.trajectory import invert, replay
from cvg.generators import Generator, load_generator, wrap_pipeline
from cvg.judging.geometry import holds, margins_for
from cvg.media.pixels import to_frames
from cvg.shapes.entities import Sight, find_entities
from cvg.shapes.oracle import ShapesOracle
from cvg.shapes.renderer import COLORS, FRAMES, SIZE, Scene, patch_shares
from cvg.shapes.world import (
    ALL_KINDS,
    ENTITIES,
    HELD_OUT_ENTITIES,
    KINDS,
    LABELS,
    TEMPLATES,
    Spec,
    entity_tuples,
    sample_scene,
    sample_spec,
    turns,
)
from data_prep.pretrain import captioned, clip, clips, drawing, loop, store, text, transformer, vae
from data_prep.pretrain.cogvideox import scheduler
from data_prep.pretrain.family import FamilyName, find, noisy_and_wanted, target
from data_prep.pretrain.token_classifier import WithTokenClassifier, coverage, targets, weights

FAMILIES: tuple[FamilyName, ...] = get_args(FamilyName)
PROMPT = "a red circle to the left of a blue square"
VIDEO = (FRAMES, SIZE, SIZE)


@pytest.fixture(scope="module", params=FAMILIES)
def untrained(request: pytest.FixtureRequest) -> tuple[FamilyName, Generator]:
    torch.manual_seed(0)
    family = find(request.param)
    tokenizer = text.build_tokenizer()
    encoder = family.text_encoder(len(tokenizer))
    pipeline = family.pipeline(tokenizer, encoder, family.vae(), family.transformer())
    return request.param, wrap_pipeline(pipeline, family.name)


def test_clips_have_one_token_grid_in_all_families(untrained: tuple[FamilyName, Generator]) -> None:
    _, generator = untrained
    latents = generator.encode_video(vae.clips(0, 1))
    assert generator.token_grid(latents) == (4, 8, 8)
    assert generator.pixel_size((4, 8, 8)) == VIDEO
    assert generator.decode_latents(latents).shape == (1, 3, *VIDEO)
    assert generator.initial_latents([torch.Generator()], VIDEO).shape == latents.shape


def test_a_caption_is_embedded_to_its_end() -> None:
    torch.manual_seed(0)
    tokenizer = text.build_tokenizer(end_last=True)
    model = clip.build(len(tokenizer), tokenizer.eos_token_id).eval()
    captions = [f"a red circle moving {way}" for way in ("left", "right", "up", "down")] + [PROMPT]
    tokens = tokenizer(captions, padding="max_length", max_length=text.MAX_TOKENS, return_tensors="pt")
    with torch.no_grad():
        output = model.get_text_features(tokens.input_ids, attention_mask=tokens.attention_mask)
        ends = output.last_hidden_state[range(5), tokens.attention_mask.sum(1) - 1]
        torch.testing.assert_close(output.pooler_output, model.text_projection(ends))
    assert len(output.pooler_output.unique(dim=0)) == 5


def test_tokenizers_differ_in_where_the_end_is_alone() -> None:
    first, last = text.build_tokenizer(), text.build_tokenizer(end_last=True)
    assert first.eos_token_id == 1 and last.eos_token_id == len(last) - 1 == len(first) - 1
    for words in (PROMPT, "a purple dog?"):
        assert first.tokenize(words) == last.tokenize(words)
        assert first.decode(first(words).input_ids) == last.decode(last(words).input_ids)


def test_standardised_latents_have_deviation_one(untrained: tuple[FamilyName, Generator]) -> None:
    name, generator = untrained
    own = generator.pipeline.vae
    raw = 3 * torch.randn(8, generator.latent_channels, 4, 8, 8)
    before = dict(own.config)
    find(name).standardise(own, raw)
    assert float(generator.normalise(raw).std()) == pytest.approx(1, abs=0.01)
    own.register_to_config(**{key: before[key] for key in before if not key.startswith("_")})


def classified(model: WithTokenClassifier, generator: Generator, *latents: Tensor) -> tuple[Tensor, ...]:
    """Velocity and logits of the last of them, and by how much what is classified differs from the first's: (256,)."""
    seen: list[Tensor] = []
    handle = model.token_classifier.register_forward_pre_hook(lambda module, args: seen.append(args[0]))
    with torch.no_grad():
        states = generator.encode_prompts([PROMPT])
        for z in latents:
            velocity, logits = model(generator, z, torch.tensor([500]), states)
    handle.remove()
    return velocity, logits, (seen[-1] - seen[0]).abs().mean(-1)[0]


def test_the_token_classifier_sees_each_video_token(untrained: tuple[FamilyName, Generator]) -> None:
    _, generator = untrained
    noise = generator.initial_latents([torch.Generator().manual_seed(0)], VIDEO)
    changed = noise.clone()
    changed[..., -1, -1] += 1  # of the last token alone, before attention mixes them
    velocity, logits, difference = classified(WithTokenClassifier(generator.network), generator, noise, changed)
    assert velocity.shape == noise.shape and logits.shape == (1, 256, len(ENTITIES) + 1)
    assert (difference.view(4, 64).argmax(-1) == 63).all()


def test_an_entity_weighs_where_its_token_is(untrained: tuple[FamilyName, Generator]) -> None:
    _, generator = untrained
    model = WithTokenClassifier(generator.network)
    noise = generator.initial_latents([torch.Generator().manual_seed(0)], VIDEO)
    for token in (0, 63, 64, 100, 255):
        named = torch.zeros(1, 256, len(ENTITIES) + 1)
        named[..., -1] = 1
        named[0, token, -1], named[0, token, 7] = 0.25, 0.75
        weight = weights(named, noise, 5)
        assert weight.shape == (1, 1, *noise.shape[2:])
        assert weight.min() == 1 and weight.max() == 4  # three quarters of the token show the entity
        *_, difference = classified(model, generator, noise, noise + (weight > 1))
        assert difference.argmax() == token
        torch.testing.assert_close(weights(named, noise, 1), torch.ones_like(weight))


def test_entities_weigh_once_noise_is_not_much(untrained: tuple[FamilyName, Generator]) -> None:
    name, generator = untrained
    kind = find(name)
    model = WithTokenClassifier(generator.network)
    clean = generator.initial_latents([torch.Generator().manual_seed(i) for i in range(2)], VIDEO)
    named = torch.zeros(2, 256, len(ENTITIES) + 1)
    named[:, :128, -1], named[:, 128:, 3] = 1, 1
    batch = {
        "states": generator.encode_prompts([PROMPT, PROMPT]),
        "named": named,
        "clean": clean,
        "mixed": clean,
        "noise": torch.randn(clean.shape, generator=torch.Generator().manual_seed(5)),
        "level": torch.tensor([0.05, 0.95]),  # little noise, and much
    }
    with torch.no_grad():
        plain, weighted = (transformer.losses(model, kind, generator, weigh, False, batch) for weigh in (1.0, 4.0))
        noisy, wanted, timestep, early = noisy_and_wanted(kind, batch, "cpu")
        velocity, _ = model(generator, noisy, timestep, batch["states"])
    assert early.tolist() == [0, 1]
    error = (velocity - wanted).pow(2)
    half = error.shape[2] // 2
    expected = (error[1].mean() + torch.cat([error[0, :, :half], 4 * error[0, :, half:]], 1).mean()) / 2
    for out in (plain, weighted):
        torch.testing.assert_close(out["velocity"], error.mean())
        torch.testing.assert_close(out["early"], error[1].mean())
    torch.testing.assert_close(plain["loss"], error.mean() + transformer.NAMING * plain["naming"])
    torch.testing.assert_close(weighted["loss"], expected + transformer.NAMING * plain["naming"])


def test_wan_is_noised_as_its_flow() -> None:
    timesteps, alphas, sigmas = find("wan").noise_levels(torch.linspace(0, 0.999, 50))
    torch.testing.assert_close(timesteps / 1000, sigmas)
    torch.testing.assert_close(alphas + sigmas, torch.ones(50))
    assert float(sigmas.median()) == pytest.approx(5 / 6, abs=0.01)


def test_cogvideox_is_noised_as_by_its_scheduler() -> None:
    """And learns what the scheduler calls velocity, up to the timestep without signal."""
    own: CogVideoXDDIMScheduler = scheduler()
    timesteps, alphas, sigmas = find("cogvideox").noise_levels(torch.linspace(0, 0.9999, 50))
    assert int(timesteps[-1]) == 999 and float(alphas[-1]) == 0 and int(timesteps[0]) == 0
    clean, noise = torch.randn(50, 4), torch.randn(50, 4)
    alpha, sigma = alphas[:, None], sigmas[:, None]
    torch.testing.assert_close(alpha * clean + sigma * noise, own.add_noise(clean, noise, timesteps))
    schedule = Schedule(timesteps, alphas, sigmas, "v")
    wanted = target("v", clean, noise, alpha, sigma)
    torch.testing.assert_close(wanted, own.get_velocity(clean, noise, timesteps))
    torch.testing.assert_close(schedule.noised(clean, noise, 20), own.add_noise(clean, noise, timesteps[20]))


def test_what_is_mixed_in_is_of_the_same_entities_and_never_the_stronger() -> None:
    rng = np.random.default_rng(0)
    specs = [sample_spec(rng, KINDS[i % len(KINDS)]) for i in range(400)]
    alike = clips.partners(specs)
    assert all(i in others for i, others in enumerate(alike))
    assert all(sorted(specs[i].entities) == sorted(specs[j].entities) for i, js in enumerate(alike) for j in js)
    mixed = clips.with_fainter_clips(torch.zeros(1000, 1, 1, 1, 1), torch.ones(1000, 1, 1, 1, 1), rng).flatten()
    assert float(mixed.max()) <= clips.FAINTER <= 0.5
    assert float((mixed > 0).float().mean()) == pytest.approx(clips.MIXED, abs=0.05)


def test_matrices_are_orthogonalised_at_once_and_each_by_itself() -> None:
    torch.manual_seed(0)
    for shape in ((3, 6, 20), (2, 20, 6)):
        matrices = torch.randn(*shape)
        together = loop.orthogonal(matrices)
        assert together.shape == shape and float(torch.linalg.svdvals(together).min()) > 0.6
        assert float(torch.linalg.svdvals(together).max()) < 1.3
        left, _, right = torch.linalg.svd(matrices, full_matrices=False)
        assert float(((left @ right) * together).sum() / (together.norm() * (left @ right).norm())) > 0.97
        torch.testing.assert_close(together, torch.cat([loop.orthogonal(each[None]) for each in matrices]))


def test_training_is_the_same_whoever_draws_and_ends_in_time(tmp_path: Path) -> None:
    """A line through points: with a process that draws, without, stopped and gone on with; and with no time left."""

    def draw(step: int) -> Tensor:
        return torch.rand(16, 1, generator=torch.Generator().manual_seed(step))

    def trained(name: str, **options: Any) -> Tensor:
        torch.manual_seed(0)
        model = torch.nn.Linear(1, 1)

        def losses(x: Tensor) -> dict[str, Tensor]:
            return {"loss": (model(x) - 2 * x - 1).square().mean()}

        return torch.cat(
            [
                p.detach().flatten()
                for p in loop.train(
                    model, draw, losses, tmp_path / name, 300, lr=0.05, muon_lr=0.05, hidden="none", **options
                ).parameters()
            ]
        )

    plain = trained("plain")
    torch.testing.assert_close(plain, torch.tensor([2.0, 1.0]), atol=0.05, rtol=0)
    assert torch.equal(trained("drawn", workers=1), plain)
    trained("stopped", stop_at=120)
    assert torch.equal(trained("stopped"), plain)
    assert not torch.equal(trained("hurried", minutes=1e-5), plain)
    for name, value in {"minutes": 0.0, "workers": -1}.items():
        with pytest.raises(UserError, match=rf"{name} {value}: give"):
            trained("refused", **{name: value})
    assert not (tmp_path / "refused").exists()
    rows = (tmp_path / "plain" / "log.csv").read_text().splitlines()
    assert len(rows) == 7 and float(rows[-1].split(",")[-1]) < float(rows[1].split(",")[-1])


@pytest.mark.parametrize("kind", ALL_KINDS)
def test_six_captions_in_ten_are_right(kind: str) -> None:
    rng = np.random.default_rng(1)
    right, labels = [], set()
    for _ in range(600):
        spec = sample_spec(rng, kind)
        told = parse_back(clips.caption(spec, clips.SCRAMBLED[kind], 0.0, rng), spec)
        labels |= {*told}
        right.append(told == [relation.label for relation in spec.relations])
        if kind == "attribute":
            assert sorted(told) == sorted(relation.label for relation in spec.relations)
        if kind == "change":
            assert turns(spec.entities[0], told[0])
    assert 0.53 < np.mean(right) < 0.7
    groups = {group for _, places in TEMPLATES[kind] for group, _ in places}
    assert labels == {label.name for group in groups for label in LABELS.groups[group]}
    assert clips.caption(spec, 0.5, 1.0, rng) == ""


def parse_back(caption: str, spec: Spec) -> list[str]:
    """The labels that a caption of a spec's template says, by its words alone."""
    label_of = {wording: label.name for label in LABELS.labels for wording in label.wordings}
    names = {f"e{i}": re.escape(entity) for i, entity in enumerate(spec.entities)}
    pattern = spec.template.format(**names, **{f"r{i}": "(.+?)" for i in range(len(spec.relations))}) + "$"
    for first in label_of if len(spec.relations) > 1 else [".+?"]:  # two wordings may follow each other
        found = re.match(pattern.replace("(.+?)", f"({first})", 1), caption)
        if found and all(words in label_of for words in found.groups()):
            return [label_of[words] for words in found.groups()]
    raise AssertionError(caption)


def test_every_word_is_a_token_and_the_longest_caption_fits() -> None:
    tokenizer, wide = text.build_tokenizer(), text.build_tokenizer(end_last=True, labels=captioned.WORDINGS)
    rng = np.random.default_rng(2)
    for labels, made in ((LABELS, tokenizer), (captioned.WORDINGS, wide)):
        longest = {
            group: max((wording for label in members for wording in label.wordings), key=lambda each: len(each.split()))
            for group, members in labels.groups.items()
        }
        for kind, templates in TEMPLATES.items():
            for template, places in templates:
                spec = replace(sample_spec(rng, kind), template=template)
                if len(spec.relations) == len(places) and len(spec.entities) > max(max(i) for _, i in places):
                    spec = replace(spec, wordings=tuple(longest[group] for group, _ in places))
                    spec = spec if labels is LABELS else captioned.reworded(spec, rng)
                    assert len(made(spec.prompt).input_ids) == len(spec.prompt.split()) + 1 <= text.MAX_TOKENS


def test_tokens_are_named_by_what_is_seen_in_them() -> None:
    rng = np.random.default_rng(3)

    def named(spec: Spec) -> tuple[Tensor, Scene]:
        scene = sample_scene(spec, rng)
        return targets(torch.from_numpy(coverage(scene))[None], [spec])[0].unflatten(0, (4, 8, 8)), scene

    spec = sample_spec(rng, "change", labels=None)
    old, new = (ENTITIES.index(entity) for entity in spec.shown)
    seen, _ = named(spec)
    area = seen.sum((1, 2))
    assert area[0, old] > 2 and area[0, new] == 0 and area[3, new] > 2 and area[3, old] == 0
    assert area[1, new] == 0 and area[2, old] > 0.5 and area[2, new] > 0.5

    spec = sample_spec(rng, "attribute")
    seen, scene = named(spec)
    for entity, sprite in zip(spec.shown, scene.sprites, strict=True):
        assert hue_of(sprite.rgb) == entity.split()[0] and seen[..., ENTITIES.index(entity)].sum() > 8

    spec = sample_spec(rng, "action", labels=["blinking"])
    seen, _ = named(spec)
    assert (seen[..., ENTITIES.index(spec.entities[0])].sum((1, 2)) > 0).tolist() == [True, True, False, True]

    spec = sample_spec(rng, "depth", labels=["behind"])
    seen, scene = named(spec)
    whole = patch_shares([replace(scene.sprites[0], layer=0)], 8)[0].sum()
    part = patch_shares(scene.sprites, 8)[0].sum() / whole
    assert 0.5 < part < 0.75
    torch.testing.assert_close(seen.sum(-1), torch.ones(4, 8, 8), atol=1e-5, rtol=0)


def test_every_augmentation_of_straight_lines_shows_what_its_caption_says() -> None:
    scenes = captioned.Scenes(12, KINDS)
    wordings, entities, labels = set(), set(), set()
    for seed in range(12):
        _, specs, drawn = scenes.batch(seed, 12)
        for spec, scene in zip(specs, drawn, strict=True):
            for relation, wording in zip(spec.relations, spec.wordings, strict=True):
                tracks = [scene.sprites[i].track_F2 for i in relation.entities]
                others = captioned.WORDINGS.groups[captioned.WORDINGS[relation.label].group]
                margins = margins_for(label.name for label in others)
                assert [label.name for label in others if holds(label.name, tracks, margins)] == [relation.label]
                assert wording in captioned.WORDINGS[relation.label].wordings
                wordings.add(wording)
                labels.add(relation.label)
            assert spec.entities in entity_tuples(len(spec.entities), held_out=False)
            assert [sprite.shape for sprite in scene.sprites] == [entity.split()[1] for entity in spec.entities]
            entities.add(spec.entities)
    groups = ("motion", "spatial", "relative_motion")
    assert labels == {label.name for group in groups for label in captioned.WORDINGS.groups[group]}
    assert len(wordings) > 40 and len(entities) > 30


def hue_of(rgb: tuple[float, ...] | NDArray[np.float64]) -> str:
    """The world's colour that is the nearest."""
    return min(COLORS, key=lambda name: float(np.abs(np.array(COLORS[name]) - rgb).sum()))


def test_every_augmentation_of_the_other_kinds_shows_what_its_caption_says() -> None:
    scenes = captioned.Scenes(30, ALL_KINDS[len(KINDS) :])
    labels, reversals = set(), set()
    for seed in range(40):
        _, specs, drawn = scenes.batch(seed, 12)
        for spec, scene in zip(specs, drawn, strict=True):
            names = [relation.label for relation in spec.relations]
            labels |= {*names}
            first = scene.sprites[0]
            if spec.kind == "change":
                assert isinstance(first.rgb, np.ndarray)
                assert (hue_of(first.rgb[0]), hue_of(first.rgb[-1])) == tuple(e.split()[0] for e in spec.shown)
                assert not {*spec.shown} & {*HELD_OUT_ENTITIES}
            else:
                assert [hue_of(sprite.rgb) for sprite in scene.sprites] == [e.split()[0] for e in spec.shown]
                assert spec.shown in entity_tuples(len(spec.shown), held_out=False)
            assert [sprite.shape for sprite in scene.sprites] == [entity.split()[-1] for entity in spec.entities]
            step = np.linalg.norm(np.diff(first.track_F2, axis=0), axis=1)
            if names[0] in ("growing", "shrinking"):
                assert isinstance(first.radius, np.ndarray)
                assert (first.radius[-1] > first.radius[0]) == (names[0] == "growing")
                reversals.add(names[0])
            if names[0] in ("stopping", "setting off"):
                assert (step[0] > step[-1]) == (names[0] == "stopping")
            if spec.kind == "depth":
                over = first.layer > scene.sprites[1].layer
                assert over == (names[0] == "in front of")
    held = [name for group in ("depth", "action", "path", "interaction", "change") for name in LABELS.groups[group]]
    assert {label.name for label in held} <= labels and reversals == {"growing", "shrinking"}


def test_variants_of_colours_are_exchanged_and_never_two_of_one_colour() -> None:
    rng = np.random.default_rng(0)
    for _ in range(20):
        specs = captioned.variants(rng, "attribute", held_out=True)
        pairs = [tuple(relation.label for relation in spec.relations) for spec in specs]
        assert pairs[1] == pairs[0][::-1] and len({*pairs}) == len(pairs) == captioned.VARIANTS
        assert all(one != other for one, other in pairs)
        specs = captioned.variants(rng, "change")
        assert all(turns(spec.entities[0], spec.relations[0].label, held_out=False) for spec in specs)


def test_the_xclip_knows_the_worlds_wordings_and_more() -> None:
    assert len(captioned.WORDINGS.groups) == len(LABELS.groups)
    for label in LABELS.labels:
        assert set(label.wordings) < set(captioned.WORDINGS[label.name].wordings)
    tokenizer = text.build_tokenizer(end_last=True, labels=captioned.WORDINGS)
    words = {word for label in captioned.WORDINGS.labels for wording in label.wordings for word in wording.split()}
    assert all(len(tokenizer.tokenize(word)) == 1 for word in words)


def test_the_xclip_is_trained_and_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(clip, "zero_shot", lambda model, tokenizer, kinds: {})
    clip.main(tmp_path, steps=2, batch_size=4, groups=2)
    backbone = build(BackboneSettings(name="vlm", path=str(tmp_path / "shapes-clip"), read="joint"), 2, (4, 8, 8))
    assert backbone(torch.randn(1, 2, 4, 8, 8), torch.ones(1, 2, dtype=torch.bool)).shape == (1, 128)
    assert len(backbone.text_features(["a red circle underneath a blue square"])) == 1


def test_the_shipped_xclip_knows_relations() -> None:
    """Of held-out clips: which of four captions that differ in the relation alone (chance is a quarter, or a half)."""
    path = hub.path("shapes-clip")
    model = XCLIPModel.from_pretrained(path, dtype=torch.float32).eval()
    right = clip.zero_shot(model, AutoTokenizer.from_pretrained(path), clips=8)
    assert min(right.values()) >= 7 / 8 and sum(right.values()) / len(right) > 0.95


def test_a_folder_is_stored_in_half_and_keeps_its_card(tmp_path: Path) -> None:
    torch.manual_seed(0)
    tokenizer = text.build_tokenizer(end_last=True)
    model = clip.build(len(tokenizer), tokenizer.eos_token_id).eval()
    model.save_pretrained(tmp_path / "trained")
    tokenizer.save_pretrained(tmp_path / "trained")
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "README.md").write_text("card")
    store.main(tmp_path / "trained", tmp_path / "out")
    names = {path.name for path in (tmp_path / "trained").iterdir()}
    assert {path.name for path in (tmp_path / "out").iterdir()} == names | {"README.md"}
    sizes = [(tmp_path / name / "model.safetensors").stat().st_size for name in ("trained", "out")]
    assert sizes[1] < 0.51 * sizes[0]
    stored = type(model).from_pretrained(tmp_path / "out", dtype=torch.float32).state_dict()
    assert all(torch.equal(value.half().float(), stored[name].float()) for name, value in model.state_dict().items())
    with pytest.raises(UserError, match=r"no \.safetensors in it"):
        store.main(tmp_path / "out" / "nothing", tmp_path / "other")
    with torch.no_grad():
        model.logit_scale.fill_(1e6)
    model.save_pretrained(tmp_path / "trained")
    with pytest.raises(UserError, match="logit_scale does not fit into float16"):
        store.main(tmp_path / "trained", tmp_path / "out")


def test_a_text_encoder_goes_on_from_a_shipped_one_with_more_words() -> None:
    """Before its first step it says of words that both know what the shipped one says."""
    tokenizer, kind = text.build_tokenizer(), find("wan")
    encoder = kind.text_encoder(len(tokenizer)).eval()
    text.go_on(encoder, tokenizer, hub.path("shapes-wan"))
    shipped = load_generator("shapes-wan")
    known, new = "a red circle to the left of a blue square", "a red circle growing"
    assert len(tokenizer.tokenize(new)) == 4 < len(shipped.pipeline.tokenizer.tokenize(new))
    with torch.no_grad():
        states = encoder(torch.tensor([tokenizer(known)["input_ids"]])).last_hidden_state
        wanted = shipped.pipeline.text_encoder(
            torch.tensor([shipped.pipeline.tokenizer(known)["input_ids"]])
        ).last_hidden_state
    torch.testing.assert_close(states, wanted.float())
    with pytest.raises(UserError, match=r"its text_encoder is T5EncoderModel, .* takes UMT5EncoderModel"):
        text.go_on(encoder, tokenizer, hub.path("shapes-cogvideox"))


@pytest.mark.parametrize("stage", [vae, text, transformer], ids=lambda module: module.__name__.rsplit(".")[-1])
def test_a_start_of_another_family_leaves_nothing_that_refuses_the_right_one(stage: ModuleType, tmp_path: Path) -> None:
    shipped = Path(hub.path("shapes-wan"))
    before = {"tokenizer", "vae", "text_encoder"} if stage is transformer else set()
    for part in before:
        shutil.copytree(shipped / part, tmp_path / part)
    with pytest.raises(
        UserError, match=r"its \w+ is \w*(T5|CogVideoX)\w*, and .* takes (\w*Wan\w*|UMT5\w*); give another --family"
    ):
        stage.main(out=tmp_path, family="wan", start="shapes-cogvideox")
    assert {path.name for path in tmp_path.iterdir()} == before


def test_a_start_that_is_no_pipeline_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"no vae can be read there \(.*no file named config.json.*; give a whole"):
        vae.main(out=tmp_path, start=str(tmp_path))
    (tmp_path / "vae").mkdir()
    (tmp_path / "vae/config.json").write_text("{")
    with pytest.raises(UserError, match=r"no vae can be read there \(.*not a valid JSON file.*; give a whole pipeline"):
        vae.main(out=tmp_path, start=str(tmp_path))


def test_a_vae_sees_clips_of_the_kinds_and_labels_that_are_named() -> None:
    circling = 0
    for video in vae.clips(3, 24, often={"circling": 3, "motion": 1}):
        frames = to_frames(video)
        names = [*find_entities(frames, Sight(covered=True))[0].entities]
        asked = [
            composed("a {e0} {r0} a {e1}", pair, [("circling", (0, 1))], ["circling"])
            for pair in itertools.permutations(names)
            if len(pair) == 2
        ]
        circling += any(reading.labels == ("circling",) for reading in ShapesOracle()([frames] * len(asked), asked))
    assert 12 <= circling <= 22


@pytest.mark.parametrize(
    ("kinds", "what"),
    [
        ({"flying": 1}, "unknown"),
        ({"in red": 1}, "unknown"),
        ({"turning red": 1}, "unknown"),
        ({"motion": 0}, "its weight is 0"),
    ],
)
def test_a_vae_refuses_what_cannot_be_drawn(kinds: dict[str, float], what: str) -> None:
    with pytest.raises(UserError, match=rf"kinds '{next(iter(kinds))}': {what}"):
        vae.main(kinds=kinds)


def test_kinds_are_drawn_as_often_as_they_are_named_for() -> None:
    assert drawing.often_drawn({"action": 8, "motion": 0.5}) == {"action": 8, "motion": 0.5}
    every = drawing.often_drawn(None)
    assert [*every] == [*ALL_KINDS] and every["motion"] == 1 < every["action"]
    with pytest.raises(UserError, match=r"kinds 'action': its weight is 0"):
        drawing.often_drawn({"action": 0})
    with pytest.raises(UserError, match="kind 'flying': unknown"):
        drawing.often_drawn({"flying": 1})


def test_captions_are_wrong_as_often_as_is_said_for_all_kinds_or_for_some() -> None:
    assert drawing.often_wrong(None, ALL_KINDS) == clips.SCRAMBLED
    assert drawing.often_wrong(0.3, ["depth", "motion"]) == {"depth": 0.3, "motion": 0.3}
    assert drawing.often_wrong({"depth": 0.2}, ALL_KINDS) == clips.SCRAMBLED | {"depth": 0.2} != clips.SCRAMBLED
    with pytest.raises(UserError, match=r"scrambled 'depth': 20 is no probability; give 0 to 1"):
        drawing.often_wrong({"depth": 20}, ALL_KINDS)
    with pytest.raises(UserError, match=r"scrambled 'attribute': 0.6 of captions .* give 0.5 at most"):
        drawing.often_wrong(0.6, ["motion", "attribute"])
    with pytest.raises(UserError, match="kind 'flying': unknown"):
        drawing.often_wrong({"flying": 0.5}, ALL_KINDS)
    with pytest.raises(UserError, match=r"scrambled 'depth': no clips of this kind are drawn"):
        drawing.often_wrong({"depth": 0.5}, ["motion"])


def test_parts_that_are_missing_or_of_another_family_are_an_error(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"vae: not there; train stages 1 and 2"):
        transformer.main(tmp_path)
    for weight in (0.0, float("nan"), float("inf")):
        with pytest.raises(UserError, match=r"entities_weigh: .* is no weight; give more than 0"):
            transformer.main(tmp_path, entities_weigh=weight)
    assert not [*tmp_path.iterdir()]
    for name in ("vae", "text_encoder"):
        shutil.copytree(Path(hub.path("shapes-wan")) / name, tmp_path / name)
    with pytest.raises(UserError, match=r"its vae is AutoencoderKLWan.*AutoencoderKLCogVideoX.*--family"):
        transformer.main(tmp_path, family="cogvideox")


def test_latents_are_kept_for_what_they_were_made_of(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(clips, "AT_ONCE", 2)
    torch.manual_seed(0)
    family = find("wan")
    tokenizer = text.build_tokenizer()
    parts = family.text_encoder(len(tokenizer)), family.vae(), family.transformer()
    generator = wrap_pipeline(family.pipeline(tokenizer, *parts), family.name)

    def encoded(count: int, kinds: Sequence[str] = ALL_KINDS) -> tuple[Tensor, bool]:
        latents, specs = clips.encode_clips(tmp_path, generator, count, kinds)
        assert len(specs) == len(latents["latents"])
        return latents["latents"], "encode clips" in capsys.readouterr().err

    first, made = encoded(2)
    assert made
    again, made = encoded(2)
    assert not made and torch.equal(first, again)
    more, made = encoded(4)
    assert made and torch.equal(more[:2], first) and len(more) == 4
    still, made = encoded(4, ["change"])
    assert made and not torch.equal(still, more)
    more, made = encoded(4)
    assert made
    with torch.no_grad():
        parts[1].encoder.conv_in.weight.mul_(1.5)
    other, made = encoded(4)
    assert made and not torch.equal(other, more)


@pytest.mark.slow
@pytest.mark.parametrize("name", FAMILIES)
def test_the_stages_make_a_generator(name: FamilyName, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    make = vae.clips
    monkeypatch.setattr(vae, "clips", lambda seed, count, *args: make(seed, min(count, 2), *args))
    vae.main(tmp_path, steps=2, family=name)
    with pytest.raises(UserError, match=r"vae.training: made with kinds None; give another --out"):
        vae.main(tmp_path, steps=2, family=name, kinds={"circling": 1.0})
    text.main(tmp_path, steps=2, batch_size=2, family=name)
    with pytest.raises(UserError, match=r"text_encoder.training: made with start None; give another --out"):
        text.main(tmp_path, steps=2, batch_size=2, family=name, start=find(name).name)
    transformer.main(tmp_path, steps=2, batch_size=2, clips=32, family=name)
    with pytest.raises(UserError, match=r"transformer.training: made with kinds .*; give another --out"):
        transformer.main(tmp_path, steps=2, batch_size=2, clips=32, family=name, kinds={"motion": 1.0})
    generator = load_generator(str(tmp_path / find(name).name))
    composition = parse(PROMPT, LABELS)
    noise = generator.initial_latents([torch.Generator().manual_seed(0)], VIDEO)
    final = generator.sample([PROMPT], noise, 2, None, VIDEO)
    video = generator.decode_latents(final)
    assert video.shape == (1, 3, *VIDEO) and torch.isfinite(video).all()

    conditioning = generator.encode([composition])
    schedule = generator.schedule(20, VIDEO)
    maps = generator.entity_maps(noise, schedule.timesteps[0], conditioning, [1, 3])
    assert maps.shape == (1, 2, generator.num_heads, 2, 4, 8, 8) and (maps > 0).all() and (maps < 1).all()

    def predict(z: Tensor, i: int) -> Tensor:
        return generator.predict(z, schedule.timesteps[i], conditioning.states)

    clean = generator.encode_video(make(0, 1))
    errors = []
    for iterations in (0, 3):
        again, _ = replay(invert(clean, schedule, predict, iterations), schedule, predict)
        errors.append(float((again - clean).square().mean()))
    assert errors[1] < 0.5 * errors[0]  # an untrained network's steps converge slowly
