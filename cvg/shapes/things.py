"""What is coloured in a clip, as things that last: one of each colour, or things first and their colours afterwards."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy.optimize import linear_sum_assignment

from cvg.judging.rules.view import ends
from cvg.shapes.blobs import LEAST_AREA, Array, Components, Mask, components, grown, largest_blobs
from cvg.shapes.colours import COLOURFUL, HUE_TOLERANCE, LEAST_PEAK, Coloured
from cvg.shapes.renderer import COLORS

FLICKER = 0.2  # share of the frames up to which what is seen is a flicker and no thing
PURE = 0.7  # share of a thing's pixels that have its colour
REACH = 0.15  # frame sides that a thing may go from one frame to the next


@dataclass(eq=False)
class Thing:
    """Something coloured.

    Attributes:
        colour: its name; "coloured" where it has none that is known, or several.
        alpha_FHW: how much each pixel belongs to it, 0 to 1; beyond its blobs, to what has its colour.
        blobs_FHW: its blob in each frame.
        extra_F: in which frames there is another blob of its colour.
        colours_F: its colour in each frame, None where that is none of ``COLORS``.
    """

    colour: str
    alpha_FHW: Array
    blobs_FHW: Mask
    extra_F: Mask
    colours_F: tuple[str | None, ...]

    @property
    def present_F(self) -> Mask:
        """In which frames it has a blob."""
        return np.asarray(self.blobs_FHW.any(axis=(1, 2)))


def by_colour(clip: Coloured, covered: bool = False) -> tuple[list[Thing], list[Thing]]:
    """The largest blobs of each colour as a thing; and those whose colour is unclear."""
    found: list[Thing] = []
    unclear: list[Thing] = []
    for index, name in enumerate(COLORS):
        same = np.where(clip.colour_FHW == index, clip.chroma_FHW, 0)
        if (same > 0).sum() < LEAST_AREA * same[0].size:
            continue
        peak = _peak(same[same > 0])
        alpha = _alpha(same, peak)
        blobs, extra = largest_blobs(alpha, covered)
        present: Mask = np.asarray(blobs.any(axis=(1, 2)))
        if present.mean() <= FLICKER:
            continue
        clear = peak >= LEAST_PEAK and abs(clip.shift(blobs, index)) <= HUE_TOLERANCE
        thing = Thing(name, alpha, blobs, extra, tuple(name if here else None for here in present))
        (found if clear else unclear).append(thing)
    return found, unclear


def is_mixture(thing: Thing, things: Sequence[Thing]) -> bool:
    """Whether something lies between two others that are twice as large: where they meet, colours mix to a third."""
    frames = thing.present_F
    touched = grown(grown(thing.blobs_FHW[frames]))
    area = thing.blobs_FHW[frames].sum(axis=(1, 2))
    beside = np.zeros(len(area), int)
    for other in things:
        blobs = other.blobs_FHW[frames]
        beside += (touched & blobs).any(axis=(1, 2)) & (blobs.sum(axis=(1, 2)) >= 2 * area)
    return bool((beside >= 2).mean() >= PURE)


def of_any_colour(clip: Coloured) -> list[Thing]:
    """What is coloured, one thing a place; its colour is the one that it has in the first third of the frames."""
    parts = components(clip.chroma_FHW >= COLOURFUL)
    found = []
    for numbers in _followed(parts, clip.chroma_FHW.shape):
        alpha = np.zeros_like(clip.chroma_FHW)
        blobs = np.zeros(alpha.shape, bool)
        names: list[str | None] = [None] * len(alpha)
        for number in numbers:
            frame = int(parts.frame[number])
            mine = parts.number_FHW[frame] == number
            chroma = np.where(mine, clip.chroma_FHW[frame], 0)
            peak = _peak(chroma[mine])
            alpha[frame] = _alpha(chroma, peak)
            blobs[frame] = alpha[frame] >= 0.5
            if peak >= LEAST_PEAK:
                names[frame] = _colour(clip, frame, blobs[frame])
        name, count = Counter(ends(np.array(names, object))[0]).most_common(1)[0]
        known = name is not None and count >= PURE * len(ends(blobs)[0])
        found.append(Thing(str(name) if known else "coloured", alpha, blobs, np.zeros(len(alpha), bool), tuple(names)))
    return found


def _peak(chroma_N: Array) -> float:
    """Chroma of a blob's inside, which most of its pixels are: the rim and any ghost lie below it."""
    return float(np.percentile(chroma_N, 85))


def _alpha(chroma: Array, peak: float) -> Array:
    return np.asarray(np.clip((chroma / peak - 0.5) * 2 + 0.5, 0, 1))


def _colour(clip: Coloured, frame: int, blob_HW: Mask) -> str | None:
    """The colour of most of a blob's pixels, none where these are of several or between two."""
    index, count = Counter(clip.colour_FHW[frame][blob_HW].tolist()).most_common(1)[0]
    where = np.zeros(clip.colour_FHW.shape, bool)
    where[frame] = blob_HW & (clip.colour_FHW[frame] == index)
    if count < PURE * blob_HW.sum() or abs(clip.shift(where, index)) > HUE_TOLERANCE:
        return None
    return list(COLORS)[index]


def _followed(parts: Components, shape: tuple[int, ...]) -> list[list[int]]:
    """Blobs joined over the frames by their places: the numbers of each thing's, but for what flickers."""
    frames, height, width = shape
    at: dict[int, Array] = {}
    for number in parts.blobs:
        rows, columns = np.nonzero(parts.number_FHW[parts.frame[number]] == number)
        at[int(number)] = np.array([columns.mean() / width, rows.mean() / height])
    things: list[list[int]] = []
    for frame in range(frames):
        here = [int(number) for number in parts.blobs if parts.frame[number] == frame]
        taken: set[int] = set()
        if here and things:
            apart = np.array([[np.linalg.norm(at[number] - at[thing[-1]]) for number in here] for thing in things])
            for one, other in zip(*linear_sum_assignment(np.minimum(apart, 1)), strict=True):
                if apart[one, other] <= REACH * min(3, frame - int(parts.frame[things[one][-1]])):
                    things[one].append(here[other])
                    taken.add(here[other])
        things.extend([number] for number in here if number not in taken)
    return [thing for thing in things if len(thing) > FLICKER * frames]
