"""Finds what is coloured in a clip: which entities of the shapes world it shows, where, and what is none of them."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from cvg.judging.base import checked_frames
from cvg.judging.rules.view import ends
from cvg.judging.tracks import Track, Tracks
from cvg.shapes.blobs import Mask, follow
from cvg.shapes.colours import Coloured, coloured
from cvg.shapes.covered import Covering
from cvg.shapes.fitting import name_of, overlaps, whole
from cvg.shapes.renderer import COLORS
from cvg.shapes.things import Thing, by_colour, is_mixture, of_any_colour

BAD_FRAMES = 0.2  # share of frames in which something may go wrong without consequence
LEAST_SIDE = 48  # pixels: of smaller frames, shapes cannot be told apart
JUMP = 0.2  # frame sides: a step this long from one frame to the next is a jump
AT_ENDS = 0.4  # least share of the first and of the last third of the frames in which something is that may be away


@dataclass(frozen=True)
class Sight:
    """What a clip may be asked to show, beyond things that are whole, of one colour and always there.

    Attributes:
        away: things may be away for a while.
        covered: things may cover a part of one another.
        colours: things may be of any colour, in each frame of another one. They are apart then.
    """

    away: bool = False
    covered: bool = False
    colours: bool = False


PLAIN = Sight()


def find_entities(frames_FHWC: NDArray[np.uint8], sight: Sight = PLAIN) -> tuple[Tracks, tuple[str, ...]]:
    """Find the entities of a clip and their tracks.

    Args:
        frames_FHWC: (F, H, W, 3) uint8 RGB; F >= 3, sides >= 48. Large frames are averaged down to about 64 pixels.
        sight: what is no fault.

    Returns:
        The tracks of entities by their phrases (``"red circle"``, by its first colour where that changes, ``"coloured
        circle"`` where that is unclear), centres as exact as blurred rims make them; and everything coloured that is no
        clear entity, in words.

    Raises:
        DataError: frames of another type or shape, too few or too small.
    """
    clip = coloured(checked_frames(frames_FHWC, LEAST_SIDE))
    things, unclear = (of_any_colour(clip), []) if sight.colours else by_colour(clip, sight.covered)
    every = [*things, *unclear]
    mixtures = [each for each in every if sight.covered and is_mixture(each, every)]
    things, unclear = ([each for each in some if each not in mixtures] for some in (things, unclear))
    tracks: dict[str, Track] = {}
    problems = {each.colour: [f"{each.colour}: its colour is unclear"] for each in unclear}
    for thing in things:
        shape, track, extra = _shaped(thing, things, mixtures, clip, sight)
        what, here = f"{thing.colour} {shape or 'blob'}", problems.setdefault(thing.colour, [])
        if not _is_there(track.visible, sight):
            here.append(f"{what}: not there in {int((~track.visible).sum())} of {len(track.visible)} frames")
        elif shape is None:
            here.append(f"{what}: its shape is unclear")
        elif what in tracks:
            here.append(f"{what}: there are several")
        else:
            tracks[what] = track
            if np.linalg.norm(np.diff(track.centres, axis=0), axis=-1).max() > JUMP:
                here.append(f"{what}: jumps from place to place")
        if extra.mean() > BAD_FRAMES:
            here.append(f"{thing.colour}: several blobs in {int(extra.sum())} of {len(extra)} frames")
    order = [*COLORS, *(name for name in problems if name not in COLORS)]
    return Tracks(tracks), tuple(problem for name in order for problem in problems.get(name, ()))


def _shaped(
    thing: Thing, things: list[Thing], mixtures: list[Thing], clip: Coloured, sight: Sight
) -> tuple[str | None, Track, Mask]:
    """A thing's shape, None where that is unclear, its track, and frames with another blob of its colour."""
    if sight.covered and not sight.colours:
        others = [other for other in things if other is not thing]
        own = list(COLORS).index(thing.colour)
        covering = Covering(thing, others, mixtures, (clip.colour_FHW >= 0) & (clip.colour_FHW != own))
        return covering.shape, replace(covering.track(), colours_F=thing.colours_F), covering.extra_F
    track = replace(follow(thing.alpha_FHW, thing.blobs_FHW, thing.present_F), colours_F=thing.colours_F)
    usable = whole(thing.blobs_FHW)
    score_SF = overlaps(thing.alpha_FHW[usable], thing.blobs_FHW[usable]) if usable.any() else np.zeros((3, 0))
    return name_of(score_SF), track, thing.extra_F


def _is_there(visible_F: Mask, sight: Sight) -> bool:
    """Whether something is seen in enough of the frames.

    What turns another colour may be grey between, and so be out of sight as what blinks is.
    """
    if visible_F.mean() >= 1 - BAD_FRAMES:
        return True
    return (sight.away or sight.colours) and min(float(part.mean()) for part in ends(visible_F)) >= AT_ENDS
