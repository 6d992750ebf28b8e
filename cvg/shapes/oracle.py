"""Reads a clip of the shapes world from its pixels alone: which entities it shows, where they go, what they make up.

The oracle knows nothing of the renderer's scene or of any model. It finds what is coloured, names each blob's colour by
hue and its shape by the best fitting outline, and follows it. It never guesses: what is missing, doubled,
between two colours or between two shapes is a problem, and a label is None ("cannot tell") unless exactly one of its
group holds. Clips of a small decoder are blurred and ghosted, so a blob ends where its colourfulness falls to half, and
every statistic over frames stands up to a fifth of bad frames.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from cvg.common.errors import PromptError, SettingsError
from cvg.composition import Composition, Entity, LabelSet, Relation
from cvg.composition.phrases import plain
from cvg.judging.base import Frames, Judge, Reading, checked_frames
from cvg.judging.rules import RULES
from cvg.judging.showing import Shown, rule_of, shown
from cvg.judging.tracks import Track, Tracks
from cvg.shapes.blobs import LEAST_AREA, Array, Mask, fitting_shape, follow, largest_blobs
from cvg.shapes.renderer import COLORS, SHAPES, SIZE
from cvg.shapes.world import ENTITIES, LABELS

# Chroma is max - min of RGB, 0 to 255.
COLOURFUL = 45.0  # least chroma of a coloured pixel; backgrounds and grey dots stay below 25
LEAST_PEAK = 70.0  # least chroma at the heart of a named colour: washed-out blobs are a problem, not an entity
HUE_TOLERANCE = 18.0  # degrees from a colour's hue; the closest two are 48 apart, the renderer's jitter is 6
BAD_FRAMES = 0.2  # share of frames in which something may go wrong without consequence
LEAST_SIDE = 48  # pixels: of smaller frames, shapes cannot be told apart
JUMP = 0.2  # frame sides: a step this long from one frame to the next is a jump


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
            if (label not in LABELS.labels and rule_of(label) is None) or label.group not in LABELS.groups:
                raise SettingsError(
                    f"judge shapes: label {label.name!r} of group {label.group!r} cannot be judged; known are labels "
                    f"with a rule ({', '.join(RULES)}), in groups {', '.join(LABELS.groups)}"
                )

    def __call__(self, videos: Sequence[Frames], asked: Sequence[Composition]) -> list[Reading]:
        """Read a batch of videos.

        Args:
            videos: see :func:`find_entities`.
            asked: what each of them was to show; entities are of the shapes world, such as ``"red circle"``.

        Raises:
            PromptError: an entity that is not of the shapes world, or a label that is not in the label set or relates
                another number of entities.
            DataError: frames that cannot be read.
        """
        return [self._read(video, composition) for video, composition in zip(videos, asked, strict=True)]

    def _read(self, frames_FHWC: Frames, asked: Composition) -> Reading:
        tracks, unclear = find_entities(frames_FHWC)
        entities = [_known(entity) for entity in asked.entities]
        missing = [f"{entity}: not there" for entity in entities if entity not in tracks.entities]
        extra = [f"{entity}: not asked for" for entity in tracks.entities if entity not in entities]
        seen = [self._shown(relation, tracks) for relation in asked.relations]
        return Reading(
            labels=tuple(each.label for each in seen),
            problems=(*missing, *extra, *unclear),
            found=tuple(all(_known(e) in tracks.entities for e in relation.entities) for relation in asked.relations),
            confidence=tuple(each.confidence for each in seen),
            tracks=tracks,
        )

    def _shown(self, relation: Relation, tracks: Tracks) -> Shown:
        """What a relation's group shows between its entities."""
        group = self.labels.groups[self.labels[relation.label].group]
        return shown(group, tracks, [_known(entity) for entity in relation.entities], relation.label)


def find_entities(frames_FHWC: Frames) -> tuple[Tracks, tuple[str, ...]]:
    """Find the entities of a clip and their tracks.

    Args:
        frames_FHWC: (F, H, W, 3) uint8 RGB; F >= 3, sides >= 48. Large frames are averaged down to about 64 pixels.

    Returns:
        The tracks of entities by their phrases (``"red circle"``), centres as exact as blurred rims make them; and
        everything coloured that is no clear entity, in words.

    Raises:
        DataError: frames of another type or shape, too few or too small.
    """
    video = _shrink(checked_frames(frames_FHWC, LEAST_SIDE))
    red, green, blue = np.moveaxis(video, -1, 0)  # numpy's own max over so short an axis is many times slower
    chroma = np.maximum(np.maximum(red, green), blue) - np.minimum(np.minimum(red, green), blue)
    coloured = np.nonzero(chroma >= COLOURFUL)
    hue = _hue(video[coloured])
    difference = np.abs((hue[:, None] - HUES[None] + 180) % 360 - 180)
    colour = np.full(chroma.shape, -1, np.int8)
    colour[coloured] = difference.argmin(axis=1)

    tracks: dict[str, Track] = {}
    problems: list[str] = []
    for index, name in enumerate(COLORS):
        same = np.where(colour == index, chroma, 0)
        if (same > 0).sum() < LEAST_AREA * chroma[0].size:
            continue
        # Most of a blob's pixels are its inside: this is their chroma, with the rim and any ghost below it.
        peak = float(np.percentile(same[same > 0], 85))
        alpha = np.clip((same / peak - 0.5) * 2 + 0.5, 0, 1)
        blobs, extra = largest_blobs(alpha)
        present: Mask = np.asarray(blobs.any(axis=(1, 2)))
        if present.mean() <= BAD_FRAMES:
            continue  # a flicker
        inside = blobs[coloured]
        shift = float(np.median((hue[inside] - HUES[index] + 180) % 360 - 180))
        if peak < LEAST_PEAK or abs(shift) > HUE_TOLERANCE:
            problems.append(f"{name}: its colour is unclear")
            continue
        track = follow(alpha, blobs, present)
        steady = track.visible
        shape = fitting_shape(alpha, blobs)
        what = f"{name} {shape or 'blob'}"
        if steady.mean() < 1 - BAD_FRAMES:
            problems.append(f"{what}: not there in {int((~steady).sum())} of {len(steady)} frames")
        elif shape is None:
            problems.append(f"{what}: its shape is unclear")
        else:
            tracks[what] = track
            if np.linalg.norm(np.diff(track.centres, axis=0), axis=-1).max() > JUMP:
                problems.append(f"{what}: jumps from place to place")
        if extra.mean() > BAD_FRAMES:
            problems.append(f"{name}: several blobs in {int(extra.sum())} of {len(extra)} frames")
    return Tracks(tracks), tuple(problems)


def _known(entity: Entity) -> str:
    """The phrase of an entity, spelt as the world spells it."""
    phrase = plain(entity.phrase)
    if phrase not in ENTITIES:
        raise PromptError(
            f"entity {phrase!r}: the oracle knows the colours {', '.join(COLORS)} and the shapes "
            f"{', '.join(SHAPES)}; name one of each, such as {ENTITIES[0]!r}"
        )
    return phrase


def _shrink(frames: NDArray[np.uint8]) -> Array:
    """Float frames, averaged over square blocks so that the shorter side has 48 to 127 pixels."""
    count, height, width, _ = frames.shape
    factor = max(1, min(height, width) // SIZE)
    if factor == 1:
        return frames.astype(np.float32)
    rows, columns = height // factor, width // factor
    blocks = frames[:, : rows * factor, : columns * factor].reshape(count, rows, factor, columns, factor, 3)
    return blocks.mean(axis=(2, 4), dtype=np.float32)


def _hue(rgb_N3: Array) -> Array:
    """Hue in degrees. Mixing a colour with grey, as a soft edge does, leaves it as it is."""
    red, green, blue = rgb_N3.T
    return np.asarray(np.degrees(np.arctan2(np.sqrt(3) * (green - blue), 2 * red - green - blue)))


HUES = _hue(np.array(list(COLORS.values()), np.float32))
