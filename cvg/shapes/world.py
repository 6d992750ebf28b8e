"""Samples the clips of the shapes world: a composition of entities and relations, and a scene that shows it."""

from __future__ import annotations

import functools
import itertools
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from cvg.composition import Composition, LabelSet, build
from cvg.judging import geometry
from cvg.shapes.renderer import COLORS, FRAMES, SHAPES, SIZE, Background, Scene, Sprite

LABELS = LabelSet.load("shapes")
RENDER = geometry.Margins(motion=0.2, spatial=0.28, approach=0.22, off_axis=0.4)
"""How clearly relations hold in rendered clips: more so than judges ask for."""
KINDS = ("motion", "spatial", "relative_motion", "two_relations")

ENTITIES = tuple(f"{color} {shape}" for color in COLORS for shape in SHAPES)
HELD_OUT_ENTITIES = ("red triangle", "green circle", "yellow square")
"""Never alone in a training clip: evaluation asks for them. (In pairs they are rendered: a model of this size learns
an entity, colour and shape together, from clips that show it.)"""


@dataclass(frozen=True)
class RelationSpec:
    """A label and the indices of the entities it relates: (subject,) or (subject, object)."""

    label: str
    entities: tuple[int, ...]


@dataclass(frozen=True)
class Spec:
    """What a clip is to show.

    Attributes:
        kind: one of ``KINDS``.
        template: prompt with ``{e0}``, ``{e1}`` for entities and ``{r0}``, ``{r1}`` for relation wordings.
        entities: entity phrases.
        relations: what holds between them.
        wordings: one wording per relation.
    """

    kind: str
    template: str
    entities: tuple[str, ...]
    relations: tuple[RelationSpec, ...]
    wordings: tuple[str, ...]

    @property
    def prompt(self) -> str:
        """The prompt that names every relation as it is."""
        names = {f"e{i}": entity for i, entity in enumerate(self.entities)}
        names |= {f"r{i}": wording for i, wording in enumerate(self.wordings)}
        return self.template.format(**names)

    @property
    def composition(self) -> Composition:
        """What the prompt asks for."""
        relations = [(relation.label, relation.entities) for relation in self.relations]
        return build(self.template, self.entities, relations, self.wordings)


TEMPLATES: dict[str, tuple[tuple[str, tuple[tuple[str, tuple[int, ...]], ...]], ...]] = {
    "motion": (("a {e0} {r0}", (("motion", (0,)),)),),
    "spatial": (("a {e0} {r0} a {e1}", (("spatial", (0, 1)),)),),
    "relative_motion": (("a {e0} {r0} a {e1}", (("relative_motion", (0, 1)),)),),
    "two_relations": (
        ("a {e0} {r0} {r1} a {e1}", (("motion", (0,)), ("spatial", (0, 1)))),
        ("a {e0} {r0} and a {e1} {r1}", (("motion", (0,)), ("motion", (1,)))),
    ),
}
"""Per kind: (template, ((group, entity indices), ...))."""


def held_out_pair(first: str, second: str) -> bool:
    """Whether this ordered pair of entities is kept for evaluation: a fifth of all pairs, fixed for ever."""
    return (ENTITIES.index(first) * 7 + ENTITIES.index(second) * 3) % 5 == 0


@functools.cache
def entity_tuples(count: int, held_out: bool) -> list[tuple[str, ...]]:
    """Ordered tuples of entities of distinct colours, of the training share or of the held-out share.

    The held-out share of single entities is ``HELD_OUT_ENTITIES``, that of pairs the pairs of :func:`held_out_pair`.
    """
    tuples = itertools.permutations(ENTITIES, count)
    distinct = [t for t in tuples if len({entity.split()[0] for entity in t}) == count]

    def is_held_out(entities: tuple[str, ...]) -> bool:
        return entities[0] in HELD_OUT_ENTITIES if count == 1 else held_out_pair(entities[0], entities[1])

    return [t for t in distinct if is_held_out(t) == held_out]


def sample_spec(
    rng: np.random.Generator,
    kind: str | None = None,
    held_out: bool = False,
    labels: Sequence[str] | None = None,
    among: LabelSet = LABELS,
) -> Spec:
    """Draw a composition: kind, template, entities, labels and wordings, each uniformly.

    Args:
        rng: source of randomness.
        kind: one of ``KINDS``; drawn when None.
        held_out: entities from the held-out share instead of the training share.
        labels: the labels of the relations instead of drawn ones.
        among: the label set that labels and wordings are drawn from; it has the groups that the kind needs.
    """
    kind = kind or str(rng.choice(KINDS))
    choices = TEMPLATES[kind]
    template, places = choices[rng.integers(len(choices))]
    tuples = entity_tuples(1 + max(max(indices) for _, indices in places), held_out)
    entities = tuples[rng.integers(len(tuples))]
    specs, wordings = [], []
    for i, (group, indices) in enumerate(places):
        candidates = among.groups[group]
        label = among[labels[i]] if labels else candidates[rng.integers(len(candidates))]
        specs.append(RelationSpec(label.name, indices))
        wordings.append(label.wordings[rng.integers(len(label.wordings))])
    return Spec(kind, template, entities, tuple(specs), tuple(wordings))


def _sample_tracks(spec: Spec, rng: np.random.Generator) -> tuple[list[float], list[NDArray[np.float64]]]:
    """Radii (pixels) and tracks (F, 2) that satisfy every relation with the renderer's margins.

    Straight lines at constant speed, by rejection: inside the frame, never touching.
    """
    time_F = np.linspace(-0.5, 0.5, FRAMES)[:, None]
    count, n = len(spec.entities), 256
    moving = {i: r.label for r in spec.relations if len(r.entities) == 1 for i in r.entities}
    approaching = {r.entities[0] for r in spec.relations if r.label in geometry.APPROACH}
    while True:
        radii = [float(rng.uniform(8.0, 10.0)) for _ in spec.entities]
        tracks, valid = [], np.ones(n, bool)
        for i in range(count):
            centre = rng.uniform(0.12, 0.88, (n, 1, 2))
            if i in moving:
                # Longer paths leave two entities of this size hardly a way past each other.
                along = np.array(geometry.DIRECTIONS[moving[i]])
                path = along * rng.uniform(0.22, 0.4, (n, 1, 1)) + along[::-1] * rng.uniform(-0.05, 0.05, (n, 1, 1))
            elif i in approaching:
                angle = rng.uniform(0, 2 * np.pi, (n, 1, 1))
                path = rng.uniform(0.24, 0.5, (n, 1, 1)) * np.concatenate([np.cos(angle), np.sin(angle)], axis=-1)
            else:
                path = rng.uniform(-0.04, 0.04, (n, 1, 2))
            track = centre + path * time_F
            reach = (radii[i] * 1.45 + 0.5) / SIZE  # a triangle's tip is 1.44 radii from its centre
            valid &= (track.min(axis=(1, 2)) > reach) & (track.max(axis=(1, 2)) < 1 - reach)
            tracks.append(track)
        if count == 2:
            gap = np.linalg.norm(tracks[0] - tracks[1], axis=-1).min(axis=-1)
            valid &= gap > (sum(radii) * 1.05 + 1) / SIZE
        for relation in spec.relations:
            valid &= geometry.holds(relation.label, [tracks[i] for i in relation.entities], RENDER)
        if valid.any():
            first = int(np.argmax(valid))
            return radii, [track[first] for track in tracks]


def shade(color: str, rng: np.random.Generator) -> tuple[float, float, float]:
    """A shade of one of ``COLORS``, RGB from 0 to 255."""
    rgb = np.array(COLORS[color]) * rng.uniform(0.88, 1.05) + rng.uniform(-8, 8, 3)
    red, green, blue = (float(v) for v in np.clip(rgb, 0, 255))
    return red, green, blue


def sample_scene(spec: Spec, rng: np.random.Generator) -> Scene:
    """Draw a scene that shows ``spec``: positions, speeds, sizes, shades, background, and perhaps a distractor."""
    radii, tracks = _sample_tracks(spec, rng)
    sprites = []
    for entity, radius, track in zip(spec.entities, radii, tracks, strict=True):
        color, shape = entity.split()
        sprites.append(Sprite(shape, shade(color, rng), radius, track))
    base = rng.uniform(25, 120) + rng.uniform(-8, 8, 3)
    background = Background(
        rgb=(float(base[0]), float(base[1]), float(base[2])),
        shade=(float(rng.uniform(-30, 30)), float(rng.uniform(-30, 30))),
        texture=str(rng.choice(["plain", "stripes", "noise"])),
        amplitude=float(rng.uniform(3, 9)),
        seed=int(rng.integers(2**31)),
    )
    return Scene(tuple(sprites), background, _sample_distractors(radii, tracks, rng))


def _sample_distractors(
    radii: Sequence[float], tracks: Sequence[NDArray[np.float64]], rng: np.random.Generator
) -> tuple[Sprite, ...]:
    """A light grey dot in three clips of ten, static or drifting, clear of the entities (or none if none fits)."""
    if rng.random() > 0.3:
        return ()
    time_F = np.linspace(-0.5, 0.5, FRAMES)[:, None]
    for _ in range(16):
        radius = float(rng.uniform(2.2, 3.2))
        track = rng.uniform(0.1, 0.9, 2) + rng.uniform(-0.2, 0.2, 2) * time_F
        clear = all(
            np.linalg.norm(track - other, axis=-1).min() > (radius + 1.3 * r + 2) / SIZE
            for other, r in zip(tracks, radii, strict=True)
        )
        if clear:
            grey = float(rng.uniform(180, 225))
            return (Sprite("circle", (grey, grey, grey), radius, track),)
    return ()
