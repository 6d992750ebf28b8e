"""Reads a clip of the shapes world from its pixels alone: which entities it shows, where they go, what they make up.

The oracle knows nothing of the renderer's scene or of any model. It finds what is coloured, names each blob's colour by
hue and its shape by the best fitting outline, and measures its track. It never guesses: what is missing, doubled,
between two colours or between two shapes is a problem, and a label is None ("cannot tell") unless exactly one of its
group holds. Clips of a small decoder are blurred and ghosted, so a blob ends where its colourfulness falls to half, and
every statistic over frames stands up to a fifth of bad frames.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from cvg.common.errors import DataError, PromptError
from cvg.composition import Composition, LabelSet
from cvg.composition.phrases import plain
from cvg.judging.geometry import Track, holds, judging
from cvg.shapes.blobs import LEAST_AREA, Array, Mask, fitting_shape, follow, largest_blobs
from cvg.shapes.renderer import COLORS, SHAPES, SIZE
from cvg.shapes.world import ENTITIES, LABELS, Spec

# Chroma is max - min of RGB, 0 to 255.
COLOURFUL = 45.0  # least chroma of a coloured pixel; backgrounds and grey dots stay below 25
LEAST_PEAK = 70.0  # least chroma at the heart of a named colour: washed-out blobs are a problem, not an entity
HUE_TOLERANCE = 18.0  # degrees from a colour's hue; the closest two are 48 apart, the renderer's jitter is 6
BAD_FRAMES = 0.2  # share of frames in which something may go wrong without consequence
JUMP = 0.2  # frame sides: a step this long from one frame to the next is a jump


@dataclass(frozen=True)
class Verdict:
    """What :func:`judge` found.

    Attributes:
        entities_right: exactly the wanted entities are there, in their colours and shapes, and nothing else coloured.
        labels: per relation the label of its group that the clip shows, None when that cannot be told.
        composition_right: the entities are right and every label is the wanted one.
        problems: why the entities are not right, or empty.
    """

    entities_right: bool
    labels: tuple[str | None, ...]
    composition_right: bool
    problems: tuple[str, ...]


@dataclass(frozen=True)
class Reading:
    """What a clip shows.

    Attributes:
        tracks: per entity phrase (``"red circle"``) its centres (F, 2), x right and y down, in frame sides.
        problems: everything coloured that is no clear entity, in words.
    """

    tracks: dict[str, Track]
    problems: tuple[str, ...]

    def label(self, group: str, entities: Sequence[str], among: LabelSet = LABELS) -> str | None:
        """The label of ``group`` that holds for (subject,) or (subject, object).

        Args:
            group: of ``among``.
            entities: their phrases.
            among: labels that have a geometry in :mod:`cvg.judging.geometry`.

        Returns:
            The label's name; None when an entity is not there, or when not exactly one label holds.

        Raises:
            PromptError: there is no such group, or the group relates another number of entities.
        """
        labels = among.groups.get(group)
        if labels is None:
            raise PromptError(f"label group {group!r}: the oracle knows {', '.join(among.groups)}")
        if len(entities) != labels[0].entities:
            raise PromptError(f"label group {group!r}: relates {labels[0].entities} entities, {len(entities)} given")
        if any(entity not in self.tracks for entity in entities):
            return None
        tracks = [self.tracks[entity] for entity in entities]
        margins = judging(label.name for label in labels)
        true = [label.name for label in labels if holds(label.name, tracks, margins)]
        return true[0] if len(true) == 1 else None


def judge(frames_FHWC: NDArray[np.uint8], wanted: Spec | Composition, among: LabelSet = LABELS) -> Verdict:
    """Whether a clip shows a composition.

    Args:
        frames_FHWC: see :func:`read`.
        wanted: what the clip was to show; its entities must be of the shapes world, such as ``"red circle"``.
        among: see :meth:`Reading.label`.

    Raises:
        UserError: an entity or a label that is not of the shapes world, or frames that cannot be read.
    """
    reading, (entities, relations) = read(frames_FHWC), _wanted(wanted)
    missing = [f"{entity}: not there" for entity in entities if entity not in reading.tracks]
    extra = [f"{entity}: not asked for" for entity in reading.tracks if entity not in entities]
    problems = (*missing, *extra, *reading.problems)
    labels = tuple(reading.label(among[label].group, phrases, among) for label, phrases in relations)
    right = not problems and labels == tuple(label for label, _ in relations)
    return Verdict(not problems, labels, right, problems)


def smoothness(frames_FHWC: NDArray[np.uint8]) -> float:
    """How well each frame is foretold by its neighbours: 1 - mean |x[t] - (x[t-1] + x[t+1]) / 2| / 255.

    It is in [0, 1]: 1 for a still clip, near 1 for steady motion, lower for flicker, popping and jitter. It rewards
    stillness, so compare clips that show the same motion. Rendered clips have 0.98 to 1.00.

    Args:
        frames_FHWC: (F, H, W, 3) uint8, F >= 3.

    Raises:
        UserError: fewer than three frames, or another type or shape.
    """
    video = _checked(frames_FHWC).astype(np.float32)
    return float(1 - np.abs(video[1:-1] - (video[:-2] + video[2:]) / 2).mean() / 255)


def read(frames_FHWC: NDArray[np.uint8]) -> Reading:
    """Find the entities of a clip and their tracks.

    Args:
        frames_FHWC: (F, H, W, 3) uint8 RGB; F >= 3, sides >= 48. Large frames are averaged down to about 64 pixels.

    Raises:
        UserError: frames of another type or shape, too few or too small.
    """
    video = _shrink(_checked(frames_FHWC))
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
        track, steady = follow(alpha, blobs, present)
        shape = fitting_shape(alpha, blobs)
        what = f"{name} {shape or 'blob'}"
        if steady.mean() < 1 - BAD_FRAMES:
            problems.append(f"{what}: not there in {int((~steady).sum())} of {len(steady)} frames")
        elif shape is None:
            problems.append(f"{what}: its shape is unclear")
        else:
            tracks[what] = track
            if np.linalg.norm(np.diff(track, axis=0), axis=-1).max() > JUMP:
                problems.append(f"{what}: jumps from place to place")
        if extra.mean() > BAD_FRAMES:
            problems.append(f"{name}: several blobs in {int(extra.sum())} of {len(extra)} frames")
    return Reading(tracks, tuple(problems))


def _wanted(wanted: Spec | Composition) -> tuple[list[str], list[tuple[str, tuple[str, ...]]]]:
    """Entity phrases, and per relation its label and entity phrases."""
    if isinstance(wanted, Spec):
        names = list(wanted.entities)
        relations = [(r.label, tuple(wanted.entities[i] for i in r.entities)) for r in wanted.relations]
    else:
        names = [plain(entity.phrase) for entity in wanted.entities]
        relations = [(r.label, tuple(plain(entity.phrase) for entity in r.entities)) for r in wanted.relations]
    for name in names:
        if name not in ENTITIES:
            raise PromptError(
                f"entity {name!r}: the oracle knows the colours {', '.join(COLORS)} and the shapes "
                f"{', '.join(SHAPES)}; name one of each, such as {ENTITIES[0]!r}"
            )
    return names, relations


def _checked(frames: NDArray[np.uint8]) -> NDArray[np.uint8]:
    frames = np.asarray(frames)
    if frames.dtype != np.uint8 or frames.ndim != 4 or frames.shape[-1] != 3:
        raise DataError(f"clip: {frames.dtype} of shape {frames.shape}; expected uint8 (frames, height, width, 3)")
    if frames.shape[0] < 3 or min(frames.shape[1:3]) < 48:
        raise DataError(f"clip: shape {frames.shape}; needs at least 3 frames of at least 48 x 48 pixels")
    return frames


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
