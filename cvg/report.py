"""``python -m cvg.report``: one HTML file with the tables and figures of an evaluation. It needs no network."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

from PIL import Image

from cvg.classifier.model import CompositionClassifier
from cvg.common.cli import run
from cvg.common.errors import DataError, SettingsError, UserError
from cvg.common.files import read_json
from cvg.composition import LabelSet, parse
from cvg.evaluation.rows import Evaluation, read_evaluation
from cvg.evaluation.suites import Score, Suite, load_suite, scores
from cvg.generators import Loading, load_generator
from cvg.guidance.config import GuidanceConfig
from cvg.guidance.sampler import GuidedSampler
from cvg.media.video import read_video
from cvg.probing.probe import TooFewVideos
from cvg.reporting import charts as figures
from cvg.reporting import inspection, overlays, page
from cvg.reporting.page import Section, image
from cvg.reporting.table import best_of_rows, control_rows, interval, main_rows, number, predictability_rows


def clip_section(folder: Path, suite: Suite, most: int) -> Section:
    """Side-by-side clips that ``python -m cvg.sample`` wrote, scored by the suite from their files.

    Args:
        folder: where they are.
        suite: whose judge looks at them.
        most: show this many, at most.

    Raises:
        DataError: the folder has none.
    """
    paths = sorted(folder.glob("*.side-by-side.gif"))[:most]
    if not paths:
        raise DataError(
            f"samples {folder}: no side-by-side clips there; give a folder written by `python -m cvg.sample`"
        )
    clips = []
    for path in paths:
        meta = read_json(path.with_name(path.name.replace(".side-by-side.gif", ".json")))
        with Image.open(path) as gif:
            (width, height), frames = gif.size, int(getattr(gif, "n_frames", 1))
        # Judged from the video: the GIF's palette would change its colours.
        both = read_video(path.with_suffix(".mp4"), frames, height, width)
        try:
            composition = parse(meta["prompt"], suite.labels)
            halves = {"unguided": both[:, :, : width // 2], "guided": both[:, :, width // 2 :]}
            found = scores(suite, list(halves.values()), [composition] * len(halves))
            shown = [(side, _shown(score)) for side, score in zip(halves, found, strict=True)]
        except UserError:  # a prompt that the suite's judge does not know is shown without a score
            shown = []
        clips.append(image(path.read_bytes(), meta["prompt"], "image/gif") | {"seed": meta["seed"], "scores": shown})
    return {"title": "Clips", "note": "Left: unguided. Right: guided, from the same initial noise.", "clips": clips}


def _shown(score: Score) -> dict[str, Any]:
    seen = ", ".join(label or "undecided" for label in score.labels)
    problems = "; ".join(score.problems)
    return {"right": score.right, "text": "right" if score.right else f"wrong ({problems or seen})"}


def training_section(folder: Path) -> Section:
    """Curves, confusion matrices and last metrics of a training log folder."""
    inner = sorted(folder.glob("version_*/metrics.csv"), key=lambda path: path.stat().st_mtime)
    if not (folder / "metrics.csv").exists() and inner:
        folder = inner[-1].parent
    images = [image(figures.training_curves(figures.read_curves(folder / "metrics.csv")), "Training")]
    if (folder / "confusion.png").exists():
        images.append(image((folder / "confusion.png").read_bytes(), "Confusion under p+ and p-, rows are true labels"))
    rows = []
    if (folder / "metrics.json").exists():
        rows = [["metric", "value"]]
        rows += [[name, number(value, digits=3)] for name, value in read_json(folder / "metrics.json").items()]
    note = "p+ is the right prompt, p- a wrong one of the same video; a gap between them is leakage from the text."
    return {"title": "Training", "note": note, "images": images, "rows": rows}


def _asked(result: Evaluation) -> LabelSet | None:
    """The label set that an evaluation asked for instead of the suite's."""
    labels = result.settings["labels"]
    return LabelSet(labels) if labels else None


def overlay_section(result: Evaluation, count: int, loading: Loading) -> Section:
    """Entity maps of the evaluation's first prompts; runs the generator on them again."""
    settings = result.settings
    classifier = CompositionClassifier.from_pretrained(result.classifier["name"])
    if labels := _asked(result):
        classifier = classifier.with_labels(labels)
    generator = load_generator(result.generator["name"], replace(loading, dtype=settings["dtype"]))
    sampler = GuidedSampler(generator, classifier, GuidanceConfig(**settings["guiding"]))
    rows = result.rows[:count]
    computed = overlays.compute(
        sampler,
        [parse(row.prompt, classifier.labels) for row in rows],
        [row.seed for row in rows],
        settings["steps"],
        settings["guidance_scale"],
    )
    maps = []
    for overlay in computed:
        entities = ", ".join(
            f"{name}: {phrase}" for name, phrase in zip(("red", "blue"), overlay.entities, strict=False)
        )
        maps.append(image(overlays.draw(overlay), f"{overlay.prompt} — {overlay.label} ({entities})"))
    note = (
        "What the classifier reads off the attention at each guided step, per latent frame, laid over the finished "
        "video's frames: from the unguided latents, and from the guided ones after their edits."
    )
    return {"title": "Entity maps", "note": note, "maps": maps}


def sections(result: Evaluation) -> list[Section]:
    """Tables and figures that the evaluation's JSON holds."""
    done = result.satisfied
    bars = image(
        figures.accuracy_bars(result), "Share of videos whose entities and relations are all right; 95% intervals"
    )
    found = [{"title": "Accuracy", "images": [bars], "rows": main_rows(result)}]
    if result.best_of_n:
        note = (
            "Unguided videos of several seeds; the classifier picks one on its early latents. Time is a multiple of "
            "one unguided video, for finishing all candidates and for dropping the losers once judged."
        )
        found.append({"title": "Best of n", "note": note, "rows": best_of_rows(result)})
    if result.controls:
        found.append({"title": "Controls", "rows": control_rows(result.controls)})
    note = (
        "How often the classifier's verdict on the unguided latents of an early step is the judge's reading of "
        "the finished unguided video."
    )
    found.append({"title": "Predictability", "note": note, "rows": predictability_rows(result.predictability)})
    rows = [
        ["", "before guidance", "after"],
        ["mean target probability", number(done["probability_before"]), number(done["probability_after"])],
        [
            f"satisfied (p >= {done['threshold']:g})",
            interval(done["before"], "share"),
            interval(done["after"], "share"),
        ],
        ["wrong though satisfied", "", interval(done["wrong_though_satisfied"], "share")],
        ["of these, entities wrong", "", interval(done["entities_wrong_though_satisfied"], "share")],
    ]
    found.append({"title": "Satisfied samples", "rows": rows})
    return found


def inspection_sections(result: Evaluation, shards: Path) -> list[Section]:
    """Which stored maps tell the label, and what the evaluation's classifier sees in some of them."""
    classifier = CompositionClassifier.from_pretrained(result.classifier["name"])
    try:
        which = inspection.probed(shards, "train").section()
    except TooFewVideos as error:
        which = {"title": "Which maps tell the label", "note": str(error)}
    return [which, *(part.section() for part in inspection.seen(shards, classifier, "val"))]


def settings_section(result: Evaluation) -> Section:
    """Everything needed to run it again."""
    rows = [["setting", "value"]]
    for part in ("settings", "generator", "classifier", "versions", "timing"):
        for name, value in getattr(result, part).items():
            if isinstance(value, dict | list):
                value = json.dumps(_rounded(value))
            rows.append([f"{part}: {name}", str(_rounded(value))])
    return {"title": "Settings", "rows": rows}


def _rounded(value: Any) -> Any:
    if isinstance(value, float):
        return float(f"{value:.4g}")
    if isinstance(value, list):
        return [_rounded(item) for item in value]
    return value


def prompt_rows(result: Evaluation) -> list[list[str]]:
    """One line per prompt."""
    rows = [["prompt", "seed", "unguided", "guided", "target probability before, after"]]
    for row in result.rows:
        seen = [
            ("right: " if score.right else "wrong: ") + ", ".join(label or "?" for label in score.labels)
            for score in (row.unguided, row.guided)
        ]
        when = row.guided.probability_before, row.guided.probability_after
        probabilities = ", ".join(f"{number(b)} → {number(a)}" for b, a in zip(*when, strict=True))
        rows.append([row.prompt, str(row.seed), *seen, probabilities])
    return rows


def main(
    evaluation: Path = Path("runs/evaluation.json"),
    out: Path = Path("runs/report.html"),
    training: Path | None = None,
    samples: Path | None = None,
    shards: Path | None = None,
    clips: int = 8,
    maps: int = 3,
    loading: Loading = Loading(),  # noqa: B008  (frozen)
) -> Path:
    """Write the report of an evaluation as one HTML file.

    Args:
        evaluation: JSON file of ``python -m cvg.evaluate``.
        out: HTML file to write.
        training: log folder of the classifier's training (with metrics.csv), for curves and confusion matrices.
        samples: folder written by ``python -m cvg.sample``, for side-by-side clips.
        shards: the shards that the classifier was trained on, for what it sees in them (as ``python -m cvg.inspect``
            shows it): a linear probe of their training records, and a validation record of each label group.
        clips: clips to show, at most.
        maps: prompts whose entity maps are shown; they are sampled again with the evaluation's generator and
            classifier. 0 shows none and loads neither.
        loading: where and how the generator is computed for the entity maps, and where the judge is; the generator's
            dtype is the evaluation's.
    """
    if out.suffix not in (".html", ".htm"):
        raise SettingsError(f"out {out}: give a file name that ends in .html")
    result = read_evaluation(evaluation)
    found = sections(result)
    if samples is not None:
        found.insert(1, clip_section(samples, load_suite(result.suite, _asked(result), loading.device), clips))
    if maps > 0:
        found.append(overlay_section(result, maps, loading))
    key = [
        ("unguided accuracy", number(result.unguided["accuracy"])),
        ("guided accuracy", number(result.guided["accuracy"])),
        ("gain (95%)", interval(result.gain, "value", signed=True)),
        ("time, guided / unguided", number(result.time_ratio)),
    ]
    if training is not None:
        found.append(training_section(training))
    if shards is not None:
        found += inspection_sections(result, shards)
    found.append(settings_section(result))
    settings = result.settings
    subtitle = (
        f"{settings['prompts']} held-out prompts, {settings['steps']} steps, seed {settings['seed']}; "
        f"generator {result.generator['name']}, classifier {result.classifier['name']}. "
        "Unguided and guided videos start from the same noise."
    )
    title = f"Compositional video guidance: {result.suite}"
    page.write(out, title, subtitle, key, found, prompt_rows(result))
    print(f"wrote {out}")
    return out


if __name__ == "__main__":
    run(main, prog="python -m cvg.report")
