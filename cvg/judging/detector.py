"""The judge that looks for what a prompt names, follows it through the video, and goes by the rules.

It can judge videos of anything. It looks for the prompt's own phrases with an open-vocabulary detector, so that it sees
what is missing, but not what nobody asked for.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from cvg.common.devices import find_device
from cvg.common.errors import SettingsError
from cvg.composition import Composition, LabelSet, Relation
from cvg.composition.phrases import plain
from cvg.judging.base import Frames, Judge, Reading, checked_frames
from cvg.judging.cache import DetectionCache
from cvg.judging.camera import camera_motion
from cvg.judging.depth import DepthModel, depth_of
from cvg.judging.detection import Detections, load_detector
from cvg.judging.following import Meant, Thing, follow, meant, track_of
from cvg.judging.geometry import FREE, Margins
from cvg.judging.showing import Shown, rule_of, shown
from cvg.judging.tracks import Camera, Track, Tracks

MOST_FRAMES = 33
"""Frames of a video that are looked at, spread evenly; the rest lie between them."""


class DetectorJudge(Judge):
    """Judges by detection, tracks and rules.

    Args:
        labels: the labels that it tells apart, those without a rule never; that of real scenes when None.
        device: torch device of its models.
        model: shipped name, folder or Hub id of an OWLv2 or a Grounding DINO; with ``+`` and those of a Depth Anything
            after it, depth is measured too, and in front of and behind can be told.
        cache: folder in which what was found is kept, for other readings of the same videos; none when None.
        margins: how clearly a label must hold.
        threshold: score from which on something is what a phrase names; the usual one of the model's kind when None.

    Raises:
        SettingsError: labels of which none has a rule, or a device that is not here.
        ModelError: a model that cannot be loaded.
    """

    def __init__(
        self,
        labels: LabelSet | None = None,
        device: str = "cpu",
        model: str = "shapes-detector",
        cache: str | Path | None = None,
        margins: Margins = FREE,
        threshold: float | None = None,
    ) -> None:
        self.labels = labels or LabelSet.load("world")
        if not any(rule_of(label) for label in self.labels.labels):
            raise SettingsError("judge detector: no label of the label set has a rule; name rules there")
        target = find_device(device)
        name, plus, depth = model.partition("+")
        if Path(model).exists() or not plus:  # a folder's name may have a plus sign
            name, depth = model, ""
        self.detector = load_detector(name, target)
        self.depth = DepthModel(depth, target) if depth else None
        self.cache = DetectionCache(cache) if cache is not None else None
        self.margins = margins
        self.threshold = self.detector.threshold if threshold is None else threshold

    def __call__(self, videos: Sequence[Frames], asked: Sequence[Composition]) -> list[Reading]:
        """Read a batch of videos.

        Args:
            videos: (F, H, W, 3) uint8 RGB each, F >= 3; their sizes may differ.
            asked: what each of them was to show.

        Returns:
            A reading of each. Entities of one phrase (two dogs) cannot be told apart: a label is one that holds
            whichever is which, and so where a video shows more things of a phrase than were asked for.

        Raises:
            PromptError: a label that is not in the label set, or relates another number of entities; a phrase that is
                too long.
            DataError: frames that cannot be read.
        """
        videos = [checked_frames(video) for video in videos]
        phrases = [list(dict.fromkeys(plain(entity.phrase) for entity in each.entities)) for each in asked]
        for relation in (relation for each in asked for relation in each.relations):
            self.labels[relation.label]
        looked_at = [_spread(len(video)) for video in videos]
        found = self._detected([video[at] for video, at in zip(videos, looked_at, strict=True)], phrases)
        return [self._read(*each) for each in zip(videos, asked, phrases, looked_at, found, strict=True)]

    def _detected(self, videos: Sequence[Frames], phrases: Sequence[list[str]]) -> list[list[Detections]]:
        """What is in the videos, from the cache as far as it is there."""
        if self.cache is None:
            return self.detector(videos, phrases)
        sought = list(zip(videos, phrases, strict=True))
        keys = [self.cache.key(video, self.detector.identity, named) for video, named in sought]
        found = [self.cache.get(key, len(video), len(named)) for key, (video, named) in zip(keys, sought, strict=True)]
        missing = [index for index, each in enumerate(found) if each is None]
        new = self.detector([videos[index] for index in missing], [phrases[index] for index in missing])
        for index, each in zip(missing, new, strict=True):
            self.cache.put(keys[index], each)
            found[index] = each
        return [each for each in found if each is not None]

    def _read(
        self,
        frames_FHWC: Frames,
        asked: Composition,
        phrases: list[str],
        looked_at: list[int],
        found: Sequence[Detections],
    ) -> Reading:
        things = follow(found, self.threshold)
        entities = [plain(entity.phrase) for entity in asked.entities]
        who = meant(things, phrases, entities, len(found), self.threshold)
        needed = sorted({thing for choice in who.things for thing in choice})
        tracks = dict(zip(needed, self._tracks(frames_FHWC, [things[i] for i in needed], looked_at), strict=True))
        boxes = [track.boxes_F4 for track in tracks.values()]
        camera = camera_motion(frames_FHWC, boxes) if boxes else None
        height, width = frames_FHWC.shape[1:3]
        seen = [self._shown(relation, asked, who, tracks, camera, width / height) for relation in asked.relations]
        names = _numbered(entities)
        missing = [f"{name}: not there" for name, choice in zip(names, who.things, strict=True) if not choice]
        place = {entity: index for index, entity in enumerate(asked.entities)}
        return Reading(
            labels=tuple(each.label for each in seen),
            problems=(*missing, *(f"{phrase}: several there" for phrase in who.several)),
            found=tuple(all(who.things[place[e]] for e in relation.entities) for relation in asked.relations),
            confidence=tuple(each.confidence for each in seen),
            tracks=Tracks(
                {name: tracks[choice[0]] for name, choice in zip(names, who.things, strict=True) if choice},
                camera,
                width / height,
            ),
        )

    def _tracks(self, frames_FHWC: Frames, things: Sequence[Thing], looked_at: list[int]) -> list[Track]:
        tracks = [track_of(thing, looked_at, len(frames_FHWC)) for thing in things]
        if self.depth is None or not tracks:
            return tracks
        depth_FHW = self.depth(frames_FHWC[looked_at])
        measured = []
        for track in tracks:
            depth_F = np.full(len(frames_FHWC), np.nan)
            depth_F[looked_at] = depth_of(track.boxes_F4[looked_at], depth_FHW)
            measured.append(replace(track, depth_F=depth_F))
        return measured

    def _shown(
        self,
        relation: Relation,
        asked: Composition,
        who: Meant,
        tracks: dict[int, Track],
        camera: Camera | None,
        aspect: float,
    ) -> Shown:
        """The label that a relation's group shows whichever things its entities are."""
        group = self.labels.groups[self.labels[relation.label].group]
        place = {entity: index for index, entity in enumerate(asked.entities)}
        choices = [who.things[place[entity]] for entity in relation.entities]
        names = [str(slot) for slot in range(len(choices))]
        readings = [
            shown(
                group,
                Tracks({name: tracks[thing] for name, thing in zip(names, chosen, strict=True)}, camera, aspect),
                names,
                relation.label,
                self.margins,
            )
            for chosen in itertools.product(*choices)
            if len(set(chosen)) == len(chosen)
        ] or [shown(group, Tracks({}), names, relation.label, self.margins)]
        surest = min(readings, key=lambda each: each.confidence)
        return surest if len({each.label for each in readings}) == 1 else replace(surest, label=None, confidence=0.0)


def _spread(frames: int) -> list[int]:
    """The indices of at most :data:`MOST_FRAMES` frames, the first and the last among them."""
    return sorted({round(i) for i in np.linspace(0, frames - 1, min(frames, MOST_FRAMES))})


def _numbered(phrases: Sequence[str]) -> list[str]:
    """Phrases, the second of the same as ``dog#2``."""
    return [
        phrase if phrase not in phrases[:index] else f"{phrase}#{phrases[:index].count(phrase) + 1}"
        for index, phrase in enumerate(phrases)
    ]
