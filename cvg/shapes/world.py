"""Samples the clips of the shapes world: a composition of entities and relations, and a scene that shows it."""

from __future__ import annotations

import functools
import itertools
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from cvg.common.errors import SettingsError
from cvg.composition import Composition, LabelSet, build
from cvg.shapes import actions, interactions, lines
from cvg.shapes.placing import Candidates, Path, placed
from cvg.shapes.renderer import COLORS, FRAMES, SHAPES, SIZE, Background, Color, Scene, Sprite

LABELS = LabelSet.load("shapes")
KINDS = ("motion", "spatial", "relative_motion", "two_relations")
"""Kinds of composition that straight lines show: what is drawn where none is named."""
ALL_KINDS = (*KINDS, "depth", "action", "path", "interaction", "attribute", "change", "three_relations")

ENTITIES = tuple(f"{color} {shape}" for color in COLORS for shape in SHAPES)
HELD_OUT_ENTITIES = ("red triangle", "green circle", "yellow square")
"""Never alone in a training clip: evaluation asks for them. (In pairs they are rendered: a model of this size learns
an entity, colour and shape together, from clips that show it.)"""


def known_kinds(kinds: Sequence[str] | None, usual: Sequence[str] = ALL_KINDS) -> tuple[str, ...]:
    """Kinds of composition, or the usual ones where none are given.

    Raises:
        SettingsError: a name that is none of ``ALL_KINDS``, or a list of none.
    """
    if kinds is not None and not kinds:
        raise SettingsError(f"kinds {list(kinds)}: give some of {', '.join(ALL_KINDS)}, or leave them out")
    if unknown := [kind for kind in kinds or () if kind not in ALL_KINDS]:
        raise SettingsError(f"kind {unknown[0]!r}: unknown; give some of {', '.join(ALL_KINDS)}")
    return tuple(kinds or usual)


@dataclass(frozen=True)
class RelationSpec:
    """A label and the indices of the entities it relates: (subject,) or (subject, object)."""

    label: str
    entities: tuple[int, ...]


@dataclass(frozen=True)
class Spec:
    """What a clip is to show.

    Attributes:
        kind: one of ``ALL_KINDS``.
        template: prompt with ``{e0}``, ``{e1}`` for entities and ``{r0}``, ``{r1}`` for relation wordings.
        entities: entity phrases: ``red circle``, or ``circle`` where the colour is what a relation says.
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
    def shown(self) -> tuple[str, ...]:
        """The entities that the clip shows, colour and shape: a first and a second one of what changes its colour."""
        told = {r.entities[0]: color_of(r.label) for r in self.relations if color_of(r.label)}
        if self.kind == "change":
            return (*self.entities, f"{told[0]} {self.entities[0].split()[1]}")
        return tuple(f"{told[i]} {entity}" if i in told else entity for i, entity in enumerate(self.entities))

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
    "depth": (("a {e0} {r0} a {e1}", (("depth", (0, 1)),)),),
    "action": (("a {e0} {r0}", (("action", (0,)),)),),
    "path": (("a {e0} {r0}", (("path", (0,)),)),),
    "interaction": (("a {e0} {r0} a {e1}", (("interaction", (0, 1)),)),),
    "attribute": (("a {e0} {r0} and a {e1} {r1}", (("attribute", (0,)), ("attribute", (1,)))),),
    "change": (("a {e0} {r0}", (("change", (0,)),)),),
    "three_relations": (
        ("a {e0} {r0} {r1} a {e1} that is {r2}", (("motion", (0,)), ("spatial", (0, 1)), ("motion", (1,)))),
    ),
}
"""Per kind: (template, ((group, entity indices), ...))."""


def color_of(label: str) -> str | None:
    """The colour that a label says an entity has or takes on; None where it says none."""
    color = label.split()[-1]
    return color if label in (f"in {color}", f"turning {color}") else None


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
        kind: one of ``ALL_KINDS``; drawn of ``KINDS`` when None.
        held_out: entities from the held-out share instead of the training share.
        labels: the labels of the relations instead of drawn ones.
        among: the label set that labels and wordings are drawn from; it has the groups that the kind needs.
    """
    kind = kind or str(rng.choice(KINDS))
    choices = TEMPLATES[kind]
    template, places = choices[rng.integers(len(choices))]
    tuples = entity_tuples(1 + max(max(indices) for _, indices in places), held_out)
    if kind == "attribute":  # which of two shapes has which colour
        tuples = [t for t in tuples if t[0].split()[1] != t[1].split()[1]]
        tuples = [t for t in tuples if all(f"in {entity.split()[0]}" in among for entity in t)]
    if kind == "change":
        tuples = [t for t in tuples if any(turns(t[0], label.name, held_out) for label in among.groups["change"])]
    entities = tuples[rng.integers(len(tuples))]
    if kind == "attribute":
        labels = labels or [f"in {entity.split()[0]}" for entity in entities]
        entities = tuple(entity.split()[1] for entity in entities)
    specs, wordings = [], []
    for i, (group, indices) in enumerate(places):
        candidates = among.groups[group]
        if kind == "change":
            candidates = [label for label in candidates if turns(entities[0], label.name, held_out)]
        label = among[labels[i]] if labels else candidates[rng.integers(len(candidates))]
        specs.append(RelationSpec(label.name, indices))
        wordings.append(label.wordings[rng.integers(len(label.wordings))])
    return Spec(kind, template, entities, tuple(specs), tuple(wordings))


def turns(entity: str, label: str, held_out: bool = True) -> bool:
    """Whether a clip may show an entity that turns into what a label of the group ``change`` says.

    Args:
        entity: colour and shape.
        label: name of the label.
        held_out: whether it may become what is never alone in a training clip.
    """
    old, shape = entity.split()
    new = color_of(label)
    return new != old and (held_out or f"{new} {shape}" not in HELD_OUT_ENTITIES)


def shade(color: str, rng: np.random.Generator) -> Color:
    """A shade of one of ``COLORS``, RGB from 0 to 255."""
    rgb = np.array(COLORS[color]) * rng.uniform(0.88, 1.05) + rng.uniform(-8, 8, 3)
    red, green, blue = (float(v) for v in np.clip(rgb, 0, 255))
    return red, green, blue


def shades(spec: Spec, rng: np.random.Generator, stride: int = 1) -> list[Color | NDArray[np.float64]]:
    """The colour of each entity of a clip, or its colours in every ``stride``-th frame (F, 3) where they change."""
    found = [shade(entity.split()[0], rng) for entity in spec.shown]
    if spec.kind != "change":
        return list(found)
    turned_F1 = actions.TURNING[::stride, None]
    return [(1 - turned_F1) * np.array(found[0]) + turned_F1 * np.array(found[1])]


def sample_scene(spec: Spec, rng: np.random.Generator) -> Scene:
    """Draw a scene that shows ``spec``: positions, speeds, sizes, shades, background, and perhaps a distractor."""
    paths = _sample_paths(spec, rng)
    sprites = [
        Sprite(entity.split()[-1], rgb, path.radius, path.track_F2, path.opacity, path.layer)
        for entity, rgb, path in zip(spec.entities, shades(spec, rng), paths, strict=True)
    ]
    base = rng.uniform(25, 120) + rng.uniform(-8, 8, 3)
    background = Background(
        rgb=(float(base[0]), float(base[1]), float(base[2])),
        shade=(float(rng.uniform(-30, 30)), float(rng.uniform(-30, 30))),
        texture=str(rng.choice(["plain", "stripes", "noise"])),
        amplitude=float(rng.uniform(3, 9)),
        seed=int(rng.integers(2**31)),
    )
    return Scene(tuple(sprites), background, _sample_distractors(paths, rng))


def _sample_paths(spec: Spec, rng: np.random.Generator) -> list[Path]:
    """How each entity is drawn."""
    label, shapes = spec.relations[0].label, [entity.split()[-1] for entity in spec.entities]
    ways: dict[str, Callable[[np.random.Generator], Candidates]] = {
        "depth": functools.partial(interactions.overlapping, label, shapes),
        "action": functools.partial(actions.act, label),
        "path": functools.partial(actions.corner, label),
        "interaction": functools.partial(interactions.interact, label, shapes),
        "attribute": functools.partial(interactions.apart, shapes),
        "change": actions.still,
    }
    if spec.kind in ways:
        return placed(ways[spec.kind], shapes, rng)
    relations = [(relation.label, relation.entities) for relation in spec.relations]
    if spec.kind == "three_relations":
        return placed(functools.partial(lines.three_relations, relations, shapes), shapes, rng)
    return lines.sample(len(spec.entities), relations, rng)


def _sample_distractors(paths: Sequence[Path], rng: np.random.Generator) -> tuple[Sprite, ...]:
    """A light grey dot in three clips of ten, static or drifting, clear of the entities (or none if none fits)."""
    if rng.random() > 0.3:
        return ()
    time_F = np.linspace(-0.5, 0.5, FRAMES)[:, None]
    for _ in range(16):
        radius = float(rng.uniform(2.2, 3.2))
        track = rng.uniform(0.1, 0.9, 2) + rng.uniform(-0.2, 0.2, 2) * time_F
        clear = all(
            np.linalg.norm(track - path.track_F2, axis=-1).min() > (radius + 1.3 * np.max(path.radius) + 2) / SIZE
            for path in paths
        )
        if clear:
            grey = float(rng.uniform(180, 225))
            return (Sprite("circle", (grey, grey, grey), radius, track),)
    return ()
