"""What is covered of a thing by others: which shape the rest shows, where all of it is, how much others hide."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
from scipy import ndimage

from cvg.judging.tracks import Track
from cvg.shapes.blobs import SECOND_BLOB, Array, Mask, boxes, components, follow, grown
from cvg.shapes.fitting import FIT, fit_seen, name_of, overlaps, whole
from cvg.shapes.renderer import SHAPES
from cvg.shapes.things import Thing

PART = 8  # pixels of a part that is left over of a covered thing
NEAR = 0.35  # frame sides from its largest part within which they lie


class Covering:
    """A thing beside others that may cover a part of it.

    Args:
        thing: seen in one part or several.
        others: the other things of the clip.
        mixtures: what lies between two things where they meet.
        coloured_FHW: pixels of another colour than the thing's.
    """

    def __init__(self, thing: Thing, others: Sequence[Thing], mixtures: Sequence[Thing], coloured_FHW: Mask) -> None:
        self.thing = thing
        self.others_FHW = _all(others, coloured_FHW)
        touched = (grown(grown(thing.blobs_FHW)) & _all((*others, *mixtures), coloured_FHW)).any(axis=(1, 2))
        self.near = np.nonzero(touched)[0]
        self.parts_FHW = _parts(thing)[self.near]
        unknown = grown(coloured_FHW[self.near])
        self.fits = fit_seen(thing.alpha_FHW[self.near], self.parts_FHW, unknown) if len(self.near) else []
        apart = whole(thing.blobs_FHW) & ~touched
        self.score_SF: Array = np.zeros((len(SHAPES), 0))
        if apart.any():
            self.score_SF = overlaps(thing.alpha_FHW[apart], thing.blobs_FHW[apart])
        if self.fits:
            self.score_SF = np.concatenate([self.score_SF, np.stack([fit.score_F for fit in self.fits])], axis=1)
        self.shape = name_of(self.score_SF)

    def track(self) -> Track:
        """The track of all of the thing, seen or not, with the share of it that is hidden."""
        masks = self.thing.blobs_FHW.copy()
        masks[self.near] = self.parts_FHW
        track = follow(self.thing.alpha_FHW, masks, self.thing.present_F)
        hidden = np.where(masks.any(axis=(1, 2)), 0.0, np.nan)
        if not self.fits or self.shape is None:
            return replace(track, masks_FHW=masks, hidden_F=hidden)
        fit = self.fits[SHAPES.index(self.shape)]
        size = np.array(masks.shape[:0:-1])
        centres, sides, areas = track.centres.copy(), track.boxes_F4.copy(), np.array(track.areas_F)
        hidden[self.near] = (fit.mask_FHW & self.others_FHW[self.near]).sum(axis=(1, 2)) / fit.mask_FHW.sum(axis=(1, 2))
        hidden[self.near[fit.score_F < FIT]] = np.nan
        good = fit.score_F >= FIT
        at = self.near[good]
        masks[at], centres[at] = fit.mask_FHW[good], fit.place_F3[good, :2] / size
        if len(at):
            sides[at], areas[at] = boxes(fit.mask_FHW[good]), fit.mask_FHW[good].mean(axis=(1, 2))
        return replace(track, boxes_F4=sides, centres_F2=centres, areas_F=areas, masks_FHW=masks, hidden_F=hidden)

    @property
    def extra_F(self) -> Mask:
        """In which frames there is another blob of the thing's colour, that is no part of it."""
        extra = self.thing.extra_F.copy()
        if self.fits and self.shape is not None:
            mask = grown(grown(self.fits[SHAPES.index(self.shape)].mask_FHW))
            beyond = self.parts_FHW & ~mask
            extra[self.near] = beyond.sum(axis=(1, 2)) >= SECOND_BLOB * self.parts_FHW.sum(axis=(1, 2))
        return extra


def _all(things: Sequence[Thing], like_FHW: Mask) -> Mask:
    """Pixels of any of some things."""
    return np.asarray(np.logical_or.reduce([np.zeros_like(like_FHW), *(thing.blobs_FHW for thing in things)]))


def _parts(thing: Thing) -> Mask:
    """The largest blob of each frame and what else of its colour is not far from it."""
    found = components(thing.alpha_FHW >= 0.5)
    kept = thing.blobs_FHW.copy()
    reach = NEAR * min(kept.shape[1:])
    for frame in np.nonzero(thing.present_F)[0]:
        numbers = np.nonzero((found.frame == frame) & (found.area >= PART))[0]
        middle = np.array(ndimage.center_of_mass(thing.blobs_FHW[frame]))
        for number in numbers:
            part = found.number_FHW[frame] == number
            if np.linalg.norm(np.array(ndimage.center_of_mass(part)) - middle) <= reach:
                kept[frame] |= part
    return kept
