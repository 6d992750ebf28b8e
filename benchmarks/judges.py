"""How far judges agree with the oracle of the shapes world, which reads pixels by hand-written rules.

Videos are rendered ones, unguided ones of the small generator, and guided ones; each judge and the oracle say of every
relation what the video shows.

    python -m benchmarks.judges --judges '[detector]'
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from tqdm import tqdm

from cvg.classifier.model import CompositionClassifier
from cvg.common.cli import run
from cvg.common.errors import SettingsError, require
from cvg.common.files import atomic, write_json
from cvg.composition import Composition, Label, LabelSet
from cvg.evaluation.suites import Case, load_suite
from cvg.evaluation.summary import SIDES, gain, share
from cvg.generators import load_generator
from cvg.guidance.config import GuidanceConfig
from cvg.guidance.sampler import GuidedSampler
from cvg.judging import Reading, load_judge
from cvg.media.pixels import to_frames
from cvg.reporting.table import interval
from cvg.shapes.renderer import render
from cvg.shapes.world import KINDS, sample_scene, sample_spec
from data_prep.made_of import require_same

LABELS = LabelSet.load("shapes")
BATCH = 16
Videos = NDArray[np.uint8]
"""Frames (videos, F, H, W, 3)."""


def rendered(count: int, seed: int) -> tuple[Videos, list[Composition]]:
    """Rendered videos, kinds in turn, which show what their captions say."""
    videos, asked = [], []
    for index in range(count):
        rng = np.random.default_rng([seed, index, 8])
        spec = sample_spec(rng, KINDS[index % len(KINDS)], False)
        videos.append(render(sample_scene(spec, rng)))
        asked.append(spec.composition)
    return np.stack(videos), asked


def generated(cases: Sequence[Case], steps: int, guiding: GuidanceConfig | None, folder: Path) -> Videos:
    """Videos of the small generator; batches that were made before are not made again.

    Args:
        cases: prompts and seeds.
        steps: denoising steps.
        guiding: how the shipped classifier guides; not at all when None.
        folder: keeps a file per batch.

    Raises:
        SettingsError: the folder has videos that were guided otherwise.
    """
    classifier = CompositionClassifier.from_pretrained("shapes-classifier")
    sampler = GuidedSampler(load_generator(classifier.config.generator["name"]), classifier, guiding)
    guided = guiding is not None
    require_same(folder, asdict(sampler.config) if guided else {})
    found = []
    for start in tqdm(range(0, len(cases), BATCH), desc=folder.name, unit="batch"):
        batch = cases[start : start + BATCH]
        path = folder / f"{start:05d}-{len(batch)}.npy"
        if not path.exists():
            asked = [case.asked for case in batch]
            out = sampler([c.prompt for c in asked], [c.seeds[0] for c in batch], asked, guided=guided, steps=steps)
            with atomic(path) as temporary:
                np.save(temporary, np.stack([to_frames(video_CFHW) for video_CFHW in out.video_BCFHW]))
        found.append(np.load(path, allow_pickle=False))
    return np.concatenate(found)


def opposite(label: Label) -> str | None:
    """What the label is mistaken for by who takes a direction for its reverse."""
    return label.mirrors.get("horizontal") or label.mirrors.get("vertical") or label.mirrors.get("time")


def compare(oracle: Sequence[Reading], judge: Sequence[Reading], asked: Sequence[Composition]) -> dict[str, Any]:
    """Counts over all relations, and how many videos are right by each.

    Returns:
        relations; both: both can tell; agree: of those, with one label; swapped: with opposite ones; unclear: the
        oracle can tell, and the judge found the entities and cannot; not_found: it did not find them; more: the judge
        can tell and the oracle cannot; and videos that are right by each.
    """
    counts = dict.fromkeys(("relations", "both", "agree", "swapped", "unclear", "not_found", "more"), 0)
    for theirs, ours in zip(oracle, judge, strict=True):
        for known, told, found in zip(theirs.labels, ours.labels, ours.found, strict=True):
            counts["relations"] += 1
            counts["both"] += bool(known and told)
            counts["agree"] += bool(known and known == told)
            counts["swapped"] += bool(known and told and opposite(LABELS[known]) == told)
            counts["unclear"] += bool(known and not told and found)
            counts["not_found"] += bool(known and not found)
            counts["more"] += bool(told and not known)
    videos = {name: sum(map(right, readings, asked)) for name, readings in (("oracle", oracle), ("judge", judge))}
    return {**counts, "videos": len(asked), "right": videos}


def right(reading: Reading, asked: Composition) -> bool:
    """Whether a video shows everything that it was to show."""
    return reading.entities_right and reading.labels == tuple(relation.label for relation in asked.relations)


def row(name: str, judge: str, found: dict[str, Any]) -> str:
    """A line of the table."""
    share = f"{found['agree'] / found['both']:.4f}" if found["both"] else ""
    cells = [name, judge, found["relations"], found["both"], share]
    cells += [found[part] for part in ("swapped", "unclear", "not_found", "more")]
    cells += [f"{found['right'][who] / found['videos']:.3f}" for who in ("oracle", "judge")]
    return "| " + " | ".join(map(str, cells)) + " |"


def gains(cases: Sequence[Case], rights: dict[str, dict[str, list[bool]]]) -> list[dict[str, Any]]:
    """How many videos of the same prompts and noise are right unguided and guided, by each judge and group.

    Args:
        cases: of the guided videos, which are the first of the unguided ones.
        rights: for ``unguided`` and ``guided``, by judge, whether each video is right.
    """
    groups = {"all": list(range(len(cases)))}
    for place, case in enumerate(cases):
        groups.setdefault(case.group, []).append(place)
    found = []
    for judge, plain in rights["unguided"].items():
        for group, places in groups.items():
            before, after = ([side[place] for place in places] for side in (plain, rights["guided"][judge]))
            shares = {name: share(side, places) for name, side in (("unguided", before), ("guided", after))}
            found.append({"judge": judge, "group": group, **shares, "gain": gain(before, after)})
    return found


def gain_row(found: dict[str, Any]) -> str:
    """A line of the second table."""
    cells = [found["judge"], found["group"], found["gain"]["n"], *(f"{found[side]['share']:.3f}" for side in SIDES)]
    return "| " + " | ".join(map(str, [*cells, interval(found["gain"], "value", signed=True)])) + " |"


GAIN_HEADER = "| judge | group | n | unguided | guided | gain |\n|" + "---|" * 6
HEADER = (
    "| videos | judge | relations | both can tell | of these agree | swapped | judge cannot tell | does not find | "
    "oracle cannot tell | right by oracle | right by judge |\n|" + "---|" * 11
)


def main(
    judges: list[str] = ["detector"],  # noqa: B006  (never changed)
    videos: int = 500,
    guided: int = 100,
    steps: int = 20,
    seed: int = 0,
    guiding: GuidanceConfig = GuidanceConfig(),  # noqa: B008  (frozen)
    device: str = "cpu",
    out: Path = Path("runs/judges"),
) -> None:
    """Compare judges with the oracle and write OUT/judges.json; videos that are in OUT are not made again.

    Args:
        judges: as an evaluation names them.
        videos: how many, rendered and unguided each.
        guided: how many of the prompts are guided too.
        steps: denoising steps.
        seed: of prompts, clips and noise.
        guiding: how guided steps are taken.
        device: torch device of the judges.
        out: working folder.
    """
    require(1, videos=videos, steps=steps)
    require(0, seed=seed, guided=guided)
    if guided > videos:
        raise SettingsError(f"guided {guided}: more than the {videos} unguided videos that they are compared with")
    readers = {name: load_judge(name, LABELS, device) for name in ("shapes", *judges)}
    cases = load_suite("shapes").cases(videos, seed)
    asked = [case.asked for case in cases]
    sets = {"rendered": rendered(videos, seed)}
    for name, count, how in (("unguided", videos, None), ("guided", guided, guiding)):
        if count:
            folder = out / f"{name}-seed{seed}-steps{steps}"
            sets[name] = generated(cases[:count], steps, how, folder), asked[:count]
    results: list[dict[str, Any]] = []
    rights: dict[str, dict[str, list[bool]]] = {}
    print(HEADER, flush=True)
    for name, (frames, compositions) in sets.items():
        readings: dict[str, list[Reading]] = {judge: [] for judge in readers}
        for start in range(0, len(frames), BATCH):
            for judge, read in readers.items():
                batch = slice(start, start + BATCH)
                readings[judge] += read(list(frames[batch]), compositions[batch])
        rights[name] = {judge: [*map(right, read, compositions)] for judge, read in readings.items()}
        for judge in judges:
            found = compare(readings["shapes"], readings[judge], compositions)
            results.append({"set": name, "judge": judge, **found})
            print(row(name, judge, found), flush=True)
    gained = gains(cases[:guided], rights) if guided else []
    if gained:
        print("\n".join(["", GAIN_HEADER, *map(gain_row, gained)]))
    write_json(out / "judges.json", {"seed": seed, "steps": steps, "results": results, "gains": gained})
    print(f"wrote {out / 'judges.json'}")


if __name__ == "__main__":
    run(main, prog="python -m benchmarks.judges")
