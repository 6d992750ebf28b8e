"""The clips that shapes-clip is trained on: true captions, in more words than the world's prompts, and variants.

Finding a scene takes longer than drawing it, and a model of this size learns a few thousand scenes by heart. So each is
drawn in many ways: mirrored in space and time, with other entities, and told in other words.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor
from tqdm import trange

from cvg.composition import LabelSet
from cvg.judging.geometry import APPROACH, DIRECTIONS
from cvg.shapes.renderer import COLORS, FRAMES, SIZE, Background, Scene, Sprite, render
from cvg.shapes.world import (
    ALL_KINDS,
    HELD_OUT_ENTITIES,
    KINDS,
    LABELS,
    Spec,
    color_of,
    entity_tuples,
    held_out_pair,
    sample_scene,
    sample_spec,
    shades,
    turns,
)
from data_prep.pretrain.family import MAX_TOKENS

WORDINGS = LabelSet.load(Path(__file__).with_name("wordings.yaml"))
NUM_FRAMES = 4
STRIDE = (FRAMES - 1) // (NUM_FRAMES - 1)
MEAN, STD = [0.3, 0.3, 0.3], [0.25, 0.25, 0.25]
VARIANTS = 4
"""Clips of the same entities that differ in the relation: the hard negatives of a batch."""


def variants(rng: np.random.Generator, kind: str | None = None, held_out: bool = False) -> list[Spec]:
    """Specs of the same entities and template, of four different compositions where there are four."""
    spec = sample_spec(rng, kind, held_out)
    if spec.kind == "attribute":
        choices = _recoloured(spec, rng, held_out)
    else:
        label_sets = [[label.name for label in WORDINGS.groups[WORDINGS[r.label].group]] for r in spec.relations]
        if spec.kind == "change":
            label_sets = [[name for name in label_sets[0] if turns(spec.entities[0], name, held_out)]]
        choices = [tuple(str(rng.choice(labels)) for labels in label_sets) for _ in range(4 * VARIANTS)]
        if len(label_sets) == 1:
            choices = [(name,) for name in rng.permutation(label_sets[0])]
    distinct = list(dict.fromkeys(choices))[:VARIANTS]
    relations = [
        tuple(replace(r, label=name) for r, name in zip(spec.relations, names, strict=True)) for names in distinct
    ]
    return [reworded(replace(spec, relations=several), rng) for several in relations]


def _recoloured(spec: Spec, rng: np.random.Generator, held_out: bool) -> list[tuple[str, ...]]:
    """Labels of two shapes' colours: as they are, exchanged, and others; those of training clips alone if wanted."""
    (first, _), (second, _) = shown = [entity.split() for entity in spec.shown]
    others = [tuple(str(color) for color in rng.permutation(list(COLORS))[:2]) for _ in range(4 * VARIANTS)]
    shapes = [shape for _, shape in shown]
    return [
        (f"in {one}", f"in {other}")
        for one, other in [(first, second), (second, first), *others]
        if held_out or not held_out_pair(f"{one} {shapes[0]}", f"{other} {shapes[1]}")
    ]


def reworded(spec: Spec, rng: np.random.Generator) -> Spec:
    """The spec with wordings drawn anew, of which a prompt is as long as text towers read at most."""
    while True:
        spec = replace(spec, wordings=tuple(str(rng.choice(WORDINGS[r.label].wordings)) for r in spec.relations))
        if len(spec.prompt.split()) < MAX_TOKENS:  # every word is a token, and the end is one
            return spec


@dataclass(frozen=True)
class Augmentation:
    """How a set of variants is drawn: mirrored, and with other entities.

    Attributes:
        mirror_22: symmetry of the square, of positions (x, y) from its centre.
        reverse: time runs backwards.
        entities: by kind of composition that straight lines show, as many as the specs have; None: the same shapes, in
            other colours.
        colors: what each colour becomes, where ``entities`` is None.
    """

    mirror_22: NDArray[np.float64]
    reverse: bool
    entities: tuple[str, ...] | None
    colors: Mapping[str, str]

    @classmethod
    def sample(cls, specs: Sequence[Spec], rng: np.random.Generator) -> Augmentation:
        """For variants: what may be drawn so that each shows what it says, in entities of the training share.

        Straight lines are drawn in any of the 16 symmetries, with any entities. How near shapes come to each other, or
        what they cover, depends on the shapes, so that these stay, left and right may be exchanged alone, and time may
        run backwards where each variant then shows something that has a name.
        """
        if specs[0].kind in KINDS:
            mirror_22 = np.diag(rng.choice([-1.0, 1.0], 2))
            tuples = entity_tuples(len(specs[0].entities), held_out=False)
            return cls(
                mirror_22[::-1] if rng.random() < 0.5 else mirror_22,
                bool(rng.random() < 0.5),
                tuples[rng.integers(len(tuples))],
                {},
            )
        mirror_22 = np.diag([rng.choice([-1.0, 1.0]), 1.0])
        labels = {relation.label for spec in specs for relation in spec.relations}
        reversible = all(name in DIRECTIONS or LABELS[name].image("time") for name in labels)
        reverse = bool(rng.random() < 0.5) and reversible
        while True:
            colors = dict(zip(COLORS, (str(color) for color in rng.permutation(list(COLORS))), strict=True))
            found = cls(mirror_22, reverse, None, colors)
            if all(_is_training(found.spec(spec)) for spec in specs):
                return found

    def label(self, name: str) -> str:
        """What holds in the drawn scene where ``name`` held."""
        if name in APPROACH:
            way = APPROACH[name] * (-1 if self.reverse else 1)
            return next(other for other, sign in APPROACH.items() if sign == way)
        group = WORDINGS[name].group
        if name in DIRECTIONS:
            direction = self.mirror_22 @ DIRECTIONS[name] * (-1 if self.reverse and group == "motion" else 1)
            labels = [label.name for label in WORDINGS.groups[group]]
            return next(other for other in labels if np.allclose(DIRECTIONS[other], direction))
        if color := color_of(name):
            return name.replace(color, self.colors[color])
        # None of the others has another mirror image than itself, left and right exchanged.
        return (LABELS[name].image("time") if self.reverse else None) or name

    def spec(self, spec: Spec) -> Spec:
        """What the drawn scene shows."""
        entities = self.entities or tuple(_renamed(entity, self.colors) for entity in spec.entities)
        relations = tuple(replace(r, label=self.label(r.label)) for r in spec.relations)
        return replace(spec, entities=entities, relations=relations)

    def sprite(self, sprite: Sprite) -> Sprite:
        """The mirrored sprite."""
        moved = replace(sprite, track_F2=(sprite.track_F2 - 0.5) @ self.mirror_22.T + 0.5)
        return moved.at(slice(None, None, -1)) if self.reverse else moved

    def __call__(self, spec: Spec, scene: Scene, rng: np.random.Generator) -> tuple[Spec, Scene]:
        """The scene drawn that way, in shades of its own, and what it shows, in words of its own."""
        spec = self.spec(spec)
        sprites = [
            replace(self.sprite(sprite), shape=entity.split()[-1], rgb=rgb)
            for entity, rgb, sprite in zip(spec.entities, shades(spec, rng, STRIDE), scene.sprites, strict=True)
        ]
        distractors = tuple(self.sprite(dot) for dot in scene.distractors)
        return reworded(spec, rng), replace(scene, sprites=tuple(sprites), distractors=distractors)


def _renamed(entity: str, colors: Mapping[str, str]) -> str:
    return " ".join(colors.get(word, word) for word in entity.split())


def _is_training(spec: Spec) -> bool:
    """Whether a clip may show these entities in training."""
    if spec.kind == "change":
        return not set(spec.shown) & set(HELD_OUT_ENTITIES)
    return spec.shown in entity_tuples(len(spec.shown), held_out=False)


def sampled(scene: Scene) -> Scene:
    """The scene at the model's own frames: only what is looked at need be drawn."""
    sprites, distractors = (
        tuple(sprite.at(slice(None, None, STRIDE)) for sprite in group) for group in (scene.sprites, scene.distractors)
    )
    return replace(scene, sprites=sprites, distractors=distractors)


def clip(scene: Scene, rng: np.random.Generator) -> Tensor:
    """A clip of a scene, normalised: (F, 3, H, W)."""
    if rng.random() < 0.5:
        scene = replace(scene, background=Background((8.0, 8.0, 8.0)), distractors=())
    else:
        shift = rng.uniform(-15, 15, 3)
        red, green, blue = (float(c + d) for c, d in zip(scene.background.rgb, shift, strict=True))
        scene = replace(
            scene, background=replace(scene.background, rgb=(red, green, blue), seed=int(rng.integers(2**31)))
        )
    pixels = render(scene)
    frames = torch.from_numpy(pixels).permute(0, 3, 1, 2).float() / 255
    if rng.random() < 0.5:
        side = int(rng.choice([8, 16, 32]))
        frames = F.interpolate(frames, (side, side), mode="area")
        frames = F.interpolate(frames, (SIZE, SIZE), mode="bilinear")
    mean, std = torch.tensor(MEAN).view(3, 1, 1), torch.tensor(STD).view(3, 1, 1)
    return (frames - mean) / std


class Scenes:
    """Batches of clips from a fixed set of scenes, grouped by variants, each time drawn in another way.

    Args:
        groups: how many sets of variants; about three and a half scenes each.
        kinds: of compositions, in turn.
    """

    def __init__(self, groups: int, kinds: Sequence[str] = ALL_KINDS) -> None:
        rng = np.random.default_rng(5)
        self.groups: list[list[tuple[Spec, Scene]]] = [
            [(spec, sampled(sample_scene(spec, rng))) for spec in variants(rng, kinds[index % len(kinds)])]
            for index in trange(groups, desc="scenes", mininterval=5)
        ]

    def batch(self, seed: int, count: int) -> tuple[Tensor, list[Spec], list[Scene]]:
        """Clips (B, F, 3, H, W), what their captions say, and the scenes at the clips' frames."""
        rng = np.random.default_rng([seed, 5])
        clips: list[Tensor] = []
        specs: list[Spec] = []
        scenes: list[Scene] = []
        while len(clips) < count:
            group = self.groups[rng.integers(len(self.groups))]
            augment = Augmentation.sample([spec for spec, _ in group], rng)
            for spec, scene in (augment(*variant, rng) for variant in group):
                clips.append(clip(scene, rng))
                specs.append(spec)
                scenes.append(scene)
        return torch.stack(clips[:count]), specs[:count], scenes[:count]
