"""Render clips of the shapes world into mp4 files, with the manifest that says what each shows.

python -m data_prep.render --out runs/clips --clips 1000
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from tqdm import trange

from cvg.common.cli import run
from cvg.common.errors import DataError, require
from cvg.common.files import alone, read_json, sweep, write_json
from cvg.media.video import write_video
from cvg.shapes.renderer import FPS, render
from cvg.shapes.world import KINDS, known_kinds, sample_scene, sample_spec
from data_prep import manifest, splits

SETTINGS = "render.json"
# More of what takes a classifier more examples to read: relative motion, a product of place and motion, and motion of
# an entity that has another beside it, as two relations show it.
DRAWN = (*KINDS, "relative_motion", "two_relations", "two_relations")


def main(out: Path, clips: int, seed: int = 0, kinds: list[str] | None = None, held_out: bool = False) -> None:
    """Render clips of the shapes world into a folder with a manifest.

    Clip i depends on the seed and on i alone. Videos that are there already are kept, so an interrupted run goes on
    where it stopped, and a larger number of clips adds to a folder.

    Args:
        out: folder for videos/000000.mp4, ... and manifest.jsonl.
        clips: number of clips.
        seed: seed of everything drawn.
        kinds: kinds of composition (motion, spatial, relative_motion, two_relations, depth, action, path,
            interaction, attribute, change, three_relations), each as often as it is named; the first four, relative
            motion twice and two relations three times, when not given.
        held_out: draw entities from the share kept for evaluation instead of the training share; the clips are of the
            test split, all of them.
    """
    chosen = list(known_kinds(kinds, DRAWN))
    require(1, clips=clips)
    require(0, seed=seed)
    settings = {"seed": seed, "kinds": chosen, "held_out": held_out}
    with alone(out):
        _render(out, clips, settings)
    print(f"{out / manifest.NAME}: {clips} clips")


def _render(out: Path, clips: int, settings: dict[str, Any]) -> None:
    """Render what is not there yet, and write the manifest."""
    if (out / SETTINGS).exists() and (found := read_json(out / SETTINGS)) != settings:
        raise DataError(f"{out}: holds clips of other settings ({found}); choose another folder, or delete it")
    write_json(out / SETTINGS, settings)
    sweep(out / "videos", older=0)
    rows = []
    for index in trange(clips, desc="render", unit="clip"):
        rng = np.random.default_rng([settings["seed"], index])
        spec = sample_spec(rng, str(rng.choice(settings["kinds"])), settings["held_out"])
        video = f"videos/{index:06d}.mp4"
        there = (out / video).is_file() and (out / video).stat().st_size  # never half a file: written atomically
        if not there:
            write_video(out / video, render(sample_scene(spec, rng)), FPS)
        rows.append(
            manifest.Row(
                id=f"render-{settings['seed']}-{index:06d}",
                video=out / video,
                template=spec.template,
                entities=spec.entities,
                relations=tuple((relation.label, relation.entities) for relation in spec.relations),
                wordings=spec.wordings,
                split="test" if settings["held_out"] else splits.split_of(video, None, None),
                source="render",
            )
        )
    manifest.write(out / manifest.NAME, rows)


if __name__ == "__main__":
    run(main, "python -m data_prep.render")
