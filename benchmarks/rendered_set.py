"""Clips of the shapes world, and what is in them written down in VidOR's form, from what the renderer knows of them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cvg.media.video import write_video
from cvg.shapes.renderer import FPS, SIZE, Scene, render
from cvg.shapes.world import Spec, sample_scene, sample_spec

WIDTH, HEIGHT = 640.0, 640.0
"""Pixels that annotations are in; those of the files are fewer."""


@dataclass(frozen=True)
class Clip:
    """A rendered clip and its truth.

    Attributes:
        name: of its file, without ``.mp4``.
        spec: what it shows.
        scene: where all of it is.
    """

    name: str
    spec: Spec
    scene: Scene

    @property
    def frames(self) -> int:
        """How many it has."""
        return len(self.scene.sprites[0].track_F2)

    def boxes(self, index: int) -> NDArray[np.float64]:
        """Of an entity in frame sides (F, 4)."""
        sprite = self.scene.sprites[index]
        half = np.broadcast_to(np.asarray(sprite.radius) / SIZE, (self.frames,))[:, None]
        return np.clip(np.concatenate([sprite.track_F2 - half, sprite.track_F2 + half], axis=1), 0, 1)

    @property
    def truth(self) -> set[tuple[str, tuple[str, ...]]]:
        """Each relation's label, with the phrases of its entities."""
        entities = self.spec.entities
        return {(each.label, tuple(entities[index] for index in each.entities)) for each in self.spec.relations}


def clips(folder: Path, kinds: Sequence[str], count: int, seed: int = 0, suffix: str = ".mp4") -> list[Clip]:
    """Render clips of some kinds into a folder, ``NAME.mp4`` each."""
    made = []
    for index in range(count):
        rng = np.random.default_rng([seed, index, 71])
        spec = sample_spec(rng, kinds[index % len(kinds)])
        clip = Clip(f"{1000 + index}", spec, sample_scene(spec, rng))
        write_video(folder / f"{clip.name}.mp4", render(clip.scene), FPS)
        if suffix != ".mp4":  # known by what is in it
            (folder / f"{clip.name}.mp4").rename(folder / f"{clip.name}{suffix}")
        made.append(clip)
    return made


def vidor(clip: Clip, predicates: dict[str, str]) -> dict[str, Any]:
    """The annotation of VidOR and VidVRD; relations whose labels have no predicate are left to the boxes."""
    corners = ("xmin", "ymin", "xmax", "ymax")
    tracks = [clip.boxes(index) * np.tile((WIDTH, HEIGHT), 2) for index in range(len(clip.spec.entities))]
    return {
        "version": "VERSION 1.0",
        "video_id": clip.name,
        "video_path": f"{clip.name}.mp4",
        "fps": FPS,
        "frame_count": clip.frames,
        "width": int(WIDTH),
        "height": int(HEIGHT),
        "subject/objects": [
            {"tid": i, "category": name.replace(" ", "_")} for i, name in enumerate(clip.spec.entities)
        ],
        "trajectories": [
            [
                {"tid": i, "bbox": dict(zip(corners, track[frame].tolist(), strict=True)), "generated": 0}
                for i, track in enumerate(tracks)
            ]
            for frame in range(clip.frames)
        ],
        "relation_instances": [
            {
                "subject_tid": each.entities[0],
                "object_tid": each.entities[-1],
                "predicate": predicates[each.label],
                "begin_fid": 0,
                "end_fid": clip.frames,
            }
            for each in clip.spec.relations
            if each.label in predicates
        ],
    }
