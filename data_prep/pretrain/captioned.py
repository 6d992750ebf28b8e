"""The clips that shapes-clip is trained on: true captions, in more words than the world's prompts, and variants.

Finding a scene takes longer than drawing it, and a model of this size learns a few thousand scenes by heart. So each is
drawn in many ways: mirrored in space and time, with other entities, and told in other words.
"""

from __future__ import annotations

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
from cvg.shapes.renderer import FRAMES, SIZE, Background, Scene, Sprite, render
from cvg.shapes.world import Spec, entity_tuples, sample_scene, sample_spec, shade

WORDINGS = LabelSet.load(Path(__file__).with_name("wordings.yaml"))
NUM_FRAMES = 4
MEAN, STD = [0.3, 0.3, 0.3], [0.25, 0.25, 0.25]
VARIANTS = 4
"""Clips of the same entities that differ in the relation: the hard negatives of a batch."""


def variants(rng: np.random.Generator, kind: str | None = None, held_out: bool = False) -> list[Spec]:
    """Specs of the same entities and template, of four different compositions where there are four."""
    spec = sample_spec(rng, kind, held_out)
    label_sets = [[label.name for label in WORDINGS.groups[WORDINGS[r.label].group]] for r in spec.relations]
    choices = [tuple(str(rng.choice(labels)) for labels in label_sets) for _ in range(4 * VARIANTS)]
    if len(label_sets) == 1:
        choices = [(name,) for name in rng.permutation(label_sets[0])]
    distinct = list(dict.fromkeys(choices))[:VARIANTS]
    relations = [
        tuple(replace(r, label=name) for r, name in zip(spec.relations, names, strict=True)) for names in distinct
    ]
    return [reworded(replace(spec, relations=several), rng) for several in relations]


def reworded(spec: Spec, rng: np.random.Generator) -> Spec:
    """The spec with wordings drawn anew."""
    return replace(spec, wordings=tuple(str(rng.choice(WORDINGS[r.label].wordings)) for r in spec.relations))


@dataclass(frozen=True)
class Augmentation:
    """How a set of variants is drawn: mirrored, and with these entities.

    Attributes:
        mirror_22: symmetry of the square, of positions (x, y) from its centre.
        reverse: time runs backwards.
        entities: as many as the specs have.
    """

    mirror_22: NDArray[np.float64]
    reverse: bool
    entities: tuple[str, ...]

    @classmethod
    def sample(cls, entities: int, rng: np.random.Generator) -> Augmentation:
        """One of the 16 symmetries, and entities of the training share."""
        mirror_22 = np.diag(rng.choice([-1.0, 1.0], 2))
        tuples = entity_tuples(entities, held_out=False)
        return cls(
            mirror_22[::-1] if rng.random() < 0.5 else mirror_22,
            bool(rng.random() < 0.5),
            tuples[rng.integers(len(tuples))],
        )

    def label(self, name: str) -> str:
        """What holds in the drawn scene where ``name`` held."""
        if name in APPROACH:
            way = APPROACH[name] * (-1 if self.reverse else 1)
            return next(other for other, sign in APPROACH.items() if sign == way)
        group = WORDINGS[name].group
        direction = self.mirror_22 @ DIRECTIONS[name] * (-1 if self.reverse and group == "motion" else 1)
        labels = [label.name for label in WORDINGS.groups[group]]
        return next(other for other in labels if np.allclose(DIRECTIONS[other], direction))

    def track(self, track_F2: NDArray[np.float64]) -> NDArray[np.float64]:
        """The mirrored track."""
        mirrored = (track_F2 - 0.5) @ self.mirror_22.T + 0.5
        return mirrored[::-1] if self.reverse else mirrored

    def __call__(self, spec: Spec, scene: Scene, rng: np.random.Generator) -> tuple[Spec, Scene]:
        """The scene drawn that way, in shades of its own, and what it shows, in words of its own."""
        relations = tuple(replace(r, label=self.label(r.label)) for r in spec.relations)
        sprites = []
        for entity, sprite in zip(self.entities, scene.sprites, strict=True):
            color, shape = entity.split()
            sprites.append(Sprite(shape, shade(color, rng), sprite.radius, self.track(sprite.track_F2)))
        distractors = tuple(replace(dot, track_F2=self.track(dot.track_F2)) for dot in scene.distractors)
        return (
            reworded(replace(spec, entities=self.entities, relations=relations), rng),
            replace(scene, sprites=tuple(sprites), distractors=distractors),
        )


def sampled(scene: Scene) -> Scene:
    """The scene at the model's own frames: only what is looked at need be drawn."""
    stride = (FRAMES - 1) // (NUM_FRAMES - 1)
    sprites, distractors = (
        tuple(sprite.at(slice(None, None, stride)) for sprite in group) for group in (scene.sprites, scene.distractors)
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
    """

    def __init__(self, groups: int) -> None:
        rng = np.random.default_rng(5)
        self.groups: list[list[tuple[Spec, Scene]]] = [
            [(spec, sampled(sample_scene(spec, rng))) for spec in variants(rng)]
            for _ in trange(groups, desc="scenes", mininterval=5)
        ]

    def batch(self, seed: int, count: int) -> tuple[Tensor, list[Spec], list[Scene]]:
        """Clips (B, F, 3, H, W), what their captions say, and the scenes at the clips' frames."""
        rng = np.random.default_rng([seed, 5])
        clips: list[Tensor] = []
        specs: list[Spec] = []
        scenes: list[Scene] = []
        while len(clips) < count:
            group = self.groups[rng.integers(len(self.groups))]
            augment = Augmentation.sample(len(group[0][0].entities), rng)
            for spec, scene in (augment(*variant, rng) for variant in group):
                clips.append(clip(scene, rng))
                specs.append(spec)
                scenes.append(scene)
        return torch.stack(clips[:count]), specs[:count], scenes[:count]
