"""Reads a clip of the shapes world from its pixels alone: which entities it shows, where they go, what they make up.

The oracle knows nothing of the renderer's scene or of any model. It finds what is coloured, names each blob's colour by
hue and its shape by the best fitting outline, and follows it. It never guesses: what is missing, doubled,
between two colours or between two shapes is a problem, and a label is None ("cannot tell") unless exactly one of its
group holds. Clips of a small decoder are blurred and ghosted, so a blob ends where its colourfulness falls to half, and
every statistic over frames stands up to a fifth of bad frames.

What a clip may show depends on what is asked for: that something is away for a while is no fault where labels of that
group show what blinks; nor that one thing covers a part of another, or has another colour, where labels are about that.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from cvg.common.errors import PromptError, SettingsError
from cvg.composition import Composition, Entity, LabelSet, Relation
from cvg.composition.phrases import plain
from cvg.judging.base import Frames, Judge, Reading
from cvg.judging.rules import RULES
from cvg.judging.showing import Shown, rule_of, shown
from cvg.judging.tracks import Tracks
from cvg.shapes.entities import Sight, find_entities
from cvg.shapes.renderer import COLORS, SHAPES
from cvg.shapes.world import ENTITIES, LABELS

COVERING = frozenset({"in front of", "behind", "bumps into", "meets", "swaps with", "past", "around"})
"""Rules of labels by which things come so near to one another that one may cover a part of the other."""


class ShapesOracle(Judge):
    """The judge of the shapes world: pixels alone, no model.

    Args:
        labels: the labels that it tells apart, each among those of its group; the world's own when None.
        device: what judges with a model are given; this one has none and computes on the CPU.

    Raises:
        SettingsError: a label that has no rule, or is of a group that the world does not have.
    """

    def __init__(self, labels: LabelSet | None = None, device: str = "cpu") -> None:
        self.labels = labels or LABELS
        for label in self.labels.labels:
            if rule_of(label) is None or label.group not in LABELS.groups:
                raise SettingsError(
                    f"judge shapes: label {label.name!r} of group {label.group!r} cannot be judged; known are labels "
                    f"with a rule ({', '.join(RULES)}), in groups {', '.join(LABELS.groups)}"
                )

    def __call__(self, videos: Sequence[Frames], asked: Sequence[Composition]) -> list[Reading]:
        """Read a batch of videos.

        Args:
            videos: see :func:`find_entities`.
            asked: what each of them was to show; entities are of the shapes world, such as ``"red circle"``, or
                ``"circle"`` of any colour.

        Raises:
            PromptError: an entity that is not of the shapes world, or a label that is not in the label set or relates
                another number of entities.
            DataError: frames that cannot be read.
        """
        return [self._read(video, composition) for video, composition in zip(videos, asked, strict=True)]

    def _read(self, frames_FHWC: Frames, asked: Composition) -> Reading:
        entities = [_known(entity) for entity in asked.entities]
        tracks, unclear = find_entities(frames_FHWC, self._sight(asked))
        tracks, several = _as_asked(tracks, entities)
        missing = [f"{entity}: not there" for entity in entities if entity not in tracks.entities]
        extra = [f"{entity}: not asked for" for entity in tracks.entities if entity not in entities]
        seen = [self._shown(relation, tracks) for relation in asked.relations]
        return Reading(
            labels=tuple(each.label for each in seen),
            problems=(*missing, *extra, *several, *unclear),
            found=tuple(all(_known(e) in tracks.entities for e in relation.entities) for relation in asked.relations),
            confidence=tuple(each.confidence for each in seen),
            tracks=tracks,
        )

    def _sight(self, asked: Composition) -> Sight:
        """What is no fault in a clip, since labels of the groups that are asked for show it."""
        groups = {self.labels[relation.label].group for relation in asked.relations}
        rules = {rule_of(label) or "" for group in groups for label in self.labels.groups[group]}
        return Sight(
            away="blinks" in rules,
            covered=not rules.isdisjoint(COVERING),
            colours=any(rule.startswith(("is ", "turns ")) for rule in rules),
        )

    def _shown(self, relation: Relation, tracks: Tracks) -> Shown:
        """What a relation's group shows between its entities."""
        group = self.labels.groups[self.labels[relation.label].group]
        return shown(group, tracks, [_known(entity) for entity in relation.entities], relation.label)


def _known(entity: Entity) -> str:
    """The phrase of an entity, spelt as the world spells it."""
    phrase = plain(entity.phrase)
    if phrase not in (*ENTITIES, *SHAPES):
        raise PromptError(
            f"entity {phrase!r}: the oracle knows the colours {', '.join(COLORS)} and the shapes "
            f"{', '.join(SHAPES)}; name one of each, such as {ENTITIES[0]!r}, or a shape alone"
        )
    return phrase


def _as_asked(tracks: Tracks, asked: Sequence[str]) -> tuple[Tracks, list[str]]:
    """Tracks by the phrases that were asked for: a bare shape is the one of that shape, whatever its colour.

    Returns:
        The tracks; and the shapes of which there are several, in words: none of these is the one that was meant.
    """
    named, several = dict(tracks.entities), []
    for shape in (phrase for phrase in asked if phrase in SHAPES):
        alike = [phrase for phrase in named if phrase.endswith(f" {shape}") and phrase not in asked]
        if len(alike) == 1:
            named[shape] = named.pop(alike[0])
        elif alike:
            several.append(f"{shape}: there are {len(alike)}")
    return replace(tracks, entities=named), several
